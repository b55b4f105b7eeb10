"""The head of a backend's answer: where it ends, and what it says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smartedge.balancer.errors import BadAnswer
from smartedge.http.answer_head import KNOWN_HEAD_BYTES, KNOWN_HEADS, bare_end, known_heads, parse_head, with_crlf


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    known_heads.clear()
    yield
    known_heads.clear()


def test_a_head_says_its_status_reason_version_and_fields() -> None:
    status, line, version, fields = parse_head(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\n")
    assert (status, line, version) == (404, b"404 Not Found\r\n", 11)
    assert (fields.content_length, fields.block) == (3, b"Content-Length: 3\r\n")


@pytest.mark.parametrize(
    ("first", "line", "version"),
    [
        (b"HTTP/1.0 200 OK", b"200 OK\r\n", 10),
        (b"HTTP/1.7 200 OK", b"200 OK\r\n", 11),  # RFC 9110 section 2.5
        (b"HTTP/1.1 200", b"200 \r\n", 11),
        (b"HTTP/1.1 200 ", b"200 \r\n", 11),
        (b"HTTP/1.1 200 Tr\xc3\xa8s bien", b"200 Tr\xc3\xa8s bien\r\n", 11),
    ],
)
def test_status_lines_as_backends_write_them(first: bytes, line: bytes, version: int) -> None:
    assert parse_head(first + b"\r\n\r\n")[1:3] == (line, version)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.x 200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 200 O\x01K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_refused_and_not_known(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_head(head)
    assert known_heads == {}


@pytest.mark.parametrize(
    ("head", "said"),
    [(b"HTTP/1.1 1000 Odd\r\n\r\n", "status code is not of three digits"), (b"HTTP/1.1 200 O\0K\r\n\r\n", "control characters")],
)
def test_it_is_said_what_is_wrong_with_a_status_line(head: bytes, said: str) -> None:
    with pytest.raises(BadAnswer, match=said):
        parse_head(head)


def test_the_last_heads_are_known_but_no_long_ones_and_not_too_many() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: %d\r\n\r\n"
    for number in range(KNOWN_HEADS):
        assert known_heads.get(head % number) is None
        said = parse_head(head % number)
        assert known_heads[head % number][3] is said[3]
    assert len(known_heads) == KNOWN_HEADS
    parse_head(head % KNOWN_HEADS)
    assert list(known_heads) == [head % KNOWN_HEADS]
    parse_head(b"HTTP/1.1 200 OK\r\nX: %b\r\n\r\n" % (b"x" * KNOWN_HEAD_BYTES))
    assert len(known_heads) == 1


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"HTTP/1.1 200 OK\nA: b\n\nbody", 22),
        (b"HTTP/1.1 200 OK\nA: b\n", 0),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody", 0),
    ],
)
def test_the_end_of_a_head_whose_lines_end_with_lf_alone(data: bytes, end: int) -> None:
    assert bare_end(data) == end


@pytest.mark.parametrize("data", [b"HTTP/1.1 200 OK\r\nA: b\n\nbody", b"HTTP/1.1 200 OK\nA: b\n\r\nbody"])
def test_a_head_that_mixes_its_line_ends_is_refused(data: bytes) -> None:
    """Whoever does that hopes for two readings."""
    with pytest.raises(BadAnswer, match="now with CR LF, now with LF"):
        bare_end(data)


def test_only_the_head_is_written_with_crlf() -> None:
    assert with_crlf(b"H\nA: b\n\nbo\ndy", 8) == b"H\r\nA: b\r\n\r\nbo\ndy"
    assert bare_end(b"H\nA: b\n\nbo\ndy") == 8
