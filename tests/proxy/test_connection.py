"""One connection to a backend: whatever comes back, in whatever pieces, is one answer, a BadAnswer or a timeout."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.errors import BackendClosed, BackendTimeout, BadAnswer, ClientGone, EdgeError
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.peer import RESET
from smartedge.http.wire import Wire
from smartedge.proxy.connection import Connection
from smartedge.proxy.dialer import Way
from tests.busy import make_busy
from tests.fakes import Pieces
from tests.peers import head_of, tcp_pair

HEAD = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    make_busy(monkeypatch)


class Peer:
    """A connection and its other end; `receive` with short times."""

    def __init__(self, pair: Callable[[], tuple[Any, Any]] = gevent.socket.socketpair) -> None:
        ours, self.sock = pair()
        self.connection = Connection(Wire(ours), Way((), None), None)
        self.interim: list[tuple[int, bytes]] = []

    def pass_interim(self, status: int, *more: Any) -> None:
        fields = more[-1]
        self.interim.append((status, fields.block if isinstance(fields, AnswerFields) else b""))

    def ask(
        self, *pieces: bytes, bodiless: bool = False, upgrade: bool = False, limit: int = 65536, closes: bool = False
    ) -> bytes:
        """Send a request, have this answered, each piece alone, and give the body. closes: the backend does, behind it."""
        self.connection.send(HEAD, None, 0.2, 0.2)
        head_of(self.sock)
        gevent.spawn(self._say, pieces, closes)
        self.connection.receive(bodiless, 0.2, limit, self, upgrade)
        body = b""
        while not self.connection.complete or self.connection.at_hand:
            piece = self.connection.read(0.2)
            if not piece:
                break
            body += piece
        return body

    def _say(self, pieces: tuple[bytes, ...], closes: bool) -> None:
        with contextlib.suppress(OSError):
            for piece in pieces:
                self.sock.sendall(piece)
                gevent.sleep(0)
        if closes:
            self.sock.close()

    def close(self) -> None:
        self.connection.close()
        self.sock.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    with gevent.Timeout(5):
        yield made
    made.close()


@pytest.mark.parametrize(("lends", "kind"), [(False, bytes), (True, memoryview)])
def test_much_that_came_with_the_head_is_copied_only_for_who_may_keep_it(peer: Peer, lends: bool, kind: type) -> None:
    connection, body = peer.connection, bytes(range(250)) * 400
    for _ in range(2):
        connection.send(HEAD, None, 0.2, 0.2)
        head_of(peer.sock)
        gevent.spawn(peer._say, (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + body,), False)
        connection.receive(False, 0.2, 65536, None, False)
        assert connection.complete
        connection.lends = lends
        piece = connection.read(0.2)
        assert type(piece) is kind
        assert piece == body
        assert connection.reusable()


def test_answers_follow_each_other_on_one_connection(peer: Peer) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n"
    for raw, body in [(OK, b"hello"), (chunked, b"abc"), (OK, b"hello"), (b"HTTP/1.1 204 No Content\r\n\r\n", b"")] * 2:
        assert peer.ask(raw) == body
        assert peer.connection.reusable()
    assert peer.ask(chunked) == b"abc"
    assert [name.lower() for name, _ in peer.connection.trailers] == [b"x"]


@pytest.mark.parametrize(
    ("raw", "bodiless", "body", "reusable"),
    [
        (OK, False, b"hello", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", True, b"", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", True, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False, b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", False, b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", False, b"hello", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: X, Close\r\n\r\nhello", False, b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", False, b"hello", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello", False, b"hello", True),
        (OK + b"more", False, b"hello", False),
        (b"HTTP/1.1 204 No Content\r\n\r\nmore", False, b"", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore", False, b"", False),
    ],
)
def test_a_connection_is_used_again_only_after_a_whole_answer_and_nothing_more(
    peer: Peer, raw: bytes, bodiless: bool, body: bytes, reusable: bool
) -> None:
    assert peer.ask(raw, bodiless=bodiless) == body
    assert peer.connection.reusable() == reusable


def test_an_answer_without_a_length_ends_with_the_connection(peer: Peer) -> None:
    assert peer.ask(b"HTTP/1.1 200 OK\r\n\r\nall of it", closes=True) == b"all of it"
    assert not peer.connection.reusable()


def test_interim_answers_are_told_and_are_not_the_answer(peer: Peer) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    for _ in range(3):
        assert peer.ask(b"HTTP/1.1 100 Continue\r\n\r\n" + hints + hints + OK) == b"hello"
        assert peer.connection.status == 200
    assert peer.interim == [(100, b""), (103, b"Link: </a>\r\n"), (103, b"Link: </a>\r\n")] * 3


def test_a_backend_that_has_only_interim_answers_is_broken(peer: Peer) -> None:
    """Each one let the wait begin anew, and so did the next, for ever."""
    with pytest.raises(BadAnswer, match="100 interim answers"):
        peer.ask(b"HTTP/1.1 102 Processing\r\n\r\n" * 101 + OK)


def test_a_101_that_was_asked_for_leaves_the_rest_to_the_new_protocol(peer: Peer) -> None:
    peer.connection.send(HEAD, None, 0.2, 0.2)
    peer.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfirst")
    peer.connection.receive(False, 0.2, 65536, None, True)
    assert peer.connection.status == 101
    assert peer.connection.take_rest() == b"first"
    assert not peer.connection.reusable()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: a\rb\n\n",
        b"HTTP/1.1 200 OK\nX: a\n b\n\n",
        b"HTTP/1.1 200 OK\nContent-Length: 3\nContent-Length: 3\n\nabc",
        b"HTTP/1.1 99 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20x OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0 hello\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000,
    ],
)
def test_what_is_no_answer_is_a_bad_answer(peer: Peer, raw: bytes) -> None:
    with pytest.raises(BadAnswer):
        peer.ask(raw)
    assert not getattr(peer.connection, "complete", False) or not peer.connection.reusable()


@pytest.mark.parametrize("body", [b"hello", b"\r\n\r\nx", b"\n\nabc"])
def test_a_head_whose_lines_end_with_lf_alone_is_read_as_nginx_haproxy_and_go_read_it(peer: Peer, body: bytes) -> None:
    """An empty line with CR LF in the body is not the head's end. It was a 502, or a wait for first_byte_s."""
    early = b"HTTP/1.1 103 Early Hints\nLink: </a>\n\n"
    raw = early + b"HTTP/1.1 200 OK\nX: y\nContent-Length: 5\n\n" + body
    for cuts in ((), (1, 30, 60, 61, 62, 85), range(len(raw))):
        places = [0, *cuts, len(raw)]
        pieces = [raw[start:end] for start, end in pairwise(places) if start < end]
        assert peer.ask(*pieces) == body
        assert (peer.connection.status, peer.connection.fields.block) == (200, b"X: y\r\nContent-Length: 5\r\n")
        assert peer.connection.reusable()


