"""The result as a chart: one panel of horizontal bars per row set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from measure import YARDSTICK, IdleRow, Row
from open_loop import RATES, OpenRow
from report import RowSet
from svg import Bar, Panel, write_panels

MIDDLE = RATES[len(RATES) // 2]
UNITS = {Row: "CPU µs per request", IdleRow: "kB per client", OpenRow: f"p99 in ms at {MIDDLE:,} requests/s"}
CUT = 3.0  # a bar longer than this many times Go's is cut short


def write_svg(path: Path, row_sets: Sequence[RowSet], caption: str) -> None:
    write_panels(path, [_panel(row_set) for row_set in row_sets], caption)


def _panel(row_set: RowSet) -> Panel:
    bars = [_bar(row) for row in row_set.rows if not isinstance(row, OpenRow) or row.rate == MIDDLE]
    unit = UNITS[type(row_set.rows[0])]
    go = next((bar.value for bar in bars if bar.name == YARDSTICK), None)
    subtitle = f"{row_set.title} ({unit}, less is better)"
    most = max(bar.value for bar in bars)
    return Panel(row_set.name, subtitle, bars, mark=go or None, full=min(most, CUT * go) if go and go > 0 else most)


def _bar(row: Row | IdleRow | OpenRow) -> Bar:
    if isinstance(row, OpenRow):
        return Bar(row.peer, row.p99_ms, f"{row.p99_ms:.1f}", row.ours)
    if isinstance(row, IdleRow):
        return Bar(row.peer, row.kb_per_client, f"{row.kb_per_client:.1f}", row.ours)
    if row.ratio is None:
        return Bar(row.peer, row.cpu_us, f"{row.cpu_us:.1f}", row.ours)
    return Bar(row.peer, row.cpu_us, f"{row.cpu_us:.0f}  ({row.ratio:.2f} x Go)", row.ours)
