"""TLS settings for clients: a certificate and its key, and what is said of files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartedge.balancer.spec import TlsSpec
from smartedge.http.tls import ServerTls, server_context

CERTS = Path(__file__).parents[1] / "live" / "certs"
LOCALHOST = str(CERTS / "localhost.pem")
TRUSTING = TlsSpec(ca_file=str(CERTS / "ca.pem"))


def test_without_a_certificate_clients_are_not_shown_any() -> None:
    tls = ServerTls()
    assert tls() is None
    tls.context = server_context(LOCALHOST, None)
    assert tls() is tls.context


@pytest.mark.parametrize("content", [b"", b"text", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_that_are_no_certificate_are_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.pem"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pem holds no certificate with its key in PEM form"):
        server_context(str(file), None)
    with pytest.raises(ValueError, match=r"localhost\.pem and .*a\.pem hold no certificate"):
        server_context(LOCALHOST, str(file))


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        server_context(str(tmp_path / "none.pem"), None)


def test_an_encrypted_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    lines = ["-----BEGIN RSA PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC," + "0" * 32, "", "AAAA"]
    file.write_text("\n".join([*lines, "-----END RSA PRIVATE KEY-----", ""]))
    with pytest.raises(ValueError, match="encrypted"):
        server_context(LOCALHOST, str(file))
