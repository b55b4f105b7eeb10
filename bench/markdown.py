"""The result as the tables of docs/performance.md: what each peer costs against Go, and how late it answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from measure import IdleRow, Row
from open_loop import RATES, OpenRow
from report import RowSet

TITLES = {
    "small": "small keep-alive",
    "new-connection": "new connection each",
    "100k": "100 kB answers",
    "1m": "1 MB answers",
    "upload": "1 MB uploads",
    "browser": "all requests differ",
    "tls": "TLS small",
    "tls-100k": "TLS 100 kB",
    "handshake": "TLS handshake each",
    "handshake-resumed": "resumed",
    "access-log": "access log",
    "backends-500": "500 backends",
    "idle": "kB per idle client",
}
ABREAST = 7
"""So many columns of figures a table has at most."""


def write_markdown(path: Path, row_sets: Sequence[RowSet]) -> None:
    """Write one table after the other, each as wide as a page can be read."""
    columns: list[tuple[str, dict[str, str]]] = []
    late: list[OpenRow] = []
    ours: set[str] = set()
    for row_set in row_sets:
        ours |= {row.peer for row in row_set.rows if row.ours}
        late += [row for row in row_set.rows if isinstance(row, OpenRow)]
        columns += _columns(row_set)
    tables = [_table(columns[start : start + ABREAST], ours) for start in range(0, len(columns), ABREAST)]
    if late:
        tables.append(_late(late, ours))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(tables) + "\n")


def _columns(row_set: RowSet) -> list[tuple[str, dict[str, str]]]:
    """A column, and a second one for what the set adds to the same peer's cost."""
    title = TITLES.get(row_set.name, row_set.name)
    if all(isinstance(row, IdleRow) for row in row_set.rows):
        return [(title, {row.peer: f"{row.kb_per_client:.1f}" for row in row_set.rows if isinstance(row, IdleRow)})]
    rows = [row for row in row_set.rows if isinstance(row, Row)]
    found = [(title, {row.peer: _cell(row) for row in rows})] if rows else []
    if any(row.growth is not None for row in rows):
        found.append((f"{title}: x without", {row.peer: f"{row.growth:.2f}" for row in rows if row.growth is not None}))
    return found


def _cell(row: Row) -> str:
    if row.ratio is None or row.ratio_range is None:
        return f"{row.cpu_us:.0f} µs"
    return "{:.2f} ({:.2f}–{:.2f})".format(row.ratio, *row.ratio_range)


def _table(columns: Sequence[tuple[str, dict[str, str]]], ours: set[str]) -> str:
    peers = list(dict.fromkeys(peer for _, cells in columns for peer in cells))
    lines = [["peer", *(title for title, _ in columns)], ["---"] * (len(columns) + 1)]
    lines += [[_name(peer, ours), *(cells.get(peer, "–") for _, cells in columns)] for peer in peers]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _late(rows: Sequence[OpenRow], ours: set[str]) -> str:
    """p50, p99 and p99.9 at each rate."""
    cells = {(row.peer, row.rate): f"{row.p50_ms:.1f} / {row.p99_ms:.1f} / {row.p999_ms:.1f}" for row in rows}
    columns = [
        (f"{rate:,}/s: p50 / p99 / p99.9 ms", {peer: text for (peer, at), text in cells.items() if at == rate}) for rate in RATES
    ]
    return _table(columns, ours)


def _name(peer: str, ours: set[str]) -> str:
    return f"**{peer}**" if peer in ours else peer
