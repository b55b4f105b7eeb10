"""What a backend sends unasked becomes nobody's answer, whenever in a round of the event loop it comes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest

from smartedge.balancer.spec import TlsSpec
from smartedge.http.request import Replay
from smartedge.http.tls_wire import TlsWire
from smartedge.http.wire import Wire
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.session import as_response
from smartedge.proxy.transport import UNSEEN_S, EdgeAdapter
from tests.certificates import context_of
from tests.fakes import Pieces
from tests.house import running
from tests.peers import backend, head_of
from tests.policies import limits

CERTS = Path(__file__).parents[1] / "live" / "certs"
GET = b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"
LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 6\r\n\r\npoison"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(20):
        yield


class Backends:
    """Connections of a backend that answers, all of them kept at hand."""

    def __init__(self) -> None:
        self.socks: list[Any] = []
        self.together: gevent.event.Event | None = gevent.event.Event()

    def play(self, sock: Any, _number: int) -> None:
        self.socks.append(sock)
        while head_of(sock):
            if self.together is not None:
                self.together.wait()  # all clients wait at once, so that each has a connection of its own
            sock.sendall(GOOD)


@pytest.mark.parametrize("finish", [False, True], ids=["and stays", "and leaves"])
@pytest.mark.parametrize("stray", [LATE, WHOLE], ids=["408", "200"])
def test_forty_clients_ask_in_the_very_round_in_which_their_backends_say_something_unasked(stray: bytes, finish: bool) -> None:
    """30 of 40 got the stray bytes for their answer: the loop told of the client's socket first, and the request went out."""
    backends = Backends()
    with backend(backends.play) as url, running(url) as edge, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(edge.client())) for _ in range(40)]
        for i, client in enumerate(clients):
            client.sendall(GET % i)
        while len(backends.socks) < 40:
            gevent.sleep(0.001)
        backends.together.set()  # type: ignore[union-attr]
        backends.together = None
        for client in clients:
            assert head_of(client).endswith(b"good")
        gevent.sleep(0.01)
        # From here to the first read nothing switches: one round of the loop is told of everything.
        for sock in list(backends.socks):
            sock.send(stray)
            if finish:
                sock.shutdown(gevent.socket.SHUT_WR)
        for i, client in enumerate(clients):
            client.send(GET % i)
        assert [head_of(client)[-4:] for client in clients] == [b"good"] * 40


def test_bytes_that_come_while_a_long_round_goes_on_are_found_before_the_request_goes_out() -> None:
    """The loop asks the kernel once a round: 30 scrapes of /metrics in it are time enough for a 408."""
    backends = Backends()
    backends.together = None
    with backend(backends.play) as url:
        adapter = EdgeAdapter(url, limits(), None)
        assert as_response(adapter.send(Outbound(b"GET", GET % 1, None, True))).content == b"good"
        gevent.sleep(0.01)
        timer = gevent.get_hub().loop.timer(10)
        busy_until = monotonic() + 2 * UNSEEN_S
        backends.socks[0].send(WHOLE)
        while monotonic() < busy_until:
            pass
        timer.start(list, update=True)  # moves what the loop takes for the time
        timer.close()
        assert as_response(adapter.send(Outbound(b"GET", GET % 2, None, True))).content == b"good"
        adapter.close()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_the_body_of_an_answer_that_has_none_is_not_the_next_answer(method: bytes) -> None:
    """Some backends send one to HEAD, in a segment of its own: it comes when the connection is idle already."""
    stray = gevent.event.Event()

    def play(sock: Any, number: int) -> None:
        head_of(sock)
        sock.sendall(GOOD[:-4] if number == 1 else GOOD)
        stray.wait()
        if number == 1:
            sock.send(WHOLE)
        sock.recv(1)

    with backend(play) as url:
        adapter = EdgeAdapter(url, limits(), None)
        assert as_response(adapter.send(Outbound(b"HEAD", b"HEAD" + (GET % 1)[3:], None, True))).content == b""
        (idle,) = adapter._idle
        peer_says_at_once(idle.wire, stray)
        body = Replay(Pieces(b"x", length=1, here=True), 100) if method == b"POST" else None
        assert as_response(adapter.send(Outbound(method, GET % 2, body, method == b"GET"))).content == b"good"
        adapter.close()


def peer_says_at_once(wire: Wire, say: gevent.event.Event) -> None:
    """Have the backend speak, and go on before the loop tells the wire: its watcher rests meanwhile."""
    on_readable = wire._on_readable
    wire._io.stop()
    say.set()
    gevent.sleep(0.01)
    wire._io.start(on_readable)


def tls_backend(play: Callable[[TlsWire, int], None]) -> Any:
    context = context_of(str(CERTS / "localhost.pem"))

    def handle(sock: Any, number: int) -> None:
        wire = TlsWire(sock, context, server_side=True)
        wire.handshake(5)
        play(wire, number)

    return backend(handle)


@pytest.mark.parametrize("finish", [False, True], ids=["and stays", "and leaves"])
def test_under_tls_the_same(finish: bool) -> None:
    """A record that nobody asked for is as readable as plain bytes are."""
    wires: list[TlsWire] = []

    def play(wire: TlsWire, _number: int) -> None:
        wires.append(wire)
        while wire.recv(5):
            wire.send(GOOD, 5)

    with tls_backend(play) as url:
        adapter = EdgeAdapter(
            url.replace("http:", "https:"), limits(), TlsSpec(ca_file=str(CERTS / "ca.pem"), server_name="localhost")
        )
        assert as_response(adapter.send(Outbound(b"GET", GET % 1, None, True))).content == b"good"
        gevent.sleep(0.02)
        busy = edge_side(adapter)
        wires[0].send(WHOLE, 5)
        if finish:
            wires[0].finish_sending()
        asked = gevent.event.Event()
        # A waiter with the priority of a client's socket, woken in the same round as the backend's.
        ours, theirs = gevent.socket.socketpair()
        found: list[bytes] = []

        def serve() -> None:
            Wire(ours).recv(5)
            Wire(ours).recv(5)
            found.append(as_response(adapter.send(Outbound(b"GET", GET % 2, None, True))).content)
            asked.set()

        theirs.send(b"1")
        gevent.spawn(serve)
        gevent.sleep(0)
        theirs.send(b"2")
        asked.wait()
        assert found == [b"good"]
        assert busy.closed
        adapter.close()


def test_what_tls_has_read_ahead_of_its_answer_makes_the_connection_unusable() -> None:
    """Both records lie in one segment: the kernel knows nothing of the second any more."""

    def play(wire: TlsWire, number: int) -> None:
        wire.recv(5)
        wire._tls.write(GOOD)
        if number == 1:
            wire._tls.write(WHOLE)
        wire._flush(5)
        wire.recv(5)

    with tls_backend(play) as url:
        adapter = EdgeAdapter(
            url.replace("http:", "https:"), limits(), TlsSpec(ca_file=str(CERTS / "ca.pem"), server_name="localhost")
        )
        for i in range(2):
            assert as_response(adapter.send(Outbound(b"GET", GET % i, None, True))).content == b"good"
        adapter.close()


def edge_side(adapter: EdgeAdapter) -> Wire:
    (connection,) = adapter._idle
    return connection.wire
