"""The result as an SVG: how the slowest requests fared over time, and a bar for each strategy's p99.

Written by hand, without a library. Colours are told apart with any kind of colour vision (Okabe and Ito's,
darkened for lines on white).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import cycle
from math import ceil, floor, log10

from smartedge.simulator.figures import WINDOWS, Figures
from smartedge.simulator.report import milliseconds, title_of
from smartedge.simulator.scenario import Scenario

WIDTH, LEFT, RIGHT, MARGIN = 760, 130, 24, 20
PLOT = 200
"""Height of the lines' panel."""
BAR, GAP = 16, 8
BAR_ROOM = 300
"""Length of the longest bar; the figures stand to its right."""
CUT = 8.0
"""A bar longer than this many times the shortest is cut, or the others could not be told apart."""
MINUTES = tuple(60.0 * minutes for minutes in (1, 2, 5, 10, 20, 30, 60, 120, 180))
TIME_STEPS = (*(10.0**power * step for power in range(-6, 1) for step in (1, 2, 5)), 10.0, 20.0, 30.0, *MINUTES)
INK, FAINT, RULE = "#1c2733", "#5c6b7a", "#e3e8ee"
COLOURS = {
    "adaptive": "#1f2d99",
    "round_robin": "#68788a",
    "ewma": "#d9480f",
    "least_requests": "#0072b2",
    "random": "#008f68",
    "consistent_hash": "#a64d79",
}
OTHER_COLOURS = ("#b08800", "#56341c", "#2b8cbe", "#7a5cc0")


def svg(scenario: Scenario, runs: Sequence[Figures]) -> str:
    """Draw a scenario's runs."""
    world = scenario.world
    others = cycle(OTHER_COLOURS)
    colours = {run.strategy: COLOURS.get(run.strategy) or next(others) for run in runs}
    top = 64 + 18 * ceil(len(runs) / 4)
    parts = [
        _text(MARGIN, 28, world.title, 16, weight="bold"),
        _text(MARGIN, 47, f"p99 of the client's time over {world.duration_s:,.10g} s, in ms (logarithmic)", 12, FAINT),
        *_legend(runs, colours),
        *_lines(scenario, runs, colours, top),
        *_bars(runs, colours, top + PLOT + 54),
    ]
    height = top + PLOT + 54 + 24 + len(runs) * (BAR + GAP) + 30
    parts.append(_text(MARGIN, height - 12, title_of(world, runs[0].requests) + ", made by smartedge simulate", 10, FAINT))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(world.title)}">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *parts, "</svg>", ""])


def _legend(runs: Sequence[Figures], colours: dict[str, str]) -> Iterator[str]:
    for index, run in enumerate(runs):
        x, y = MARGIN + index % 4 * 180, 68 + index // 4 * 18
        yield f'<path d="M{x} {y - 4} h18" stroke="{colours[run.strategy]}" stroke-width="3"/>'
        yield _text(x + 24, y, run.strategy, 12)


def _lines(scenario: Scenario, runs: Sequence[Figures], colours: dict[str, str], top: int) -> Iterator[str]:
    values = [value for run in runs for value in run.over_time if value]
    low, high = _decades(values)
    left, right = 60, WIDTH - RIGHT

    def height(value: float) -> float:
        return top + PLOT - PLOT * (log10(value) - low) / (high - low)

    for step in _steps(low, high):
        y = height(step)
        yield f'<path d="M{left} {y:.1f} H{right}" stroke="{RULE}"/>'
        yield _text(left - 6, y + 4, f"{step * 1000:,.10g}", 11, FAINT, anchor="end")
    world = scenario.world
    span = world.duration_s - world.warmup_s
    for at_s in sorted({at_s for times in scenario.machines.values() for at_s, _ in times if at_s > world.warmup_s}):
        x = left + (right - left) * (at_s - world.warmup_s) / span
        if x <= right:
            yield f'<path d="M{x:.1f} {top} V{top + PLOT}" stroke="{FAINT}" stroke-dasharray="2 4"/>'
    for at_s in _marks(world.warmup_s, world.duration_s):
        x = left + (right - left) * (at_s - world.warmup_s) / span
        yield _text(x, top + PLOT + 16, _clock(at_s, span), 11, FAINT, anchor="end" if x > right - 16 else "middle")
    for run in runs:
        points = [
            f"{left + (right - left) * (window + 0.5) / WINDOWS:.1f} {height(value):.1f}"
            for window, value in enumerate(run.over_time)
            if value
        ]
        if points:
            path = "M" + " L".join(points)
            yield f'<path d="{path}" fill="none" stroke="{colours[run.strategy]}" stroke-width="2" stroke-linejoin="round"/>'


