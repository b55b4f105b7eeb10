"""The session of one backend: connections kept, dropped and opened, and requests' own faults kept out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
import requests
from gevent.event import Event
from gevent.server import StreamServer

from smartedge.balancer.errors import BackendClosed, BackendTimeout, BadAnswer, ClientGone, ConnectFailed
from smartedge.balancer.lease import Lease
from smartedge.http.answer_head import KNOWN_HEAD_BYTES, KNOWN_HEADS, known_heads
from smartedge.http.chunked import ChunkedDecoder
from smartedge.http.request import Replay
from smartedge.http.sockets import Address, address_of
from smartedge.proxy.adapter import Limits
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.session import EdgeSession, as_response
from smartedge.proxy.transport import EdgeAdapter
from tests.busy import make_busy
from tests.fakes import Pieces
from tests.house import House, until
from tests.peers import backend, head_of, says
from tests.policies import limits

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LIMITS = limits(connect_s=1, first_byte_s=1, idle_s=1)


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(5):
        yield


def get(*, repeatable: bool = True, body: Replay | None = None) -> Outbound:
    return Outbound(b"GET", GET, body, repeatable)


def session_for(url: str, limits: Limits = LIMITS, **more: Any) -> EdgeSession:
    return EdgeSession(EdgeAdapter(url, limits, None, **more))


def body_of(answer: Any) -> bytes:
    return b"".join(iter(answer.read, b""))


def test_it_is_a_requests_session_with_our_adapter_mounted() -> None:
    session = session_for("http://127.0.0.1:1")
    assert isinstance(session, requests.Session)
    assert session.get_adapter("http://x/") is session.get_adapter("https://x/") is session.adapter
    assert not session.trust_env


def test_no_cookie_is_kept_whoever_sets_it() -> None:
    """A shared Session gives one client's Set-Cookie to the next."""
    with backend(says(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n")) as url:
        session = session_for(url)
        session.send(get()).close()
        assert dict(session.cookies) == {}
        assert session.cookies.get_policy().is_not_allowed("127.0.0.1")  # type: ignore[attr-defined]


def test_connections_are_kept_and_counted() -> None:
    opened: list[float] = []
    with backend(says(OK, OK, OK)) as url:
        session = session_for(url, on_connect=opened.append)
        assert [body_of(session.send(get())) for _ in range(3)] == [b"hello"] * 3
    assert len(opened) == 1
    assert 0 < opened[0] < 60


def test_two_requests_at_once_have_two_connections() -> None:
    opened: list[int] = []

    def play(sock: Any, _number: int) -> None:
        while head_of(sock):
            gevent.sleep(0.02)
            sock.sendall(OK)

    with backend(play) as url:
        session = session_for(url, on_connect=lambda _: opened.append(1))
        answers = [gevent.spawn(session.send, get()) for _ in range(2)]
        assert [body_of(answer.get()) for answer in answers] == [b"hello"] * 2
        assert body_of(session.send(get())) == b"hello"
    assert len(opened) == 2


def test_the_rest_of_requests_interface_is_there_for_those_who_want_it() -> None:
    raw = b"HTTP/1.1 404 Not There\r\nContent-Length: 5\r\nX-One: 1\r\nSet-Cookie: a=1\r\n\r\nhello"
    with backend(says(raw)) as url:
        answer = as_response(session_for(url).send(get()), url)
        assert (answer.status_code, answer.reason, answer.ok) == (404, "Not There", False)
        assert answer.headers["x-one"] == "1"
        assert answer.content == b"hello"
        assert answer.text == "hello"
        assert answer.url == url


def test_who_reads_a_long_answer_that_is_all_here_gets_bytes() -> None:
    """A view goes only to who asks for what is lent: requests' users, and PEP 3333, have bytes."""
    body = b"x" * 100_000
    with backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body)) as url:
        pieces = list(iter(session_for(url).send(get()).read, b""))
        assert {type(piece) for piece in pieces} == {bytes}
        assert b"".join(pieces) == body
        answer, lent = session_for(url).send(get()), b""
        while piece := answer.lend():
            lent += piece
        assert lent == body


