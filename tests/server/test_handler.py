"""One client's connection in front of a plain WSGI app: what PEP 3333 promises, and what RFC 9112 does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import gevent
import gevent.event
import gevent.socket
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from smartedge.http.environ_keys import REQUEST
from smartedge.server.front import ServerLimits
from smartedge.server.server import EdgeServer
from tests.examples import examples
from tests.live.wire import WireError, parse_answers
from tests.peers import App, edge_server, talk

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
QUICK = ServerLimits(head_s=0.2, keepalive_s=0.2, idle_s=0.2)


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def echo(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    yield json.dumps({key: value for key, value in environ.items() if isinstance(value, str)}).encode()
    yield b"|" + body


def answers_of(raw: bytes, *methods: bytes) -> list[Any]:
    return parse_answers(raw, *methods)


def test_an_app_gets_a_complete_environ_and_its_body() -> None:
    with edge_server(App(echo)) as server:
        raw = b"POST /a%20b//c?x=%20 HTTP/1.1\r\nHost: h:1\r\nX-One: 1\r\nContent-Type: t\r\nContent-Length: 4\r\n"
        (answer,) = answers_of(talk(server, raw + b"Connection: close\r\n\r\nbody"))
    environ, _, body = answer.body.partition(b"|")
    told = json.loads(environ)
    assert body == b"body"
    assert (told["REQUEST_METHOD"], told["PATH_INFO"], told["QUERY_STRING"]) == ("POST", "/a b//c", "x=%20")
    assert (told["RAW_URI"], told["HTTP_HOST"], told["HTTP_X_ONE"]) == ("/a%20b//c?x=%20", "h:1", "1")
    assert (told["CONTENT_TYPE"], told["CONTENT_LENGTH"], told["REMOTE_ADDR"]) == ("t", "4", "127.0.0.1")
    assert (told["wsgi.url_scheme"], told["SERVER_PROTOCOL"], told["SCRIPT_NAME"]) == ("http", "HTTP/1.1", "")
    assert told["SERVER_PORT"] == str(server.server_port)


def test_an_answer_without_a_length_is_chunked_and_has_a_date() -> None:
    def view(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("X-One", "1")])
        yield b"one"
        yield b""
        yield b"two"

    with edge_server(App(view)) as server:
        first, second = answers_of(talk(server, GET + LAST))
    assert (first.framing, first.body, second.body) == ("chunked", b"onetwo", b"onetwo")
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", first.get(b"date"))
    assert second.get(b"connection") == b"close"


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", "200 OK"), (b"GET", "204 No Content"), (b"GET", "304 Not Modified")])
def test_a_body_where_http_has_none_is_not_sent_and_is_closed(method: bytes, status: str) -> None:
    closed: list[bool] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"body"])

        def close(self) -> None:
            closed.append(True)

    def view(_environ: dict[str, Any], start_response: Any) -> Body:
        start_response(status, [("Content-Length", "4")])
        return Body()

    with edge_server(App(view)) as server:
        found = answers_of(talk(server, method + GET[3:] + method + LAST[3:]), method, method)
    assert [answer.status for answer in found] == [int(status[:3])] * 2
    assert closed == [True, True]


def test_an_app_that_raises_before_it_answers_is_a_500(capsys: pytest.CaptureFixture[str]) -> None:
    def view(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise RuntimeError("bug in the app")

    with edge_server(App(view)) as server:
        (answer,) = answers_of(talk(server, GET))
    assert (answer.status, answer.get(b"connection")) == (500, b"close")
    assert b"bug" not in answer.body


def test_an_app_that_raises_in_mid_answer_cuts_the_connection(capsys: pytest.CaptureFixture[str]) -> None:
    def view(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"half"
        raise RuntimeError("bug in the app")

    with edge_server(App(view)) as server, pytest.raises(WireError):
        answers_of(talk(server, GET))


def test_an_answer_that_is_shorter_than_its_length_ends_with_the_connection() -> None:
    def view(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "10")])
        return [b"half"]

    with edge_server(App(view)) as server:
        received = talk(server, GET + GET)
    assert received.count(b"HTTP/1.1") == 1
    with pytest.raises(WireError):
        answers_of(received)


def test_an_app_that_neither_answers_nor_reads_the_body_does_not_have_it_taken_for_a_request() -> None:
    asked: list[str] = []

    def view(environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        asked.append(environ["PATH_INFO"])
        return []

    with edge_server(App(view)) as server:
        assert talk(server, b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET) == b""
    assert asked == ["/1"]


def test_an_answer_that_is_longer_than_its_length_ends_there() -> None:
    def view(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        return [b"half", b"more"]

    with edge_server(App(view)) as server:
        assert [answer.body for answer in answers_of(talk(server, GET + LAST))] == [b"half", b"half"]


@pytest.mark.parametrize("fields", [[("X", "a\r\nEvil: 1")], [("X\r\nEvil", "1")], [("X", "a\nb")], [("X", "a\0b")]])
def test_an_app_cannot_split_an_answer(fields: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    def view(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", fields)
        return [b"x"]

    with edge_server(App(view)) as server:
        received = talk(server, GET)
    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"Evil" not in received


def test_an_empty_first_piece_sends_the_head_at_once() -> None:
    go_on = gevent.event.Event()

    def view(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b""
        go_on.wait()
        yield b"late"

    with edge_server(App(view)) as server, gevent.Timeout(5):
        sock = gevent.socket.create_connection(("127.0.0.1", server.server_port))
        sock.sendall(LAST)
        assert b"\r\n\r\n" in sock.recv(65536)
        go_on.set()
        assert b"late" in sock.recv(65536)
        sock.close()


def test_a_body_that_the_app_did_not_read_is_no_next_request() -> None:
    with edge_server(App(hello)) as server:
        received = talk(server, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(GET) + GET)
    assert received.count(b"HTTP/1.1 200") == 1


def test_a_client_is_asked_for_its_body_when_the_app_reads_it() -> None:
    with edge_server(App(echo)) as server, gevent.Timeout(5):
        sock = gevent.socket.create_connection(("127.0.0.1", server.server_port))
        sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-Continue\r\nConnection: close\r\n\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"body")
        received = b""
        while more := sock.recv(65536):
            received += more
        assert received.count(b"HTTP/1.1 ") == 1
        assert b"|body" in received
        sock.close()


# Refusals.


def test_what_is_refused_is_told_to_the_app_and_to_the_client_under_one_id() -> None:
    app = App(hello)
    with edge_server(app) as server:
        (answer,) = answers_of(talk(server, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + GET))
    ((peer, status, request_id),) = app.refused
    assert (peer, status) == (b"127.0.0.1", 400)
    assert json.loads(answer.body)["request_id"] == request_id


@pytest.mark.parametrize(
    ("limits", "raw", "status"),
    [
        (ServerLimits(target_bytes=100), b"GET /" + b"x" * 100 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
        (ServerLimits(target_bytes=100), b"GET /" + b"x" * 1000, 414),
        (ServerLimits(head_bytes=200), b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 200 + b"\r\n\r\n", 431),
        (ServerLimits(head_bytes=200), b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 1000, 431),
        (ServerLimits(headers=3), b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 3 + b"\r\n", 431),
        (ServerLimits(body_bytes=3), b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody", 413),
        (QUICK, b"GET / HTTP/1.1\r\nHost:", 408),
        (QUICK, b"\r\n\r\n\r\nGET", 408),
        (ServerLimits(), b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: magic\r\n\r\nbody", 417),
        (ServerLimits(), b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 501),
    ],
)
def test_limits_have_their_statuses(limits: ServerLimits, raw: bytes, status: int) -> None:
    with edge_server(App(echo, limits=limits)) as server:
        (answer,) = answers_of(talk(server, raw))
    assert (answer.status, answer.get(b"connection")) == (status, b"close")


@pytest.mark.parametrize(
    "raw",
    [
        b"HEAD / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\r\nHEAD /" + b"x" * 10_000,
        b"HEAD / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nExpect: magic\r\n\r\n",
        GET + b"HEAD / HTTP/1.1\r\nHost : h\r\n\r\n",
    ],
)
def test_a_refused_head_request_is_answered_without_a_body(raw: bytes) -> None:
    with edge_server(App(hello)) as server:
        received = talk(server, raw)
    refusal = received[received.index(b"HTTP/1.1 4") :]
    assert refusal.count(b"\r\n\r\n") == 1
    assert refusal.endswith(b"\r\n\r\n")
    assert b"Content-Length: " in refusal  # what a GET would have had


def test_a_1xx_has_no_content_length() -> None:
    def view(environ: Any, start_response: Any) -> list[bytes]:
        environ[REQUEST].interim(103, b"103 Early Hints\r\n", b"Link: </a>\r\nContent-Length: 5\r\n")
        return hello(environ, start_response)  # type: ignore[no-any-return]

    with edge_server(App(view)) as server:
        received = talk(server, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert received.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize("raws", [[], [b"\r\n"], [GET]])
def test_an_idle_connection_is_closed_without_a_word(raws: list[bytes]) -> None:
    with edge_server(App(hello, limits=QUICK)) as server:
        received = talk(server, *raws)
    assert received.count(b"HTTP/1.1") == raws.count(GET) or b" 408 " in received


def test_a_body_that_stops_is_408_or_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with edge_server(App(echo, limits=QUICK)) as server:
        received = talk(server, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
    assert b" 200 " not in received


# Whatever comes.

GOOD = (
    b"GET /a?b HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n"
    b"POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"POST /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + LAST
)


def reads_all(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture(scope="module")
def reader() -> Iterator[EdgeServer]:
    with edge_server(App(reads_all, limits=QUICK)) as server:
        yield server


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, len(GOOD)), max_size=6))
def test_requests_are_read_the_same_in_any_pieces(reader: EdgeServer, cuts: list[int]) -> None:
    marks = [0, *sorted(cuts), len(GOOD)]
    pieces = [GOOD[start:end] for start, end in zip(marks, marks[1:], strict=False)]  # noqa: RUF007
    assert [answer.body for answer in answers_of(talk(reader, *pieces))] == [b"", b"hello", b"hello", b""]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_comes_the_answer_is_http_or_a_closed_connection(reader: EdgeServer, data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.sampled_from([b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"Z", b"0", b"\r\n\r\n", b"Host: x\r\n", b"9" * 30])
        )
    with gevent.Timeout(3):
        received = talk(reader, bytes(raw))
    for answer in answers_of(received):
        assert answer.status in (200, 400, 408, 414, 417, 431, 501)
    while any(not incoming.idle for incoming in reader.front.open):
        gevent.sleep(0.001)
