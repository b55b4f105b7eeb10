"""Makes the tables and pictures of docs/geo.md: python docs/make_geo.py (two minutes of CPU).

Each scenario of docs/scenarios/geo/ is run in variants, which differ in what the configuration says of nearness; all see the same
requests. Names as arguments (`outage`) run only those. `--check` writes nothing and ends with status 1 when something is not up
to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smartedge.simulator.figures import Figures

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "docs" / "scenarios" / "geo"
IMAGES = ROOT / "docs" / "img"
PAGE = ROOT / "docs" / "geo.md"
BLOCK = re.compile(r"<!-- begin: ([\w-]+), made by docs/make_geo.py -->\n.*?<!-- end -->", re.DOTALL)
HEAD = ("", "p50", "p90", "p99", "p99.9", "errors", "retries", "to other zones")

ANYWHERE: Mapping[str, Any] = {"locality": {}}
ROUND_ROBIN: Mapping[str, Any] = {**ANYWHERE, "strategy": "round_robin"}
NEAR: Mapping[str, Any] = {"locality": {"prefer": "edge"}}
VARIANTS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "near": {
        "anywhere, in turn": ROUND_ROBIN,
        "anywhere": ANYWHERE,
        "anywhere, ewma": {**ANYWHERE, "strategy": "ewma"},
        "near first": NEAR,
    },
    "outage": {"anywhere, in turn": ROUND_ROBIN, "anywhere": ANYWHERE, "near first": NEAR},
    "half": {
        "anywhere": ANYWHERE,
        "near first": NEAR,
        "failover_only": {"locality": {"prefer": "edge", "failover_only": True}},
        "failover, min 2": {"locality": {"prefer": "edge", "failover_only": True, "min_available": 2}},
    },
    "slow": {
        "anywhere": ANYWHERE,
        "near first": NEAR,
        "blend_rtt": {"locality": {"prefer": "edge", "blend_rtt": True}},
    },
    "day": {
        "anywhere": ANYWHERE,
        "near, no caps": {**NEAR, "limits": {}},
        "caps of 6": NEAR,
        "adaptive caps": {**NEAR, "limits": {"in_flight_per_backend": "adaptive"}},
    },
}
"""By scenario and name: keys of the configuration that differ."""


def run(name: str) -> tuple[Any, list[Figures]]:
    """Run a scenario in all its variants; give it as it stands in its file, and their figures."""
    from smartedge.simulator.engine import compare
    from smartedge.simulator.scenario import load

    document = json.loads((SCENARIOS / f"{name}.json").read_text(encoding="utf-8"))
    runs = []
    for variant, keys in VARIANTS[name].items():
        told = {**document, **keys}
        if "strategy" in keys:
            told["simulate"] = {**told["simulate"], "strategies": [keys["strategy"]]}
        (figures,) = compare(load(json.dumps(told), name))
        runs.append(replace(figures, strategy=variant))
    return load(json.dumps(document), name), runs


def table(runs: Sequence[Figures]) -> list[str]:
    """Give the figures as a table of Markdown."""
    from smartedge.simulator.report import milliseconds

    rows: list[Sequence[str]] = [HEAD, ["---", *["--:"] * (len(HEAD) - 1)]]
    for one in runs:
        times = map(milliseconds, (one.p50_s, one.p90_s, one.p99_s, one.p999_s))
        rows.append([one.strategy, *times, f"{one.errors:,}", f"{one.retries:,}", f"{one.crossed_ratio:.1%}"])
    return [f"| {' | '.join(row)} |" for row in rows]


def block(name: str) -> tuple[str, str]:
    """Give what stands between the marks of a scenario, and its picture."""
    from smartedge.simulator import chart

    scenario, runs = run(name)
    lines = [
        f"[![{scenario.world.title}](img/geo-{name}.svg)](scenarios/geo/{name}.json)",
        "",
        *table(runs),
        "",
        f"{runs[0].requests:,} requests, times in ms. Scenario: [`{name}.json`](scenarios/geo/{name}.json).",
    ]
    return "\n".join(lines), chart.svg(scenario, runs)


def made(only: Sequence[str] = ()) -> dict[Path, str]:
    """Give the page and its pictures as they should be."""
    wanted: dict[Path, str] = {}

    def blocks(match: re.Match[str]) -> str:
        name = match[1]
        if only and name not in only:
            return match[0]
        body, wanted[IMAGES / f"geo-{name}.svg"] = block(name)
        return f"<!-- begin: {name}, made by docs/make_geo.py -->\n\n{body}\n\n<!-- end -->"

    wanted[PAGE] = BLOCK.sub(blocks, PAGE.read_text(encoding="utf-8"))
    return wanted


def main() -> int:
    """Write what is not up to date, or only name it."""
    sys.path.insert(0, str(ROOT))
    arguments = sys.argv[1:]
    found = made([argument for argument in arguments if argument != "--check"])
    stale = [path for path, text in found.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not up to date: run python docs/make_geo.py", file=sys.stderr)
        else:
            path.write_text(found[path], encoding="utf-8")
            print(path.relative_to(ROOT))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main())
