"""Panels of horizontal bars as an SVG, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, LEFT, RIGHT = 760, 150, 140  # bars lie between the names and the figures
BAR, GAP, HEADING, MARGIN = 16, 6, 44, 20
OURS, THEIRS, INK, FAINT = "#d9480f", "#8c9bab", "#1c2733", "#5c6b7a"


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    value: float
    figure: str  # what is written beside it
    ours: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """mark: where the dashed line is. full: what a bar of full length stands for, by default the largest; longer ones are cut."""

    title: str
    subtitle: str
    bars: list[Bar]
    mark: float | None = None
    full: float | None = None


def write_panels(path: Path, panels: Sequence[Panel], caption: str, right: int = RIGHT) -> None:
    """Put one under the other; right: room for the figures."""
    y, parts = MARGIN, []
    for panel in panels:
        parts.append(_panel(panel, y, WIDTH - LEFT - right))
        y += HEADING + len(panel.bars) * (BAR + GAP) + MARGIN
    height = y + MARGIN
    parts.append(_text(MARGIN, height - MARGIN, caption, 11, FAINT))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(panel: Panel, top: int, room: int) -> str:
    longest = max(panel.full if panel.full is not None else max(bar.value for bar in panel.bars), 1e-9)
    parts = [
        _text(MARGIN, top + 14, panel.title, 15, INK, "bold"),
        _text(MARGIN, top + 31, panel.subtitle, 12, FAINT),
    ]
    for index, bar in enumerate(panel.bars):
        y = top + HEADING + index * (BAR + GAP)
        length = room * min(max(bar.value, 0.0), longest) / longest
        fill = OURS if bar.ours else THEIRS
        parts.append(_text(LEFT - 8, y + BAR - 4, bar.name, 12, INK, anchor="end"))
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{fill}"/>')
        if bar.value > longest:
            x = LEFT + length - 18  # two white strokes: this bar goes on
            parts.append(
                f'<path d="M{x:.1f} {y + BAR + 2} l6 -{BAR + 4} m5 0 l-6 {BAR + 4}" stroke="#fff" '
                'stroke-width="2.5" fill="none"/>'
            )
        parts.append(_text(LEFT + length + 6, y + BAR - 4, bar.figure, 12, INK))
    if panel.mark is not None:
        x = LEFT + room * max(panel.mark, 0.0) / longest
        bottom = top + HEADING + len(panel.bars) * (BAR + GAP) - GAP
        parts.append(f'<path d="M{x:.1f} {top + HEADING - 3} V{bottom + 3}" stroke="{INK}" stroke-dasharray="3 3"/>')
    return "\n".join(parts)


def _text(x: float, y: float, text: str, size: int, fill: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
