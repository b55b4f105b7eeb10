"""The way to a backend that speaks HTTP/2: one connection for many requests, and what becomes of each when it ends."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import gevent
import pytest
from gevent import get_hub
from gevent.event import Event
from gevent.queue import Queue

from smartedge.balancer.errors import BackendClosed, BackendTimeout, BadAnswer, ClientGone, ConnectFailed, DeadlineExceeded
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.request import Replay
from smartedge.http2 import frames as h2
from smartedge.proxy.http2_stream import BackendStream
from smartedge.proxy.http2_transport import Http2Adapter
from smartedge.proxy.http2_upload import Http2Upload
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.session import EdgeSession
from tests.fakes import Pieces
from tests.h2_peer import H2Server, h2_backend
from tests.house import until
from tests.peers import backend, says
from tests.policies import limits

CALL = b"POST /a.B/C HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc+proto\r\nTE: trailers\r\nConnection: TE\r\n"
OF_CALL = [("content-type", "application/grpc+proto")]
LIMITS = limits(connect_s=1, first_byte_s=1, idle_s=1)

Play = Callable[[H2Server, int], None]


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(10):
        yield


def outbound(
    method: bytes = b"GET", *, body: Replay | None = None, repeatable: bool = True, head: bytes | None = None, more: bytes = b""
) -> Outbound:
    return Outbound(method, (head or method + b" /a?b HTTP/1.1\r\nHost: h:1\r\nX: 1\r\n") + more + b"\r\n", body, repeatable)


def call(more: bytes = b"") -> Outbound:
    return outbound(b"POST", head=CALL, more=more, repeatable=False)


def session_for(url: str, **changes: Any) -> EdgeSession:
    made = limits(**{"connect_s": 1, "first_byte_s": 1, "idle_s": 1, **changes})
    return EdgeSession(Http2Adapter(url, made, None))


class SlowBody(Pieces):
    """A body whose pieces come when the test says; b"" ends it."""

    def __init__(self) -> None:
        super().__init__(b"not the end")
        self.coming: Queue[bytes] = Queue()

    def read(self) -> bytes:
        piece: bytes = self.coming.get()
        if not piece:
            self.pieces.clear()
        return piece


def body_of(answer: Any) -> bytes:
    return b"".join(iter(answer.read, b""))


def serve(answer: Callable[[H2Server, int], None], number: int = 1) -> Play:
    """Play so many requests, one after the other."""

    def play(server: H2Server, _: int) -> None:
        for count in range(number):
            answer(server, server.request(count + 1))
        server.until(lambda: False)

    return play


def ask(answer: Callable[[H2Server, int], None], request: Outbound | None = None, **changes: Any) -> Any:
    """What becomes of one request that is answered so."""
    with h2_backend(serve(answer), checks=False) as url:
        session = session_for(url, **changes)
        try:
            got = session.send(request or outbound())
            body_of(got)
            return got
        finally:
            session.adapter.close()  # type: ignore[attr-defined]


# ---- answers ----


def test_an_answer_is_what_one_of_http_1_1_is() -> None:
    def answer(server: H2Server, stream: int) -> None:
        assert server.requests[stream] == {":method": "GET", ":scheme": "http", ":authority": "h:1", ":path": "/a?b", "x": "1"}
        server.answer(stream, b"hello", "201", [("x-a", "1"), ("content-length", "5")], [("t", "2")])

    with h2_backend(serve(answer)) as url:
        got = session_for(url).send(outbound())
        assert (got.status_code, got.counts_as, got.status_line, got.via) == (
            201,
            201,
            b"201 Created\r\n",
            b"Via: 2 smartedge\r\n",
        )
        assert got.fields.block == b"x-a: 1\r\ncontent-length: 5\r\n"
        assert got.fields.content_length == 5
        assert body_of(got) == b"hello"
        assert got.trailers == [(b"t", b"2")]
        assert got.complete
        assert got.conversation is None


def test_requests_share_a_connection_and_answers_come_as_they_are_ready() -> None:
    numbers: list[int] = []

    def play(server: H2Server, number: int) -> None:
        numbers.append(number)
        server.request(3)
        for stream in (5, 1, 3):
            server.answer(stream, b"%d" % stream)
        server.until(lambda: False)

    with h2_backend(play) as url:
        session = session_for(url)
        asking = [gevent.spawn(lambda: body_of(session.send(outbound()))) for _ in range(3)]
        assert [one.get() for one in asking] == [b"1", b"3", b"5"]
        assert numbers == [1]


def test_one_stream_more_than_the_backend_allows_opens_another_connection() -> None:
    both = Event()
    numbers: list[int] = []

    def play(server: H2Server, number: int) -> None:
        stream = server.request()
        numbers.append(number)
        if len(numbers) == 2:
            both.set()
        both.wait()
        server.answer(stream, b"%d" % number)
        server.until(lambda: False)

    with h2_backend(play, {h2.MAX_CONCURRENT_STREAMS: 1}) as url:
        session = session_for(url)
        asking = [gevent.spawn(lambda: body_of(session.send(outbound()))) for _ in range(2)]
        assert sorted(one.get() for one in asking) == [b"1", b"2"]


def test_interim_answers_are_passed_on() -> None:
    told: list[Any] = []

    class Told:
        def pass_interim(self, status: int, line: bytes, fields: AnswerFields) -> None:
            told.append((status, line, fields.block))

    def answer(server: H2Server, stream: int) -> None:
        server.sock.sendall(h2.header_frames(stream, b"\x08\x03103" + h2.encode_field(b"link", b"</a>"), 16384, end=False))
        server.answer(stream, b"x")

    request = outbound()
    request.told = Told()
    ask(answer, request)
    assert told == [(103, b"103 Early Hints\r\n", b"link: </a>\r\n")]


@pytest.mark.parametrize(("method", "status", "length"), [(b"HEAD", "200", "5"), (b"GET", "304", "5"), (b"GET", "204", None)])
def test_answers_without_a_body(method: bytes, status: str, length: str | None) -> None:
    fields = [] if length is None else [("content-length", length)]
    got = ask(lambda server, stream: server.answer(stream, b"", status, fields), outbound(method))
    assert got.status_code == int(status)
    assert got.complete


def head(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"".join([h2.encode_field(*pair) for pair in pairs])


@pytest.mark.parametrize(
    ("frames", "method"),
    [
        ([(h2.HEADERS, 5, head((b"x", b"y")))], b"GET"),
        ([(h2.HEADERS, 5, head((b":status", b"20")))], b"GET"),
        ([(h2.HEADERS, 5, head((b":status", b"200"), (b"X", b"y")))], b"GET"),
        ([(h2.HEADERS, 5, head((b":status", b"200"), (b"connection", b"close")))], b"GET"),
        ([(h2.HEADERS, 5, head((b":status", b"101")))], b"GET"),
        ([(h2.HEADERS, 5, head((b":status", b"103")))], b"GET"),
        ([(h2.DATA, 1, b"x")], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"200"), (b"content-length", b"1"))), (h2.DATA, 1, b"xx")], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"200"), (b"content-length", b"3"))), (h2.DATA, 1, b"xx")], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"200"))), (h2.DATA, 1, b"xx")], b"HEAD"),
        ([(h2.HEADERS, 4, head((b":status", b"304"))), (h2.DATA, 1, b"xx")], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"200"))), (h2.HEADERS, 5, head((b":x", b"y")))], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"200"))), (h2.HEADERS, 5, head((b"a b", b"y")))], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"200"))), (h2.HEADERS, 4, head((b"a", b"y")))], b"GET"),
        ([(h2.HEADERS, 4, head((b":status", b"100")))] * 101, b"GET"),
        ([(h2.PUSH_PROMISE, 4, b"\0\0\0\2\x88")], b"GET"),
        ([(h2.HEADERS, 4, b"\xff\xff\xff\xff\xff\xff")], b"GET"),
    ],
)
def test_what_is_no_answer_is_a_bad_one(frames: list[tuple[int, int, bytes]], method: bytes) -> None:
    def answer(server: H2Server, stream: int) -> None:
        server.sock.sendall(b"".join(h2.frame(kind, flags, stream, payload) for kind, flags, payload in frames))

    with pytest.raises(BadAnswer):
        ask(answer, outbound(method))


def test_a_head_that_is_too_long_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer, match="longer than"):
        ask(lambda server, stream: server.answer(stream, b"", "200", [("a", "x" * 3000)]), answer_head_bytes=2000)


def test_an_answer_that_breaks_off_is_told_at_once() -> None:
    def answer(server: H2Server, stream: int) -> None:
        server.h2.send_headers(stream, [(":status", "200")])
        server.h2.send_data(stream, b"begun")
        server.flush()
        server.h2.reset_stream(stream, h2.INTERNAL_ERROR)
        server.flush()

    with pytest.raises(BadAnswer, match="INTERNAL_ERROR"):
        ask(answer)


@pytest.mark.parametrize("begun", [False, True])
def test_a_backend_that_stalls(begun: bool) -> None:
    def answer(server: H2Server, stream: int) -> None:
        if begun:
            server.h2.send_headers(stream, [(":status", "200")])
            server.flush()

    with pytest.raises(BackendTimeout):
        ask(answer, first_byte_s=0.05, idle_s=0.05)


# ---- requests with bodies ----


def test_a_body_and_its_trailers_go_out_while_the_answer_comes() -> None:
    """What gRPC calls bidirectional: the answer's head and pieces come before the request has ended."""

    def answer(server: H2Server, _: int) -> None:
        server.until(lambda: server.requests)
        server.h2.send_headers(1, [(":status", "200")])
        server.flush()
        for said in (b"one", b"onetwo"):
            server.until(lambda said=said: server.bodies[1] == said)
            server.h2.send_data(1, said)
            server.flush()
        server.request()
        server.h2.send_headers(1, [("t", server.trailers[1]["q"])], end_stream=True)
        server.flush()

    def play(server: H2Server, _: int) -> None:
        answer(server, 0)
        server.until(lambda: False)

    body = SlowBody()
    body.trailers = [(b"q", b"1")]
    with h2_backend(play) as url:
        got = session_for(url).send(outbound(b"POST", body=Replay(body, 1000)))
        assert not got.at_hand
        body.coming.put(b"one")
        assert got.read() == b"one"
        body.coming.put(b"two")
        assert got.read() == b"onetwo"
        body.coming.put(b"")
        assert got.read() == b""
        assert got.trailers == [(b"t", b"1")]


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 70_000, 400_000])
def test_bodies_of_any_size_arrive(size: int) -> None:
    got: list[bytes] = []

    def answer(server: H2Server, stream: int) -> None:
        got.append(server.bodies[stream])
        server.answer(stream)

    ask(answer, outbound(b"POST", body=Replay(Pieces(b"x" * size, here=True), 1_000_000)))
    assert [len(one) for one in got] == [size]


