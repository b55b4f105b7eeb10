"""The rounds of a routing benchmark, put together: tables, bars reached or not, and the chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from edges import EDGES
from figures import Figures
from report import aligned
from scenarios import SCENARIOS, Scenario
from svg import Bar, Panel, write_panels

CUT = 6.0  # a bar of full length is this many times the least even p99; longer ones are cut short
RIGHT = 290  # room for the figures

Round = dict[str, dict[str, Figures]]  # scenario -> edge -> what was seen


@dataclass(frozen=True, slots=True)
class Row:
    """One edge in one scenario: medians over its rounds, ranges, the worst of all and the sum of the errors.

    ratio: of p99 to that of the same edge in `even`, in the same round.
    """

    edge: str
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p99_range_ms: tuple[float, float]
    ratio: float | None
    ratio_range: tuple[float, float] | None
    p999_ms: float
    worst_ms: float
    errors: dict[str, int]
    requests: int
    sent_ratio: float
    first_share: float  # of what came to all backends, that of the first: where there is an odd one, it is this
    cpu_ratio: float
    noise_ms: float

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    edge: str
    scenario: str
    wanted: str
    seen: str
    reached: bool


def rows(rounds: Sequence[Round], scenario: str) -> list[Row]:
    """One for each edge that ran in it."""
    names = dict.fromkeys(edge for done in rounds for edge in done.get(scenario, {}))
    return [_row(rounds, scenario, name) for name in names]


def _row(rounds: Sequence[Round], scenario: str, edge: str) -> Row:
    seen = [done[scenario][edge] for done in rounds if edge in done.get(scenario, {})]
    even = SCENARIOS[scenario].even
    ratios = [
        done[scenario][edge].p99_ms / done[even][edge].p99_ms
        for done in rounds
        if edge in done.get(scenario, {}) and edge in done.get(even, {})
    ]
    errors: dict[str, int] = {}
    for figures in seen:
        for status, count in figures.errors.items():
            errors[status] = errors.get(status, 0) + count
    p99s = [figures.p99_ms for figures in seen]
    arrived = [sum(counts) for counts in zip(*(figures.arrived for figures in seen), strict=True)]
    return Row(
        edge=edge,
        p50_ms=median(figures.p50_ms for figures in seen),
        p90_ms=median(figures.p90_ms for figures in seen),
        p99_ms=median(p99s),
        p99_range_ms=(min(p99s), max(p99s)),
        ratio=median(ratios) if ratios else None,
        ratio_range=(min(ratios), max(ratios)) if ratios else None,
        p999_ms=median(figures.p999_ms for figures in seen),
        worst_ms=max(figures.worst_ms for figures in seen),
        errors=errors,
        requests=sum(figures.requests for figures in seen),
        sent_ratio=median(figures.sent_ratio for figures in seen),
        first_share=arrived[0] / max(sum(arrived), 1),
        cpu_ratio=median(figures.cpu_ratio for figures in seen),
        noise_ms=median(figures.noise_ms for figures in seen),
    )


def table(scenario: Scenario, found: Sequence[Row]) -> str:
    """One scenario, a line for each edge."""
    return aligned(f"{scenario.name}: {scenario.title}", [_line(row) for row in found])


def _line(row: Row) -> dict[str, str]:
    return {
        "edge": row.edge,
        "p50 ms": f"{row.p50_ms:.1f}",
        "p90": f"{row.p90_ms:.1f}",
        "p99": f"{row.p99_ms:.1f}",
        "(range)": "{:.0f}-{:.0f}".format(*row.p99_range_ms),
        "x even": "-" if row.ratio is None else f"{row.ratio:.2f}",
        "p99.9": f"{row.p999_ms:.0f}",
        "worst": f"{row.worst_ms:.0f}",
        "errors": _errors(row.errors),
        "sent": f"{row.sent_ratio:.3f}",
        "to first": f"{row.first_share:.1%}",
        "CPU": f"{row.cpu_ratio:.1%}",
        "noise": f"{row.noise_ms:.1f}",
    }


def _errors(errors: dict[str, int]) -> str:
    return " ".join(f"{count}x{status}" for status, count in sorted(errors.items())) or "0"


def summary(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """A line for each scenario: p99 of every edge, with its errors."""
    lines = []
    for name in names:
        line = {"p99 ms (errors)": name}
        found = {row.edge: row for row in rows(rounds, name)}
        for edge in dict.fromkeys(edge for done in rounds for seen in done.values() for edge in seen):
            row = found.get(edge)
            line[edge] = "-" if row is None else f"{row.p99_ms:.0f}" + (f" ({row.failed})" if row.failed else "")
        lines.append(line)
    return aligned("p99 of all scenarios", lines)


def verdicts(rounds: Sequence[Round], names: Sequence[str]) -> list[Verdict]:
    """What the edges with bars of their own were to reach, and that `smartedge-rr` answered everything."""
    found = []
    for name in names:
        by_edge = {row.edge: row for row in rows(rounds, name)}
        for edge, bar in SCENARIOS[name].bars.items():
            if (row := by_edge.get(edge)) is None:
                continue
            if row.ratio is not None and row.ratio_range is not None:
                seen = "{:.2f} x ({:.2f}-{:.2f})".format(row.ratio, *row.ratio_range)
                found.append(Verdict(row.edge, name, f"p99 <= {bar.p99_ratio} x even", seen, row.ratio <= bar.p99_ratio))
            if bar.worst_ms is not None:
                wanted = f"worst < {bar.worst_ms:.0f} ms"
                found.append(Verdict(row.edge, name, wanted, f"{row.worst_ms:.0f} ms", row.worst_ms < bar.worst_ms))
            if bar.errors is not None:
                found.append(_errors_verdict(row, name, bar.errors))
        if SCENARIOS[name].bars and (row := by_edge.get("smartedge-rr")) is not None:
            found.append(_errors_verdict(row, name, 0))
    return found


def _errors_verdict(row: Row, scenario: str, most: int) -> Verdict:
    return Verdict(row.edge, scenario, f"errors <= {most}", f"{_errors(row.errors)} of {row.requests}", row.failed <= most)


def verdict_table(found: Sequence[Verdict]) -> str:
    """Every bar, whether it was reached."""
    lines = [
        {"edge": v.edge, "scenario": v.scenario, "wanted": v.wanted, "seen": v.seen, "": "reached" if v.reached else "MISSED"}
        for v in found
    ]
    return aligned("what SmartEdge is held to", lines) if lines else ""


def as_json(rounds: Sequence[Round], names: Sequence[str]) -> dict[str, object]:
    """All there is: medians, bars, and each round."""
    return {
        "scenarios": {name: [asdict(row) for row in rows(rounds, name)] for name in names},
        "bars": [asdict(verdict) for verdict in verdicts(rounds, names)],
        "rounds": [{name: {edge: asdict(f) for edge, f in seen.items()} for name, seen in done.items()} for done in rounds],
    }


def write_chart(path: Path, rounds: Sequence[Round], names: Sequence[str], caption: str) -> None:
    """A panel for each scenario, a bar for each edge's p99; the dashed line is the least p99 with all backends even."""
    panels = []
    for name in names:
        even = min((row.p99_ms for row in rows(rounds, SCENARIOS[name].even)), default=None)
        found = rows(rounds, name)
        bars = [Bar(row.edge, row.p99_ms, _figure(row), row.edge not in EDGES or EDGES[row.edge].ours) for row in found]
        # One scale for all, so that panels can be compared; but not where every bar would be cut.
        full = CUT * even if even is not None and min(row.p99_ms for row in found) < CUT * even else None
        panels.append(Panel(name, f"{SCENARIOS[name].title} (p99 in ms, less is better)", bars, even, full))
    write_panels(path, panels, caption, RIGHT)


def _figure(row: Row) -> str:
    figure = f"{row.p99_ms:,.0f}  (worst {row.worst_ms:,.0f})"
    return f"{figure}  {row.failed} error{'s' if row.failed > 1 else ''}" if row.failed else figure
