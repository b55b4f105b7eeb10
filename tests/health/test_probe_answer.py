from __future__ import annotations

import pytest

from smartedge.balancer.health import OK_STATUSES
from smartedge.health.probe_answer import BODY_BYTES, HEAD_BYTES, ProbeAnswer, ProbeError, judge, ranges, read_answer
from tests.policies import health_policy

PLAIN = health_policy()


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
    assert read_answer(Pieces(answer).recv, PLAIN).status == status
    assert read_answer(Pieces(*(answer[i : i + 1] for i in range(len(answer)))).recv, PLAIN).status == status


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
        read_answer(Pieces(*pieces).recv, PLAIN)
    assert str(caught.value) == why


def test_no_more_than_64_kib_are_ever_read() -> None:
    endless = Pieces(*[b"HTTP/1.1 200 OK\r\n"] + [b"X: y\r\n" * 1000] * 1000)
    before = sum(map(len, endless.pieces))
    with pytest.raises(ProbeError):
        read_answer(endless.recv, PLAIN)
    assert before - sum(map(len, endless.pieces)) <= HEAD_BYTES


def test_a_status_is_judged_by_what_the_operator_expects() -> None:
    strict = health_policy(statuses=OK_STATUSES)
    good, bad = judge(ProbeAnswer(204), strict, 0.25), judge(ProbeAnswer(500), strict, 0.5)
    assert (good.ok, good.status, good.detail, good.took_s) == (True, 204, "status 204", 0.25)
    assert (bad.ok, bad.status, bad.detail, bad.took_s) == (False, 500, "status 500, expected 200-299", 0.5)
    picky = health_policy(statuses=frozenset({401}))
    assert judge(ProbeAnswer(401), picky, 0).ok
    assert judge(ProbeAnswer(200), picky, 0).detail == "status 200, expected 401"


@pytest.mark.parametrize("status", [200, 204, 301, 401, 404, 405, 429, 499])
def test_until_a_path_is_written_whoever_answers_below_500_lives(status: int) -> None:
    """An application without /health was Offline, and every request 503."""
    assert judge(ProbeAnswer(status), health_policy(), 0).ok
    bad = judge(ProbeAnswer(503), health_policy(), 0)
    assert (bad.ok, bad.detail) == (False, "status 503, expected less than 500")


def test_a_text_is_looked_for_in_the_body_however_it_arrives() -> None:
    policy = health_policy(body="é: ok")
    body = "db é: ok\n".encode()
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        body[:3],
        len(body) - 3,
        body[3:],
    )
    until_closed = b"HTTP/1.0 200 OK\r\n\r\n" + body
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n" + whole
    for answer in (whole, chunked, until_closed, interim, whole + b"garbage"):
        for pieces in ([answer], [answer[i : i + 1] for i in range(len(answer))]):
            assert judge(read_answer(Pieces(*pieces).recv, policy), policy, 0).ok
    without = judge(read_answer(Pieces(whole.replace(b"ok", b"no")).recv, policy), policy, 0)
    assert (without.ok, without.detail) == (False, "status 200, without the text 'é: ok'")
    endless = Pieces(b"HTTP/1.0 200 OK\r\n\r\n", *[b"x" * 8192] * 100)
    assert len(read_answer(endless.recv, policy).body) <= BODY_BYTES + 8192


DJANGO = (
    b"<!doctype html>\n<html lang=en>\n<head>\n  <title>Bad Request (400)</title>\n</head>\n<body>\n  <h1>Bad Request (400)</h1>"
)


@pytest.mark.parametrize(
    ("status", "body", "who"),
    [
        (400, DJANGO, "Django's ALLOWED_HOSTS"),
        (400, b"<title>DisallowedHost\n          at /health</title>", "Django's ALLOWED_HOSTS"),
        (400, b"Invalid host header", "TrustedHostMiddleware"),
        (403, b"<h1>Blocked hosts: localhost:8081</h1>", "Rails' config.hosts"),
        (421, b"", "the server"),
        (400, b"Bad Request", None),
        (403, b"Forbidden", None),
        (200, DJANGO, None),
    ],
)
def test_a_refusal_that_smells_of_the_host_is_named_as_that(status: int, body: bytes, who: str | None) -> None:
    message = b"HTTP/1.1 %d Reason\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
    strict = health_policy(statuses=frozenset({299}))
    detail = judge(read_answer(Pieces(message).recv, strict), strict, 0, "localhost:8081").detail
    hint = "" if who is None else f'; {who} refuses the Host "localhost:8081": write health.host'
    assert detail == f"status {status}, expected 299{hint}"


def test_a_refusal_whose_body_never_comes_is_still_an_answer() -> None:
    def recv(_: int, pieces: list[bytes] = [b"HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n"]) -> bytes:  # noqa: B006
        if not pieces:
            raise TimeoutError
        return pieces.pop()

    assert read_answer(recv, PLAIN).status == 400


def test_the_answer_to_a_head_has_no_body_to_wait_for() -> None:
    answer = read_answer(Pieces(b"HTTP/1.1 400 Bad\r\nContent-Length: 9\r\n\r\n").recv, health_policy(method="HEAD"))
    assert (answer.status, answer.body) == (400, b"")


def test_codes_are_written_as_ranges() -> None:
    assert ranges({404, 202, 200, 201}) == "200-202, 404"
