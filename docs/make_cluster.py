"""Makes the tables and the picture of docs/cluster.md's paper on growth: python docs/make_cluster.py (a minute of CPU).

Each scenario of docs/scenarios/cluster/ is run with 1, 4, 16 and 64 nodes, the same requests for any number. The picture is drawn
from what stands in the tables. Names as arguments (`one-slow`) run only those; `--picture` draws without running anything.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from html import escape
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smartedge.simulator.figures import Figures

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "docs" / "scenarios" / "cluster"
PAGE = ROOT / "docs" / "cluster.md"
PICTURE = ROOT / "docs" / "img" / "cluster-growth.svg"
NODES = (1, 4, 16, 64)
HEAD = ("strategy", "p50", "p99", "errors", "open at the busiest", "its share")
BLOCK = re.compile(r"<!-- begin: ([\w-]+), made by docs/make_cluster.py -->\n.*?<!-- end -->", re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| (.*) \|$", re.MULTILINE)


def run(name: str, nodes: int, strategies: Sequence[str] = ()) -> list[Figures]:
    """Run a scenario with so many nodes; strategies: those of the file if there are none."""
    from smartedge.simulator.engine import compare
    from smartedge.simulator.scenario import load

    document = json.loads((SCENARIOS / f"{name}.json").read_text(encoding="utf-8"))
    document["simulate"]["nodes"] = nodes
    return compare(load(json.dumps(document), name, strategies))


def cells(figures: Figures) -> list[str]:
    """Give what a table says of one run: times in ms, and how the busiest backend stands beside the mean."""
    shares = figures.shares.values()
    return [
        _milliseconds(figures.p50_s),
        _milliseconds(figures.p99_s),
        f"{figures.errors:,}",
        f"{figures.busiest_p99:,}",
        f"{max(shares) * len(shares):.2f}",
    ]


def table(name: str) -> str:
    """Run a scenario with each number of nodes; give what stands between its marks."""
    runs = {nodes: run(name, nodes) for nodes in NODES}
    rows = [HEAD, ["---", *["--:"] * (len(HEAD) - 1)]]
    for number, one in enumerate(runs[NODES[0]]):
        columns = zip(*(cells(runs[nodes][number]) for nodes in NODES), strict=True)
        rows.append([f"`{one.strategy}`", *(" · ".join(column) for column in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def read(page: str) -> dict[str, dict[str, list[list[str]]]]:
    """Give what the page's tables say: by scenario and strategy, a list of cells for each number of nodes."""
    found: dict[str, dict[str, list[list[str]]]] = {}
    for block in BLOCK.finditer(page):
        rows = {row[1]: [cell.split(" · ") for cell in row[2].split(" | ")] for row in ROW.finditer(block[0])}
        found[block[1]] = {strategy: [list(column) for column in zip(*row, strict=True)] for strategy, row in rows.items()}
    return found


def picture(page: str) -> str:
    """Draw each strategy's p99 by the number of nodes, a panel for each scenario."""
    from smartedge.simulator.chart import COLOURS, FAINT, INK, RULE

    tables = read(page)
    p99s = {
        name: {strategy: [float(column[1].replace(",", "")) for column in columns] for strategy, columns in rows.items()}
        for name, rows in tables.items()
    }
    titles = {name: json.loads((SCENARIOS / f"{name}.json").read_text(encoding="utf-8"))["simulate"]["title"] for name in tables}
    width, height, top, bottom, left, gap = 760, 330, 84, 288, 56, 16
    panel = (width - left - 14 - gap * (len(tables) - 1)) / len(tables)
    low, high = log10(50), log10(50_000)

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * (log10(value) - low) / (high - low)

    def text(x: float, y: float, said: str, size: int, fill: str = INK, anchor: str = "start", weight: str = "normal") -> str:
        return (
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{fill}" '
            f'text-anchor="{anchor}">{escape(said)}</text>'
        )

    def draw() -> Iterator[str]:
        yield text(20, 26, "p99 by the number of nodes, in ms (both axes logarithmic)", 16, weight="bold")
        for number, strategy in enumerate(next(iter(p99s.values()))):
            x = 20 + number * 145
            yield f'<path d="M{x} 46 h18" stroke="{COLOURS[strategy]}" stroke-width="3"/>'
            yield text(x + 24, 50, strategy, 12)
        for mark in (100, 1_000, 10_000):
            yield text(left - 6, y_of(mark) + 4, f"{mark:,}", 11, FAINT, "end")
        for place, (name, lines) in enumerate(p99s.items()):
            start = left + place * (panel + gap)
            yield text(start, 74, titles[name], 12, weight="bold")
            for mark in (100, 1_000, 10_000):
                yield f'<path d="M{start:.1f} {y_of(mark):.1f} h{panel:.1f}" stroke="{RULE}"/>'
            steps = [start + 14 + (panel - 28) * number / (len(NODES) - 1) for number in range(len(NODES))]
            for x, nodes in zip(steps, NODES, strict=True):
                yield text(x, bottom + 18, str(nodes), 11, FAINT, "middle")
            for strategy, values in lines.items():
                points = " L".join(f"{x:.1f} {y_of(value):.1f}" for x, value in zip(steps, values, strict=True))
                yield f'<path d="M{points}" fill="none" stroke="{COLOURS[strategy]}" stroke-width="2.5" stroke-linejoin="round"/>'
        yield text(20, height - 8, "12 backends of 4 slots, 1,500 requests a second; made by docs/make_cluster.py", 10, FAINT)

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="system-ui, sans-serif" role="img" aria-label="p99 by the number of nodes">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *draw(), "</svg>", ""])


def _milliseconds(seconds: float) -> str:
    from smartedge.simulator.report import milliseconds

    return milliseconds(seconds)


def main() -> int:
    """Run what is asked for, and write page and picture."""
    sys.path.insert(0, str(ROOT))
    only = [argument for argument in sys.argv[1:] if argument != "--picture"]

    def block(match: re.Match[str]) -> str:
        if "--picture" in sys.argv or (only and match[1] not in only):
            return match[0]
        return f"<!-- begin: {match[1]}, made by docs/make_cluster.py -->\n\n{table(match[1])}\n\n<!-- end -->"

    page = BLOCK.sub(block, PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    PICTURE.write_text(picture(page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
