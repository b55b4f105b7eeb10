"""What commands print of a balancer's JSON: its objects, in columns, and times as people say them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from smartedge.cli.paint import STYLES, Paint, unpainted

Entry = dict[str, Any]


def entries_of(value: object) -> list[Entry]:
    """Give the objects of a list; of anything else none, as another version may have answered."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def widths_of(rows: Iterable[Sequence[str]]) -> list[int]:
    """Return how wide each column must be."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def line_of(cells: Sequence[str], widths: Sequence[int], numbers: Collection[int] = (), paint: Paint = unpainted) -> str:
    """Lay out one row: words to the left, and the columns of these indices, numbers, to the right. paint: colours words."""
    aligned = (
        paint(cell.rjust(width) if index in numbers else cell.ljust(width), STYLES.get(cell, "plain"))
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(aligned).rstrip()


def table_lines(rows: Sequence[Sequence[str]], numbers: Collection[int] = ()) -> list[str]:
    """Lay out all rows, the titles among them."""
    widths = widths_of(rows)
    return [line_of(row, widths, numbers) for row in rows]


def duration_text(seconds: float) -> str:
    """Say a time in its two largest units."""
    whole = int(max(seconds, 0.0))
    for size, unit, part, less in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {less}"
    return f"{whole} s"
