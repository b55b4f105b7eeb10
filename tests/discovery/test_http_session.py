from __future__ import annotations

import contextlib
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.ssl import SSLContext

from smartedge.balancer.spec import TlsSpec
from smartedge.discovery.http_session import FetchFailed, fetch, make_session
from tests.certificates import Authority
from tests.peers import backend, head_of, says

OK = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 2\r\n\r\nok"


def get(url: str, tls: TlsSpec = TlsSpec(), **more: Any) -> bytes:  # noqa: B008 - frozen
    return fetch(make_session(tls), "GET", url, **{"timeout_s": 20, **more}).body


def failure_of(url: str, tls: TlsSpec = TlsSpec(), **more: Any) -> FetchFailed:  # noqa: B008 - frozen
    with pytest.raises(FetchFailed) as raised:
        get(url, tls, **more)
    return raised.value


def test_an_answer_has_status_fields_and_body() -> None:
    with backend(says(OK)) as url:
        reply = fetch(make_session(TlsSpec()), "GET", url, timeout_s=20)
    assert (reply.status, reply.headers["x-one"], reply.body) == (200, "1", b"ok")


def test_a_connection_is_kept_and_one_that_has_ended_is_not_used_again() -> None:
    numbers = []

    def play(sock: Any, number: int) -> None:
        for _ in range(2):
            if head_of(sock):
                numbers.append(number)
                sock.sendall(OK)

    with backend(play) as url:
        session = make_session(TlsSpec())
        for _ in range(4):
            fetch(session, "GET", url, timeout_s=20)
            gevent.sleep(0.01)
    assert numbers == [1, 1, 2, 2]


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    error = failure_of(url)
    assert (str(error), error.sent) == ("connection refused", False)


def test_a_server_with_an_ipv6_address() -> None:
    with contextlib.closing(gevent.socket.socket(socket.AF_INET6)) as listener:
        listener.bind(("::1", 0))
        listener.listen()
        asked = gevent.spawn(get, f"http://[::1]:{listener.getsockname()[1]}/")
        sock, _ = listener.accept()
        says(OK)(sock, 1)
        sock.close()
        assert asked.get(timeout=20) == b"ok"


def test_a_name_that_leads_nowhere() -> None:
    error = failure_of("http://nobody.invalid/")
    assert (str(error).startswith("its name cannot be looked up: "), error.sent) == (True, False)


def test_a_server_that_hangs_up_may_have_acted() -> None:
    with backend(lambda sock, _number: head_of(sock)) as url:
        error = failure_of(url)
    assert error.sent
    assert "closed connection" in str(error)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", CHUNKED, CHUNKED + b"zz\r\n", CHUNKED + b"9\r\nhalf"]
)
def test_a_body_that_is_cut_or_garbled_is_no_answer(head: bytes) -> None:
    with backend(says(head)) as url:
        error = failure_of(url)
    assert (str(error), error.sent) == ("the connection was closed within the answer", True)


def test_the_whole_answer_has_its_time() -> None:
    def drip(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            sock.sendall(b"x")
            gevent.sleep(0.01)

    with backend(drip) as url:
        assert str(failure_of(url, timeout_s=0.2)) == "no answer within 0.2 s"


def test_the_answer_has_a_limit() -> None:
    with backend(says(OK)) as url:
        assert str(failure_of(url, max_bytes=1)) == "the answer is longer than 1 bytes"


def test_a_redirection_is_not_followed() -> None:
    with backend(says(b"HTTP/1.1 301 Moved\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n")) as url:
        assert fetch(make_session(TlsSpec()), "GET", url, timeout_s=20).status == 301


def test_nothing_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with backend(says(OK)) as url:
        assert get(url) == b"ok"


def test_a_certificate_is_believed_by_its_authority_alone_and_files_are_read_again(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(stranger.pem)
    server = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(authority.sign(tmp_path / "own.pem", "localhost"))

    def play(sock: Any, number: int) -> None:
        says(OK)(server.wrap_socket(sock, server_side=True), number)

    with backend(play) as url:
        https = url.replace("http://127.0.0.1", "https://localhost")
        session = make_session(TlsSpec(ca_file=str(ca)))
        with pytest.raises(FetchFailed, match=r"^TLS: ") as raised:
            fetch(session, "GET", https, timeout_s=20)
        assert not raised.value.sent
        ca.write_bytes(authority.pem)
        os.utime(ca, ns=(1, 1))
        assert fetch(session, "GET", https, timeout_s=20).body == b"ok"
        assert str(failure_of(https)).startswith("TLS: ")
        assert str(failure_of(https.replace("localhost", "127.0.0.1"), TlsSpec(ca_file=str(ca)))).startswith("TLS: ")


def test_a_server_that_is_silent_in_the_handshake_was_sent_nothing() -> None:
    with backend(lambda sock, _number: sock.recv(1) and gevent.sleep(60)) as url:
        error = failure_of(url.replace("http:", "https:"), timeout_s=0.3)
    assert (str(error), error.sent) == ("no connection in time", False)


def test_a_server_that_hangs_up_after_the_handshake_may_have_acted(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    server = SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(authority.sign(tmp_path / "own.pem", "127.0.0.1"))

    def play(sock: Any, number: int) -> None:
        secure = server.wrap_socket(sock, server_side=True)
        head_of(secure)
        if number == 2:  # by a reset, in the midst of TLS
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        secure.close()

    with backend(play) as url:
        for _ in range(2):
            assert failure_of(url.replace("http:", "https:"), TlsSpec(ca_file=str(tmp_path / "ca.pem"))).sent