def test_an_answer_that_does_not_wait_for_the_body_ends_the_upload() -> None:
    def play(server: H2Server, _: int) -> None:
        server.until(lambda: server.requests)
        server.answer(1, b"no", "413")
        server.until(lambda: server.resets)
        resets.append(server.resets)

    resets: list[dict[int, int]] = []
    with h2_backend(play) as url:
        session = session_for(url)
        got = session.send(outbound(b"POST", body=Replay(SlowBody(), 1000)))
        assert body_of(got) == b"no"
        until(lambda: resets)
        assert resets == [{1: h2.CANCEL}]


def test_an_upload_that_has_not_begun_takes_nothing_from_the_next_try() -> None:
    """It read a piece of the body when it came to begin, though its stream had ended: the next try's body lacked that one."""
    resets: list[dict[int, int]] = []

    def play(server: H2Server, _: int) -> None:
        server.until(lambda: server.resets)
        resets.append(server.resets)

    with h2_backend(play) as url:
        request = outbound(b"POST", body=Replay(Pieces(b"one", b"two"), 1000))
        stream = BackendStream(request, LIMITS, lambda: None)
        stream.send(request, Http2Adapter(url, LIMITS, None)._take(request).link, b"http")
        stream.close()
        until(lambda: resets)
        assert request.body is not None
        assert [request.body.read(), request.body.read()] == [b"one", b"two"]


