"""Makes tables and pictures of docs/choosing-a-strategy.md, and tables of docs/simulator.md: python docs/make_choosing.py.

Each scenario that a page names between its marks is run with all strategies; the picture goes to docs/img/. The text around
the marks is written by hand. Names as arguments (`one-slow hang`) run only those. `--check` writes nothing and ends with status
1 when something is not up to date.
"""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "docs" / "scenarios"
IMAGES = ROOT / "docs" / "img"
PAGE = ROOT / "docs" / "choosing-a-strategy.md"
REFERENCE = ROOT / "docs" / "simulator.md"
BLOCK = re.compile(r"<!-- begin: ([\w-]+), made by docs/make_choosing.py -->\n.*?<!-- end -->", re.DOTALL)

SECTIONS = (
    # model, title, what stands before the table
    ("SimulateConfig", "simulate", "The section itself."),
    ("ArrivalsConfig", "simulate.arrivals", "Who asks."),
    ("KindConfig", "simulate.arrivals.kinds[]", "Some of the requests, which ask for another path and take their own time."),
    ("ClientsConfig", "simulate.clients[]", "Some of those who ask, in one place."),
    ("NetworkConfig", "simulate.network", "Time on the way, there and back."),
    ("WayConfig", "simulate.network.ways[]", "A way between two zones."),
    ("MachineConfig", "simulate.backend", "What every backend is like."),
    ("OneMachineConfig", "simulate.backends[]", "A backend where it differs: keys of `simulate.backend`, and:"),
    ("ChangeConfig", "changes[]", "Keys of `simulate.backend` but `changes`, those that are not written stay as they are; and:"),
    ("ServiceTimeConfig", "service", "How long a machine works on a request."),
    ("CacheConfig", "cache", "The answers to the keys that a machine served last: those take only a part of the time."),
)


def scenario_block(name: str) -> tuple[str, str]:
    """Run a scenario; give what stands between its marks, and its picture."""
    from smartedge.simulator import chart, report
    from smartedge.simulator.engine import compare
    from smartedge.simulator.scenario import load

    path = SCENARIOS / f"{name}.json"
    scenario = load(path.read_bytes(), f"docs/scenarios/{path.name}")
    runs = compare(scenario)
    source = f"[`{name}.json`](scenarios/{name}.json)"
    lines = [
        f"[![{scenario.world.title}](img/choosing-{name}.svg)](scenarios/{name}.json)",
        "",
        report.markdown(runs),
        "",
        f"{runs[0].requests:,} requests, times in ms, shares in % of all tries. Scenario: {source}.",
    ]
    return "\n".join(lines), chart.svg(scenario, runs)


def keys_block() -> str:
    """Give the tables of a scenario's keys."""
    from smartedge.simulator.scenario import ScenarioFile

    tables = _tables()
    tables.TITLE_OF.update({model: title for model, title, _ in SECTIONS})
    schema = ScenarioFile.json_schema()
    definitions = schema["$defs"]
    parts: list[str] = []
    for model, title, text in SECTIONS:
        own = definitions[model]["properties"]
        if text.endswith("and:"):
            own = {key: field for key, field in own.items() if key not in definitions["MachineConfig"]["properties"]}
        section = {**definitions[model], "properties": own}
        parts += [f"### {title}", "", text, "", *tables.table(section, definitions), ""]
    return "\n".join(parts[:-1])


def made(page: Path, only: tuple[str, ...] = ()) -> tuple[str, dict[Path, str]]:
    """Give a page as it should be, and its pictures."""
    pictures: dict[Path, str] = {}

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if only and name not in only:
            return match[0]
        if name == "keys":
            body = keys_block()
        else:
            body, pictures[IMAGES / f"choosing-{name}.svg"] = scenario_block(name)
        return f"<!-- begin: {name}, made by docs/make_choosing.py -->\n\n{body}\n\n<!-- end -->"

    return BLOCK.sub(block, page.read_text(encoding="utf-8")), pictures


def stale(only: tuple[str, ...] = ()) -> dict[Path, str]:
    """Give the files that are not as they should be, with what they should hold."""
    wanted: dict[Path, str] = {}
    for page in (REFERENCE, PAGE):
        text, pictures = made(page, only)
        wanted |= {page: text, **pictures}
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text}


def _tables() -> Any:
    """What makes the tables of docs/configuration.md."""
    spec = spec_from_file_location("make_configuration", ROOT / "docs" / "make_configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> int:
    """Write what is not up to date, or only name it."""
    sys.path.insert(0, str(ROOT))
    arguments = sys.argv[1:]
    found = stale(tuple(argument for argument in arguments if argument != "--check"))
    for path, text in found.items():
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not up to date: run python docs/make_choosing.py", file=sys.stderr)
        else:
            IMAGES.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 1 if found and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main())
