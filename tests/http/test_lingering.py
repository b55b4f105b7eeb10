"""How clients' connections end: nothing that was sent is destroyed, who stops talking is answered, who leaves is noticed."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import gevent.event
import gevent.socket
import gevent.ssl
import pytest

from smartedge.balancer.spec import TlsSpec
from smartedge.http import lingering
from smartedge.http.lingering import linger
from smartedge.http.tls import context_for
from smartedge.http.tls_wire import TlsWire
from smartedge.http.wire import WireTimeout
from smartedge.server.front import ServerLimits
from smartedge.server.server import EdgeServer
from tests.certificates import context_of
from tests.house import Served, running
from tests.live.wire import parse_answers
from tests.peers import App, backend, head_of, talk

CERTS = Path(__file__).parents[1] / "live" / "certs"
BIG = b"x" * 3_000_000
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(30):
        yield


def big(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(BIG)))])
    return [BIG]


@contextlib.contextmanager
def server_of(view: Callable[..., Any], *, tls: bool = False, limits: ServerLimits | None = None) -> Iterator[EdgeServer]:
    context = context_of(str(CERTS / "localhost.pem")) if tls else None
    server = EdgeServer(("127.0.0.1", 0), App(view, limits=limits), ssl_context=context)
    server.start()
    try:
        yield server
    finally:
        server.stop_gracefully(0)


def connected(port: int, *, tls: bool = False) -> Any:
    sock = gevent.socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    if tls:
        context = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(CERTS / "ca.pem")
        sock = context.wrap_socket(sock, server_hostname="localhost")
    sock.settimeout(10)
    return sock


def read_slowly(sock: Any) -> bytes:
    data = b""
    while more := sock.recv(262144):
        data += more
        gevent.sleep(0.001)
    return data


# Nothing that was sent is destroyed.


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("behind", [b"\r\n", GET, GET * 3000], ids=["an empty line", "a request", "many requests"])
@pytest.mark.parametrize("asked", [CLOSE, b"GET / HTTP/1.0\r\n\r\n"], ids=["close", "1.0"])
def test_a_close_over_unread_bytes_takes_nothing_of_the_answer(asked: bytes, behind: bytes, tls: bool) -> None:
    """Of 3 MB the client got 113 kB and a reset."""
    with server_of(big, tls=tls) as server, contextlib.closing(connected(server.server_port, tls=tls)) as sock:
        sock.sendall(asked)
        first = sock.recv(1)
        sock.sendall(behind)
        gevent.sleep(0.05)
        received = first + read_slowly(sock)
        assert received.endswith(b"\r\n\r\n" + BIG)


def test_what_comes_when_the_server_has_closed_its_side_takes_nothing_either() -> None:
    with server_of(big) as server, contextlib.closing(connected(server.server_port)) as sock:
        sock.sendall(CLOSE)
        received = b""
        while len(received) < 1_000_000:
            received += sock.recv(65536)
        sock.sendall(b"\r\n")
        assert (received + read_slowly(sock)).endswith(BIG)


def test_a_stop_takes_nothing_of_the_answer_that_is_still_on_its_way() -> None:
    with server_of(big) as server, contextlib.closing(connected(server.server_port)) as sock:
        sock.sendall(GET)
        received = sock.recv(1)
        while not any(incoming.idle and not incoming.fresh for incoming in server.front.open):  # all is in the kernel's hands
            received += sock.recv(65536)
            gevent.sleep(0.001)
        gevent.spawn(server.stop_gracefully, 5)
        gevent.sleep(0.3)
        with contextlib.suppress(OSError):
            sock.sendall(b"\r\n")
        assert (received + read_slowly(sock)).endswith(BIG)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 30000000\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1c9c380\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"400"),
        (b"POST /fails HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n", b"500"),
        (b"POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n", b"403"),
    ],
    ids=["413 by length", "413 on the way", "400", "500", "an early answer"],
)
def test_an_answer_in_the_middle_of_an_upload_arrives(raw: bytes, status: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """The client goes on sending, for as long as it likes, and then reads why it need not have."""

    def view(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("a bug in the app")
        if environ["PATH_INFO"] == "/early":
            start_response("403 Forbidden", [("Content-Length", "0")])
            return []
        environ["wsgi.input"].read()
        return []

    with (
        server_of(view, limits=ServerLimits(body_bytes=1_000_000)) as server,
        contextlib.closing(connected(server.server_port)) as sock,
    ):
        sock.sendall(raw)
        for _ in range(100):
            sock.sendall(b"x" * 300_000)
        answer = read_slowly(sock)
        assert answer[9:12] == status
        assert answer.count(b"HTTP/1.1 ") == 1
        capfd.readouterr()


def test_who_has_everything_and_says_nothing_more_is_closed_at_once() -> None:
    """No connection waits for its client without need: a stop, and a client without keep-alive, have no time to lose."""
    with server_of(big) as server:
        talk(server, CLOSE)
        while server.front.open:
            gevent.sleep(0.001)
        with contextlib.closing(connected(server.server_port)) as sock:
            sock.sendall(GET)
            received = b""
            while not received.endswith(BIG):
                received += sock.recv(1 << 20)
            gevent.sleep(0.05)
            assert server.stop_gracefully(0.2)
            assert sock.recv(1) == b""


class Talker:
    """A client that says something whenever it is asked, for ever."""

    def __init__(self, *says: bytes | Exception) -> None:
        self.says = list(says)
        self.finished = False
        self.asked = 0
        self.timeouts: list[float] = []

    def finish_sending(self) -> None:
        self.finished = True

    def recv(self, timeout_s: float, size: int = 0) -> bytes:
        self.asked += 1
        self.timeouts.append(timeout_s)
        said = self.says[min(self.asked, len(self.says)) - 1]
        if isinstance(said, Exception):
            raise said
        return said


@pytest.mark.parametrize(
    ("says", "asked"),
    [([b""], 1), ([b"x", b"x", b""], 3), ([b"x", WireTimeout("quiet")], 2), ([ConnectionResetError()], 1)],
)
def test_lingering_ends_when_the_client_does(says: list[Any], asked: int) -> None:
    talker = Talker(*says)
    linger(talker)
    assert (talker.asked, talker.finished) == (asked, True)
    assert max(talker.timeouts) <= lingering.QUIET_S


def test_lingering_is_bounded_in_bytes_and_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    talker = Talker(b"x" * 131072)
    linger(talker)
    assert talker.asked * 131072 == lingering.LINGER_BYTES
    monkeypatch.setattr(lingering, "LINGER_S", 0.05)
    linger(talker := Talker(b"x"))
    assert talker.asked < lingering.LINGER_BYTES


# Who only stops talking is answered.


class Slow:
    """A backend that answers when it is told to."""

    def __init__(self) -> None:
        self.go_on = gevent.event.Event()
        self.asked = gevent.event.Event()
        self.left = gevent.event.Event()

    def play(self, sock: Any, _number: int) -> None:
        while head_of(sock):
            self.asked.set()
            with gevent.Timeout(0.001, False):
                self.go_on.wait()
            waiting = gevent.spawn(sock.recv, 1)
            gevent.wait([waiting, self.go_on], count=1)
            if waiting.ready():
                self.left.set()
                return
            waiting.kill()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")


@contextlib.contextmanager
def slow_edge(*, tls: bool = False) -> Iterator[tuple[Served, Slow]]:
    slow = Slow()
    context = context_of(str(CERTS / "localhost.pem")) if tls else None
    with backend(slow.play) as url, running(url, ssl_context=context) as edge:
        yield edge, slow


@pytest.mark.parametrize("behind", [b"", b"\r\n", GET], ids=["nothing", "an empty line", "another request"])
def test_a_client_that_half_closes_after_its_request_is_served(behind: bytes) -> None:
    """`printf ... | nc`: the end of its side was taken for its departure, and nothing came."""
    with slow_edge() as (edge, slow), contextlib.closing(edge.client()) as sock:
        sock.sendall(GET + behind)
        sock.shutdown(socket.SHUT_WR)
        slow.asked.wait()
        gevent.sleep(0.3)  # the sweep has looked at it several times
        slow.go_on.set()
        answers = parse_answers(read_slowly(sock))
        assert [answer.body for answer in answers] == [b"late"] * (1 + (behind == GET))
        assert {exchange.status for exchange in edge.ended()} == {200}


def test_under_tls_too() -> None:
    """RFC 8446 section 6.1: who has said its goodbye may go on reading."""
    with slow_edge(tls=True) as (edge, slow):
        context = context_for(TlsSpec(ca_file=str(CERTS / "ca.pem")))
        wire = TlsWire(edge.client(), context, server_name="localhost")
        wire.handshake(5)
        wire.send(GET, 5)
        slow.asked.wait()
        wire.finish_sending()
        gevent.sleep(0.3)
        slow.go_on.set()
        assert wire.recv(5).endswith(b"late")
        assert wire.recv(5) == b""
        wire.close()


@pytest.mark.parametrize("behind", [b"", b"\r\n", GET * 100], ids=["nothing", "an empty line", "many requests"])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_that_leaves_is_noticed_whatever_it_sent_before_and_nothing_is_written(behind: bytes, tls: bool) -> None:
    """Unread bytes hid the departure behind them until the answer came."""
    with slow_edge(tls=tls) as (edge, slow):
        sock = connected(edge.server.server_port, tls=tls)
        sock.sendall(GET)
        slow.asked.wait()
        sock.sendall(behind)
        gevent.sleep(0.15)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock._sock.close() if tls else sock.close()
        assert slow.left.wait(2)
        assert edge.ended()[0].status == 499


def test_no_499_is_ever_written_to_anybody() -> None:
    """A body that ends early: its client may still read, and 499 is for the log."""
    with slow_edge() as (edge, _slow):
        for end in (b"Content-Length: 10\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhal"):
            with contextlib.closing(edge.client()) as sock:
                sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n" + end)
                sock.shutdown(socket.SHUT_WR)
                assert read_slowly(sock) == b""
        assert [exchange.status for exchange in edge.ended(2)] == [499, 499]


# 426.


@pytest.mark.parametrize(
    ("asked", "option"), [(GET, b"Upgrade"), (CLOSE, b"close, Upgrade"), (b"GET / HTTP/1.0\r\n\r\n", b"close, Upgrade")]
)
def test_426_says_what_to_upgrade_to(asked: bytes, option: bytes) -> None:
    """RFC 9110 section 15.5.22: MUST; both fields were dropped as hop-by-hop."""
    says = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.3, own\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n"

    def play(sock: Any, _number: int) -> None:
        while head_of(sock):
            sock.sendall(says)

    with backend(play) as url, running(url) as edge, contextlib.closing(edge.client()) as sock:
        sock.sendall(asked)
        (answer,) = parse_answers(head_of(sock))
        assert (answer.status, answer.get(b"upgrade"), answer.get(b"connection")) == (426, b"TLS/1.3, own", option)