def test_a_body_that_is_still_coming_when_its_stream_is_refused_is_not_sent_again() -> None:
    """Its upload was stopped a moment later, in mid-read, and what had come by then was missing from the next try's body."""

    def play(server: H2Server, _: int) -> None:
        server.until(lambda: server.bodies.get(1))
        server.h2.reset_stream(1, h2.REFUSED_STREAM)
        server.flush()
        server.until(lambda: False)

    with h2_backend(play) as url:
        body = SlowBody()
        body.coming.put(b"one")
        request = outbound(b"PUT", body=Replay(body, 1000))
        with pytest.raises(BackendClosed, match="refused"):
            session_for(url).send(request)
        assert request.body is not None
        assert not request.body.rewind()


def test_an_upload_that_is_abandoned_in_mid_write_takes_nothing_more_from_the_client() -> None:
    class Writes:
        """A stream whose writer is told in mid-write that nobody wants the rest."""

        is_done = False
        sent: ClassVar[list[bytes]] = []

        def send(self, piece: bytes, _timeout_s: float, *, end: bool) -> None:
            self.sent.append(piece)
            upload.abandon()

        def wake(self) -> None:
            over.set()

    over = Event()
    body = Pieces(b"one", b"two")
    stream: Any = Writes()
    upload = Http2Upload(stream, Replay(body, 1000), None, 1, None, lambda error: None)
    over.wait()
    assert (stream.sent, body.pieces, upload.done) == ([b"one"], [b"two"], False)


