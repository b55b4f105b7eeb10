"""pebble, the ACME authority for tests, with a DNS server of its own: every name leads to this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.live.processes import ROOT, free_port, listens, running, wait_until


@dataclass(frozen=True)
class Pebble:
    """One that runs. directory: its URL. ca_file: by which that is believed. http_port, tls_port: where it asks names."""

    directory: str
    ca_file: str
    http_port: int
    tls_port: int

    def acme(self, storage: Path, **more: Any) -> dict[str, Any]:
        """The section `acme` of an edge that asks it."""
        return {"agree_tos": True, "directory": self.directory, "ca_file": self.ca_file, "storage": str(storage), **more}


@contextlib.contextmanager
def pebble(folder: Path, *, life_s: int = 3600, **env: str) -> Iterator[Pebble]:
    """Start it. life_s: of its certificates. env: its switches, such as PEBBLE_WFE_NONCEREJECT."""
    if shutil.which("pebble") is None:
        pytest.skip("pebble is missing: sudo apt install pebble")
    authority = Authority()
    (folder / "pebble-ca.pem").write_bytes(authority.pem)
    own = authority.sign(folder / "pebble.pem", "localhost", "127.0.0.1")
    listen, manage, http, tls, dns, dns_manage = (free_port() for _ in range(6))
    settings = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{manage}",
        "certificate": own,
        "privateKey": own,
        "httpPort": http,
        "tlsPort": tls,
        "certificateValidityPeriod": life_s,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    nothing = [part for name in ("http01", "https01", "tlsalpn01") for part in (f"-{name}", "")]
    names = [
        "-defaultIPv4",
        "127.0.0.1",
        "-defaultIPv6",
        "",
        "-dns01",
        f"127.0.0.1:{dns}",
        "-management",
        f"127.0.0.1:{dns_manage}",
    ]
    command = ["pebble", "-config", folder / "pebble.json", "-strict", "-dnsserver", f"127.0.0.1:{dns}"]
    switches = {"PATH": os.environ["PATH"], "PEBBLE_VA_SLEEPTIME": "1", **env}
    with (
        running(["pebble-challtestsrv", *names, *nothing], r"Starting", cwd=ROOT, env=switches),
        running(command, r"Listening on", cwd=ROOT, env=switches),
    ):
        wait_until(lambda: listens(listen), 10, "pebble")
        yield Pebble(f"https://localhost:{listen}/dir", str(folder / "pebble-ca.pem"), http, tls)
