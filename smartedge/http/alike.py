"""Heads that are alike: they begin and end with the same lines, and of those between them only values differ. Pure functions.

Browsers and programs send the same fields again and again, but for a referer, a cookie or a length; backends do likewise. Whether
a line is well-formed, and what it does to a message, does not depend on the other lines once their names are the same: so what
has been checked and looked at before is compared, and only the lines between are checked (docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Final

_LINES: Final = re.compile(rb"(?:[!-~][\t -~\x80-\xff]*\r\n)+")
"""Lines whose values hold what they may (RFC 9110 section 5.5), as llhttp lets them through (test_alike.py asks it)."""


class Alike:
    """Where heads differ; made by `find_alike` of two that have been checked whole.

    places: where in the lines between which name, in lower case, stands. number: of lines in all. first, last: of those between.
    """

    __slots__ = (
        "_begin",
        "_begin_on",
        "_end",
        "_end_on",
        "_kept",
        "_start",
        "_starts",
        "_tail",
        "first",
        "last",
        "number",
        "places",
    )

    def __init__(self, lines: list[bytes], kept: list[bool], first: int, last: int, may_differ: Callable[[bytes], bool]) -> None:
        self.number, self.first, self.last = len(lines), first, last
        self._begin = b"".join(lines[:first])
        self._begin_on = b"".join(compress(lines[:first], kept))
        self._end = b"".join(lines[last + 1 :])
        self._end_on = b"".join(compress(lines[last + 1 :], kept[last + 1 :]))
        self._start, self._tail = len(self._begin), len(self._end)
        between = lines[first : last + 1]
        self._kept = kept[first : last + 1]
        names = [_name_of(line) for line in between]
        self.places = {name: place for place, name in enumerate(names)}
        # Of what may not differ the whole line has to be there, of the others the name.
        self._starts = [line[: len(name) + 1] if may_differ(name) else line for line, name in zip(between, names, strict=True)]

    def between(self, block: bytes) -> list[bytes] | None:
        """Give the lines of a block that may differ from the known ones, well-formed ones; None when it is not alike."""
        stop = len(block) - self._tail
        if stop <= self._start or not block.startswith(self._begin) or not block.endswith(self._end):
            return None
        between = block[self._start : stop]  # no slice that is kept: compiled code takes it for an index
        if _LINES.fullmatch(between) is None:
            return None
        lines = between.splitlines(True)
        starts = self._starts
        if len(lines) != len(starts):
            return None
        for line, start in zip(lines, starts):  # noqa: B905 (a keyword costs)
            if not line.startswith(start):
                return None
        return lines

    def going_on(self, between: list[bytes]) -> bytes:
        """Give what goes on of a block with these lines."""
        return b"".join((self._begin_on, *compress(between, self._kept), self._end_on))


def find_alike(
    block: bytes, goes_on: bytes, other: bytes, before: Alike | None, may_differ: Callable[[bytes], bool]
) -> Alike | None:
    """Find out where a block of fields differs from another, both checked; None where it is in more than values.

    goes_on: what of the block goes on. before: where others have differed, which stays when these are not of the same length.
    may_differ: whether another value of a field, its name in lower case, changes nothing but that value.
    """
    if block.count(b"\n") != other.count(b"\n"):
        return before
    lines, others = block.splitlines(True), other.splitlines(True)
    if len(lines) != len(others):
        return None
    differing = [at for at, (line, one) in enumerate(zip(lines, others, strict=True)) if line != one]
    if not differing:
        return before
    kept = _kept(lines, goes_on.splitlines(True))
    if kept is None:
        return None
    if any(_name_of(lines[at]) != _name_of(others[at]) or not may_differ(_name_of(lines[at])) for at in differing):
        return None
    first, last = differing[0], differing[-1]
    if before is not None and before.number == len(lines):
        first, last = min(first, before.first), max(last, before.last)
    return Alike(lines, kept, first, last, may_differ)


def _name_of(line: bytes) -> bytes:
    """Give the name of a field's line in lower case."""
    return line[: line.find(b":")].lower()


def _kept(lines: list[bytes], going_on: Sequence[bytes]) -> list[bool] | None:
    """Say of each line whether it goes on; None when something else goes on, too."""
    at = 0
    kept = []
    for line in lines:
        same = at < len(going_on) and going_on[at] == line
        at += same
        kept.append(same)
    return kept if at == len(going_on) else None
