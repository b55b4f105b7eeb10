"""TLS settings towards backends: what is trusted, and when they are made anew."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

import pytest

from smartedge.balancer.spec import TlsSpec
from smartedge.http.tls import context_for

CA = Path(__file__).parents[1] / "live" / "certs" / "ca.pem"


def test_a_backend_is_checked_unless_the_operator_wants_it_otherwise() -> None:
    checked, unchecked = context_for(TlsSpec(ca_file=str(CA))), context_for(TlsSpec(verify=False))
    assert (checked.verify_mode, checked.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (unchecked.verify_mode, unchecked.check_hostname) == (ssl.CERT_NONE, False)
    assert len(checked.get_ca_certs()) == 1


def test_settings_are_made_anew_when_a_file_of_theirs_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(CA.read_bytes())
    spec = TlsSpec(ca_file=str(file))
    first = context_for(spec)
    assert context_for(spec) is first
    os.utime(file, ns=(1, 1))
    assert context_for(spec) is not first


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(FileNotFoundError):
        context_for(TlsSpec(ca_file="/none.pem"))
