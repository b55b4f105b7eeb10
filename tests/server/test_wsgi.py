"""A request as WSGI has it: the environ of our server, of gunicorn and of Werkzeug."""

from __future__ import annotations

import io
import re
import socket
from typing import Any
from wsgiref.validate import check_environ

import pytest
from gunicorn.config import Config as GunicornConfig
from gunicorn.http import wsgi as gunicorn_wsgi
from gunicorn.http.parser import RequestParser
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder

from smartedge.balancer.errors import ClientError, ClientGone
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.server.wsgi import WsgiBody, from_environ, to_environ
from tests.fakes import Pieces


def request(
    block: bytes = b"Host: h\r\n", *, method: bytes = b"GET", target: bytes = b"/", version: int = 11, body: Any = None
) -> Request:
    made = Request(method, target, version, block, RequestFields(block), b"192.0.2.1", secure=False)
    made.body = body
    return made


# ---- from our own server to WSGI ----


def environ_of(request: Request) -> dict[str, Any]:
    return to_environ(
        request,
        {
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8080",
            "REMOTE_ADDR": "192.0.2.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        },
    )


VALUES = st.text("".join(map(chr, [*range(32, 127), *range(160, 256)])), max_size=8).map(str.strip)
NAMES = st.sampled_from(["Host", "X-A", "x-a", "X_A", "Cookie", "content-type", "Content-Type", "Proxy", "Accept"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.sampled_from([b"GET", b"POST", b"DELETE"]))
def test_a_completed_environ_is_what_pep_3333_asks_for(pairs: list[tuple[str, str]], method: bytes) -> None:
    block = "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("latin-1")
    environ = environ_of(request(block, method=method, target=b"/a%2Fb?c=d"))
    check_environ({key: value for key, value in environ.items() if key != "REMOTE_PORT"})
    for name, join in (("X-A", ","), ("Accept", ","), ("Cookie", "; "), ("Proxy", ",")):
        values = [value for found, value in pairs if found.lower() == name.lower()]
        assert environ.get("HTTP_" + name.upper().replace("-", "_")) == (join.join(values) if values else None)
    types = [value for found, value in pairs if found.lower() == "content-type"]
    assert environ.get("CONTENT_TYPE") == (",".join(types) if types else None)
    hosts = [value for found, value in pairs if found == "Host"]
    assert environ.get("HTTP_HOST") == (hosts[-1] if hosts else None)


def test_path_and_query_are_what_the_target_says() -> None:
    environ = environ_of(request(target=b"/a%2Fb/%C3%A9//?q=%20&?", version=10))
    assert environ["SCRIPT_NAME"] + environ["PATH_INFO"] == "/a/b/\xc3\xa9//"
    assert environ["QUERY_STRING"] == "q=%20&?"
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == "/a%2Fb/%C3%A9//?q=%20&?"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_the_host_of_an_absolute_target_is_the_environs_host() -> None:
    made = request(b"Host: old\r\n")
    made.fields = made.fields.with_host(b"new")
    assert environ_of(made)["HTTP_HOST"] == "new"


@pytest.mark.parametrize("size", [1, 3, 100, -1])
def test_a_body_is_read_through_wsgi_input_in_any_sizes(size: int) -> None:
    stream = environ_of(request(body=Pieces(b"hel", b"lo wor", b"ld")))["wsgi.input"]
    assert b"".join(iter(lambda: stream.read(size), b"")) == b"hello world"
    assert stream.read() == b""


def test_a_body_is_read_by_lines_too() -> None:
    stream = environ_of(request(body=Pieces(b"one\ntw", b"o\nthr", b"ee")))["wsgi.input"]
    assert list(stream) == [b"one\n", b"two\n", b"three"]


def test_no_body_is_an_empty_stream() -> None:
    assert environ_of(request())["wsgi.input"].read() == b""


def test_whoever_reads_a_body_has_a_client_that_waits_told_to_go_on_once() -> None:
    """The server passes a 100 on while the client waits for one: it was told too late, when nobody waited any more."""
    made = request(body=Pieces(b"a", b"b"))
    made.expects_continue = True
    sent = []

    def interim(status: int, _line: bytes, _block: bytes) -> None:
        if made.expects_continue:
            sent.append(status)

    made.interim = interim
    stream = environ_of(made)["wsgi.input"]
    assert sent == []
    assert stream.read() == b"ab"
    assert sent == [100]


def test_an_error_of_the_body_comes_out_of_wsgi_input() -> None:
    stream = environ_of(request(body=Pieces(b"a", ClientGone("left"))))["wsgi.input"]
    with pytest.raises(ClientGone):
        stream.read()


# ---- from a foreign server ----


def from_gunicorn(raw: bytes, pieces: int = 4096, **options: Any) -> Request:
    """The request that gunicorn's own parser and environ make of these bytes."""
    config = GunicornConfig()
    for key, value in options.items():
        config.set(key, value)
    chunks = iter([raw[at : at + pieces] for at in range(0, len(raw), pieces)])
    parsed = next(RequestParser(config, chunks, ("192.0.2.1", 5)))
    response, environ = gunicorn_wsgi.create(parsed, None, ("192.0.2.1", 5), ("127.0.0.1", 80), config)
    return from_environ(environ, response.start_response)


def test_gunicorns_request_keeps_its_target_and_its_fields_one_by_one() -> None:
    found = from_gunicorn(
        b"PROPFIND /a%2Fb//c/../d?x=1? HTTP/1.1\r\nHost: h:1\r\nX-A: 1\r\nx-a: 2, 3\r\nCookie: a\r\nCookie: b\r\n\r\n"
    )
    assert (found.method, found.target, found.version) == (b"PROPFIND", b"/a%2Fb//c/../d?x=1?", 11)
    assert found.block == b"Host: h:1\r\nX-A: 1\r\nX-A: 2, 3\r\nCookie: a\r\nCookie: b\r\n"
    assert (found.peer, found.secure, found.body) == (b"192.0.2.1", False, None)


def test_gunicorns_absolute_target_becomes_origin_form_and_host() -> None:
    found = from_gunicorn(b"GET http://real.test:8080/a%2F?b HTTP/1.1\r\nHost: other\r\n\r\n")
    assert (found.target, found.fields.host) == (b"/a%2F?b", b"real.test:8080")
    assert found.fields.block == b"Host: real.test:8080\r\n"


@pytest.mark.parametrize("pieces", [1, 7, 4096])
@pytest.mark.parametrize(
    ("framing", "length"),
    [
        (b"Content-Length: 11\r\n\r\nhello world", 11),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", None),
    ],
)
def test_gunicorns_body_is_read_to_its_end(framing: bytes, length: int | None, pieces: int) -> None:
    found = from_gunicorn(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing, pieces)
    assert found.body is not None
    assert found.body.length == length
    assert found.body.buffered() is None
    assert b"".join(iter(found.body.read, b"")) == b"hello world"
    assert found.body.complete
    assert found.body.received_bytes == 11


def test_gunicorns_body_is_read_as_it_arrives_and_no_further() -> None:
    """Through gunicorn's reader each byte was copied four times, and each read made room for all that was still to come."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        config = GunicornConfig()
        theirs.sendall(b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhel")
        requests = RequestParser(config, ours, ("192.0.2.1", 5))
        response, environ = gunicorn_wsgi.create(next(requests), None, ("192.0.2.1", 5), ("127.0.0.1", 80), config)
        body = from_environ(environ, response.start_response).body
        assert body is not None
        assert body.read() == b"hel"
        theirs.sendall(b"lo ")
        assert body.read() == b"lo "
        theirs.sendall(b"worldGET /2 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert body.read() == b"world"
        assert body.complete
        assert next(requests).uri == "/2"


@pytest.mark.parametrize("framing", [b"Content-Length: 11\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz"])
def test_gunicorns_body_that_is_cut_or_malformed_is_the_clients_fault(framing: bytes) -> None:
    found = from_gunicorn(b"POST / HTTP/1.1\r\nHost: h\r\n" + framing, 1)
    assert found.body is not None
    with pytest.raises(ClientError):
        b"".join(iter(found.body.read, b""))


def test_http_1_0_needs_no_host_under_gunicorn_either() -> None:
    assert from_gunicorn(b"GET / HTTP/1.0\r\n\r\n").version == 10


@pytest.mark.parametrize(
    "fields",
    [b"", b"Host: a b\r\n", b"Host: a/b\r\n"],
)
def test_a_request_that_gunicorn_lets_through_without_one_host_is_refused(fields: bytes) -> None:
    with pytest.raises(ClientError):
        from_gunicorn(b"GET / HTTP/1.1\r\n" + fields + b"\r\n")


def test_werkzeugs_environ_is_a_request_too() -> None:
    """Its raw target lacks a query that was given apart from the path, and what the app's test client asked for was lost."""
    builder = EnvironBuilder(
        "/a%2Fb/c",
        query_string="x=1",
        method="PUT",
        data=b"hello",
        headers=[("X-A", "1"), ("X-A", "2")],
        content_type="text/plain",
        base_url="https://h.test:8443/",
    )
    found = from_environ(builder.get_environ())
    assert (found.method, found.target, found.secure) == (b"PUT", b"/a%2Fb/c?x=1", True)
    assert found.fields.host == b"h.test:8443"
    assert re.search(rb"X-A: 1, ?2\r\n", found.block)
    assert b"Content-Type: text/plain\r\n" in found.block
    assert found.body is not None
    assert (found.body.length, found.body.read(), found.body.read()) == (5, b"hello", b"")


def plain(**more: str) -> dict[str, Any]:
    """The environ of a server that gives no raw target."""
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "h",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(b"hello"),
        **more,
    }


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [
        ("/", "", b"/"),
        ("", "", b"/"),
        ("/a b", "", b"/a%20b"),
        ("/a?b#c", "d=e", b"/a%3Fb%23c?d=e"),
        ("/\xc3\xa9", "", b"/%C3%A9"),
        ("/a;b=c,d/~e", "", b"/a;b=c,d/~e"),
        ("/100%", "", b"/100%25"),
        ("/%61dmin", "", b"/%2561dmin"),
    ],
)
def test_a_target_is_made_of_path_and_query_where_there_is_no_raw_one(path: str, query: str, target: bytes) -> None:
    """PATH_INFO is decoded: a percent sign in it stands for itself, and `/%2561dmin` must not become `/admin` on the way."""
    assert from_environ(plain(PATH_INFO=path, QUERY_STRING=query)).target == target