@pytest.mark.parametrize("version", [b"1.2", b"1.9"])
def test_a_later_minor_version_is_read_as_1_1(peer: Peer, version: bytes) -> None:
    assert peer.ask(b"HTTP/%b 200 OK\r\nContent-Length: 5\r\n\r\nhello" % version) == b"hello"
    assert peer.connection.reusable()


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", BackendClosed),
        (b"HTTP/1.1 200 O", BadAnswer),
        (OK[:-1], BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", BadAnswer),
    ],
)
def test_a_close_before_the_end_is_told_from_a_close_before_the_answer(peer: Peer, raw: bytes, error: type[EdgeError]) -> None:
    with pytest.raises(error):
        peer.ask(raw, closes=True)


def test_a_request_of_which_nothing_could_go_out_was_not_sent(peer: Peer) -> None:
    """The connection broke after it had been chosen: whatever the request is, another backend may have it."""
    peer.sock.close()
    peer.connection.send(HEAD, None, 1, 1)
    with pytest.raises(BackendClosed) as caught:
        peer.connection.receive(False, 1, 65536, None, False)
    assert not caught.value.sent


def test_a_backend_that_takes_no_bytes_of_what_waited_is_told_from_one_that_is_silent(peer: Peer) -> None:
    peer.connection.wire.sock._sock.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 1)
    peer.connection.send(HEAD[:-2] + b"X: " + b"x" * 50_000 + b"\r\n\r\n", None, 0.05, 20)
    with pytest.raises(BackendTimeout, match="took no bytes"):
        peer.connection.receive(False, 20, 65536, None, False)


def broken_off(peer: Peer, raw: bytes) -> None:
    """Send a request, have this come in answer, and then a reset, which nobody has read the end before."""
    peer.connection.send(HEAD, None, 1, 1)
    head_of(peer.sock)
    peer.sock.sendall(raw)
    peer.sock.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, RESET)
    gevent.spawn_later(0.02, peer.sock.close)