def test_a_client_that_fails_in_mid_upload_ends_the_stream() -> None:
    resets: list[dict[int, int]] = []

    def play(server: H2Server, _: int) -> None:
        server.until(lambda: server.resets)
        resets.append(server.resets)

    with h2_backend(play) as url:
        with pytest.raises(ClientGone):
            session_for(url).send(outbound(b"POST", body=Replay(Pieces(b"a", ClientGone("gone"), length=None), 1000)))
        until(lambda: resets)
        assert resets == [{1: h2.CANCEL}]


def test_a_slow_reader_holds_up_its_backend_and_nobody_else() -> None:
    """As much as a stream's window is on its way; another stream of the connection gets its answer all the same."""

    def play(server: H2Server, _: int) -> None:
        server.until(lambda: server.requests)
        server.h2.send_headers(1, [(":status", "200")])
        sent = 0
        while (room := server.h2.local_flow_control_window(1)) > 0:
            server.h2.send_data(1, b"x" * min(room, 16384))
            server.flush()
            sent += min(room, 16384)
        windows.append(sent)
        server.until(lambda: 3 in server.ended)
        server.answer(3, b"quick")
        server.until(lambda: False)

    windows: list[int] = []
    with h2_backend(play) as url:
        session = session_for(url)
        slow = session.send(outbound())
        until(lambda: windows)
        assert body_of(session.send(outbound())) == b"quick"
        assert windows == [131072]
        slow.close()


# ---- the end of connections ----


def test_goaway_has_what_was_not_looked_at_sent_again_elsewhere() -> None:
    """Any request, not only one that may be repeated: the backend has said that it has not seen it."""

    def play(server: H2Server, number: int) -> None:
        stream = server.request()
        if number == 1:
            server.sock.sendall(h2.goaway(0, h2.NO_ERROR))
        else:
            server.answer(stream, server.bodies[stream] + b" by the second")
        server.until(lambda: False)

    with h2_backend(play) as url:
        request = outbound(b"POST", body=Replay(Pieces(b"it", here=True), 1000), repeatable=False)
        assert body_of(session_for(url).send(request)) == b"it by the second"


def test_what_one_connection_has_not_looked_at_goes_to_a_new_one_and_not_to_others_that_end_too() -> None:
    """A backend that restarts takes leave on all of them, and nobody may have read that yet."""
    old, here = 5, Event()

    def play(server: H2Server, number: int) -> None:
        stream = server.request()
        if number == old:
            here.set()
        here.wait()
        server.answer(stream, b"%d" % number)
        if number <= old:
            server.until(lambda: len(server.requests) == 2)
            server.sock.sendall(h2.goaway(stream, h2.NO_ERROR))
        server.until(lambda: False)

    with h2_backend(play, {h2.MAX_CONCURRENT_STREAMS: 1}) as url:
        session = session_for(url)
        asking = [gevent.spawn(lambda: body_of(session.send(outbound()))) for _ in range(old)]
        assert sorted(one.get() for one in asking) == [b"1", b"2", b"3", b"4", b"5"]
        assert body_of(session.send(outbound(b"POST", repeatable=False))) == b"6"