def test_a_connection_on_which_the_answer_was_not_read_to_its_end_is_not_kept() -> None:
    opened: list[int] = []
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    with backend(lambda sock, _: (head_of(sock), sock.sendall(half), sock.recv(1))) as url:
        session = session_for(url, on_connect=lambda _: opened.append(1))
        for _ in range(2):
            answer = session.send(get())
            assert answer.read() == b"hello"
            assert not answer.complete
            answer.close()
    assert len(opened) == 2


# Stale connections.


def test_a_request_that_may_be_repeated_goes_out_again_when_its_kept_connection_was_just_closed() -> None:
    with backend(says(OK)) as url:  # one answer for each connection, then a close as the next request comes
        session = session_for(url)
        assert [body_of(session.send(get())) for _ in range(5)] == [b"hello"] * 5


def test_a_request_that_may_not_be_repeated_does_not() -> None:
    def play(sock: Any, number: int) -> None:
        head_of(sock)
        sock.sendall(OK)
        head_of(sock)  # and closes without an answer

    with backend(play) as url:
        session = session_for(url)
        assert body_of(session.send(get(repeatable=False))) == b"hello"
        with pytest.raises(BackendClosed):
            session.send(get(repeatable=False))


def test_a_fresh_connection_that_is_closed_without_an_answer_is_the_backends_failure() -> None:
    asked: list[int] = []

    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        asked.append(1)

    with backend(play) as url:
        with pytest.raises(BackendClosed):
            session_for(url).send(get())
        assert len(asked) == 1


def test_a_request_with_a_body_goes_out_again_with_its_whole_body() -> None:
    seen: list[bytes] = []

    def play(sock: Any, number: int) -> None:
        for _ in range(2 if number > 1 else 1):
            data = head_of(sock)
            while data and not data.endswith(b"0\r\n\r\n"):
                data += sock.recv(65536)
            seen.append(b"".join(ChunkedDecoder().feed(data.partition(b"\r\n\r\n")[2])))
            sock.sendall(OK)
        head_of(sock)

    with backend(play) as url:
        session = session_for(url)
        for _ in range(2):
            body = Replay(Pieces(b"one", b"two"), 100)
            assert body_of(session.send(get(body=body))) == b"hello"
    assert seen == [b"onetwo"] * 2


def test_a_close_while_it_is_idle_is_noticed_and_the_connection_dropped() -> None:
    with backend(lambda sock, _: (head_of(sock), sock.sendall(OK))) as url:
        session = session_for(url)
        session.send(get()).close()
        (kept,) = session.adapter._idle
        while not kept.wire.closed:
            gevent.sleep(0.001)
        assert body_of(session.send(get(repeatable=False))) == b"hello"


def test_a_close_that_came_with_the_answer_is_noticed_before_a_request_that_may_not_be_repeated() -> None:
    with backend(lambda sock, _: (head_of(sock), sock.sendall(OK))) as url:
        session = session_for(url)
        assert [body_of(session.send(get(repeatable=False))) for _ in range(5)] == [b"hello"] * 5


def test_bytes_that_nobody_asked_for_spoil_an_idle_connection() -> None:
    answered = Event()

    def play(sock: Any, number: int) -> None:
        head_of(sock)
        sock.sendall(OK)
        if number == 1:
            answered.wait(5)
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
            sock.recv(1)

    with backend(play) as url:
        session = session_for(url)
        assert body_of(session.send(get())) == b"hello"
        (kept,) = session.adapter._idle
        answered.set()
        until(lambda: kept.wire.closed)
        assert body_of(session.send(get())) == b"hello"


def test_an_idle_connection_is_closed_before_the_backend_would_close_it() -> None:
    told = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=1\r\n\r\nhello"
    with backend(says(told, told)) as url:
        session = session_for(url)
        session.send(get()).close()
        (kept,) = session.adapter._idle
        waited = 0.0
        while not kept.wire.closed:
            gevent.sleep(0.02)
            waited += 0.02
        assert waited < 0.9


