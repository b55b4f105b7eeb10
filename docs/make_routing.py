"""Makes tables and picture of docs/routing.md from docs/routing.json, a result of `make bench-routing`: docs/make_routing.py.

The text around the marks is written by hand. A new result is `bench/results/routing.json`, copied to docs/.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "routing.md"
RESULT = ROOT / "docs" / "routing.json"
PICTURE = ROOT / "docs" / "img" / "routing.svg"
BLOCK = re.compile(r"(<!-- begin: (\w+), made by docs/make_routing.py -->\n).*?(<!-- end -->)", re.DOTALL)
WORST_FROM_MS = 1000.0
"""A worst request is told from here on, or where there is a bar for it."""

TITLES = {"smartedge": "**a list of backends**", "smartedge-ewma": "ewma, hedging", "smartedge-rr": "round_robin"}


def table(result: dict[str, Any]) -> str:
    """Give p99 of each edge in each scenario, in ms, with what clients got other than 200, and the worst where it is long."""
    edges = list(dict.fromkeys(row["edge"] for rows in result["scenarios"].values() for row in rows))
    head = ["scenario", *(TITLES.get(edge, edge) for edge in edges)]
    lines = [head, ["---", *["--:"] * len(edges)]]
    for name, rows in result["scenarios"].items():
        by_edge = {row["edge"]: row for row in rows}
        lines.append([titles()[name], *(_cell(by_edge.get(edge)) for edge in edges)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bars(result: dict[str, Any]) -> str:
    """Give what our edges are held to, and what was seen."""
    lines = [["edge", "scenario", "wanted", "seen", ""], ["---", "---", "---", "---", "---"]]
    answered = [bar for bar in result["bars"] if bar["wanted"].startswith("errors") and bar["reached"]]
    for bar in result["bars"]:
        if bar in answered:
            continue
        lines.append([bar["edge"], bar["scenario"], bar["wanted"], bar["seen"], "reached" if bar["reached"] else "**missed**"])
    pairs = len(answered) + sum(line[2].startswith("errors") for line in lines)
    told = f"In {len(answered)} of {pairs} pairs of edge and scenario no client got an error."
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", told])


def run(result: dict[str, Any]) -> str:
    """Say when, where and how it was measured."""
    settings, machine = result["settings"], result["machine"]
    return (
        f"{result['date'][:10]}, {settings['rounds']} round(s) of {settings['seconds']:g} s for each scenario, "
        f"{settings['rate']:g} requests a second (half for two backends), {machine['cores']} cores ({machine['cpu']}), not idle."
    )


def made() -> tuple[str, dict[Path, str]]:
    """Give the page as it should be, and its picture."""
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    blocks = {"run": run, "figures": table, "bars": bars}
    page = BLOCK.sub(lambda match: f"{match[1]}\n{blocks[match[2]](result)}\n\n{match[3]}", PAGE.read_text(encoding="utf-8"))
    return page, {PICTURE: picture(result)}


def picture(result: dict[str, Any]) -> str:
    """Draw the chart as the benchmark does."""
    bench = _bench()
    rounds = [
        {name: {edge: bench.Figures(**figures) for edge, figures in seen.items()} for name, seen in done.items()}
        for done in result["rounds"]
    ]
    path = PICTURE.with_suffix(".new")
    try:
        bench.write_chart(path, rounds, list(result["scenarios"]), run(result))
        return path.read_text(encoding="utf-8")
    finally:
        path.unlink(missing_ok=True)


def titles() -> dict[str, str]:
    """Give each scenario's title."""
    return {name: scenario.title for name, scenario in _bench().SCENARIOS.items()}


def _bench() -> Any:
    if str(ROOT / "bench") not in sys.path:
        sys.path.insert(0, str(ROOT / "bench"))
    import verdict

    return verdict


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    text = f"{row['p99_ms']:,.0f}"
    if row["worst_ms"] >= WORST_FROM_MS:
        text += f", worst {row['worst_ms']:,.0f}"
    failed = sum(row["errors"].values())
    return f"{text}, {failed} error{'s' if failed > 1 else ''}" if failed else text


def main() -> int:
    """Write what is not up to date."""
    page, pictures = made()
    for path, text in {PAGE: page, **pictures}.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