def test_after_goaway_open_streams_end_and_new_ones_go_elsewhere() -> None:
    first_ends = Event()

    def play(server: H2Server, number: int) -> None:
        stream = server.request()
        if number == 1:
            server.sock.sendall(h2.goaway(h2.MOST_WINDOW, h2.NO_ERROR))
            first_ends.wait()
        server.answer(stream, b"%d" % number)
        server.until(lambda: False)
        ended.append(number)

    ended: list[int] = []
    with h2_backend(play) as url:
        session = session_for(url)
        first = gevent.spawn(lambda: body_of(session.send(outbound())))
        until(lambda: session.adapter._links and session.adapter._links[0].link.going)  # type: ignore[attr-defined]
        assert body_of(session.send(outbound())) == b"2"
        first_ends.set()
        assert first.get() == b"1"
        until(lambda: ended == [1])


def test_a_stream_that_is_refused_was_not_sent() -> None:
    def answer(server: H2Server, stream: int) -> None:
        server.h2.reset_stream(stream, h2.REFUSED_STREAM)
        server.flush()

    with pytest.raises(BackendClosed) as refused:
        ask(answer, call())
    assert not refused.value.sent


@pytest.mark.parametrize("repeatable", [True, False])
def test_a_kept_connection_that_closes_as_a_request_goes_out(repeatable: bool) -> None:
    """The backend's right, and nobody's failure, where the request may be repeated."""

    def play(server: H2Server, number: int) -> None:
        if number == 1:
            server.answer(server.request())
            server.request(2)
        else:
            server.answer(server.request(), b"again")
            server.until(lambda: False)

    with h2_backend(play) as url:
        session = session_for(url)
        body_of(session.send(outbound()))
        if repeatable:
            assert body_of(session.send(outbound())) == b"again"
        else:
            with pytest.raises(BackendClosed) as closed:
                session.send(outbound(b"POST", repeatable=False))
            assert closed.value.sent


def test_a_new_connection_that_closes_is_the_backends_failure() -> None:
    with h2_backend(lambda server, _: server.request() and None) as url, pytest.raises(BackendClosed):
        session_for(url).send(outbound())


def test_who_does_not_speak_http_2_is_not_sent_anything() -> None:
    refusal = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    with backend(refusal) as url, pytest.raises(ConnectFailed, match="does not speak HTTP/2"):
        session_for(url).send(outbound())


def test_who_says_nothing_is_waited_for_no_longer_than_for_a_connection() -> None:
    with backend(lambda sock, _: gevent.sleep(5)) as url, pytest.raises(ConnectFailed, match="in time"):
        EdgeSession(Http2Adapter(url, limits(connect_s=0.05), None)).send(outbound())


def test_whoever_opens_a_connection_may_be_ended_before_the_backend_has_spoken() -> None:
    """Nobody knew of the connection then: it was open until it had been idle for a minute, or the backend closed it."""
    said: list[bytes] = []

    def play(sock: Any, _: int) -> None:
        while not said or said[-1]:
            said.append(sock.recv(65536))

    with backend(play) as url:
        asking = gevent.spawn(session_for(url, connect_s=30).send, outbound())
        until(lambda: said)
        asking.kill()
        until(lambda: said[-1] == b"")


def test_a_request_whose_client_leaves_while_the_connection_is_opened_is_not_sent() -> None:
    """It had no stream that could be ended, so it went out all the same. Others use the connection."""
    heads: list[int] = []

    def play(server: H2Server, _: int) -> None:
        server.answer(server.request(), b"second")
        heads.append(len(server.requests))
        server.until(lambda: False)

    with h2_backend(play) as url:
        session = session_for(url)
        request = outbound()
        first = gevent.spawn(session.send, request)
        gevent.sleep(0)
        request.cancel(ClientGone("gone"))
        with pytest.raises(ClientGone):
            first.get()
        assert body_of(session.send(outbound())) == b"second"
        assert heads == [1]


def test_all_who_wait_for_a_connection_hear_that_there_is_none() -> None:
    session = session_for("http://127.0.0.1:1")
    asking = [gevent.spawn(session.send, outbound()) for _ in range(3)]
    for one in asking:
        with pytest.raises(ConnectFailed):
            one.get()