def test_no_more_connections_are_kept_than_allowed() -> None:
    with backend(says(OK, OK)) as url:
        session = session_for(url, limits(connect_s=1, first_byte_s=1, idle_s=1, idle_connections=1))
        for answer in [gevent.spawn(session.send, get()) for _ in range(3)]:
            answer.get().close()
        assert len(session.adapter._idle) == 1


def test_a_session_that_was_closed_keeps_nothing_but_finishes_what_it_has() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"
    go_on = gevent.event.Event()
    with backend(lambda sock, _: (head_of(sock), sock.sendall(half), go_on.wait(), sock.sendall(b"world"))) as url:
        session = session_for(url)
        answer = session.send(get())
        session.adapter.close()
        go_on.set()
        assert body_of(answer) == b"helloworld"
        assert session.adapter._idle == []


# Connecting.


def test_a_refused_connection_was_never_sent() -> None:
    with contextlib.closing(gevent.socket.socket()) as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectFailed) as refused:
            session_for(f"http://127.0.0.1:{bound.getsockname()[1]}").send(get())
    assert not refused.value.sent
    assert refused.value.status == 502


def test_a_name_that_does_not_exist_was_never_sent() -> None:
    with pytest.raises(ConnectFailed) as refused:
        session_for("http://no-such-host.invalid").send(get())
    assert not refused.value.sent


def test_a_connection_that_takes_too_long_was_never_sent() -> None:
    with contextlib.closing(gevent.socket.socket()) as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # Fill the queue of connections that nobody accepts; the next ones get no answer to their SYN.
        waiting = [gevent.spawn(gevent.socket.create_connection, full.getsockname()) for _ in range(4)]
        gevent.sleep(0.05)
        with pytest.raises(ConnectFailed) as refused:
            session_for(f"http://127.0.0.1:{full.getsockname()[1]}", limits(connect_s=0.1)).send(get())
        assert not refused.value.sent
        gevent.killall(waiting)


def test_what_is_no_answer_may_have_been_acted_on_and_its_connection_is_closed() -> None:
    ends: list[bytes] = []
    with backend(lambda sock, _: (head_of(sock), sock.sendall(b"garbage\r\n\r\n"), ends.append(sock.recv(1)))) as url:
        with pytest.raises(BadAnswer) as bad:
            session_for(url).send(get())
        assert bad.value.sent
        gevent.sleep(0.02)
    assert ends == [b""]


def test_a_client_that_left_is_not_the_backends_failure() -> None:
    with backend(lambda sock, _: (head_of(sock), sock.recv(65536), sock.recv(65536))) as url, pytest.raises(ClientGone):
        session_for(url).send(get(body=Replay(Pieces(b"one", ClientGone("left")), 100)))


def test_a_pipelined_request_uses_no_connection_with_stray_bytes_on_it() -> None:
    """The event loop has not run since the answer before, so nobody has noticed them: they would be taken for the answer."""
    answered = gevent.event.Event()

    def play(sock: Any, number: int) -> None:
        head_of(sock)
        sock.sendall(OK.replace(b"hello", b"first" if number == 1 else b"fresh"))
        if number == 1:
            answered.wait()
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray")
        head_of(sock)

    with backend(play) as url:
        session = session_for(url)
        assert body_of(session.send(get())) == b"first"
        wire = session.adapter._idle[0].wire
        wire.on_idle = None
        answered.set()
        gevent.sleep(0.01)
        wire.readable, wire._armed = False, True  # as it is before the event loop has come round
        pipelined = get()
        pipelined.hasty = True
        assert body_of(session.send(pipelined)) == b"fresh"