def read_whole_answer(peer: Peer) -> None:
    peer.connection.receive(False, 1, 65536, None, False)
    while peer.connection.read(1):
        pass


@pytest.mark.parametrize(("raw", "error"), [(b"", BackendClosed), (b"HTTP/1.1 200 O", BadAnswer), (OK[:-1], BadAnswer)])
def test_a_reset_is_told_like_a_close(raw: bytes, error: type[EdgeError]) -> None:
    peer = Peer(tcp_pair)
    broken_off(peer, raw)
    with pytest.raises(error, match="broke the connection"):
        read_whole_answer(peer)
    peer.close()


def test_of_a_connection_that_was_failed_and_broke_the_reason_is_told() -> None:
    """An upload that fails closes the wire; where the reset was there before the close, that is not what the client hears."""
    for raw in (b"", b"HTTP/1.1 200 O", OK[:-1]):
        peer = Peer(tcp_pair)
        broken_off(peer, raw)
        peer.connection.failure = ClientGone("left")
        with pytest.raises(ClientGone):
            read_whole_answer(peer)
        peer.close()


@pytest.mark.parametrize("body", [None, Pieces(b"x" * 2_000_000)])
def test_a_backend_that_takes_no_bytes_of_what_goes_out_at_once_is_a_timeout(peer: Peer, body: Any) -> None:
    """Of a request that is longer than what waits for the end of a round, the sender itself hears."""
    head = HEAD[:-2] + b"X: " + b"x" * 2_000_000 + b"\r\n\r\n"
    with pytest.raises(BackendTimeout, match="took no bytes"):
        peer.connection.send(head, body, 0.05, 1)


