"""Heads that are nearly like the last one: read the short way they say what they say read whole, whatever the difference is."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import count, pairwise

import httptools
import pytest

from smartedge.balancer.errors import BadAnswer, ClientError
from smartedge.http import alike, answer_head
from smartedge.http.alike import MOST_BETWEEN, MOST_PATTERNS, PATTERNS_EACH_S, VALUE, Alike, Patterns, find_alike
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.answer_fields import may_differ as may_differ_in_answers
from smartedge.http.answer_head import Last, find_out, known_heads, like, parse_head
from smartedge.http.headers import OF_ITS_OWN, RequestFields, may_differ
from smartedge.server.front import Front, ServerLimits
from smartedge.server.incoming import Incoming
from smartedge.server.reader import RequestReader
from tests.examples import examples
from tests.fakes import NoWire
from tests.house import said

REQUEST = b"Host: shop.test\r\nConnection: keep-alive\r\nAccept: */*\r\nReferer: /a\r\nCookie: seen=1\r\nSec-Fetch-Mode: cors\r\n"
ANSWER = b'Server: x\r\nDate: Fri, 27 Nov 2026 12:00:00 GMT\r\nContent-Length: 5\r\nConnection: keep-alive\r\nETag: "1"\r\n'

VALUES = b"a|b; c=d||\xc3\xa9|a\tb|7|12|007|+7|7 |9999999999999999999|7, 7|close|chunked".split(b"|")
VALUES.append(b"x" * 300)
DAMAGE = b"a\0b|a\x01b|a\x7f|a\rb|a\nb|a\r\n b|a\nHost: evil|a\r\nHost: evil|a\r\nX-Request-Id: z".split(b"|")
NAMES = (
    b"Accept|Referer|Cookie|X-Request-Id|x-request-id|X_Request_Id|Authorization|traceparent|Content-Length|content-length"
    b"|Content_Length|Connection|X-Forwarded-For|Via|Expect|TE|Upgrade|Keep-Alive|ETag|Date|Server|Host|Transfer-Encoding|Trailer"
    b"|Set-Cookie|Accept || A"
).split(b"|")
RARELY = (b"Host", b"Connection", b"Content-Length", b"Transfer-Encoding", b"Server")


def reader(limits: ServerLimits | None = None) -> RequestReader:
    incoming = Incoming(NoWire(), b"1.2.3.4", secure=False)
    return RequestReader(incoming, Front(None, lambda: None), limits or ServerLimits())


def sequences(first: bytes, rounds: int) -> Iterator[list[bytes]]:
    """Blocks that come one after the other, each made of the one before by changing a line or two, now and then by damage."""
    chance = random.Random(16)
    for _ in range(rounds):
        lines = [line.split(b": ", 1) for line in first.split(b"\r\n")[:-1]]
        for _ in range(chance.randrange(3)):
            lines.insert(chance.randrange(len(lines) + 1), [chance.choice(NAMES[:-3]), chance.choice([*VALUES[:4], b"7"])])
        made = []
        for _ in range(8):
            now = [list(line) for line in lines]
            for _ in range(chance.choice((0, 1, 1, 2, 3))):
                at = chance.randrange(len(now))
                if now[at][0] not in RARELY or chance.random() < 0.1:
                    now[at][1] = chance.choice(VALUES[:3] if chance.random() < 0.7 else VALUES)
            if chance.random() < 0.15:
                now[chance.randrange(len(now))][1] = chance.choice(DAMAGE)
            if chance.random() < 0.1:
                now[chance.randrange(len(now))][0] = chance.choice(NAMES)
            if chance.random() < 0.1:
                now.insert(chance.randrange(len(now) + 1), [chance.choice(NAMES), chance.choice(VALUES)])
            if chance.random() < 0.1:
                chance.shuffle(now)
            made.append(b"".join(b"%b: %b\r\n" % (name, value) for name, value in now))
        yield made


@pytest.fixture
def many_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a new second begin with each pattern: as many are made as are wanted."""
    monkeypatch.setattr(alike._patterns, "_clock", count().__next__)


def told_by(one: RequestReader, head: bytes) -> object:
    """Give all that a reader makes of a head, or why it makes nothing."""
    try:
        request = one._read_head(head, hasty=False)
    except ClientError as error:
        return type(error), str(error)
    assert request is not None
    body = None if request.body is None else request.body.length
    shared = said(request.said)
    shared.pop("block", None)
    fields = said(request.fields)
    assert shared.items() <= fields.items()
    assert request.goes_on == fields["block"]
    return request.method, request.target, request.version, request.block, body, fields, one._incoming.keep_alive


@pytest.mark.examples
@pytest.mark.usefixtures("many_patterns")
def test_requests_read_one_after_the_other_say_what_each_says_alone() -> None:
    short = 0
    for blocks in sequences(REQUEST, examples(1000)):
        one_after_the_other = reader()
        for number, block in enumerate(blocks):
            line = b"GET /%d HTTP/1.1\r\n" % number
            head = line + block + b"\r\n"
            known = one_after_the_other._alike
            short += known is not None and known.read(head, len(line), len(head)) is not None
            alone, here = told_by(reader(), head), told_by(one_after_the_other, head)
            assert alone == here, blocks[: number + 1]
    assert short > examples(700)  # else nothing has been compared