def _bars(runs: Sequence[Figures], colours: dict[str, str], top: int) -> Iterator[str]:
    yield _text(MARGIN, top, "p99 of the whole time, and p50 (the dark part); less is better", 12, FAINT)
    shortest = min(run.p99_s for run in runs)
    longest = max(min(max(run.p99_s for run in runs), CUT * shortest), 1e-9)
    for index, run in enumerate(runs):
        y = top + 12 + index * (BAR + GAP)
        length = BAR_ROOM * min(run.p99_s, longest) / longest
        middle = BAR_ROOM * min(run.p50_s, longest) / longest
        yield _text(LEFT - 8, y + BAR - 4, run.strategy, 12, anchor="end")
        yield f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colours[run.strategy]}"/>'
        yield f'<rect x="{LEFT}" y="{y}" width="{middle:.1f}" height="{BAR}" rx="2" fill="{INK}" fill-opacity="0.35"/>'
        if run.p99_s > longest:
            x = LEFT + length - 18  # two white strokes: this bar goes on
            yield (
                f'<path d="M{x:.1f} {y + BAR + 2} l6 -{BAR + 4} m5 0 l-6 {BAR + 4}" stroke="#fff" '
                'stroke-width="2.5" fill="none"/>'
            )
        yield _text(LEFT + length + 6, y + BAR - 4, _said(run), 12)


def _said(run: Figures) -> str:
    errors = f"{run.errors:,} error{'s' if run.errors != 1 else ''}" if run.errors else "no errors"
    return f"{milliseconds(run.p99_s)} ms  (p50 {milliseconds(run.p50_s)}, p99.9 {milliseconds(run.p999_s)}; {errors})"


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Give the logarithms between which all values lie, on the marks 1, 2 and 5 of a decade."""
    if not values:
        return -3.0, -2.0
    marks = [log10(mark) + decade for decade in range(-7, 6) for mark in (1, 2, 5)]
    least, most = log10(min(values)), log10(max(values))
    low = max(mark for mark in marks if mark <= least)
    high = min(mark for mark in marks if mark >= most)
    return (low, high) if high - low > 0.3 else (low, low + 0.7)


def _steps(low: float, high: float) -> Iterator[float]:
    for decade in range(floor(low), ceil(high) + 1):
        for mark in (1, 2, 5):
            value = log10(mark) + decade
            if low - 1e-9 <= value <= high + 1e-9 and (mark == 1 or high - low < 3):
                yield 10.0**value


def _marks(from_s: float, to_s: float) -> Iterator[float]:
    """Give round times, four to eight of them."""
    step = next((step for step in TIME_STEPS if (to_s - from_s) / step <= 8), TIME_STEPS[-1])
    mark = ceil(from_s / step - 1e-9) * step
    while mark <= to_s + 1e-9:
        yield mark
        mark += step


def _clock(at_s: float, span_s: float) -> str:
    unit, seconds = ("h", 3600) if span_s >= 6 * 3600 else ("min", 60) if span_s >= 600 else ("s", 1)
    return f"{at_s / seconds:.10g} {unit}"


def _text(x: float, y: float, text: str, size: int, fill: str = INK, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