def test_the_star_of_options_is_kept() -> None:
    assert from_environ(plain(REQUEST_METHOD="OPTIONS", RAW_URI="*")).target == b"*"


@pytest.mark.parametrize("more", [{"HTTP_X": "a\r\nEvil: 1"}, {"HTTP_X": "a\nb"}, {"HTTP_X:Y": "1"}])
def test_a_field_that_holds_a_line_break_is_refused(more: dict[str, str]) -> None:
    with pytest.raises(ClientError, match="line break"):
        from_environ(plain(**more))


@pytest.mark.parametrize(
    "more",
    [
        {"CONTENT_LENGTH": "+5"},
        {"CONTENT_LENGTH": "5, 5"},
        {"HTTP_TRANSFER_ENCODING": "gzip, chunked"},
        {"HTTP_TRANSFER_ENCODING": "chunked", "SERVER_PROTOCOL": "HTTP/1.0"},
        {"SERVER_PROTOCOL": "HTTP/2.0"},
        {"SERVER_PROTOCOL": "nonsense"},
        {"RAW_URI": "a/b"},
        {"RAW_URI": "/a#b"},
    ],
)
def test_what_our_own_server_would_refuse_is_refused_from_others(more: dict[str, str]) -> None:
    with pytest.raises(ClientError):
        from_environ(plain(**more))


