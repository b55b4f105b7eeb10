"""What an AnswerWriter sends, byte for byte: the head with the first bytes of the body, framing, the end of the connection."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.server.answer import TOGETHER_BYTES, AnswerWriter
from smartedge.server.front import Front
from smartedge.server.incoming import Incoming
from tests.fakes import NoWire, Pieces


class Client(NoWire):
    """A client's connection, where it has asked; `sent`: what it has been sent, a write each."""

    def __init__(self, method: bytes = b"GET", version: int = 11, body: Any = None) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.broken = False
        self.incoming = Incoming(self, b"192.0.2.1", secure=False)
        block = b"Host: h\r\n"
        self.request = Request(method, b"/", version, block, RequestFields(block), b"192.0.2.1", secure=False)
        self.request.body = body
        self.incoming.request = self.request
        self.incoming.keep_alive = version == 11
        self.front = Front(None, lambda: None)
        self.writer = AnswerWriter(self.incoming, self.front, idle_s=5)

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        self.sent.append(bytes(data))

    def break_off(self) -> None:
        self.broken = True

    def close(self) -> None:
        self.closed = True

    def begin(self, status: int = 200, length: int | None = None, block: bytes = b"", dated: bool = True) -> AnswerWriter:
        self.writer.begin_answer(status, b"%d R\r\n" % status, block, length, dated)
        return self.writer


def test_a_head_goes_out_in_one_write_with_the_first_piece() -> None:
    client = Client()
    writer = client.begin(length=5, block=b"X: y\r\n")
    assert (client.sent, writer.head_sent) == ([], False)
    writer.write(b"he")
    writer.write(b"llo")
    writer.finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\nX: y\r\n\r\nhe", b"llo"]
    assert client.incoming.keep_alive


def test_a_large_first_piece_is_not_copied_behind_its_head() -> None:
    client = Client()
    piece = b"x" * TOGETHER_BYTES
    client.begin(length=len(piece)).write(piece)
    assert client.sent == [b"HTTP/1.1 200 R\r\n\r\n", piece]


def test_an_answer_of_no_known_length_is_chunked_and_has_trailers() -> None:
    client = Client()
    writer = client.begin()
    writer.write(b"hello")
    writer.trailers = [(b"X-Sum", b"1")]
    writer.finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"0\r\nX-Sum: 1\r\n\r\n"]


def test_an_answer_without_a_body_is_one_write_too() -> None:
    client = Client()
    client.begin().finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]


@pytest.mark.parametrize(
    ("length", "body", "trailers", "sent"),
    [
        (5, b"hello", [], b"\r\nhello"),
        (0, b"", [], b"\r\n"),
        (None, b"hello", [], b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        (None, b"hello", [(b"X-Sum", b"1")], b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        (None, b"", [], b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ],
)
def test_an_answer_that_is_all_here_is_one_write(length: int | None, body: bytes, trailers: Any, sent: bytes) -> None:
    client = Client()
    client.writer.trailers = trailers
    client.writer.begin_answer(200, b"200 R\r\n", b"", length, True, body)
    assert client.sent == [b"HTTP/1.1 200 R\r\n" + sent]
    assert client.incoming.keep_alive


@pytest.mark.parametrize("length", [None, TOGETHER_BYTES])
def test_a_long_answer_that_is_all_here_is_complete(length: int | None) -> None:
    client, body = Client(), b"x" * TOGETHER_BYTES
    client.writer.begin_answer(200, b"200 R\r\n", b"", length, True, memoryview(body))
    begin, end = (b"", b"") if length else (b"Transfer-Encoding: chunked\r\n", b"10000\r\n%b\r\n0\r\n\r\n" % body)
    assert b"".join(client.sent) == b"HTTP/1.1 200 R\r\n" + begin + b"\r\n" + (end or body)


def test_http_1_0_has_the_end_of_the_connection_for_the_end_of_the_body() -> None:
    client = Client(version=10)
    client.incoming.keep_alive = True
    writer = client.begin()
    writer.write(b"hello")
    writer.finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\nConnection: close\r\n\r\nhello"]
    client = Client(version=10)
    client.incoming.keep_alive = True
    client.begin(length=0).finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\nConnection: keep-alive\r\n\r\n"]


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_a_body_where_http_has_none_is_left_out(method: bytes, status: int) -> None:
    client = Client(method)
    writer = client.begin(status, length=4)
    writer.write(b"body")
    writer.finish_answer()
    assert client.sent == [b"HTTP/1.1 %d R\r\n\r\n" % status]
    assert client.incoming.keep_alive


def test_a_body_that_is_longer_or_shorter_than_promised() -> None:
    client = Client()
    writer = client.begin(length=4)
    for piece in (b"bo", b"dy, and more", b"and more"):
        writer.write(piece)
    writer.finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\n\r\nbo", b"dy"]
    assert client.incoming.keep_alive
    client = Client()
    writer = client.begin(length=4)
    writer.write(b"bo")
    writer.finish_answer()
    assert not client.incoming.keep_alive


@pytest.mark.parametrize("stopping", [False, True])
def test_the_connection_ends_behind_an_answer_when_the_server_stops_or_the_body_was_not_read(stopping: bool) -> None:
    client = Client(body=None if stopping else Pieces(b"rest"))
    client.front.stopping = stopping
    client.begin(length=0).finish_answer()
    assert client.sent == [b"HTTP/1.1 200 R\r\nConnection: close\r\n\r\n"]
    assert not client.incoming.keep_alive


def test_trailers_are_those_of_one_answer() -> None:
    """They were kept when an answer was not chunked, and would have gone out behind the next one that was."""
    client = Client()
    writer = client.begin(length=1)
    writer.trailers = [(b"X-Sum", b"1")]
    writer.write(b"x")
    writer.finish_answer()
    writer.reset()
    client.begin().finish_answer()
    assert client.sent[-1].endswith(b"\r\n\r\n0\r\n\r\n")


def test_start_response_is_pep_3333s() -> None:
    client = Client()
    write = client.writer.start_response("200 OK", [("Content-Length", "5"), ("Date", "now"), ("Connection", "close")])
    write(b"hello")
    assert client.sent == [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: now\r\nConnection: close\r\n\r\nhello"]
    with pytest.raises(KeyError):
        client.writer.start_response("500 Oh", [], (KeyError, KeyError("too late"), None))


def test_interim_answers_go_to_those_who_know_them_and_a_100_to_who_waits_for_it() -> None:
    client = Client()
    client.writer.send_interim(100, b"100 Continue\r\n", b"")
    assert client.sent == []
    client.request.expects_continue = True
    client.writer.send_interim(100, b"100 Continue\r\n", b"")
    client.writer.send_interim(103, b"103 Early Hints\r\n", b"Link: </a>\r\nContent-Length: 5\r\n")
    assert client.sent == [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
    assert not client.request.expects_continue
    old = Client(version=10)
    old.writer.send_interim(103, b"103 Early Hints\r\n", b"")
    assert old.sent == []


@pytest.mark.parametrize(("version", "length", "reset"), [(11, None, False), (11, 9, False), (10, None, True)])
def test_an_answer_that_breaks_off_never_looks_complete(version: int, length: int | None, reset: bool) -> None:
    client = Client(version=version)
    writer = client.begin(length=length)
    writer.write(b"half")
    writer.cut_answer()
    assert (client.broken, client.closed) == (reset, reset)
    assert not client.incoming.keep_alive
