"""Answers of HTTP/2 as HTTP/1.1 has them, and what is none."""

from __future__ import annotations

import pytest
from hpack import Decoder

from smartedge.http2.client_fields import answer_head, encode_request
from smartedge.http2.frames import StreamError


def test_a_requests_head_loses_what_is_of_a_connection_and_keeps_the_rest() -> None:
    head = (
        b"GET /a?b HTTP/1.1\r\nX: 1\r\nhost:  h:1 \r\nTE: trailers\r\nConnection: TE\r\nTransfer-Encoding: chunked\r\n"
        b"Upgrade: websocket\r\nKeep-Alive: 1\r\nX-Y: a:b \r\n\r\n"
    )
    assert Decoder().decode(encode_request(head, b"https"), raw=True) == [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", b"h:1"),
        (b":path", b"/a?b"),
        (b"x", b"1"),
        (b"te", b"trailers"),
        (b"x-y", b"a:b"),
    ]


def test_an_answers_head_is_what_http_1_1_would_have() -> None:
    head = answer_head([(b":status", b"200"), (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"content-length", b"3")], 1000)
    assert (head.status, head.length) == (200, 3)
    assert head.block == b"set-cookie: a\r\nset-cookie: b\r\ncontent-length: 3\r\n"


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [(b"a", b"b")],
        [(b":status", b"20")],
        [(b":status", b"2000")],
        [(b":status", b"abc")],
        [(b":status", b"099")],
        [(b":status", b"101")],
        [(b":status", b"200"), (b":status", b"200")],
        [(b":status", b"200"), (b":path", b"/")],
        [(b":status", b"200"), (b"a", b"b"), (b":x", b"c")],
        [(b"a", b"b"), (b":status", b"200")],
        [(b":status", b"200"), (b"A", b"b")],
        [(b":status", b"200"), (b"a b", b"c")],
        [(b":status", b"200"), (b"a:", b"c")],
        [(b":status", b"200"), (b"", b"c")],
        [(b":status", b"200"), (b"a", b"c\r\nd: e")],
        [(b":status", b"200"), (b"a", b"c\0")],
        [(b":status", b"200"), (b"a", b" c")],
        [(b":status", b"200"), (b"connection", b"close")],
        [(b":status", b"200"), (b"transfer-encoding", b"chunked")],
        [(b":status", b"200"), (b"keep-alive", b"1")],
        [(b":status", b"200"), (b"te", b"trailers")],
        [(b":status", b"200"), (b"content-length", b"1"), (b"content-length", b"2")],
        [(b":status", b"200"), (b"content-length", b"-1")],
        [(b":status", b"200"), (b"content-length", b"1, 1")],
        [(b":status", b"200"), (b"x", b"y" * 1000)],
    ],
)
def test_what_is_no_answer_is_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(StreamError, match="answer"):
        answer_head(pairs, 1000)