def test_what_came_twice_is_known_when_it_comes_again() -> None:
    one = reader()
    for value in (b"a", b"b", b"c", b"c"):
        one._read_head(b"GET / HTTP/1.1\r\nHost: h\r\nA: %b\r\n\r\n" % value, hasty=False)
    first, second = (one._read_head(b"GET /x HTTP/1.1\r\nHost: h\r\nA: c\r\n\r\n", hasty=False) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.block is second.block
    assert first.fields is second.fields
    assert first.goes_on == b"Host: h\r\nA: c\r\n"


def test_requests_share_what_they_say_and_not_what_goes_on() -> None:
    one = reader()
    made = [one._read_head(b"GET / HTTP/1.1\r\nHost: h\r\nA: %d\r\n\r\n" % value, hasty=False) for value in range(4)]
    third, fourth = made[2:]
    assert third is not None
    assert fourth is not None
    assert third.said is fourth.said
    assert [request.goes_on for request in (third, fourth)] == [b"Host: h\r\nA: 2\r\n", b"Host: h\r\nA: 3\r\n"]
    onward = third.said.onward = object()
    assert third.fields.block == third.goes_on
    assert third.fields is third.said
    third.fields = third.fields.with_block(b"Host: h\r\nB: 1\r\n")
    assert third.goes_on == b"Host: h\r\nB: 1\r\n"
    assert fourth.goes_on == fourth.fields.block == b"Host: h\r\nA: 3\r\n"
    assert fourth.said.onward is onward


def answer_said(data: bytes, last: Last | None) -> tuple[object, Last | None]:
    """Give what the head says that data is, read as a connection does, and what heads are like from then on."""
    try:
        known = None if last is None else like(last, data, len(data))
        if known is None:
            *_, known, last = find_out(data, len(data), last)
    except BadAnswer as error:
        return str(error), last
    *rest, fields = known
    return (rest, said(fields)), last


@pytest.mark.examples
@pytest.mark.usefixtures("many_patterns")
def test_answers_read_one_after_the_other_say_what_each_says_alone() -> None:
    short = 0
    for blocks in sequences(ANSWER, examples(1000)):
        answer_head._last_heads.clear()
        last: Last | None = None
        for number, block in enumerate(blocks):
            head = b"HTTP/1.1 200 OK\r\n%b\r\n" % block
            known_heads.clear()
            short += last is not None and like(last, head, len(head)) is not None
            here, last = answer_said(head, last)
            kept = dict(answer_head._last_heads)
            answer_head._last_heads.clear()
            known_heads.clear()
            try:
                *rest, fields = parse_head(head)
                alone: object = (rest, said(fields))
            except BadAnswer as error:
                alone = str(error)
            answer_head._last_heads.clear()
            answer_head._last_heads.update(kept)
            assert alone == here, blocks[: number + 1]
    assert short > examples(700)
    known_heads.clear()
    answer_head._last_heads.clear()


@pytest.mark.parametrize("byte", range(256))
def test_a_line_between_may_hold_what_llhttp_lets_through(byte: int) -> None:
    line = b"X: a%bz\r\n" % bytes((byte,))
    try:
        httptools.HttpRequestParser(None).feed_data(b"GET / HTTP/1.1\r\n%b\r\n" % line)
        fine = True
    except httptools.HttpParserError:
        fine = False
    assert bool(re.fullmatch(rb"X:%b\r\n" % VALUE, line)) == fine


def find(block: bytes, goes_on: bytes, other: bytes, before: Alike | None = None) -> Alike | None:
    return find_alike(block, goes_on, other, before, may_differ, OF_ITS_OWN, Patterns(lambda: 0.0))


def alike_of(*blocks: bytes) -> Alike:
    found: Alike | None = None
    for before, block in pairwise(blocks):
        found = find(block, RequestFields(block).block, before, found)
    assert found is not None
    return found


def read(found: Alike, block: bytes) -> tuple[bytes, dict[bytes, bytes]] | None:
    """Read a block that stands between other bytes."""
    return found.read(b"GET / HTTP/1.1\r\n%bbody" % block, 16, 16 + len(block))


def test_lines_are_between_from_the_first_that_has_differed_to_the_last() -> None:
    referer, cookie = REQUEST.replace(b"/a", b"/b"), REQUEST.replace(b"seen=1", b"seen=2")
    assert read(alike_of(REQUEST, referer), cookie) is None  # the cookie has not differed yet
    found = alike_of(REQUEST, referer, cookie)
    block = REQUEST.replace(b"/a", b"/longer").replace(b"seen=1", b"s")
    assert read(found, block) == (RequestFields(block).block, {})
    assert read(found, block.replace(b"Cookie: s\r\n", b"")) is None
    assert read(found, block.replace(b"Cookie: s\r\n", b"Cookie: s\r\nCookie: s\r\n")) is None


def test_what_ends_here_may_stand_between() -> None:
    blocks = [b"Host: h\r\nA: %d\r\nConnection: keep-alive\r\nX-Request-Id: %d\r\nB: %d\r\n" % (n, n, n) for n in range(3)]
    found = alike_of(*blocks[:2])
    said = read(found, blocks[2])
    assert said == (b"Host: h\r\nA: 2\r\nB: 2\r\n", {b"x-request-id": b" 2"})
    made = RequestFields(blocks[0]).with_told(*said)
    assert made is not None
    assert made.block == RequestFields(blocks[2]).block
    assert made.request_id == b"2"
    assert read(found, blocks[2].replace(b"keep-alive", b"close")) is None


def test_what_is_said_twice_is_told_once() -> None:
    blocks = [b"Host: h\r\nX-Request-Id: %d\r\nX-Request-Id: 1%d\r\nB: %d\r\n" % (n, n, n) for n in range(3)]
    assert read(alike_of(*blocks[:2]), blocks[2]) == (b"Host: h\r\nB: 2\r\n", {b"x-request-id": b" 12"})
    assert RequestFields(blocks[2]).request_id == b"12"


def test_too_many_lines_between_make_no_pattern() -> None:
    for number in (MOST_BETWEEN, MOST_BETWEEN + 1):
        block, other = (b"".join(b"A%d: %d\r\n" % (n, value) for n in range(number)) for value in (1, 2))
        assert (find(other, other, block) is None) == (number > MOST_BETWEEN)


def test_who_sends_other_names_each_time_has_few_patterns_made() -> None:
    now = [5.0]
    patterns = Patterns(lambda: now[0])

    def made(names: range) -> int:
        found = 0
        for name in names:
            block, other = (b"A%d: %d\r\n" % (name, value) for value in (1, 2))
            found += find_alike(other, other, block, None, may_differ, OF_ITS_OWN, patterns) is not None
        return found

    assert made(range(1000)) == PATTERNS_EACH_S
    assert made(range(PATTERNS_EACH_S)) == PATTERNS_EACH_S  # those that are known
    second = range(PATTERNS_EACH_S, 2 * PATTERNS_EACH_S)
    assert made(second) == 0
    now[0] = 6.0
    assert made(second) == PATTERNS_EACH_S
    for _ in range(2 * MOST_PATTERNS // PATTERNS_EACH_S):
        now[0] += 1.0
        made(range(int(now[0]) * 1000, int(now[0]) * 1000 + PATTERNS_EACH_S))
    assert len(patterns._known) <= MOST_PATTERNS


@pytest.mark.parametrize(
    ("block", "other"),
    [
        (b"A: 1\r\n", b"B: 1\r\n"),
        (b"A: 1\r\n", b"a: 1\r\n"),
        (b"Host: a\r\n", b"Host: b\r\n"),
        (b"X-Forwarded-For: 1.1.1.1\r\n", b"X-Forwarded-For: 1.1.1.2\r\n"),
        (b"X_Request_Id: 1\r\n", b"X_Request_Id: 2\r\n"),
        (b"Via: 1.1 a\r\n", b"Via: 1.1 smartedge\r\n"),
        (b"Connection: a\r\n", b"Connection: b\r\n"),
        (b"X-SmartEdge-Explain: 1\r\n", b"X-SmartEdge-Explain: 2\r\n"),
    ],
)
def test_heads_whose_difference_may_mean_more_are_not_alike(block: bytes, other: bytes) -> None:
    if block[:2] in (b"A:",):
        found = find(other, other, block)
        assert found is None or read(found, block) is None
    else:
        assert find(other, other, block) is None


def test_fields_that_were_put_in_are_not_looked_for_in_others() -> None:
    block, other = b"TE: trailers\r\nConnection: TE\r\nA: 1\r\n", b"TE: trailers\r\nConnection: TE\r\nA: 2\r\n"
    assert RequestFields(block).block == b"A: 1\r\nTE: trailers\r\nConnection: TE\r\n"
    assert find(block, RequestFields(block).block, other) is None


def test_a_head_of_another_length_leaves_what_is_known() -> None:
    found = alike_of(REQUEST, REQUEST.replace(b"/a", b"/b"))
    assert find(b"Host: h\r\n", b"Host: h\r\n", REQUEST, found) is found


def test_a_field_too_long_is_refused_the_short_way_too() -> None:
    one = reader(ServerLimits(field_bytes=200))
    for value in (b"a", b"b", b"c"):
        one._read_head(b"GET / HTTP/1.1\r\nHost: h\r\nA: %b\r\n\r\n" % value, hasty=False)
    with pytest.raises(ClientError, match="longer than 200"):
        one._read_head(b"GET / HTTP/1.1\r\nHost: h\r\nA: %b\r\n\r\n" % (b"x" * 300), hasty=False)


def test_an_answers_length_is_taken_over() -> None:
    fields = AnswerFields(b"", None, 5, None, None, True, False)
    made = fields.with_values(b"", {b"content-length": b"  12"})
    assert made is not None
    assert made.content_length == 12
    assert fields.with_values(b"", {b"content-length": b" 1 2"}) is None
    assert may_differ_in_answers(b"content-length")
    assert not may_differ_in_answers(b"transfer-encoding")
