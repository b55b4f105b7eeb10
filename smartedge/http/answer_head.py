"""The head of a backend's answer: where it ends, and what it says. Pure functions, and a memory of the last heads."""

from __future__ import annotations

import re
from typing import Final

import httptools

from smartedge.balancer.errors import BadAnswer
from smartedge.http.alike import Alike, find_alike
from smartedge.http.answer_fields import OF_ITS_OWN, AnswerFields, may_differ, read_answer_fields
from smartedge.http.memory import remember

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([0-9]) (([0-9]{3})( [\t \x21-\x7e\x80-\xff]*)?\r\n)")
"""RFC 9112 section 4; backends leave out the space before an empty reason, and llhttp lets them."""

_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")

Head = tuple[int, bytes, int, AnswerFields]
"""What an answer's head says: status, its line from the code on, version (10 or 11), fields."""

known_heads: dict[bytes, Head] = {}
"""The heads of the last answers, whoever gave them: within a second the very same one often comes again.

Knowing it saves 10 µs of a small request (docs/performance.md)."""

KNOWN_HEADS: Final = 64
KNOWN_HEAD_BYTES: Final = 2048
"""So many are known at most, and none that is longer."""


Last = tuple[bytes, Head, Alike | None]
"""A head as it came, what it says, and where others differ from it."""

_last_heads: dict[int, Last] = {}
"""The last one of the heads with so many line feeds.

A backend's answers are often alike, but for a date, a length and an ETag (http/alike.py)."""


def bare_end(data: bytes) -> int:
    """Find the end of a head whose lines end with LF alone: the place behind its empty line, 0 when it has none (yet).

    Raises BadAnswer for an empty line that ends otherwise than the line before: whoever mixes the two hopes for two readings.
    """
    if data.count(b"\n") == data.count(b"\r\n"):
        return 0
    found = _EMPTY_LINE.search(data)
    if found is None or data[max(found.start() - 1, 0) : found.end()] == b"\r\n\r\n":
        return 0
    if b"\r" in data[: found.end()]:
        raise BadAnswer("The lines of the answer's head end now with CR LF, now with LF.")
    return found.end()


def with_crlf(data: bytes, end: int) -> bytes:
    """Write a head that ends there with CR LF (RFC 9112 section 2.2 lets a recipient take LF alone for it)."""
    return data[:end].replace(b"\n", b"\r\n") + data[end:]


def like(last: Last, data: bytes, end: int) -> Head | None:
    """Find out what the head that ends there says, if it differs from the last one in values only; None where it does not.

    It is not known from now on: a head that differs from the one before comes again less often than memory has to be made for it.
    """
    alike = last[2]
    if alike is None or end > KNOWN_HEAD_BYTES:
        return None
    said = alike.read(data, 0, end)
    if said is None:
        return None
    status, status_line, version, fields = last[1]
    values = fields.with_values(said[0], said[1])
    return None if values is None else (status, status_line, version, values)


def find_out(data: bytes, end: int, last: Last | None) -> tuple[bytes, int, Head, Last | None]:
    """Find out what the head that ends there says, which is not like the last one; raises BadAnswer.

    Returned are data and end, others where the lines end with LF alone, what it says, and what heads are like from now on.
    """
    head = data[:end]
    known = known_heads.get(head)
    if known is not None:
        return data, end, known, last
    another = _last_heads.get(head.count(b"\n"))
    if another is not None and another is not last and (known := like(another, head, end)) is not None:
        return data, end, known, another
    if bare := bare_end(head):
        data = with_crlf(data, bare)  # the empty line that was found stands in the body
        end = data.index(b"\r\n\r\n") + 4
        head = data[:end]
    known = parse_head(head)
    return data, end, known, _last_heads.get(head.count(b"\n"))


def parse_head(head: bytes) -> Head:
    """Find out what an answer's head says, and know it from now on; raises BadAnswer."""
    line = _STATUS_LINE.match(head)
    if line is None:
        if head[:7] != b"HTTP/1." or head[8:9] != b" " or not head[7:8].isdigit() or not head[9:12].isdigit():
            raise BadAnswer("The backend's answer is not HTTP/1.1.")
        if head[12:13] not in b" \r\n":
            raise BadAnswer("The backend's status code is not of three digits.")
        raise BadAnswer("The backend's reason phrase holds control characters.")  # llhttp lets them through
    minor, status_line, code, reason = line.groups()
    try:
        # llhttp checks and no more: making a parser for one head takes 0.2 µs and leaves no state to go wrong.
        # It knows 1.0 and 1.1; a later minor version is to be read as the last one that is known (RFC 9110 section 2.5).
        httptools.HttpResponseParser(None).feed_data(head if minor == b"1" or minor == b"0" else b"HTTP/1.1" + head[8:])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise BadAnswer(f"The backend's answer is malformed: {error}.") from error
    status = int(code)
    if status < 100:
        raise BadAnswer("The backend's status code has no meaning.")
    if reason is None:
        status_line = code + b" \r\n"
    fields = read_answer_fields(head[line.end() : -2], status)
    known = status, status_line, 10 if minor == b"0" else 11, fields
    if len(head) <= KNOWN_HEAD_BYTES:
        number = head.count(b"\n")
        last = _last_heads.get(number)
        alike = None
        if last is not None and last[0].startswith(head[: line.end()]):
            alike = find_alike(head, fields.block, last[0], last[2], may_differ, OF_ITS_OWN)
        _last_heads[number] = head, known, alike
        remember(known_heads, head, known, KNOWN_HEADS)
    return known