def test_a_body_of_no_bytes_is_no_body() -> None:
    assert from_environ(plain(CONTENT_LENGTH="0")).body is None
    assert from_environ(plain()).body is None


# ---- the body of a foreign server ----


@given(st.binary(max_size=300), st.integers(1, 400))
def test_a_foreign_body_is_given_whole_whatever_its_stream_gives_at_once(data: bytes, step: int) -> None:
    class Stream(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(step, size if size is not None and size >= 0 else step))

    for length in (len(data), None):
        body = WsgiBody(Stream(data), length)
        assert b"".join(iter(body.read, b"")) == data
        assert body.complete or not data
        assert body.read() == b""
        assert body.received_bytes == len(data)


def test_a_foreign_body_leaves_alone_what_lies_behind_it() -> None:
    stream = io.BytesIO(b"hello, next request")
    body = WsgiBody(stream, 5)
    assert body.read() == b"hello"
    assert body.read() == b""
    assert stream.read() == b", next request"


def test_a_foreign_body_that_ends_early_is_the_clients_fault() -> None:
    body = WsgiBody(io.BytesIO(b"hell"), 5)
    assert body.read() == b"hell"
    with pytest.raises(ClientError, match="before its Content-Length"):
        body.read()
    assert not body.complete


def test_whatever_a_foreign_stream_raises_is_the_clients_fault() -> None:
    class Broken:
        def read(self, _size: int) -> bytes:
            raise KeyError

    with pytest.raises(ClientError, match="KeyError"):
        WsgiBody(Broken(), 5).read()
