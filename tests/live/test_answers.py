"""What a backend answers arrives, and nothing else: answers as the client sees them, under all three servers."""

from __future__ import annotations

import gzip

import pytest

from tests.live.acts import Act
from tests.live.edges import GEVENT, LiveEdge, request
from tests.live.peers import (
    Answer,
    Script,
    answers,
    bodiless,
    chunked,
    close_delimited,
    counts,
    early_hints,
    gzipped,
    head,
    http10,
    many_headers,
    message,
    once,
    repeated_cookies,
    says,
    serves,
    trailers,
)
from tests.live.processes import wait_until

OURS = {b"via", b"date", b"connection", b"transfer-encoding"}


def fields(answer: Answer, *, without: set[bytes] = OURS) -> list[tuple[bytes, bytes]]:
    """The fields of an answer but for those that every server adds."""
    return [(name, value) for name, value in answer.headers if name.lower() not in without]


@pytest.mark.parametrize("status", [200, 201, 206, 299, 300, 301, 302, 307, 308, 400, 401, 404, 418, 429, 451, 500, 501, 599])
def test_every_status_is_passed_on_with_its_reason_and_body(edge: LiveEdge, status: int) -> None:
    answer = b"HTTP/1.1 %d Quite A Reason\r\nLocation: /b?c\r\nContent-Length: 5\r\n\r\nhello" % status
    with Script(says(answer)) as backend:
        edge.configure(backend)
        got = edge.ask()
        assert (got.status, got.reason, got.body) == (status, b"Quite A Reason", b"hello")
        assert got.get(b"location") == b"/b?c"
        assert len(backend.requests) == 1


@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_the_body_of_a_redirect_is_passed_on(edge: LiveEdge, length: int) -> None:
    """Session.send reads the body of a 30x to follow it, and what it leaves to stream is empty."""
    with Script(answers(302, [("Location", "/elsewhere")], b"r" * length)) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert (answer.status, answer.get(b"location"), answer.body) == (302, b"/elsewhere", b"r" * length)
        assert len(backend.requests) == 1


