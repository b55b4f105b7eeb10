"""What a backend answers arrives, and nothing else: answers as the client sees them, under all three servers."""

from __future__ import annotations

import gzip

from tests.live.acts import Act
from tests.live.edges import LiveEdge, request
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

OURS = {b"via", b"date", b"connection", b"transfer-encoding"}


def fields(answer: Answer, *, without: set[bytes] = OURS) -> list[tuple[bytes, bytes]]:
    """The fields of an answer but for those that every server adds."""
    return [(name, value) for name, value in answer.headers if name.lower() not in without]


STATUSES = [200, 201, 206, 299, 300, 301, 302, 307, 308, 400, 401, 404, 418, 429, 451, 500, 501, 599]


def test_every_status_is_passed_on_with_its_reason_and_body(edge: LiveEdge) -> None:
    with Script(answers()) as backend:
        edge.configure(backend)
        for status in STATUSES:
            backend.play(says(b"HTTP/1.1 %d Quite A Reason\r\nLocation: /b?c\r\nContent-Length: 5\r\n\r\nhello" % status))
            got = edge.ask()
            assert (got.status, got.reason, got.body) == (status, b"Quite A Reason", b"hello")
            assert got.get(b"location") == b"/b?c"
        assert len(backend.requests) == len(STATUSES)


def test_the_body_of_a_redirect_is_passed_on(own: LiveEdge) -> None:
    """Session.send reads the body of a 30x to follow it, and what it leaves to stream is empty."""
    with Script(answers(302, [("Location", "/elsewhere")], b"r" * 100_000)) as backend:
        own.configure(backend)
        answer = own.ask()
        assert (answer.status, answer.get(b"location"), answer.body) == (302, b"/elsewhere", b"r" * 100_000)
        assert len(backend.requests) == 1


def test_nothing_is_added_to_an_answer_but_via_and_a_date(edge: LiveEdge) -> None:
    """Flask adds a Content-Type where the backend sent none; gunicorn would put its own Server in."""
    with Script(answers(headers=[("X-One", "1")], body=b"<html>")) as backend:
        edge.configure(backend)
        answer = edge.ask()
        assert fields(answer) == [(b"X-One", b"1"), (b"Content-Length", b"6")]
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


def test_repeated_cookies_stay_apart(own: LiveEdge) -> None:
    """`resp.headers` folds them into one line that no browser understands."""
    with Script(repeated_cookies()) as backend:
        own.configure(backend)
        cookies = [b"a=1; Path=/", b"b=2; Expires=Wed, 09 Jun 2032 10:18:14 GMT", b"a=3"]
        assert own.ask().all(b"set-cookie") == cookies


def test_more_than_a_hundred_header_fields_are_passed_on(own: LiveEdge) -> None:
    """http.client gives up at 100."""
    with Script(many_headers(300)) as backend:
        own.configure(backend)
        numbered = [value for name, value in own.ask().headers if name[2:].isdigit()]
        assert numbered == [b"%d" % i for i in range(300)]


def test_a_compressed_body_is_not_touched(own: LiveEdge) -> None:
    with Script(gzipped(b"plain text")) as backend:
        own.configure(backend)
        answer = own.ask()
        assert answer.get(b"content-encoding") == b"gzip"
        assert answer.body == gzip.compress(b"plain text", mtime=0)
        assert answer.get(b"content-length") == b"%d" % len(answer.body)


def test_hop_by_hop_fields_of_an_answer_end_here(own: LiveEdge) -> None:
    hop_by_hop = [
        ("Connection", "keep-alive, X-Secret"),
        ("X-Secret", "1"),
        ("Keep-Alive", "timeout=77"),
        ("Proxy-Connection", "keep-alive"),
        ("X-Kept", "yes"),
    ]
    with Script(answers(headers=hop_by_hop)) as backend:
        own.configure(backend)
        answer = own.ask()
        assert fields(answer, without=OURS | {b"server"}) == [(b"X-Kept", b"yes"), (b"Content-Length", b"6")]
        assert b"77" not in answer.raw