def test_heads_are_remembered_but_not_without_end() -> None:
    heads = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %d\r\n\r\n" % i for i in range(KNOWN_HEADS + 5)]
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %b\r\n\r\n" % (b"x" * KNOWN_HEAD_BYTES)
    with backend(says(*heads, heads[-1], heads[-1], long)) as url:
        session = session_for(url)
        answers = [session.send(get()) for _ in range(len(heads) + 3)]
    last = str(len(heads) - 1)
    assert [as_response(answer).headers["x"] for answer in answers[:-1]] == [str(i) for i in range(len(heads))] + [last, last]
    assert answers[-2].fields is answers[-3].fields  # what has come twice is known
    assert len(known_heads) <= KNOWN_HEADS
    assert long not in known_heads


def stalls(sock: Any, _number: int) -> None:
    head_of(sock)
    gevent.sleep(4)


def test_a_try_has_until_the_deadline_and_a_backend_that_had_less_than_others_is_not_to_blame() -> None:
    with backend(stalls) as url:
        session = session_for(url)
        for deadline, blame in ((monotonic() + 0.2, "edge"), (monotonic() - 5.0, "edge"), (monotonic() + 60.0, "backend")):
            request = get()
            request.deadline = deadline
            with pytest.raises(BackendTimeout) as timeout:
                session.send(request)
            assert timeout.value.blame == blame
            assert timeout.value.status == 504
            assert ("retry.deadline_s" in timeout.value.detail) == (blame == "edge")


# ---- the way there ----


@contextlib.contextmanager
def servers(*ips: str) -> Iterator[tuple[int, list[str]]]:
    """Servers on one port of several addresses of this machine; gives the port, and which of them were asked."""
    asked: list[str] = []

    def playing(ip: str) -> Any:
        def handle(sock: Any, _address: object) -> None:
            with contextlib.suppress(OSError):
                while head_of(sock):
                    asked.append(ip)
                    sock.sendall(OK)
            sock.close()

        return handle

    first = StreamServer((ips[0], 0), playing(ips[0]))
    first.start()
    others = [StreamServer((ip, first.server_port), playing(ip)) for ip in ips[1:]]
    for server in others:
        server.start()
    try:
        yield first.server_port, asked
    finally:
        for server in (first, *others):
            server.stop(timeout=0)


def test_connections_to_an_address_that_is_gone_take_no_more_requests() -> None:
    """All traffic stayed on the old server for ever, as long as it answered, while the name had long pointed to another."""
    with servers("127.0.0.2", "127.0.0.3") as (port, asked):
        session = session_for(f"http://app.test:{port}")
        assert not session.adapter.use(["127.0.0.2"], None)
        body_of(session.send(get()))
        (idle,) = session.adapter._idle
        assert session.adapter.use(["127.0.0.3"], None)
        assert session.adapter._idle == []
        assert idle.wire.closed
        body_of(session.send(get()))
        assert asked == ["127.0.0.2", "127.0.0.3"]


def test_a_request_under_way_ends_where_it_began_and_its_connection_with_it() -> None:
    with servers("127.0.0.2", "127.0.0.3") as (port, asked):
        session = session_for(f"http://app.test:{port}")
        session.adapter.use(["127.0.0.2"], None)
        connection = session.adapter._take(get())
        session.adapter.use(["127.0.0.3"], None)
        connection.send(GET, None, 1, 1)
        connection.receive(False, 1, 1000, None, False)
        session.adapter.give_back(connection)
        assert connection.wire.closed
        assert asked == ["127.0.0.2"]


def test_connections_to_an_address_that_stays_go_on() -> None:
    opened: list[int] = []
    with servers("127.0.0.2", "127.0.0.3") as (port, asked):
        session = session_for(f"http://app.test:{port}", on_connect=lambda _: opened.append(1))
        session.adapter.use(["127.0.0.2", "::1"], None)
        body_of(session.send(get()))
        under_way = session.adapter._take(get())
        assert not session.adapter.use(["::1", "127.0.0.2"], None)  # a resolver that shuffles has said nothing new
        assert not session.adapter.use(["127.0.0.2", "127.0.0.3"], None)
        session.adapter.give_back(under_way)
        assert not session.adapter.use([], None)  # nobody knows: the last ones are good
        body_of(session.send(get()))
    assert asked == ["127.0.0.2"] * 2
    assert len(opened) == 1