def test_a_missing_reason_stays_missing(edge: LiveEdge) -> None:
    with Script(says(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok")) as backend:
        edge.configure(backend)
        assert (edge.ask().reason, edge.ask().body) == (b"", b"ok")


def test_nothing_is_added_to_an_answer_but_via_and_a_date(edge: LiveEdge) -> None:
    """Flask adds a Content-Type where the backend sent none; gunicorn puts its own Server in."""
    with Script(answers(headers=[("X-One", "1")], body=b"<html>")) as backend:
        edge.configure(backend)
        answer = edge.ask()
        expected = [(b"X-One", b"1"), (b"Content-Length", b"6")]
        if edge.server == GEVENT:
            expected.insert(0, (b"Server", b"gunicorn"))
        assert fields(answer) == expected
        assert answer.get(b"via") == b"1.1 smartedge"
        assert answer.get(b"date")


def test_a_backends_server_and_date_are_its_own(own: LiveEdge) -> None:
    told = [("Server", "backend/1"), ("Date", "Tue, 15 Nov 1994 08:12:31 GMT")]
    with Script(answers(headers=told)) as backend:
        own.configure(backend)
        answer = own.ask()
        assert (answer.get(b"server"), answer.get(b"date")) == (b"backend/1", b"Tue, 15 Nov 1994 08:12:31 GMT")


def test_header_fields_of_an_answer_keep_their_order_case_and_bytes(own: LiveEdge) -> None:
    lines = b"x-LOWER: 1\r\nZ: \r\nX-Twice: one\r\nX_Under: 2\r\nx-twice: two, three\r\nX-Latin: caf\xe9\r\n"
    with Script(says(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\nok")) as backend:
        own.configure(backend)
        assert lines in own.ask().raw


def test_repeated_cookies_stay_apart(edge: LiveEdge) -> None:
    """`resp.headers` folds them into one line that no browser understands."""
    with Script(repeated_cookies()) as backend:
        edge.configure(backend)
        cookies = [b"a=1; Path=/", b"b=2; Expires=Wed, 09 Jun 2032 10:18:14 GMT", b"a=3"]
        assert edge.ask().all(b"set-cookie") == cookies


def test_more_than_a_hundred_header_fields_are_passed_on(edge: LiveEdge) -> None:
    """http.client gives up at 100."""
    with Script(many_headers(300)) as backend:
        edge.configure(backend)
        numbered = [value for name, value in edge.ask().headers if name[2:].isdigit()]
        assert numbered == [b"%d" % i for i in range(300)]


def test_a_compressed_body_is_not_touched(edge: LiveEdge) -> None:
    with Script(gzipped(b"plain text")) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert answer.get(b"content-encoding") == b"gzip"
        assert answer.body == gzip.compress(b"plain text", mtime=0)
        assert answer.get(b"content-length") == b"%d" % len(answer.body)


def test_hop_by_hop_fields_of_an_answer_end_here(edge: LiveEdge) -> None:
    hop_by_hop = [
        ("Connection", "keep-alive, X-Secret"),
        ("X-Secret", "1"),
        ("Keep-Alive", "timeout=77"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Kept", "yes"),
    ]
    with Script(answers(headers=hop_by_hop)) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert fields(answer, without=OURS | {b"server"}) == [(b"X-Kept", b"yes"), (b"Content-Length", b"6")]
        assert b"77" not in answer.raw


@pytest.mark.parametrize(
    ("act", "body"),
    [
        (close_delimited(b"until the end\n"), b"until the end\n"),
        (close_delimited(b"", version="HTTP/1.0"), b""),
        (close_delimited(b"x" * 200_000, version="HTTP/1.0"), b"x" * 200_000),
        (http10(b"old\n"), b"old\n"),
        (http10(b"old\n", keep_alive=True), b"old\n"),
        (says(head(200, [("Transfer-Encoding", "chunked")]) + chunked(b"a", b"b" * 70_000, b"c")), b"a" + b"b" * 70_000 + b"c"),
        (says(head(200, [("Transfer-Encoding", "chunked")]) + chunked()), b""),
        (says(head(200, [("transfer-encoding", "Chunked")]) + b"0003;ext=1\r\nabc\r\n00\r\n\r\n"), b"abc"),
        (says(head(200, [("Transfer-Encoding", "chunked")]) + b"3  \r\nabc\r\n0  \r\n\r\n"), b"abc"),
        (trailers(("X-Checksum", "abc"), body=b"hello\n"), b"hello\n"),
        (answers(body=b""), b""),
        (answers(body=b"y" * 1_000_000), b"y" * 1_000_000),
    ],
    ids=[
        *("close", "close-empty-10", "close-long-10", "10", "10-keep-alive"),
        *("chunked", "empty", "odd", "padded", "trailers", "0", "1M"),
    ],
)
def test_a_body_arrives_whole_whatever_frames_it(edge: LiveEdge, act: Act, body: bytes) -> None:
    with Script(act) as backend, edge.client() as client:
        edge.configure(backend)
        for _ in range(2):  # the first answer's end was found exactly: the connection goes on
            client.send(request())
            answer = client.answer()
            assert (answer.status, answer.body) == (200, body)
            assert answer.framing in ("length", "chunked")


@pytest.mark.parametrize(
    ("act", "method", "status", "length"),
    [
        (bodiless(200, 1234), b"HEAD", 200, b"1234"),
        (bodiless(200), b"HEAD", 200, None),
        (says(head(200, [("Transfer-Encoding", "chunked")])), b"HEAD", 200, None),
        (bodiless(404, 9), b"HEAD", 404, b"9"),
        (bodiless(204), b"GET", 204, None),
        (bodiless(204, 0), b"DELETE", 204, None),
        (bodiless(304, 1234), b"GET", 304, b"1234"),
        (bodiless(304), b"GET", 304, None),
        (bodiless(304, 77), b"HEAD", 304, b"77"),
    ],
)
def test_an_answer_without_a_body_ends_with_its_head(
    edge: LiveEdge, act: Act, method: bytes, status: int, length: bytes | None
) -> None:
    """A HEAD's chunk terminator would be the next answer's first line; a lease whose body never starts would leak."""
    with Script(act) as backend, edge.client() as client:
        edge.configure(backend)
        for _ in range(3):
            client.send(request(method=method))
            answer = client.answer(method)
            assert (answer.status, answer.get(b"content-length")) == (status, length)
        assert not client.stream.buffer
        assert backend.connections == 1
        edge.settled()


@pytest.mark.parametrize("status", [102, 103])
@pytest.mark.parametrize("gap_s", [0, 0.02])
def test_an_interim_answer_is_not_taken_for_the_answer(edge: LiveEdge, status: int, gap_s: float) -> None:
    """requests hands a 103 back as the answer, and the next client on that connection gets this client's body."""
    with Script(early_hints(status=status, count=2, gap_s=gap_s)) as backend:
        edge.configure(backend)
        for number in range(4):
            answer = edge.ask(b"/%d" % number)
            assert (answer.status, answer.body) == (200, b"final answer to /%d" % number)
        assert backend.connections == 1


def test_early_hints_reach_the_client(edge: LiveEdge) -> None:
    with Script(early_hints()) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert [interim.status for interim in answer.interim] == [103]
        assert answer.interim[0].all(b"link") == [b"</style.css>; rel=preload"]


def test_interim_answers_are_not_sent_to_http_1_0(own: LiveEdge) -> None:
    with Script(early_hints()) as backend:
        own.configure(backend)
        assert own.raw(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")


def test_bytes_behind_an_answer_are_nobodys_answer(edge: LiveEdge) -> None:
    """What a backend sends unasked must not be the next client's answer."""
    poison = message(body=b"first") + message(body=b"poison")
    with Script(serves(lambda call, _request: poison if call.number == 1 else message(body=b"good"))) as backend:
        edge.configure(backend)
        assert edge.ask().body == b"first"
        assert [edge.ask().body for _ in range(3)] == [b"good"] * 3


def test_an_answer_that_nobody_asked_for_spoils_an_idle_connection(edge: LiveEdge) -> None:
    def act(call: object) -> None:
        if call.request():  # type: ignore[attr-defined]
            call.send(message(body=b"first"))  # type: ignore[attr-defined]
            if call.number == 1:  # type: ignore[attr-defined]
                call.pause(0.05)  # type: ignore[attr-defined]
                call.send(message(408, body=b"poison"))  # type: ignore[attr-defined]
                call.pause(0.5)  # type: ignore[attr-defined]

    with Script(act) as backend:
        edge.configure(backend)
        assert edge.ask().body == b"first"
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close the spoilt connection")
        assert edge.ask().body == b"first"


def test_a_connection_that_the_backend_wants_closed_is_not_used_again(edge: LiveEdge) -> None:
    with Script(once(message(headers=[("Connection", "close")], body=b"bye"))) as backend:
        edge.configure(backend)
        assert [edge.ask().body for _ in range(3)] == [b"bye"] * 3
        assert backend.connections == 3


def test_the_clients_connection_outlives_the_backends(edge: LiveEdge) -> None:
    with Script(once(message(headers=[("Connection", "close")], body=b"bye"))) as backend, edge.client() as client:
        edge.configure(backend)
        for _ in range(3):
            client.send(request())
            answer = client.answer()
            assert answer.body == b"bye"
            assert b"close" not in (answer.get(b"connection") or b"")


def test_nothing_of_an_answer_sticks_to_the_next_one_on_its_connection(edge: LiveEdge) -> None:
    """What was read of a head is kept for the next that looks the same: it must be the same."""
    raws = {
        b"/a": (b"GET", message(headers=[("X", "1")], body=b"aaaa")),
        b"/b": (b"GET", message(headers=[("X", "1")], body=b"bbbb")),
        b"/c": (b"HEAD", head(200, [("X", "1"), ("Content-Length", "4")])),
        b"/d": (b"GET", message(headers=[("X", "2")], body=b"dddddd")),
        b"/e": (b"GET", head(200, [("Transfer-Encoding", "chunked")]) + chunked(b"e")),
        b"/f": (b"GET", head(200, [("Transfer-Encoding", "chunked")]) + chunked(b"f" * 70_000)),
        b"/g": (b"GET", head(204)),
        b"/h": (b"GET", head(304, [("Content-Length", "4")])),
        b"/i": (b"GET", message(headers=[("Connection", "X"), ("X", "1")], body=b"i")),
    }
    expected = {b"/a": b"aaaa", b"/b": b"bbbb", b"/d": b"dddddd", b"/e": b"e", b"/f": b"f" * 70_000, b"/i": b"i"}
    with Script(serves(lambda _call, seen: raws[seen.target][1])) as backend, edge.client() as client:
        edge.configure(backend)
        for target in [*raws, *reversed(raws), *raws]:
            method = raws[target][0]
            client.send(request(target, method))
            answer = client.answer(method)
            assert answer.body == expected.get(target, b"")
            assert answer.status == int(raws[target][1][9:12])
            assert answer.get(b"x") == {b"/a": b"1", b"/b": b"1", b"/c": b"1", b"/d": b"2"}.get(target)
        assert backend.connections == 1


def test_two_clients_never_get_each_others_bodies(edge: LiveEdge) -> None:
    with Script(counts()) as backend:
        edge.configure(backend)
        with edge.client() as one, edge.client() as other:
            for turn in range(20):
                one.send(request(b"/one/%d" % turn))
                other.send(request(b"/other/%d" % turn))
                assert b'"/one/%d"' % turn in one.answer().body
                assert b'"/other/%d"' % turn in other.answer().body
