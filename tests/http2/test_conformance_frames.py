"""Frames, one rule after the other: RFC 9113 sections 3.4, 4, 5.5 and 6, as a server has to mind them."""

from __future__ import annotations

import pytest

from smartedge.server.server import EdgeServer
from tests.http2.client import (
    ACK,
    END,
    END_HEADERS,
    GET,
    LARGEST,
    PADDED,
    POST,
    PREFACE,
    PRIORITIZED,
    block,
    client,
    continuation,
    data,
    frame,
    goaway,
    headers,
    open_headers,
    ping,
    priority,
    rst,
    settings,
    window,
)
from tests.http2.house import Case

ASK = headers(1, GET)
POST_1 = open_headers(1, POST)
GET_BLOCK = block(GET)
FULL = b"x" * 16384

CASES = [
    # 3.4: the preface
    Case("3.4", "another text in its place", (b"GET / HTTP/2.0\r\n\r\nSM\r\n\r\n",), "closed", raw=True),
    Case("3.4", "one that is wrong at its end", (PREFACE[:-2] + b"xx", settings()), "GOAWAY PROTOCOL_ERROR", raw=True),
    Case("3.4", "one without SETTINGS behind it", (PREFACE, ping()), "GOAWAY PROTOCOL_ERROR", raw=True),
    Case("3.4", "an ACK in place of SETTINGS", (PREFACE, frame(4, ACK, 0)), "GOAWAY PROTOCOL_ERROR", raw=True),
    Case("3.4", "a request at once behind it", (PREFACE, settings(), ASK), "200", raw=True),
    # 4.1 and 5.5: what is unknown is ignored
    Case("4.1", "a frame of an unknown kind on the connection", (frame(0xEE, 0xFF, 0, b"what"), ASK), "200"),
    Case("4.1", "a frame of an unknown kind on an idle stream", (frame(0xEE, 0, 77, b"what"), ASK), "200"),
    Case("4.1", "a frame of an unknown kind on an open stream", (POST_1, frame(0xEE, 0, 1), data(1, end=True)), "200"),
    Case("4.1", "flags that mean nothing", (frame(6, 0xFE, 0, b"12345678"), headers(1, GET, 0xD2 | END | END_HEADERS)), "200"),
    Case("4.1", "the reserved bit of a stream's number", (headers(1 | 1 << 31, GET),), "200"),
    Case("5.5", "an unknown kind within a block", (headers(1, GET_BLOCK, END), frame(0xEE, 0, 1)), "GOAWAY PROTOCOL_ERROR"),
    # 4.2: sizes
    Case("4.2", "DATA of the largest size", (POST_1, data(1, FULL, end=True)), "200"),
    Case("4.2", "DATA that is a byte larger", (POST_1, data(1, FULL + b"x")), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.2", "HEADERS larger than allowed", (headers(1, FULL + b"x"),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.2", "an unknown kind larger than allowed", (frame(0xEE, 0, 0, length=16385),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("4.2", "a head that lies about 16 MiB", (frame(0, 0, 1, length=2**24 - 1),), "GOAWAY FRAME_SIZE_ERROR"),
    # 4.3: header blocks
    Case("4.3", "a block in two parts", (headers(1, GET_BLOCK[:9], END), continuation(1, GET_BLOCK[9:])), "200"),
    Case("4.3", "a block that comes byte by byte", (headers(1, b"", END), *(continuation(1, GET_BLOCK[at : at + 1], 0)
         for at in range(50)), continuation(1, GET_BLOCK[50:])), "200"),
    Case("4.3", "an empty CONTINUATION at its end", (headers(1, GET_BLOCK, END), continuation(1, b"")), "200"),
    Case("4.3", "a block that is none", (headers(1, b"\xff\xff\xff\xff\xff\xff"),), "GOAWAY COMPRESSION_ERROR"),
    Case("4.3", "HEADERS of another stream in a block", (headers(1, GET_BLOCK, END), headers(3, GET)), "GOAWAY PROTOCOL_ERROR"),
    Case("4.3", "DATA within a block", (headers(1, GET_BLOCK, 0), data(1, b"x")), "GOAWAY PROTOCOL_ERROR"),
    Case("4.3", "PING within a block", (headers(1, GET_BLOCK, END), ping()), "GOAWAY PROTOCOL_ERROR"),
    Case("4.3", "CONTINUATION of another stream", (headers(1, GET_BLOCK, END), continuation(3, b"")), "GOAWAY PROTOCOL_ERROR"),
    # 6.1: DATA
    Case("6.1", "DATA on the connection", (data(0, b"x"),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.1", "padding is no body", (POST_1, frame(0, END | PADDED, 1, b"\x05hello" + bytes(5))), "200", has={"body": "hello"}),
    Case("6.1", "nothing but padding", (POST_1, frame(0, END | PADDED, 1, b"\x04" + bytes(4))), "200", has={"body": ""}),
    Case("6.1", "padding as long as the frame", (POST_1, frame(0, PADDED, 1, b"\x06hello")), "GOAWAY PROTOCOL_ERROR"),
    Case("6.1", "padding that is announced and not there", (POST_1, frame(0, PADDED, 1)), "GOAWAY PROTOCOL_ERROR"),
    Case("6.1", "an empty end", (POST_1, data(1, b"x"), data(1, end=True)), "200", has={"body": "x"}),
    # 6.2: HEADERS
    Case("6.2", "HEADERS on the connection", (headers(0, GET),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.2", "padding is left out", (headers(1, b"\x03" + GET_BLOCK + bytes(3), END | END_HEADERS | PADDED),), "200"),
    Case("6.2", "padding longer than the frame", (headers(1, b"\xff" + GET_BLOCK, END | END_HEADERS | PADDED),),
         "GOAWAY PROTOCOL_ERROR"),
    Case("6.2", "with a priority", (headers(1, bytes(4) + b"\x0f" + GET_BLOCK, END | END_HEADERS | PRIORITIZED),), "200"),
    Case("6.2", "with padding and a priority", (headers(1, b"\x02" + bytes(4) + b"\x0f" + GET_BLOCK + bytes(2),
         END | END_HEADERS | PADDED | PRIORITIZED),), "200"),
    Case("6.2", "a priority that is not there", (headers(1, b"\x00\x00", END | END_HEADERS | PRIORITIZED),),
         "GOAWAY FRAME_SIZE_ERROR"),
    # 6.3 and 5.3: PRIORITY
    Case("6.3", "PRIORITY on the connection", (priority(0),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.3", "PRIORITY on an idle stream", (priority(33, 31), ASK), "200"),
    Case("6.3", "PRIORITY on a stream that is over", (ASK, priority(1, 3)), "200"),
    Case("6.3", "PRIORITY of four bytes on an open stream", (POST_1, frame(2, 0, 1, bytes(4))), "RST FRAME_SIZE_ERROR"),
    Case("6.3", "PRIORITY of six bytes on an idle stream", (frame(2, 0, 1, bytes(6)),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("5.3", "a stream that depends on itself (RFC 7540)", (headers(1, bytes(3) + b"\x01\x0f" + GET_BLOCK,
         END | END_HEADERS | PRIORITIZED),), "RST PROTOCOL_ERROR"),
    Case("5.3", "one that does so in two parts", (headers(1, bytes(3) + b"\x01\x0f" + GET_BLOCK[:4], END | PRIORITIZED),
         continuation(1, GET_BLOCK[4:])), "GOAWAY PROTOCOL_ERROR"),
    Case("5.3", "PRIORITY by which an open one does", (POST_1, priority(1, 1)), "RST PROTOCOL_ERROR"),
    # 6.4: RST_STREAM
    Case("6.4", "RST_STREAM on the connection", (rst(0),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.4", "RST_STREAM on an idle stream", (rst(1),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.4", "RST_STREAM of three bytes", (POST_1, frame(3, 0, 1, bytes(3))), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.4", "RST_STREAM of five bytes", (POST_1, frame(3, 0, 1, bytes(5))), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.4", "an unknown code", (POST_1, rst(1, 0xDEAD)), "nothing"),
    Case("6.4", "RST_STREAM twice", (POST_1, rst(1), rst(1)), "nothing"),
    # 6.5: SETTINGS
    Case("6.5", "SETTINGS on a stream", (frame(4, 0, 1),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5", "an ACK with a payload", (frame(4, ACK, 0, bytes(6)),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.5", "a length that is no multiple of six", (frame(4, 0, 0, bytes(5)),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.5.2", "ENABLE_PUSH of two", (settings((2, 2)),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2", "ENABLE_PUSH of one, which nobody makes use of", (settings((2, 1)), ASK), "200"),
    Case("6.5.2", "INITIAL_WINDOW_SIZE of 2 GiB", (settings((4, 2**31)),), "GOAWAY FLOW_CONTROL_ERROR"),
    Case("6.5.2", "the largest INITIAL_WINDOW_SIZE", (settings((4, LARGEST)), ASK), "200"),
    Case("6.5.2", "MAX_FRAME_SIZE that is too small", (settings((5, 16383)),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2", "MAX_FRAME_SIZE that is too large", (settings((5, 2**24)),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.5.2", "the largest MAX_FRAME_SIZE", (settings((5, 2**24 - 1)), ASK), "200"),
    Case("6.5.2", "a setting that nobody knows", (settings((0xF00, 7), (0, 0)), ASK), "200"),
    Case("6.5.2", "one setting twice, the last counts", (settings((5, 2**24 - 1), (5, 16384)), ASK), "200"),
    Case("8441 3", "ENABLE_CONNECT_PROTOCOL of two", (settings((8, 2)),), "GOAWAY PROTOCOL_ERROR"),
    # 6.6: PUSH_PROMISE
    Case("6.6", "PUSH_PROMISE of a client", (POST_1, frame(5, END_HEADERS, 1, bytes(3) + b"\x02" + GET_BLOCK)),
         "GOAWAY PROTOCOL_ERROR"),
    # 6.7: PING
    Case("6.7", "PING on a stream", (frame(6, 0, 1, bytes(8)),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.7", "PING of seven bytes", (frame(6, 0, 0, bytes(7)),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.7", "an ACK that nobody asked for", (frame(6, ACK, 0, bytes(8)), ASK), "200"),
    # 6.8: GOAWAY
    Case("6.8", "GOAWAY on a stream", (frame(7, 0, 1, bytes(8)),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.8", "GOAWAY of seven bytes", (frame(7, 0, 0, bytes(7)),), "GOAWAY FRAME_SIZE_ERROR"),
    # 6.9: WINDOW_UPDATE (windows themselves: test_conformance_windows.py)
    Case("6.9", "three bytes", (frame(8, 0, 0, bytes(3)),), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.9", "five bytes on a stream", (POST_1, frame(8, 0, 1, bytes(5))), "GOAWAY FRAME_SIZE_ERROR"),
    Case("6.9", "nothing for the connection", (window(0, 0),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.9", "nothing for a stream", (POST_1, window(1, 0)), "RST PROTOCOL_ERROR"),
    Case("6.9", "an idle stream", (window(1, 1),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.9", "a stream that is over", (POST_1, rst(1), window(1, 1)), "nothing"),
    # 6.10: CONTINUATION
    Case("6.10", "on the connection", (continuation(0, GET_BLOCK),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.10", "without HEADERS", (continuation(1, GET_BLOCK),), "GOAWAY PROTOCOL_ERROR"),
    Case("6.10", "behind a block that is complete", (POST_1, continuation(1, b"")), "GOAWAY PROTOCOL_ERROR"),
    # RFC 9218 section 7.1: PRIORITY_UPDATE
    Case("9218 7.1", "of an open stream", (POST_1, frame(16, 0, 0, bytes(3) + b"\x01u=1"), data(1, end=True)), "200"),
    Case("9218 7.1", "of an idle stream", (frame(16, 0, 0, bytes(3) + b"\x01u=1"), ASK), "200"),
    Case("9218 7.1", "a value that is none", (POST_1, frame(16, 0, 0, bytes(3) + b"\x01u=\xff;;"), data(1, end=True)), "200"),
    Case("9218 7.1", "on a stream", (POST_1, frame(16, 0, 1, bytes(3) + b"\x01u=1")), "GOAWAY PROTOCOL_ERROR"),
    Case("9218 7.1", "of stream 0", (frame(16, 0, 0, bytes(4) + b"u=1"),), "GOAWAY PROTOCOL_ERROR"),
    Case("9218 7.1", "of three bytes", (frame(16, 0, 0, bytes(3)),), "GOAWAY FRAME_SIZE_ERROR"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_frames(server: EdgeServer, case: Case) -> None:
    case.play(server.server_port)


def test_every_setting_of_ours_is_one_that_may_be_said(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        said = one.settings
    assert said == {3: 100, 4: 262144, 6: 4000, 8: 1}
    assert one.windows[0] == 1048576 - 65535


def test_a_ping_is_answered_with_what_it_said_and_before_what_came_behind_it(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        one.send(ping(b"first..."), ping(b"\x00second\xff"))
        one.until(lambda: len(one.pings) == 2)
        assert one.pings == [b"first...", b"\x00second\xff"]


def test_every_settings_frame_is_acknowledged(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        one.send(settings(), settings((4, 1), (4, 2)), settings((1, 0)))
        one.until(lambda: one.acks == 4)


def test_goaway_of_a_client_ends_nothing_that_is_under_way(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        one.send(open_headers(1, POST), data(1, b"first "), goaway(), data(1, b"last", end=True))
        assert one.answer(1).status == 200
        assert b"first last" in one.of(1).body
        assert one.end() in ("", "NO_ERROR")


def test_frames_that_come_byte_by_byte_are_the_same_frames(server: EdgeServer) -> None:
    with client(server.server_port) as one:
        for byte in headers(1, GET) + ping():
            one.send(bytes([byte]))
        assert one.answer(1).status == 200
        one.until(lambda: one.pings)
