from __future__ import annotations

import pytest

from smartedge.balancer.health import HealthPolicy
from smartedge.control.verdict import HEAD_BYTES, ProbeError, judge, ranges, read_status


class Pieces:
    """A connection on which these pieces arrive, then its end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        first = self.pieces.pop(0)
        if len(first) > size:
            self.pieces.insert(0, first[size:])
        return first[:size]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nand then garbage\r\n\r\n", 200),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 500 Broken\r\n\r\n", 200),
        (b"HTTP/1.0 503 Down\r\n\r\n", 503),
        (b"HTTP/1.1 204\r\n\r\n", 204),
        (b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 101),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 500 Broken\r\n\r\n", 500),
    ],
)
def test_the_status_of_the_final_answer_is_read_however_the_bytes_arrive(answer: bytes, status: int) -> None:
    assert read_status(Pieces(answer).recv) == status
    assert read_status(Pieces(*(answer[i : i + 1] for i in range(len(answer)))).recv) == status


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([], "connection closed without an answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], "connection closed in mid-answer"),
        ([b"HTTP/1.1 103 Early Hints\r\n\r\n"], "connection closed in mid-answer"),
        ([b"SSH-2.0-OpenSSH_9.2\r\n"], "not HTTP"),
        ([b"\x15\x03\x01\x00\x02\x02"], "not HTTP"),
        ([b"HTTP/1.1 abc OK\r\n\r\n"], "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"], "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 1000] * 1000, "the head of the answer is over 64 KiB"),
        ([b"HTTP/1.1 102 Wait\r\n\r\n" * 1000] * 1000, "the head of the answer is over 64 KiB"),
    ],
)
def test_what_is_no_answer_is_said_in_words(pieces: list[bytes], why: str) -> None:
    with pytest.raises(ProbeError) as caught:
        read_status(Pieces(*pieces).recv)
    assert str(caught.value) == why


def test_no_more_than_64_kib_are_ever_read() -> None:
    endless = Pieces(*[b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 1000] * 1000)
    before = sum(map(len, endless.pieces))
    with pytest.raises(ProbeError):
        read_status(endless.recv)
    assert before - sum(map(len, endless.pieces)) <= HEAD_BYTES


def test_a_status_is_judged_by_what_the_operator_expects() -> None:
    assert judge(204, HealthPolicy(), 0.25) == judge(204, HealthPolicy(), 0.25)
    good, bad = judge(204, HealthPolicy(), 0.25), judge(500, HealthPolicy(), 0.5)
    assert (good.ok, good.status, good.detail, good.took_s) == (True, 204, "status 204", 0.25)
    assert (bad.ok, bad.status, bad.detail, bad.took_s) == (False, 500, "status 500, expected 200-299", 0.5)
    picky = HealthPolicy(statuses=frozenset({401}))
    assert judge(401, picky, 0).ok
    assert judge(200, picky, 0).detail == "status 200, expected 401"


def test_codes_are_written_as_ranges() -> None:
    assert ranges({404, 202, 200, 201}) == "200-202, 404"