def test_an_opening_that_fails_is_the_failure_of_who_began_it_and_the_others_share_another() -> None:
    """As by HTTP/1.1, where each has a connection of its own: all of them failed, and each counted against the backend."""

    def play(sock: Any, number: int) -> None:
        if number == 1:
            sock.recv(1)
            return
        server = H2Server(sock)
        server.request(2)
        for stream in (1, 3):
            server.answer(stream, b"%d" % number)
        server.until(lambda: False)

    with backend(play) as url:
        session = session_for(url)
        first, *others = [gevent.spawn(lambda: body_of(session.send(outbound()))) for _ in range(3)]
        with pytest.raises(ConnectFailed):
            first.get()
        assert [one.get() for one in others] == [b"2", b"2"]


def test_who_has_waited_for_most_of_the_time_does_not_begin_anew() -> None:
    accepted: list[int] = []

    def play(_sock: Any, number: int) -> None:
        accepted.append(number)
        gevent.sleep(5)

    with backend(play) as url:
        session = session_for(url, connect_s=0.05)
        asking = [gevent.spawn(session.send, outbound()) for _ in range(3)]
        for one in asking:
            with pytest.raises(ConnectFailed, match="in time"):
                one.get()
        assert accepted == [1]


def test_a_request_that_ends_while_it_opens_a_connection_ends_no_other() -> None:
    """Its client's leaving (which is thrown at a request that may be hedged) was told to all that waited as their own."""

    def play(server: H2Server, _: int) -> None:
        server.answer(server.request(), b"ok")
        server.until(lambda: False)

    with h2_backend(play) as url:
        session = session_for(url)
        first, other = [gevent.spawn(lambda: body_of(session.send(outbound()))) for _ in range(2)]
        gevent.sleep(0)
        get_hub().loop.run_callback(first.throw, ClientGone())
        with pytest.raises(ClientGone):
            first.get()
        assert other.get() == b"ok"


def test_a_backend_that_allows_no_stream_is_sent_none_and_not_kept() -> None:
    """RFC 9113 sections 5.1.2 and 6.5.2: the first request went out on each such connection, and all of them were kept."""
    seen: list[H2Server] = []

    def play(server: H2Server, _: int) -> None:
        seen.append(server)
        server.until(lambda: False)

    with h2_backend(play, {h2.MAX_CONCURRENT_STREAMS: 0}) as url:
        session = session_for(url, connect_s=0.05)
        for number in (1, 2):
            with pytest.raises(ConnectFailed, match="MAX_CONCURRENT_STREAMS 0") as caught:
                session.send(outbound())
            assert not caught.value.sent
            until(lambda count=number: [server.gone for server in seen] == [True] * count)
        assert not any(server.requests for server in seen)


def test_a_backend_that_allows_no_stream_for_a_moment_is_waited_for() -> None:
    def play(server: H2Server, _: int) -> None:
        server.h2.ping(b"12345678")
        server.flush()
        server.until(lambda: server.pings)  # all that it has sent before its answer has come
        assert not server.requests
        server.h2.update_settings({h2.MAX_CONCURRENT_STREAMS: 10})
        server.flush()
        server.answer(server.request(), b"ok")
        server.until(lambda: False)

    with h2_backend(play, {h2.MAX_CONCURRENT_STREAMS: 0}) as url:
        assert body_of(session_for(url).send(outbound())) == b"ok"


def test_a_cancelled_request_ends_its_stream_and_not_the_connection() -> None:
    def play(server: H2Server, _: int) -> None:
        server.until(lambda: server.resets)
        server.answer(server.request(2), b"second")
        server.until(lambda: False)

    with h2_backend(play) as url:
        session = session_for(url)
        request = outbound()
        first = gevent.spawn(session.send, request)
        until(lambda: request.connection is not None)
        request.cancel(ClientGone("gone"))
        with pytest.raises(ClientGone):
            first.get()
        assert body_of(session.send(outbound())) == b"second"


