"""What was decided about requests, as text for a terminal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from smartedge.cli.paint import STYLES, Paint, unpainted
from smartedge.cli.table import entries_of, table_lines
from smartedge.config.values import escaped

Row = list[str]


def explained_text(answer: dict[str, Any], paint: Paint = unpainted) -> str:
    """Tell one request: a sentence, then each try with its candidates."""
    head = (
        f"{answer.get('method', '?')} {answer.get('path', '?')}: status {answer.get('status', '?')}, {answer.get('outcome', '?')}"
    )
    times = [f"latency {_ms(answer.get('latency_s'))}", f"duration {_ms(answer.get('duration_s'))}"]
    came = f"at {_clock(answer.get('at'))} from {answer.get('client', '?')}{_way(answer)}"
    if answer.get("trace_id"):
        came += f", trace {answer['trace_id']}"
    lines = [
        f"{head}, {', '.join(times)}",
        f"{came}; recorded because: {_words(answer.get('why'))}",
        f"{answer.get('summary') or 'nothing was decided'}.",
    ]
    if answer.get("error"):
        lines.append(f"error: {answer['error']} (blame: {answer.get('blame')})")
    for one in entries_of(answer.get("tries")):
        lines += ["", *_try_lines(one)]
    if answer.get("tries_left_out"):
        lines += ["", f"{answer['tries_left_out']} more tries between these"]
    first, *others = map(escaped, lines)
    return "\n".join([paint(first, STYLES.get(str(answer.get("outcome")), "plain")), *others])


def list_text(answer: dict[str, Any], paint: Paint = unpainted) -> str:
    """Tell many requests, one line for each."""
    found = entries_of(answer.get("decisions"))
    routed = any(one.get("route") for one in found)
    rows = [
        [
            str(one.get("request_id")),
            _clock(one.get("at")),
            str(one.get("status")),
            str(one.get("outcome")),
            _ms(one.get("duration_s")),
            _words(one.get("why")),
            *([str(one.get("route") or "-"), str(one.get("service") or "-")] if routed else []),
            str(one.get("summary") or one.get("error") or "-"),  # a request that met no backend has no pick to tell of
        ]
        for one in found
    ]
    if not rows:
        return (
            "No request is kept that fits: some of them are (explain.sample_ratio), all that failed or were tried again, "
            "and those that ask for it (X-SmartEdge-Explain: 1)."
        )
    titles = ["REQUEST", "AT", "STATUS", "OUTCOME", "DURATION", "BECAUSE", *(["ROUTE", "SERVICE"] if routed else []), "DECISION"]
    return "\n".join(table_lines([titles, *rows], paint=paint))


def _way(answer: dict[str, Any]) -> str:
    """Say by which route a request came to which service, where there are routes."""
    if not answer.get("route"):
        return ""
    return f", by route {answer['route']}" + (f" to {answer['service']}" if answer.get("service") else "")


def _try_lines(one: dict[str, Any]) -> list[str]:
    end = [str(one.get("outcome") or "?")]
    if one.get("status"):
        end.append(f"status {one['status']}")
    if one.get("latency_s") is not None:
        end.append(f"latency {_ms(one['latency_s'])}")
    if one.get("error"):
        end.append(str(one["error"]))
    head = f"try {one.get('number')} ({one.get('kind')}), after {_ms(one.get('after_s'))}: {one.get('backend') or 'no backend'}"
    lines = [f"{head}: {', '.join(end)}"]
    if not one.get("recorded"):
        return [*lines, "  what it was picked from was not recorded"]
    if candidates := entries_of(one.get("candidates")):
        lines += [f"  {line}" for line in table_lines([["", *_TITLES], *map(_candidate, candidates)])]
    more = (one.get("candidate_count") or 0) - len(candidates)
    if more > 0:
        lines.append(f"  and {more} more candidates")
    if left_out := [[f"left out: {other.get('id')}", _why(other)] for other in entries_of(one.get("left_out"))]:
        lines += [f"  {line}" for line in table_lines(left_out, titled=False)]
    if one.get("unseen"):
        lines.append(f"  and {one['unseen']} more left out")
    return lines


_TITLES = ("CANDIDATE", "WEIGHT", "EFFECTIVE", "IN FLIGHT", "EWMA", "PACE", "WAITING", "EXPECTED", "COST", "TURNS")


def _candidate(candidate: dict[str, Any]) -> Row:
    cost, turns = candidate.get("cost"), candidate.get("turns_ratio")
    return [
        "*" if candidate.get("picked") else "",
        str(candidate.get("id")),
        *(
            f"{candidate[name]:g}" if candidate.get(name) is not None else "-"
            for name in ("weight", "effective_weight", "in_flight")
        ),
        *(_ms(candidate.get(name)) for name in ("ewma_s", "pace_s", "waiting_s", "latency_s")),
        "-" if cost is None else f"{cost:.4g}",
        "-" if turns is None else f"{turns:.0%}" if turns >= 0.1 else f"{turns:.1%}",
    ]


def _why(other: dict[str, Any]) -> str:
    words = str(other.get("reason")).replace("_", " ")
    if other.get("for_s") is None:
        return words
    return f"{words} for {other['for_s']:.1f} s, until {_clock(other.get('until'))}"


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "?"


def _ms(seconds: object) -> str:
    return f"{seconds * 1000:,.1f} ms" if isinstance(seconds, int | float) else "-"


def _clock(at: object) -> str:
    return datetime.fromtimestamp(at).strftime("%H:%M:%S.%f")[:-3] if isinstance(at, int | float) else "-"
