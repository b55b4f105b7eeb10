"""Certificates that come by themselves, from a real authority (pebble) that refuses half of all nonces."""

from __future__ import annotations

import signal
import socket
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.live.authority import Pebble, pebble
from tests.live.edges import OWN, WORKER, LiveEdge, request, start_edge
from tests.live.peers import Client, Script, answers
from tests.live.processes import ask, free_port, wait_until

AWKWARD = {"PEBBLE_WFE_NONCEREJECT": "50", "PEBBLE_AUTHZREUSE": "50"}


def any_certificate() -> ssl.SSLContext:
    """A client that looks at what it is shown, and believes all."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def shown(port: int, name: str) -> bytes | None:
    """The certificate that a client gets who asks for this name, as bytes; None while the port has none for it."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as sock,
            any_certificate().wrap_socket(sock, server_hostname=name) as tls,
        ):
            return tls.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionError, TimeoutError):  # gunicorn listens before its worker serves
        return None


def settled(edge: LiveEdge, name: str, timeout_s: float = 60) -> bytes:
    """Wait until there is one."""
    return wait_until(lambda: shown(edge.port, name), timeout_s, f"a certificate for {name}\n{edge.process}")


def private(storage: Path) -> bool:
    """Whether nobody else can read a file of it."""
    return all(not stat.S_IMODE(path.stat().st_mode) & 0o077 for path in storage.rglob("*"))


def test_two_flags_lead_to_https_over_http_01_and_renewals_follow(tmp_path: Path) -> None:
    """In two workers; certificates live 24 s here, so the next is due after 16."""
    storage = tmp_path / "acme"
    with pebble(tmp_path, life_s=24, **AWKWARD) as authority, Script(answers()) as backend:
        arguments = ("--backend", backend.url, "--domain", "shop.example", "--domain", "www.shop.example", "--workers", "2")
        ports = ("--http-bind", f"127.0.0.1:{authority.http_port}", "--admin-bind", f"127.0.0.1:{(admin := free_port())}")
        with start_edge(
            tmp_path, backend, arguments=(*arguments, *ports), probed=False, acme=authority.acme(storage, retry_s=1)
        ) as edge:
            edge.url = f"http://127.0.0.1:{admin}"
            first = settled(edge, "shop.example")
            both = [["shop.example"], ["www.shop.example"]]
            wait_until(lambda: [one["names"] for one in edge.status()["certificates"]] == both, 30, f"both\n{edge.process}")
            assert private(storage)
            assert list((storage / "challenges").iterdir()) == []
            assert "smartedge_certificate_expires_timestamp_seconds{" in edge.admin("/metrics").text
            with Client(edge.port, host="localhost", tls=any_certificate()) as client:
                client.send(request())
                assert client.answer().status == 200
            plain = ask(f"http://127.0.0.1:{authority.http_port}/a?b", headers={"Host": "shop.example"})
            assert (plain.status, plain.header("Location")) == (308, f"https://shop.example:{edge.port}/a?b")
            wait_until(lambda: shown(edge.port, "shop.example") not in (None, first), 60, "the next certificate")
            assert "Traceback" not in edge.process.output
            assert edge.process.stop() == 0


@pytest.mark.parametrize("server", [OWN, WORKER])
def test_tls_alpn_01_needs_no_second_port_and_a_restart_in_the_middle_loses_nothing(server: str, tmp_path: Path) -> None:
    storage = tmp_path / "acme"
    with pebble(tmp_path, **AWKWARD) as authority, Script(answers()) as backend:
        acme = authority.acme(storage, retry_s=1)
        where: dict[str, Any] = {"bind": f"127.0.0.1:{authority.tls_port}", "probed": False, "server": server}
        with start_edge(tmp_path, backend, **where, certificates=["shop.example"], acme=acme) as edge:
            wait_until(lambda: list(storage.glob("*.key")), 30, "the account's key")
            edge.process.process.send_signal(signal.SIGKILL)
            edge.process.wait(5)
        with start_edge(tmp_path, backend, **where) as edge:
            certificate = settled(edge, "shop.example")
            assert "tried again" not in edge.process.output  # a nonce that is refused is no failure
            assert len(list(storage.glob("*.key"))) == 1
            assert edge.process.stop() == 0
        with start_edge(tmp_path, backend, **where) as edge:
            assert settled(edge, "shop.example") == certificate  # it was kept
            assert private(storage)
            assert "Traceback" not in edge.process.output


def test_an_authority_that_can_not_be_reached_is_asked_again_while_the_old_certificate_serves_on(tmp_path: Path) -> None:
    storage = tmp_path / "acme"
    (storage / "certificates").mkdir(parents=True, mode=0o700)
    old = Authority().sign(storage / "certificates" / "shop.example.pem", "shop.example", days=0.01)
    acme = Pebble(f"https://127.0.0.1:{free_port()}/dir", old, 0, 0).acme(storage, retry_s=0.2)
    with (
        Script(answers()) as backend,
        start_edge(tmp_path, backend, probed=False, certificates=["shop.example"], acme=acme) as edge,
    ):
        wait_until(lambda: edge.process.output.count("no certificate for shop.example, tried again in") > 1, 30, "another try")
        assert shown(edge.port, "shop.example") is not None
        assert "the certificate for shop.example" in edge.process.output  # it ends soon
        assert edge.process.stop() == 0
