"""Heads that are alike: they begin and end with the same lines, and of those between them only values differ.

Browsers and programs send the same fields again and again, but for a referer, a cookie or a length; backends do likewise. Whether
a line is well-formed, and what it does to a message, does not depend on the other lines once their names are the same: so what
has been checked and looked at before is compared, and only the lines between are checked, by one pattern (docs/performance.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import compress
from time import monotonic
from typing import Final

from smartedge.http.memory import remember

VALUE: Final = rb"[\t -~\x80-\xff]*+"
"""What a field's value may hold (RFC 9110 section 5.5), as llhttp lets it through (test_alike.py asks it)."""

MOST_BETWEEN: Final = 12
"""So many lines may stand between: of more, a pattern takes too long to make."""

MOST_PATTERNS: Final = 256
PATTERNS_EACH_S: Final = 50
"""So many are known at most, and so many made in a second: one takes as long as reading ten heads, and whoever sends other names
with each request is not to have others wait for that."""

_NOTHING_TOLD: Final[dict[bytes, bytes]] = {}


class Patterns:
    """The patterns that all connections share, by their text. clock: gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: dict[bytes, re.Pattern[bytes]] = {}
        self._second = self._made = 0

    def of(self, text: bytes) -> re.Pattern[bytes] | None:
        """Give the pattern of this text; None for a new one when enough have been made in this second."""
        pattern = self._known.get(text)
        if pattern is None:
            second = int(self._clock())
            if second != self._second:
                self._second, self._made = second, 0
            if self._made == PATTERNS_EACH_S:
                return None
            self._made += 1
            pattern = re.compile(text)
            remember(self._known, text, pattern, MOST_PATTERNS)
        return pattern


_patterns: Final = Patterns(monotonic)


class _LinesBetween:
    """The text of a pattern of lines, some with other values; made by `find_alike`.

    runs: the groups of lines that go on together. told: those of values that are told, by their names in lower case.
    """

    def __init__(self, lines: list[bytes], kept: list[bool], may_differ: Callable[[bytes], bool], told: frozenset[bytes]) -> None:
        self.runs: list[int] = []
        self.told: dict[bytes, int] = {}
        pieces = []
        groups, before = 0, False
        for line, keep in zip(lines, kept, strict=True):
            if before and not keep:
                pieces.append(b")")
            if keep and not before:
                groups += 1
                self.runs.append(groups)
                pieces.append(b"(")
            before = keep
            name = _name_of(line)
            if not may_differ(name):
                pieces.append(re.escape(line))
                continue
            value = VALUE
            if name in told:
                groups += 1
                self.told[name] = groups
                value = b"(%b)" % VALUE
            pieces.append(b"%b%b\r\n" % (re.escape(line[: len(name) + 1]), value))
        if before:
            pieces.append(b")")
        self.text = b"".join(pieces)


class Alike:
    """Where heads differ; made by `find_alike` of two that have been checked whole.

    number: of lines in all. first, last: of those between.
    """

    __slots__ = (
        "_begin",
        "_begin_on",
        "_end",
        "_end_on",
        "_one_run",
        "_pattern",
        "_runs",
        "_start",
        "_tail",
        "_told",
        "first",
        "last",
        "number",
    )

    def __init__(
        self, lines: list[bytes], kept: list[bool], first: int, last: int, between: _LinesBetween, pattern: re.Pattern[bytes]
    ) -> None:
        self.number, self.first, self.last = len(lines), first, last
        self._begin = b"".join(lines[:first])
        self._begin_on = b"".join(compress(lines[:first], kept))
        self._end = b"".join(lines[last + 1 :])
        self._end_on = b"".join(compress(lines[last + 1 :], kept[last + 1 :]))
        self._start, self._tail = len(self._begin), len(self._end)
        self._pattern = pattern
        self._told, self._runs = between.told, between.runs
        self._one_run = self._runs == [1]

    def read(self, data: bytes, begin: int, end: int) -> tuple[bytes, dict[bytes, bytes]] | None:
        """Give what goes on of the head that stands there, and the values that are told; None for one not alike, or malformed."""
        start = begin + self._start
        stop = end - self._tail
        # Slices that are compared take 400 instructions less than `startswith` and `endswith` with places (docs/performance.md).
        if stop <= start or data[begin:start] != self._begin or data[stop:end] != self._end:
            return None
        found = self._pattern.fullmatch(data, start, stop)
        if found is None:
            return None
        if self._one_run:  # nearly always, and the general way takes 2,500 instructions more
            goes_on: bytes = self._begin_on + found[1] + self._end_on
        else:
            goes_on = b"".join((self._begin_on, *map(found.group, self._runs), self._end_on))
        if not self._told:
            return goes_on, _NOTHING_TOLD
        return goes_on, {name: found[group] for name, group in self._told.items()}


def find_alike(
    head: bytes,
    goes_on: bytes,
    other: bytes,
    before: Alike | None,
    may_differ: Callable[[bytes], bool],
    told: frozenset[bytes],
    patterns: Patterns = _patterns,
) -> Alike | None:
    """Find out where the lines of a head differ from another's, both checked; None where they do in more than values.

    goes_on: the lines that go on. before: where others have differed, which stays when these are not of the same length.
    may_differ: whether another value of a field, its name in lower case, changes nothing but that value. told: names of those
    whose value is to be told.
    """
    if head.count(b"\n") != other.count(b"\n"):
        return before
    lines, others = head.splitlines(True), other.splitlines(True)
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
    if last - first >= MOST_BETWEEN:
        return None
    between = _LinesBetween(lines[first : last + 1], kept[first : last + 1], may_differ, told)
    pattern = patterns.of(between.text)
    return None if pattern is None else Alike(lines, kept, first, last, between, pattern)


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
