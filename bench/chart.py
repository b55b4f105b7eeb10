"""The result as a chart: one panel of horizontal bars per row set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from measure import YARDSTICK, IdleRow, Row
from report import RowSet
from svg import Bar, Panel, write_panels

CUT = 3.0  # a bar longer than this many times Go's is cut short


def write_svg(path: Path, row_sets: Sequence[RowSet], caption: str) -> None:
    write_panels(path, [_panel(row_set) for row_set in row_sets], caption)


def _panel(row_set: RowSet) -> Panel:
    bars = [_bar(row) for row in row_set.rows]
    unit = "kB per client" if isinstance(row_set.rows[0], IdleRow) else "CPU µs per request"
    go = next((bar.value for bar in bars if bar.name == YARDSTICK), None)
    subtitle = f"{row_set.title} ({unit}, less is better)"
    most = max(bar.value for bar in bars)
    return Panel(row_set.name, subtitle, bars, mark=go or None, full=min(most, CUT * go) if go and go > 0 else most)


def _bar(row: Row | IdleRow) -> Bar:
    if isinstance(row, IdleRow):
        return Bar(row.peer, row.kb_per_client, f"{row.kb_per_client:.1f}", row.ours)
    if row.ratio is None:
        return Bar(row.peer, row.cpu_us, f"{row.cpu_us:.1f}", row.ours)
    return Bar(row.peer, row.cpu_us, f"{row.cpu_us:.0f}  ({row.ratio:.2f} x Go)", row.ours)