def test_an_answer_that_is_closed_is_cancelled() -> None:
    resets: list[dict[int, int]] = []

    def play(server: H2Server, _: int) -> None:
        server.h2.send_headers(server.request(), [(":status", "200")])
        server.flush()
        server.until(lambda: server.resets)
        resets.append(server.resets)

    with h2_backend(play) as url:
        session_for(url).send(outbound()).close()
        until(lambda: resets)
        assert resets == [{1: h2.CANCEL}]


def test_another_address_takes_new_requests_and_the_old_connection_ends() -> None:
    ended: list[int] = []

    def play(server: H2Server, number: int) -> None:
        server.answer(server.request(), b"%d" % number)
        server.until(lambda: False)
        ended.append(number)

    with h2_backend(play) as url:
        adapter = Http2Adapter(url.replace("127.0.0.1", "app.test"), LIMITS, None)
        assert not adapter.use(["127.0.0.1"], None)
        session = EdgeSession(adapter)
        assert body_of(session.send(outbound())) == b"1"
        assert not adapter.use(["127.0.0.1"], None)
        assert adapter.use(["127.0.0.2"], None)
        until(lambda: ended == [1])
        assert adapter._links == []


def test_idle_connections_can_be_closed_for_others() -> None:
    with h2_backend(serve(lambda server, stream: server.answer(stream))) as url:
        session = session_for(url)
        body_of(session.send(outbound()))
        adapter: Any = session.adapter
        assert adapter.close_idle(5) == 1
        until(lambda: not adapter._links)


# ---- calls of gRPC ----


def test_a_calls_status_is_what_it_counts_as() -> None:
    def answer(server: H2Server, stream: int) -> None:
        assert server.requests[stream]["te"] == "trailers"
        server.answer(stream, b"x", "200", OF_CALL, [("grpc-status", "14")])

    got = ask(answer, call())
    assert (got.status_code, got.grpc_status, got.counts_as, got.unacted) == (200, 14, 503, False)


@pytest.mark.parametrize(
    ("status", "counts_as", "unacted"),
    [("0", 200, False), ("14", 503, True), ("4", 504, False), ("8", 429, False), ("12", 404, False), ("x", 500, False)],
)
def test_a_head_may_be_all_there_is(status: str, counts_as: int, unacted: bool) -> None:
    got = ask(lambda server, stream: server.answer(stream, b"", "200", [*OF_CALL, ("grpc-status", status)]), call())
    assert (got.counts_as, got.unacted) == (counts_as, unacted)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_server_that_leaves_cancels_what_it_has_not_begun(leaves: bool) -> None:
    def answer(server: H2Server, stream: int) -> None:
        goaway = h2.goaway(h2.MOST_WINDOW, h2.NO_ERROR) if leaves else b""
        block = head((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"1"))
        server.sock.sendall(goaway + h2.header_frames(stream, block, 16384, end=True))

    got = ask(answer, call())
    assert (got.grpc_status, got.counts_as, got.unacted) == ((1, 503, True) if leaves else (1, 499, False))


def test_a_call_without_a_status_is_unknown_and_another_answer_counts_as_what_it_is() -> None:
    assert ask(lambda server, stream: server.answer(stream, b"x", "200", OF_CALL), call()).grpc_status == 2
    got = ask(lambda server, stream: server.answer(stream, b"x", "503"), call())
    assert (got.grpc_status, got.counts_as) == (None, 503)


@pytest.mark.parametrize("begun", [False, True])
def test_a_call_ends_when_its_client_says(begun: bool) -> None:
    def answer(server: H2Server, stream: int) -> None:
        if begun:
            server.h2.send_headers(stream, [(":status", "200"), *OF_CALL])
            server.flush()

    with pytest.raises(DeadlineExceeded) as late:
        ask(answer, call(b"grpc-timeout: 50m\r\n"))
    assert late.value.blame == "edge"


def test_requests_leave_no_cycles() -> None:
    with h2_backend(serve(lambda server, stream: server.answer(stream, b"x", trailers=[("a", "b")]), 300)) as url:
        session = session_for(url)
        for _ in range(100):
            body_of(session.send(outbound(b"POST", body=Replay(Pieces(b"x", length=None), 100))))
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            for _ in range(200):
                body_of(session.send(outbound(b"POST", body=Replay(Pieces(b"x", length=None), 100))))
            assert gc.collect() < 200
        finally:
            gc.enable()
