"""One client's connection that should speak TLS: what becomes of those that do not, or leave before their first request."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest

from smartedge.http.peer import RESET
from smartedge.server.server import EdgeServer
from tests.certificates import context_of
from tests.house import until
from tests.live.wire import parse_answers
from tests.peers import App, talk

LOCALHOST = str(Path(__file__).parents[1] / "live" / "certs" / "localhost.pem")


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


class TlsApp(App):
    """An app that is told of handshakes."""

    def __init__(self) -> None:
        super().__init__(hello)
        self.handshakes: list[bool | None] = []
        self.server_hooks = type(self.server_hooks)(on_refused=self.on_refused, on_handshake=self.handshakes.append)


@pytest.fixture
def app() -> TlsApp:
    return TlsApp()


@pytest.fixture
def server(app: TlsApp) -> Iterator[EdgeServer]:
    made = EdgeServer(("127.0.0.1", 0), app, ssl_context=context_of(LOCALHOST))
    made.start()
    with gevent.Timeout(10):
        yield made
    made.stop(timeout=0)


def test_plain_http_is_told_that_this_port_speaks_tls(server: EdgeServer, app: TlsApp) -> None:
    (answer,) = parse_answers(talk(server, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"), b"GET")
    assert (answer.status, answer.get(b"connection")) == (400, b"close")
    assert json.loads(answer.body)["detail"] == "This port speaks TLS: the URL begins with https://."
    assert [status for _, status, _ in app.refused] == [400]
    assert app.handshakes == []


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x00\x05junk!", b"\x16\x03\x01"])
def test_a_handshake_that_fails_is_counted_and_ends_the_connection(server: EdgeServer, app: TlsApp, said: bytes) -> None:
    with contextlib.closing(gevent.socket.create_connection(("127.0.0.1", server.server_port))) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        while client.recv(100):
            pass
    until(lambda: app.handshakes == [None])
    until(lambda: not server.front.open)
    assert app.refused == []


def test_who_trusts_nobody_and_who_does_are_told_apart(server: EdgeServer, app: TlsApp) -> None:
    address = ("127.0.0.1", server.server_port)
    with pytest.raises(ssl.SSLCertVerificationError):
        gevent.get_hub().threadpool.apply(ssl.get_server_certificate, (address,), {"ca_certs": LOCALHOST, "timeout": 5})
    until(lambda: app.handshakes == [None])
    gevent.get_hub().threadpool.apply(ssl.get_server_certificate, (address,), {"timeout": 5})
    until(lambda: app.handshakes == [None, False])


def test_who_has_left_before_a_refusal_is_written_is_no_trouble(server: EdgeServer, app: TlsApp) -> None:
    """A reset, which the refusal finds."""
    client = gevent.socket.create_connection(("127.0.0.1", server.server_port))
    client.sendall(b"GET / HTTP/1.1\r\n")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()
    until(lambda: app.refused or app.handshakes)
    until(lambda: not server.front.open)
