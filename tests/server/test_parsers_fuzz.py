"""Both parsers at once, fed with valid, damaged and malicious bytes: client -> EdgeHandler -> Forwarder -> Connection -> backend.

All of it runs in this process, on gevent's loop. A slow and strict reader says what the bytes mean; h11 has the last word on
what reaches the backend.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gevent
import gevent.socket
import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smartedge.http.environ_keys import REQUEST
from smartedge.http.sweep import Sweep
from smartedge.http.wire import Wire
from smartedge.proxy.connection import Connection
from smartedge.proxy.session import EdgeSession
from smartedge.proxy.transport import EdgeAdapter
from smartedge.server.front import AppHooks, Front, ServerLimits
from smartedge.server.handler import EdgeHandler
from tests.damage import KINDS, ODDITIES, answers_in, any_case, damaged, reference
from tests.examples import examples
from tests.house import House
from tests.live.wire import Answer, CutOffError, Request, Stream, WireError, read_answer
from tests.peers import tcp_pair
from tests.policies import breaker_policy, limits, retry_policy

PATIENCE_S = 5.0
"""Far more than any case takes: what is not done by then hangs."""

QUIET_S = 0.003
"""A side that has heard nothing for so long takes it that the other waits for more."""

HOST = b"Host: edge.test\r\n"


# ---- the edge, in this process ----


class Adapter(EdgeAdapter):
    """Connects to a function in this process: to a port somebody else could come too."""

    def __init__(self, play: Callable[[Any], None]) -> None:
        super().__init__("http://b.test", limits(connect_s=1, first_byte_s=1, idle_s=1, answer_head_bytes=2000), None)
        self.play = play
        self.playing: list[gevent.Greenlet] = []

    def _open(self) -> Connection:
        ours, theirs = gevent.socket.socketpair()
        self.playing.append(gevent.spawn(self._play, theirs))
        return Connection(Wire(ours), self._dialer.way, None)

    def _play(self, sock: Any) -> None:
        with contextlib.closing(sock), contextlib.suppress(OSError):
            self.play(sock)


class Edge:
    """Server and forwarder, with one backend that plays a function for each connection."""

    limits = ServerLimits(head_s=1, keepalive_s=1, idle_s=1, target_bytes=400, head_bytes=2000, headers=40, body_bytes=5000)

    @property
    def server_hooks(self) -> AppHooks:
        return AppHooks(limits=lambda: self.limits, forward=self.forward)

    def __init__(self, play: Callable[[Any], None]) -> None:
        self.adapter = Adapter(play)
        # What is tested here are bytes: no breaker may hide the backend, no retry an answer.
        no_breaker = breaker_policy(failures=10**6, min_requests=10**6)
        self.house = House(
            EdgeSession(self.adapter),
            policy=retry_policy(statuses=frozenset(), attempts=1),
            url=self.adapter.url,
            breaker=no_breaker,
        )

    def forward(self, request: Any) -> Any:
        return self.house.forwarder.forward(request) if request.fields.upgrade is None else None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return self.house.forwarder.forward(environ[REQUEST])(environ, start_response)

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """A client's connection, with a handler at its other end; afterwards nothing may be left of either."""
        complaints = io.StringIO()
        with gevent.Timeout(PATIENCE_S), contextlib.redirect_stderr(complaints):
            ours, theirs = tcp_pair()
            front = Front(self, lambda: None)
            handler = gevent.spawn(EdgeHandler(ours, ("192.0.2.1", 5), front).handle)
            try:
                yield theirs
            finally:
                theirs.close()
            handler.get()
            assert self.house.settled()
            self.adapter.close()
            gevent.joinall(self.adapter.playing, raise_error=True)
        assert not front.open
        assert complaints.getvalue() == ""
        for exchange in self.house.logged:
            assert exchange.attempts.lease is None


@pytest.fixture(scope="module")
def wires() -> set[Any]:
    """The wires that are open."""
    return Sweep.of(gevent.get_hub()).wires


class Reader:
    """Reads what comes from a gevent socket, as long as something comes."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.data = b""
        self.ended = False
        self.was_reset = False

    def more(self) -> bool:
        """Read once; False when nothing comes for a while, or ever again."""
        if self.ended:
            return False
        try:
            with gevent.Timeout(QUIET_S):
                more = self.sock.recv(65536)
        except gevent.Timeout:
            return False
        except ConnectionResetError:
            self.was_reset = self.ended = True
            return False
        self.ended = not more
        self.data += more
        return not self.ended

    def until_quiet(self) -> bytes:
        """Read on until nothing has come for a while."""
        while self.more():
            pass
        return self.data

    def until_end(self) -> bytes:
        """Read on until the other side closes."""
        while not self.ended:
            self.until_quiet()
        return self.data


def send(sock: Any, data: bytes, cuts: list[int]) -> None:
    """Send in pieces, each of which arrives alone; a peer that has closed is no surprise."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        try:
            sock.sendall(data[start:end])
        except OSError:
            return
        gevent.sleep(0)