BODIES: list[tuple[Act, bytes]] = [
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
]


def test_a_body_arrives_whole_whatever_frames_it(edge: LiveEdge) -> None:
    with Script(answers()) as backend:
        edge.configure(backend)
        for act, body in BODIES:
            backend.play(act)
            with edge.client() as client:
                for _ in range(2):  # the first answer's end was found exactly: the connection goes on
                    client.send(request())
                    answer = client.answer()
                    assert (answer.status, answer.body) == (200, body)
                    assert answer.framing in ("length", "chunked")


BODILESS: list[tuple[Act, bytes, int, bytes | None]] = [
    (bodiless(200, 1234), b"HEAD", 200, b"1234"),
    (bodiless(200), b"HEAD", 200, None),
    (says(head(200, [("Transfer-Encoding", "chunked")])), b"HEAD", 200, None),
    (bodiless(404, 9), b"HEAD", 404, b"9"),
    (bodiless(204), b"GET", 204, None),
    (bodiless(204, 0), b"DELETE", 204, None),
    (bodiless(304, 1234), b"GET", 304, b"1234"),
    (bodiless(304), b"GET", 304, None),
    (bodiless(304, 77), b"HEAD", 304, b"77"),
]


def test_an_answer_without_a_body_ends_with_its_head(edge: LiveEdge) -> None:
    """A HEAD's chunk terminator would be the next answer's first line; a lease whose body never starts would leak."""
    with Script(answers()) as backend:
        edge.configure(backend)
        for act, method, status, length in BODILESS:
            backend.play(act)
            before = backend.connections
            with edge.client() as client:
                for _ in range(3):
                    client.send(request(method=method))
                    answer = client.answer(method)
                    assert (answer.status, answer.get(b"content-length")) == (status, length)
                assert not client.stream.buffer
            assert backend.connections == before + 1
        edge.settled()


def test_an_interim_answer_is_not_taken_for_the_answer(own: LiveEdge) -> None:
    """requests hands a 103 back as the answer, and the next client on that connection gets this client's body."""
    with Script(answers()) as backend:
        own.configure(backend)
        for status, gap_s in ((102, 0), (102, 0.02), (103, 0), (103, 0.02)):
            backend.play(early_hints(status=status, count=2, gap_s=gap_s))
            before = backend.connections
            for number in range(4):
                answer = own.ask(b"/%d" % number)
                assert (answer.status, answer.body) == (200, b"final answer to /%d" % number)
            assert backend.connections == before + 1


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


def test_the_clients_connection_outlives_the_backends(own: LiveEdge) -> None:
    with Script(once(message(headers=[("Connection", "close")], body=b"bye"))) as backend, own.client() as client:
        own.configure(backend)
        for _ in range(3):
            client.send(request())
            answer = client.answer()
            assert answer.body == b"bye"
            assert b"close" not in (answer.get(b"connection") or b"")


def test_nothing_of_an_answer_sticks_to_the_next_one_on_its_connection(own: LiveEdge) -> None:
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
    with Script(serves(lambda _call, seen: raws[seen.target][1])) as backend, own.client() as client:
        own.configure(backend)
        for target in [*raws, *reversed(raws), *raws]:
            method = raws[target][0]
            client.send(request(target, method))
            answer = client.answer(method)
            assert answer.body == expected.get(target, b"")
            assert answer.status == int(raws[target][1][9:12])
            assert answer.get(b"x") == {b"/a": b"1", b"/b": b"1", b"/c": b"1", b"/d": b"2"}.get(target)
        assert backend.connections == 1


def test_two_clients_never_get_each_others_bodies(own: LiveEdge) -> None:
    with Script(counts()) as backend:
        own.configure(backend)
        with own.client() as one, own.client() as other:
            for turn in range(20):
                one.send(request(b"/one/%d" % turn))
                other.send(request(b"/other/%d" % turn))
                assert b'"/one/%d"' % turn in one.answer().body
                assert b'"/other/%d"' % turn in other.answer().body
