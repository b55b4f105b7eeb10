"""A Link whose peer is the server: it opens streams, and the answers' rules are others than the requests'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from smartedge.http2 import frames as h2
from smartedge.http2.client_fields import encode_request
from smartedge.http2.link import Link, LinkLimits
from smartedge.http2.receive import Receiver
from smartedge.http2.stream import Stream, StreamEnded
from tests.h2_peer import H2Server
from tests.house import until
from tests.peers import wire_pair

HEAD = encode_request(b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nX: 1\r\n\r\n", b"http")


class Ends:
    """Both ends of a connection: our Link, a client, and the server."""

    def __init__(self) -> None:
        self.wire, self.sock = wire_pair()
        self.link = Link(self.wire, LinkLimits(), is_server=False)
        self.reader = gevent.spawn(Receiver(self.link).run)
        self.server = H2Server(self.sock)
        until(self.link.peer_settled.is_set)

    def open(self, *, end: bool = True, data: bytes = b"") -> Stream:
        stream = self.link.open_stream()
        stream.on_head = lambda pairs: self._head(stream, pairs)
        stream.send_head(HEAD, 5.0, data, end=end)
        return stream

    def _head(self, stream: Stream, pairs: Any) -> None:
        stream.pairs, stream.on_head = pairs, None
        stream.wake()


@pytest.fixture
def ends() -> Iterator[Ends]:
    with gevent.Timeout(5):
        made = Ends()
        yield made
    made.wire.close()
    made.sock.close()
    made.reader.join(1)


def test_streams_are_opened_in_order_and_answered(ends: Ends) -> None:
    first, second = ends.open(), ends.open()
    assert (first.id, second.id) == (1, 3)
    ends.server.request(2)
    assert ends.server.requests[1] == {":method": "POST", ":scheme": "http", ":authority": "h", ":path": "/a", "x": "1"}
    ends.server.answer(3, b"three", trailers=[("t", "3")])
    ends.server.answer(1, b"one")
    assert second.read(5) == b"three"
    assert second.read(5) == b""
    assert second.trailers == [(b"t", b"3")]
    assert first.read(5) == b"one"
    assert ends.link.streams == {}


def test_what_a_server_says_before_it_closes_is_read_though_nothing_can_be_sent_any_more(ends: Ends) -> None:
    first = ends.open()
    ends.server.request()
    ends.sock.sendall(h2.goaway(1, h2.NO_ERROR) + h2.frame(h2.RST_STREAM, 0, 1, h2.REFUSED_STREAM.to_bytes(4, "big")))
    ends.sock.close()
    second = ends.link.open_stream()  # in the same round: nobody has read yet
    with pytest.raises(BrokenPipeError):
        second.send_head(HEAD, 5.0, end=True)
    until(lambda: ends.link.closed)
    assert [one.failure and one.failure.code for one in (first, second)] == [h2.REFUSED_STREAM] * 2


def test_an_answer_that_is_here_stays_when_the_connection_goes(ends: Ends) -> None:
    stream = ends.open()
    ends.server.answer(ends.server.request(), b"whole")
    until(lambda: stream.has_ended)
    ends.sock.close()
    until(lambda: ends.link.closed)
    assert stream.read(5) == b"whole"
    assert stream.read(5) == b""


def test_a_server_that_wants_no_more_of_the_request_takes_nothing_from_its_answer(ends: Ends) -> None:
    """RFC 9113 section 8.1: the answer, whole, and then RST_STREAM (NO_ERROR), as gRPC's servers do."""
    stream = ends.open(end=False, data=b"begun")
    ends.server.until(lambda: ends.server.bodies.get(1))
    ends.server.answer(1, b"enough")
    ends.server.h2.reset_stream(1, h2.NO_ERROR)
    ends.server.flush()
    until(lambda: stream.is_done)
    with pytest.raises(StreamEnded):
        stream.send(b"more", 5.0)
    assert stream.read(5) == b"enough"
    assert stream.read(5) == b""


def test_who_waits_for_a_window_hears_that_no_more_is_wanted(ends: Ends) -> None:
    stream = ends.open(end=False)
    upload = gevent.spawn(stream.send, b"x" * 200_000, 5.0)
    ends.server.until(lambda: 1 in ends.server.requests)
    until(lambda: stream.opened is not None)
    ends.server.answer(1, b"enough")
    ends.server.h2.reset_stream(1, h2.NO_ERROR)
    ends.server.flush()
    with pytest.raises(StreamEnded):
        upload.get()


def test_goaway_ends_the_streams_behind_its_last_one_and_no_other(ends: Ends) -> None:
    first, second = ends.open(), ends.open()
    ends.server.request(2)
    ends.sock.sendall(h2.goaway(1, h2.NO_ERROR))
    with pytest.raises(StreamEnded) as refused:
        second.read(5)
    assert refused.value.code == h2.REFUSED_STREAM
    assert not ends.link.has_room
    ends.server.answer(1, b"one")
    assert first.read(5) == b"one"
    until(lambda: ends.link.closed)


def test_goaway_without_open_streams_ends_the_connection(ends: Ends) -> None:
    ends.open()
    ends.server.answer(ends.server.request())
    ends.sock.sendall(h2.goaway(1, h2.NO_ERROR))
    until(lambda: ends.link.closed)


def test_as_many_streams_as_the_peer_allows(ends: Ends) -> None:
    ends.sock.sendall(h2.settings({h2.MAX_CONCURRENT_STREAMS: 1}))
    until(lambda: ends.link.peer_streams == 1)
    assert ends.link.has_room
    ends.open()
    assert not ends.link.has_room


def test_data_before_the_head_ends_the_stream(ends: Ends) -> None:
    stream = ends.open()
    ends.server.request()
    ends.sock.sendall(h2.frame(h2.DATA, 0, 1, b"early"))
    with pytest.raises(StreamEnded, match="before the head"):
        stream.read(5)
    ends.server.until(lambda: ends.server.resets)
    assert ends.server.resets == {1: h2.PROTOCOL_ERROR}


@pytest.mark.parametrize(
    ("frames", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it answers in HTTP/1"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "a frame of"),
        (h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\2\x88"), "PUSH_PROMISE"),
        (h2.frame(h2.HEADERS, h2.END_HEADERS, 7, b"\x88"), "not opened"),
    ],
)
def test_what_no_server_may_send_ends_the_connection_and_says_why(ends: Ends, frames: bytes, why: str) -> None:
    stream = ends.open()
    ends.sock.sendall(frames)
    with pytest.raises(StreamEnded, match=why) as ended:
        stream.read(5)
    assert not ended.value.by_peer


def test_many_windows_of_an_upload_are_no_flood(ends: Ends) -> None:
    """A backend that takes a body of gigabytes opens its window for each piece."""
    stream = ends.open(end=False)
    ends.server.until(lambda: 1 in ends.server.requests)
    ends.sock.sendall(h2.window_update(0, 1) * 3000)
    ends.server.answer(1, b"fine")
    assert stream.read(5) == b"fine"


def test_an_idle_connection_is_ended() -> None:
    wire, sock = wire_pair()
    link = Link(wire, LinkLimits(silence_s=0.05), is_server=False)
    with gevent.Timeout(5):
        reader = gevent.spawn(Receiver(link).run)
        server = H2Server(sock)
        server.until(lambda: server.gone)
        reader.get()
    assert link.closed
    assert not link.has_room
    wire.close()
    sock.close()


def test_a_connection_that_has_ended_opens_no_stream(ends: Ends) -> None:
    ends.sock.close()
    until(lambda: ends.link.closed)
    with pytest.raises(StreamEnded):
        ends.link.open_stream()