# ---- what the bytes are made of ----


def pick(*choices: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(choices)


cuts = st.lists(st.integers(0, 2**12), max_size=4)


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, int, int, bytes]]:
    some = st.tuples(st.sampled_from(KINDS), st.integers(0, 2**12), st.integers(0, 20), st.sampled_from(ODDITIES))
    return draw(st.lists(some, min_size=1, max_size=3))


FIELDS = pick(
    b"X-A: 1\r\n",
    b"x-a:2\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: X-A, te\r\n",
    b"Connection: Close\r\n",
    b"X_Y: \xe9\r\n",
    b"Cookie: a=b; c=d\r\n",
    b"TE: trailers\r\n",
    b"X-Forwarded-For: 1.2.3.4\r\n",
    b"Empty:\r\n",
    b"Upgrade: websocket\r\n",
)
CHUNKED_BODIES = pick(
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"4\r\n\r\n\r\n\r\n1;e=f\r\nx\r\n0\r\n\r\n",
    b"0A\r\n0123456789\r\n000\r\nTrailer: 1\r\n\r\n",
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(pick(b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"PROPFIND", b"X-Y", b"DELETE"))
    target = draw(pick(b"/", b"/a%2Fb//c/../d?e=f?", b"/;p=q?", b"http://other.test/x", b"http://other.test?x", b"/%00"))
    version = draw(pick(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"))
    lines = [HOST, *draw(st.lists(FIELDS, max_size=3))]
    body = b""
    kind = draw(st.sampled_from(["none", "none", "length", "chunked"]))
    if kind == "length":
        body = draw(pick(b"", b"hello", b"GET / HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"x" * 1000))
        lines.append(b"Content-Length: %d\r\n" % len(body))
    elif kind == "chunked" and version == b"HTTP/1.1":
        body = draw(CHUNKED_BODIES)
        lines.append(b"Transfer-Encoding: chunked\r\n")
    if body and draw(st.integers(0, 5)) == 0:
        lines.append(b"Expect: 100-continue\r\n")
    return b"%b %b %b\r\n%b\r\n%b" % (method, target, version, b"".join(draw(st.permutations(lines))), body)


conversations = st.lists(requests(), min_size=1, max_size=3).map(b"".join)


# ---- the request's side ----


def meaning(request: Request) -> tuple[bytes, bytes, bytes]:
    """What a request asks: method, target in origin-form, body."""
    path = re.fullmatch(rb"(?i:https?)://[^/?]*(.*)", request.target)
    if path is None:
        return request.method, request.target, request.body
    return request.method, path[1] if path[1].startswith(b"/") else b"/" + path[1], request.body


@dataclass
class Recorder:
    """A backend that answers every whole request and keeps all bytes; h11 reads along and must be content."""

    streams: list[bytearray] = field(default_factory=list)
    heard: list[tuple[bytes, bytes, bytes]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __call__(self, sock: Any) -> None:
        self.streams.append(stream := bytearray())
        parser = h11.Connection(h11.SERVER)
        request, body = None, b""
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                # A body that the client cuts is cut here too; whatever else h11 does not like should not have come.
                if "without sending complete message body" not in str(error):
                    self.complaints.append(f"{error}: {bytes(stream)!r}")
                return
            if event is h11.NEED_DATA:
                try:
                    data = sock.recv(65536)
                except ConnectionResetError:
                    return
                stream += data
                parser.receive_data(data)
            elif isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                self.heard.append((bytes(request.method), bytes(request.target), body))
                answer = b"you asked for " + bytes(request.target)
                parser.send(h11.Response(status_code=200, headers=[]))
                parser.send(h11.EndOfMessage())
                head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
                sock.sendall(head if request.method == b"HEAD" else head + answer)
                if parser.our_state is not h11.DONE:
                    return
                parser.start_next_cycle()
            else:
                return


REFUSALS = {400, 408, 413, 414, 417, 431, 501}
GONE = 499
"""What somebody hears who has finished sending before the answer was there: an edge can't tell that from leaving."""


def converse(data: bytes, places: list[int], wires: set[Any], *, expected: int | None = None) -> tuple[list[Answer], Recorder]:
    """Send bytes to the edge and read to the end; then check all that holds for any bytes."""
    before = set(wires)
    recorder = Recorder()
    edge = Edge(recorder)
    with edge.client() as sock:
        send(sock, data, places)
        reader = Reader(sock)
        for _ in range(20 if expected else 3):
            reader.until_quiet()
            if len(edge.house.logged) >= (expected or 0) and edge.house.settled():
                break
        with contextlib.suppress(OSError):
            sock.shutdown(gevent.socket.SHUT_WR)
        received = reader.until_end()
    assert wires <= before
    asked = reference(data)
    assert recorder.complaints == []
    for stream in recorder.streams:
        # Another reader, the same meaning; it also refuses a message with two framings.
        assert [meaning(request) for request in reference(bytes(stream))] == recorder.heard[: len(reference(bytes(stream)))]
    # Nothing is forwarded that was not asked, and nothing in another order: no smuggling, no splitting.
    assert recorder.heard == [meaning(request) for request in asked[: len(recorder.heard)]]
    answers = answers_in(received, asked)
    for answer in answers[:-1]:
        assert answer.status == 200
    for answer in answers:
        assert answer.status in {200, GONE} | REFUSALS
        assert all(interim.status == 100 for interim in answer.interim)
        if answer.status in REFUSALS:
            assert answer.get(b"connection") == b"close"
            assert answer.get(b"content-type") == b"application/problem+json"
    return answers, recorder


@settings(max_examples=examples(80))
@given(conversations, cuts)
def test_valid_requests_are_forwarded_one_by_one_and_answered_in_order(wires: set[Any], data: bytes, places: list[int]) -> None:
    asked = reference(data)
    said = [b",".join(request.all(b"connection")).lower() for request in asked]
    stays = [
        b"close" not in said and (seen.version == b"HTTP/1.1" or b"keep-alive" in said)
        for seen, said in zip(asked, said, strict=True)
    ]
    count = stays.index(False) + 1 if False in stays else len(asked)  # what follows that one is nobody's
    answers, recorder = converse(data, places, wires, expected=count)
    assert recorder.heard == [meaning(request) for request in asked[:count]]
    assert [answer.status for answer in answers] == [200] * count
    for request, answer in zip(asked, answers, strict=False):
        assert answer.body == (b"" if request.method == b"HEAD" else b"you asked for " + meaning(request)[1])


@given(conversations, damages(), cuts)
def test_whatever_a_client_sends_only_requests_reach_the_backend_and_only_answers_come_back(
    wires: set[Any], data: bytes, damage: list[tuple[str, int, int, bytes]], places: list[int]
) -> None:
    converse(damaged(data, damage), places, wires)


# ---- the answer's side ----

ANSWER_FIELDS = pick(
    b"X-A: 1\r\n",
    b"Set-Cookie: a=b\r\n",
    b"set-cookie:c=d\r\n",
    b"Connection: keep-alive\r\n",
    b"Keep-Alive: timeout=5\r\n",
    b"Connection: close\r\n",
    b"Connection: X-A\r\n",
    b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
    b"X_Y: \xe9\r\n",
    b"Empty:\r\n",
    b"Content-Encoding: gzip\r\n",
)
INTERIM = pick(
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 102 Processing\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\n\r\n",
)
STATUS_LINES = pick(
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.0 200 OK", b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 299 ", b"HTTP/1.1 500 \xe9", b"HTTP/1.1 205 Reset Content", b"HTTP/1.1 999 What",
)  # fmt: skip


@st.composite
def backend_answers(draw: st.DrawFn, method: bytes) -> bytes:
    before = b"".join(draw(st.lists(INTERIM, max_size=2)))
    line = draw(STATUS_LINES)
    lines = draw(st.lists(ANSWER_FIELDS, max_size=3))
    body = b""
    kind = draw(st.sampled_from(["length", "length", "chunked", "chunked", "close"]))
    if kind == "length":
        body = draw(pick(b"", b"hello", b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 1000))
        lines.append(b"Content-Length: %d\r\n" % len(body))
    elif kind == "chunked" and line.startswith(b"HTTP/1.1"):
        body = draw(CHUNKED_BODIES)
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif kind == "close":
        body = draw(pick(b"", b"until the end", b"HTTP/1.1 200 OK\r\n\r\n"))
    if method == b"HEAD" or line[9:12] in (b"204", b"304"):
        body = b""
    return b"%b%b\r\n%b\r\n%b" % (before, line, b"".join(draw(st.permutations(lines))), body)


@dataclass
class Liar:
    """A backend that answers the first request with these bytes, in pieces, and every later one truly.

    It closes when nothing more is asked of it; `done` tells when it has said its bytes.
    """

    raw: bytes
    cuts: list[int]
    asked: int = 0
    done: bool = False

    def __call__(self, sock: Any) -> None:
        reader = Reader(sock)
        while True:
            reader.data = b""
            while b"\r\n\r\n" not in reader.data:
                if not reader.more() and (reader.ended or self.done):
                    return
            self.asked += 1
            if self.asked == 1:
                send(sock, self.raw, self.cuts)
                self.done = True
            else:
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\nX-True: yes\r\n\r\nthe second truth")


def with_spaces(raw: bytes) -> bytes:
    """Put the last space into each status line that lacks it, as the edge does."""
    at = 0
    while found := re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})( [^\r\n]*)?(\r\n([^\r\n]+\r\n)*\r\n)").match(raw, at):
        if found[2] is None:
            raw = raw[: found.start(3)] + b" " + raw[found.start(3) :]
        at = found.end() + (found[2] is None)
        if found[1] >= b"200":
            break
    return raw


def with_crlf(raw: bytes) -> bytes:
    """Give heads whose lines end with LF alone, all of them, the CR that belongs there, as the edge does."""
    at = 0
    while found := re.compile(rb"HTTP/1\.[0-9] ([0-9]{3})[^\r\n]*\n(?:[^\r\n]+\n)*\n|[^\0]*?\r\n\r\n").match(raw, at):
        head = found[0] if b"\r" in found[0] else found[0].replace(b"\n", b"\r\n")
        raw = raw[:at] + head + raw[found.end() :]
        at += len(head)
        if not head.startswith(b"HTTP/1.1 1"):
            break
    return raw


def reference_answer(raw: bytes, method: bytes) -> Answer | None:
    """What the backend's bytes mean when it closes behind them; None when they are no answer, or less than one."""
    try:
        answer = read_answer(Stream(None, with_spaces(any_case(with_crlf(raw)))), method)
    except (WireError, ValueError):
        return None
    return answer if answer.status != 101 else None


def end_to_end(answer: Answer) -> list[tuple[bytes, bytes]]:
    """The fields that are the answer's and not the connection's or the edge's own."""
    named = {token.strip(b" \t").lower() for value in answer.all(b"connection") for token in value.split(b",")}
    ours = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"transfer-encoding", b"upgrade", b"via", b"date"}
    return [(name, value) for name, value in answer.headers if name.lower() not in ours | named | {b"content-length"}]


def is_problem(answer: Answer) -> bool:
    """Whether the edge itself says that it got no answer."""
    return answer.status in (502, 504) and answer.get(b"content-type") == b"application/problem+json"


def ask(sock: Any, reader: Reader, method: bytes, target: bytes, version: bytes = b"HTTP/1.1") -> Answer | None:
    """Send a request and read its answer strictly; None when it is visibly cut, or the connection closed instead."""
    with contextlib.suppress(OSError):
        sock.sendall(b"%b %b %b\r\n%b\r\n" % (method, target, version, HOST))
    while True:
        reader.more()
        stream = Stream(None, reader.data)
        try:
            answer = read_answer(stream, method)
        except CutOffError:
            if reader.ended:
                reader.data = b""
                return None
            continue
        if answer.framing == "close" and not reader.ended:
            continue
        reader.data = bytes(stream.buffer)
        return None if answer.framing == "close" and reader.was_reset else answer


def be_lied_to(raw: bytes, method: bytes, version: bytes, places: list[int], wires: set[Any]) -> Answer | None:
    """Ask twice on one connection a backend whose first answer are these bytes, and check all that holds for any bytes.

    Gives the first answer; None when it was visibly cut.
    """
    before = set(wires)
    liar = Liar(raw, places)
    with Edge(liar).client() as sock:
        reader = Reader(sock)
        first = ask(sock, reader, method, b"/first", version)
        while not liar.done:
            gevent.sleep(0)
        reader.until_quiet()
        assert reader.data == b""  # nothing behind an answer
        second = None
        if not reader.ended:
            second = ask(sock, reader, b"GET", b"/second")
            assert second is not None
            assert reader.data == b""
    assert wires <= before
    expected = reference_answer(raw, method)
    if first is not None and not is_problem(first):
        assert expected is not None, first
        assert (first.status, first.body) == (expected.status, expected.body)
        assert end_to_end(first) == end_to_end(expected)
        assert [interim.status for interim in first.interim if interim.status == 100] == []
    if second is not None and not is_problem(second):
        assert (second.get(b"x-true"), second.body) == (b"yes", b"the second truth")
    return first


@settings(max_examples=examples(60))
@given(st.data(), pick(b"GET", b"GET", b"HEAD", b"POST"), pick(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"), cuts)
def test_a_valid_answer_comes_through_whatever_its_shape(
    wires: set[Any], data: st.DataObject, method: bytes, version: bytes, places: list[int]
) -> None:
    raw = data.draw(backend_answers(method))
    first = be_lied_to(raw, method, version, places, wires)
    assert first is not None
    assert not is_problem(first)


@given(st.data(), pick(b"GET", b"GET", b"HEAD", b"POST"), pick(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"), damages(), cuts)
def test_whatever_a_backend_says_the_client_gets_an_answer_a_problem_or_a_visible_cut(
    wires: set[Any],
    data: st.DataObject,
    method: bytes,
    version: bytes,
    damage: list[tuple[str, int, int, bytes]],
    places: list[int],
) -> None:
    raw = data.draw(backend_answers(method))
    be_lied_to(damaged(raw, damage), method, version, places, wires)


# ---- what was found this way ----


def test_a_status_without_a_reason_gets_the_space_that_belongs_there(wires: set[Any]) -> None:
    """llhttp takes `HTTP/1.1 200 CRLF` without the last space, which strict clients refuse (RFC 9112 section 4)."""
    first = be_lied_to(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"GET", b"HTTP/1.1", [], wires)
    assert first is not None
    assert first.status == 200
    with Edge(Liar(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", [])).client() as sock:
        answer = ask(sock, Reader(sock), b"GET", b"/")
        assert answer is not None
        assert (answer.status, answer.reason, answer.body) == (200, b"", b"ok")


def test_a_coding_is_refused_in_http_1_0_although_the_same_fields_have_been_seen_before(wires: set[Any]) -> None:
    """Fields that are known from the request before were not looked at again, but what they may say depends on the version."""
    fields = HOST + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with Edge(Recorder()).client() as sock:
        reader = Reader(sock)
        for version, status in ((b"HTTP/1.1", b"200"), (b"HTTP/1.1", b"200"), (b"HTTP/1.0", b"400")):
            reader.data = b""
            sock.sendall(b"POST / %b\r\n%b" % (version, fields))
            while not reader.data:
                reader.until_quiet()
            assert reader.data.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("upload", [b"\r\n", b"Content-Length: 10\r\n\r\nhalf"], ids=["no upload", "an upload that goes on"])
def test_a_client_of_http_1_0_can_tell_that_its_answer_is_cut(upload: bytes) -> None:
    """Its answer ends with the connection: a reset is all that tells. While its upload went on it got a clean end first."""

    def cuts(sock: Any) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")

    with Edge(cuts).client() as sock:
        reader = Reader(sock)
        sock.sendall(b"POST / HTTP/1.0\r\nHost: h\r\n" + upload)
        reader.until_end()
        assert reader.was_reset


def test_a_client_of_http_1_0_that_was_too_slow_can_tell_that_its_answer_is_cut() -> None:
    """It did not read until idle_s were over: what it finds when it goes on was ended as if that were all."""

    def says_much(sock: Any) -> None:
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 30_000_000)

    edge = Edge(says_much)
    edge.limits = dataclasses.replace(Edge.limits, idle_s=0.1)
    with edge.client() as sock:
        sock.sendall(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        while not edge.house.logged:
            gevent.sleep(0.02)
        reader = Reader(sock)
        reader.until_end()
        assert reader.was_reset


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\n2000\r\n" + b"x" * 8192, b"413"),
        (b"Content-Length: 5\r\n\r\nhalf", b"408"),
        (b"Content-Length: 5\r\n\r\n", b"408"),
    ],
)
def test_an_app_that_reads_a_body_that_is_none_has_its_client_refused(raw: bytes, status: bytes) -> None:
    """What the body raised ended the connection's greenlet with a traceback when no answer had been begun before."""

    class Reads(Edge):
        limits = dataclasses.replace(Edge.limits, idle_s=0.1)

        def forward(self, request: Any) -> None:
            """Leave it to the app."""

        def __call__(self, environ: dict[str, Any], _start_response: Any) -> Any:
            return environ["wsgi.input"].read()

    with Reads(Recorder()).client() as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n" + raw)
        reader = Reader(sock)
        while not reader.data:
            reader.more()
        assert reader.data.startswith(b"HTTP/1.1 %b " % status)
        sock.shutdown(gevent.socket.SHUT_WR)
        assert read_answer(Stream(None, reader.until_end()), b"POST").get(b"connection") == b"close"
