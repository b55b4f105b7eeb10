"""The result as text: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from smartedge.simulator.figures import Figures
from smartedge.simulator.scenario import SimulateConfig

HEAD = ("strategy", "p50", "p90", "p99", "p99.9", "max", "errors", "retries", "hedges")
MAX_COLUMNS = 8
"""Backends that get a column each; of more only the largest and the smallest share are shown."""


def title_of(world: SimulateConfig, requests: int) -> str:
    """Say in one line what was simulated."""
    counted = world.duration_s - world.warmup_s
    nodes = f", {world.nodes} nodes" if world.nodes > 1 else ""
    return f"{world.title}: {requests:,} requests in {counted:,.10g} s of virtual time{nodes}, seed {world.seed}"


def table(world: SimulateConfig, runs: Sequence[Figures]) -> str:
    """Give a line for each strategy; times in milliseconds, shares in percent of all tries."""
    rows = [[*HEAD, *_columns(runs[0])], *(_cells(run) for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if not n else cell.rjust(width) for n, (cell, width) in enumerate(_pairs(row, widths)))
        for row in rows
    ]
    return "\n".join([title_of(world, runs[0].requests), "times in ms, shares in % of all tries", "", *map(str.rstrip, lines)])


def markdown(runs: Sequence[Figures]) -> str:
    """Give the same as a table of Markdown."""
    rows = [[*HEAD, *_columns(runs[0])], *(_cells(run) for run in runs)]
    rows.insert(1, ["---", *["--:"] * (len(rows[0]) - 1)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def document(world: SimulateConfig, runs: Sequence[Figures]) -> str:
    """Give everything as JSON: times in seconds, shares as ratios."""
    whole = {
        "title": world.title,
        "seed": world.seed,
        "duration_s": world.duration_s,
        "warmup_s": world.warmup_s,
        "nodes": world.nodes,
        "strategies": [_object(run) for run in runs],
    }
    return json.dumps(whole, indent=2)


def milliseconds(seconds: float) -> str:
    """Write a time with three digits, as far as it has them: 8.43, 84.3, 843, 8,430."""
    value = seconds * 1000
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _columns(run: Figures) -> list[str]:
    if len(run.tries) > MAX_COLUMNS:
        return ["largest share", "smallest"]
    return list(run.tries)


def _cells(run: Figures) -> list[str]:
    times = (run.p50_s, run.p90_s, run.p99_s, run.p999_s, run.max_s)
    counts = (run.errors, run.retries, run.hedges)
    shares = list(run.shares.values())
    if len(shares) > MAX_COLUMNS:
        shares = [max(shares), min(shares)]
    return [run.strategy, *map(milliseconds, times), *(f"{count:,}" for count in counts), *(f"{share:.1%}" for share in shares)]


def _pairs(row: list[str], widths: list[int]) -> list[tuple[str, int]]:
    return list(zip(row, widths, strict=True))


def _object(run: Figures) -> dict[str, Any]:
    return {
        "strategy": run.strategy,
        "requests": run.requests,
        "errors": run.errors,
        "statuses": {str(status): count for status, count in run.statuses.items()},
        **{name: round(getattr(run, name), 9) for name in ("p50_s", "p90_s", "p99_s", "p999_s", "max_s")},
        "retries": run.retries,
        "hedges": run.hedges,
        "cross_zone_ratio": round(run.crossed_ratio, 6),
        "open": {"mean": round(run.open_mean, 3), "busiest_mean": round(run.busiest_mean, 3), "busiest_p99": run.busiest_p99},
        "tries": run.tries,
        "shares": {backend: round(share, 6) for backend, share in run.shares.items()},
        "p99_over_time_s": [None if value is None else round(value, 9) for value in run.over_time],
    }
