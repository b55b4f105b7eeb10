"""The result as an SVG: one panel of horizontal bars per row set, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from measure import YARDSTICK, IdleRow, Row
from report import RowSet

WIDTH, LEFT, RIGHT = 760, 150, 140  # bars lie between the names and the figures
BAR, GAP, HEADING, MARGIN = 16, 6, 44, 20
CUT = 3.0  # a bar longer than this many times Go's is cut short, or the others could not be told apart
OURS, THEIRS, INK, FAINT = "#d9480f", "#8c9bab", "#1c2733", "#5c6b7a"


def write_svg(path: Path, row_sets: Sequence[RowSet], caption: str) -> None:
    y, parts = MARGIN, []
    for row_set in row_sets:
        parts.append(_panel(row_set, y))
        y += HEADING + len(row_set.rows) * (BAR + GAP) + MARGIN
    height = y + MARGIN
    parts.append(_text(MARGIN, height - MARGIN, caption, 11, FAINT))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(row_set: RowSet, top: int) -> str:
    figures = [(row, row.kb_per_client if isinstance(row, IdleRow) else row.cpu_us) for row in row_set.rows]
    unit = "kB per client" if isinstance(row_set.rows[0], IdleRow) else "CPU µs per request"
    go = next((value for row, value in figures if row.peer == YARDSTICK), None)
    most = max(value for _, value in figures)
    longest = max(min(most, CUT * go) if go and go > 0 else most, 1e-9)
    room = WIDTH - LEFT - RIGHT
    parts = [
        _text(MARGIN, top + 14, row_set.name, 15, INK, "bold"),
        _text(MARGIN, top + 31, f"{row_set.title} ({unit}, less is better)", 12, FAINT),
    ]
    for index, (row, value) in enumerate(figures):
        y = top + HEADING + index * (BAR + GAP)
        length = room * min(max(value, 0.0), longest) / longest
        fill = OURS if row.ours else THEIRS
        parts.append(_text(LEFT - 8, y + BAR - 4, row.peer, 12, INK, anchor="end"))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{fill}"/>')
        if value > longest:
            x = LEFT + length - 18  # two white strokes: this bar goes on
            parts.append(
                f'<path d="M{x:.1f} {y + BAR + 2} l6 -{BAR + 4} m5 0 l-6 {BAR + 4}" stroke="#fff" '
                'stroke-width="2.5" fill="none"/>'
            )
        parts.append(_text(LEFT + length + 6, y + BAR - 4, _figure(row, value), 12, INK))
    if go:
        x = LEFT + room * max(go, 0.0) / longest
        bottom = top + HEADING + len(figures) * (BAR + GAP) - GAP
        parts.append(f'<path d="M{x:.1f} {top + HEADING - 3} V{bottom + 3}" stroke="{INK}" stroke-dasharray="3 3"/>')
    return "\n".join(parts)


def _figure(row: Row | IdleRow, value: float) -> str:
    if isinstance(row, IdleRow) or row.ratio is None:
        return f"{value:.1f}"
    return f"{value:.0f}  ({row.ratio:.2f} x Go)"


def _text(x: float, y: float, text: str, size: int, fill: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
