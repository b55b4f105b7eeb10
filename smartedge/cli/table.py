"""What commands print of a balancer's JSON: its objects, in columns, and times as people say them."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from smartedge.cli.paint import STYLES, Paint, unpainted
from smartedge.config.values import escaped

Entry = dict[str, Any]


def entries_of(value: object) -> list[Entry]:
    """Give the objects of a list; of anything else none, as another version may have answered."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def widths_of(rows: Iterable[Sequence[str]]) -> list[int]:
    """Return how wide each column must be."""
    return [max(map(width_of, column)) for column in zip(*rows, strict=True)]


def width_of(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for what East Asians write and for emoji, none for accents."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.category(c) in ("Mn", "Me") else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def line_of(cells: Sequence[str], widths: Sequence[int], numbers: Collection[int] = (), paint: Paint = unpainted) -> str:
    """Lay out one row: words to the left, and the columns of these indices, numbers, to the right. paint: colours words."""
    aligned = (
        paint(placed(cell, width, index in numbers), STYLES.get(cell, "plain"))
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(aligned).rstrip()


def placed(cell: str, width: int, is_number: bool) -> str:
    """Fill a cell up to its width."""
    spaces = " " * (width - width_of(cell))
    return spaces + cell if is_number else cell + spaces


def title_line(titles: Sequence[str], widths: Sequence[int], numbers: Collection[int] = (), paint: Paint = unpainted) -> str:
    """Lay out the titles of columns."""
    return paint(line_of(titles, widths, numbers), "title")


def table_lines(
    rows: Sequence[Sequence[str]], numbers: Collection[int] = (), paint: Paint = unpainted, *, titled: bool = True
) -> list[str]:
    """Lay out all rows, so that a terminal obeys nothing in them. titled: the first ones are titles."""
    safe = [list(map(escaped, row)) for row in rows]
    widths = widths_of(safe)
    head = [title_line(safe[0], widths, numbers, paint)] if titled else []
    return [*head, *(line_of(row, widths, numbers, paint) for row in safe[len(head) :])]


def duration_text(seconds: float) -> str:
    """Say a time in its two largest units."""
    whole = int(max(seconds, 0.0))
    for size, unit, part, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {less}"
    return f"{whole} s"