@pytest.mark.parametrize("raw", [b"", b"HTTP/1.1 200 O", OK[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n"])
def test_silence_is_a_timeout_wherever_it_falls(peer: Peer, raw: bytes) -> None:
    with pytest.raises(BackendTimeout):
        peer.ask(raw)


def test_a_head_that_drips_is_given_its_time_once_and_not_for_each_byte(peer: Peer) -> None:
    def drip() -> None:
        for index in range(len(OK)):
            peer.sock.sendall(OK[index : index + 1])
            gevent.sleep(0.03)

    peer.connection.send(HEAD, None, 1, 0.2)
    dripping = gevent.spawn(drip)
    with pytest.raises(BackendTimeout):
        peer.connection.receive(False, 0.2, 65536, None, False)
    dripping.kill()


# Uploads.


def received(peer: Peer, until: bytes) -> bytes:
    data = b""
    while until not in data:
        more = peer.sock.recv(65536)
        assert more, data
        data += more
    return data


def test_a_body_that_is_here_goes_out_with_its_head(peer: Peer) -> None:
    peer.connection.send(HEAD, Pieces(b"bo", b"dy", length=4, here=True), 1, 1)
    assert peer.sock.recv(65536) == HEAD + b"body"


def test_a_body_that_is_still_coming_goes_on_piece_by_piece(peer: Peer) -> None:
    go_on = gevent.event.Event()

    class Slow(Pieces):
        def read(self) -> bytes:
            if len(self.pieces) == 1:
                go_on.wait()
            return super().read()

    peer.connection.send(HEAD, Slow(b"one", b"two"), 1, 1)
    assert received(peer, b"one").endswith(b"3\r\none\r\n")
    go_on.set()
    assert received(peer, b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
    peer.sock.sendall(OK)
    peer.connection.receive(False, 1, 65536, None, False)
    assert peer.connection.reusable()


@pytest.mark.parametrize("here", [True, False])
def test_the_trailers_of_a_request_go_on(peer: Peer, here: bool) -> None:
    body = Pieces(b"one", here=here)
    body.trailers = [(b"X-Sum", b"abc"), (b"Host", b"evil")]
    peer.connection.send(HEAD, body, 1, 1)
    assert peer.sock.recv(100_000) + (b"" if here else _rest(peer)) == HEAD + b"3\r\none\r\n0\r\nX-Sum: abc\r\n\r\n"


def _rest(peer: Peer) -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        received += peer.sock.recv(100_000)
    return received


def test_chunks_may_be_padded(peer: Peer) -> None:
    assert peer.ask(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0  \r\n\r\n") == b"hello"
    assert peer.connection.reusable()


def test_an_upload_that_breaks_off_cuts_the_request_and_is_what_the_reader_hears(peer: Peer) -> None:
    peer.connection.send(HEAD, Pieces(b"one", ClientGone("left")), 1, 1)
    with pytest.raises(ClientGone):
        peer.connection.receive(False, 1, 65536, None, False)
    assert received(peer, b"one").endswith(b"3\r\none\r\n")
    assert peer.sock.recv(10) == b""  # no last chunk


def test_an_upload_that_fails_for_an_unknown_reason_leaves_nobody_waiting(peer: Peer) -> None:
    peer.connection.send(HEAD, Pieces(b"one", RuntimeError("bug")), 1, 1)
    with pytest.raises(EdgeError):
        peer.connection.receive(False, 1, 65536, None, False)


def test_an_answer_may_come_before_the_upload_ends_but_then_the_connection_does_too(peer: Peer) -> None:
    class Endless(Pieces):
        def read(self) -> bytes:
            gevent.sleep(0.01)
            return b"more"

    peer.connection.send(HEAD, Endless(b"x"), 1, 1)
    peer.sock.sendall(OK)
    peer.connection.receive(False, 1, 65536, None, False)
    assert peer.connection.read(1) == b"hello"
    assert not peer.connection.reusable()


def test_an_upload_that_is_abandoned_has_stopped_when_the_next_try_begins_and_its_greenlet_goes_on(peer: Peer) -> None:
    reads: list[int] = []

    class Waits(Pieces):
        def read(self) -> bytes:
            reads.append(1)
            try:
                gevent.sleep(60)
            finally:
                reads.append(2)
            return b""

    peer.connection.send(HEAD, Waits(b"x"), 1, 1)
    peer.connection.close()  # before it has begun
    gevent.sleep(0)
    assert not reads
    for turn in (1, 2):  # the second runs in the greenlet of the first
        again = Peer()
        again.connection.send(HEAD, Waits(b"x"), 1, 1)
        gevent.sleep(0)
        assert len(reads) == 2 * turn - 1
        again.connection.close()
        assert len(reads) == 2 * turn
        again.close()


def test_whoever_closes_a_connection_may_be_ended_while_its_upload_stops(peer: Peer) -> None:
    """Nobody closed it then: it stayed open, among the wires of its loop, as long as the process ran."""

    class Waits(Pieces):
        def read(self) -> bytes:
            gevent.sleep(60)
            return b""

    peer.connection.send(HEAD, Waits(b"x"), 1, 1)
    gevent.sleep(0)
    closing = gevent.spawn(peer.connection.close)
    gevent.spawn(closing.kill, block=False)  # once the other waits
    closing.join()
    assert peer.connection.wire.closed
    assert peer.connection.wire not in peer.connection.wire.loop.wires
    assert received(peer, HEAD) == HEAD
    assert peer.sock.recv(10) == b""


def test_the_time_for_the_answer_begins_when_the_upload_has_ended(peer: Peer) -> None:
    class Slow(Pieces):
        def read(self) -> bytes:
            gevent.sleep(0.1)
            return super().read()

    peer.connection.send(HEAD, Slow(b"a", b"b", b"c"), 1, 0.2)
    with pytest.raises(BackendTimeout):
        peer.connection.receive(False, 0.2, 65536, None, False)
    assert received(peer, b"0\r\n\r\n")  # all of it was sent before the backend's time ran out


# Whatever comes.


@given(st.data())
def test_whatever_comes_is_an_answer_or_a_bad_answer(data: st.DataObject) -> None:
    """Good answers with a few bytes changed, in any pieces, and the end of the connection behind them."""
    raw = bytearray(
        data.draw(
            st.sampled_from(
                [
                    OK,
                    b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + OK,
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
                    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
                ]
            )
        )
    )
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"\r\n", b"\n", b"\0", b"x", b":", b"9", b"\r\n\r\n", b"Content-Length: 1\r\n"])
        )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=3)))
    peer = Peer()
    peer.connection.send(HEAD, None, 1, 1)

    def play() -> None:
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            peer.sock.sendall(bytes(raw[start:end]))
            gevent.sleep(0)
        peer.sock.close()

    playing = gevent.spawn(play)
    try:
        with gevent.Timeout(3):
            peer.connection.receive(False, 1, 65536, None, False)
            body = b""
            while piece := peer.connection.read(1):
                body += piece
        assert 200 <= peer.connection.status <= 999
        if peer.connection.fields.content_length is not None and not peer.connection.fields.chunked:
            assert len(body) == (0 if peer.connection.status in (204, 304) else peer.connection.fields.content_length)
    except (BadAnswer, BackendClosed):
        pass
    finally:
        playing.join()
        peer.close()