def test_the_address_that_has_worked_is_the_first_one_next_time() -> None:
    """RFC 8305 section 4: a machine without IPv6 would lose a quarter of a second with every connection."""
    with servers("127.0.0.2") as (port, _):
        session = session_for(f"http://app.test:{port}")
        session.adapter.use(["::1", "127.0.0.2"], None)
        body_of(session.send(get()))
        assert session.adapter._dialer.way.addresses[0].sockaddr[0] == "127.0.0.2"
        assert not session.adapter.use(["::1", "127.0.0.2"], None)
        body_of(session.send(get()))
        assert len(session.adapter._idle) == 1


def test_a_name_that_nobody_has_looked_up_is_looked_up_for_the_first_request_only() -> None:
    looked_up: list[str] = []

    def look_up(name: str, port: int) -> list[Address]:
        looked_up.append(name)
        return [address_of("127.0.0.2", port)]

    with servers("127.0.0.2") as (port, _):
        session = session_for(f"http://app.test:{port}", look_up=look_up)
        for _ in range(2):
            body_of(session.send(get()))
            session.adapter.drop_idle()
    assert looked_up == ["app.test"]


def test_a_unix_socket_is_a_backend_like_any_other(tmp_path: Path) -> None:
    listener = gevent.socket.socket(gevent.socket.AF_UNIX)
    listener.bind(str(tmp_path / "app.sock"))
    listener.listen(1)

    def serve(sock: Any, _address: object) -> None:
        while head_of(sock):
            sock.sendall(OK)

    server = StreamServer(listener, serve)
    server.start()
    session = session_for(f"unix:{tmp_path}/app.sock:/app")
    assert session.netloc == b"localhost"
    assert [body_of(session.send(get())) for _ in range(2)] == [b"hello"] * 2
    server.stop(timeout=0)
    with pytest.raises(ConnectFailed, match="none"):
        session_for(f"unix:{tmp_path}/none.sock").send(get())
    session.adapter.close()


@pytest.mark.parametrize(("repeatable", "waits"), [(True, True), (False, False)])
def test_what_can_not_be_repeated_goes_out_as_soon_as_its_kept_connection_has_been_looked_at(
    repeatable: bool, waits: bool
) -> None:
    """Until the end of the round the backend may close it: then nobody knows whether it has acted."""
    with backend(says(OK, OK)) as url:
        session = session_for(url)
        session.send(get()).close()
        (connection,) = session.adapter._idle
        sending = gevent.spawn(session.send, get(repeatable=repeatable))
        gevent.sleep(0)  # it has begun, in this round of the loop
        assert bool(connection.wire._waiting) is waits
        assert body_of(sending.get()) == b"hello"


def test_the_latency_counts_from_when_the_request_has_left() -> None:
    """It waits for all else that is done in its round of the loop, which is not the backend's time."""
    with backend(says(OK)) as url:
        outbound = get()
        outbound.lease = lease = Lease(None, House([]).backends[0], monotonic(), 0)
        sending = gevent.spawn(session_for(url).send, outbound)
        gevent.sleep(0)
        busy_until = monotonic() + 0.05
        while monotonic() < busy_until:
            pass
        sending.get()
        assert lease.sent_at >= busy_until


def test_a_request_whose_client_leaves_while_its_connection_is_opened_is_not_sent() -> None:
    """It had no connection that could be closed, so it went out all the same, and the backend acted for nobody."""
    go_on = Event()
    got: list[bytes] = []

    def look_up(_name: str, port: int) -> list[Address]:
        go_on.wait()
        return [address_of("127.0.0.1", port)]

    with backend(lambda sock, _: got.append(head_of(sock))) as url:
        session = session_for(url.replace("127.0.0.1", "app.test"), look_up=look_up)
        request = get()
        asking = gevent.spawn(session.send, request)
        gevent.sleep(0)
        request.cancel(ClientGone("left"))
        go_on.set()
        with pytest.raises(ClientGone):
            asking.get()
        until(lambda: got)
        assert got == [b""]  # connected, and closed
