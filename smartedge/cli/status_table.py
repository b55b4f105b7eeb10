"""The answers of a running balancer as text for a terminal: its status as a table, a reload as a line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from smartedge.balancer.spec import DEFAULT_SERVICE, name_backend
from smartedge.cli.cluster_table import cluster_line
from smartedge.cli.paint import Paint, unpainted
from smartedge.cli.table import Entry, duration_text, entries_of, line_of, title_line, widths_of
from smartedge.config.values import escaped


def reload_text(answer: Entry) -> str:
    """Say in one line what a reload has changed."""
    return escaped(str(answer.get("message") or json.dumps(answer)))


def status_text(answer: Entry, paint: Paint = unpainted) -> str:
    """Lay the status out as a table of one line for each backend, and say below of each that gets nothing why.

    With several services each has a table, under a line of its own. paint: gives words that are good or bad their colour.
    """
    services = {name: one for name, one in _services(answer).items() if isinstance(one, dict)}
    if services.keys() <= {DEFAULT_SERVICE}:
        groups = [("", _lines_of(services.get(DEFAULT_SERVICE)), entries_of(answer.get("backends")))]
    else:
        groups = [(_service_line(name, one), _lines_of(one), entries_of(one.get("backends"))) for name, one in services.items()]
    tables = [[[escaped(show(entry)) for _, _, show in _COLUMNS] for entry in backends] for _, _, backends in groups]
    titles = [title for title, _, _ in _COLUMNS]
    numbers = [index for index, (_, is_word, _) in enumerate(_COLUMNS) if not is_word]
    widths = widths_of([titles, *(row for rows in tables for row in rows)])
    lines = [escaped(line) for line in _head(answer, per_service=bool(groups[0][0]))]
    for (head, more, backends), rows in zip(groups, tables, strict=True):
        lines += ["", escaped(head)] if head else []
        lines += map(escaped, more)
        lines += [title_line(titles, widths, numbers, paint), *(line_of(cells, widths, numbers, paint) for cells in rows)]
        lines += [
            paint(escaped(f"{_name(entry)} gets nothing: {_why(entry)}"), "bad") for entry in backends if entry.get("why_not")
        ]
    return "\n".join(lines)


def _services(answer: Entry) -> Entry:
    services = answer.get("services")
    return services if isinstance(services, dict) else {}


def _service_line(name: str, service: Entry) -> str:
    """Say what a service is, and what it does."""
    parts = [f"strategy {service.get('strategy', '?')}", f"{service.get('up', '?')} of {service.get('total', '?')} up"]
    recent = service.get("recent")
    if isinstance(recent, dict):
        parts.append(f"{_rate(recent, 'requests_per_s')} requests/s, {_rate(recent, 'failed_per_s')} failed/s")
    if service.get("status") == "no_backend":
        parts.append("no backend can serve")
    return f"{name}: {', '.join(parts)}"


def _lines_of(service: Entry | None) -> list[str]:
    """Say what there is to say of a service besides its backends."""
    return [] if service is None else _source_lines(service) + _tier_lines(service)


def _source_lines(service: Entry) -> list[str]:
    """Say of each source of discovery what it has found, how old that is, and what is wrong with it."""
    lines = []
    for source in entries_of(service.get("discovery")):
        text = f"discovery {source.get('source')}: {source.get('backends')} found, {source.get('state')}"
        if isinstance(source.get("age_s"), int | float):
            text += f", {duration_text(source['age_s'])} old"
        lines.append(f"{text}: {source['problem']}" if source.get("problem") else text)
    return lines


def _tier_lines(service: Entry) -> list[str]:
    """Say of each tier where it is, what it carries, and how much longer its answers take than those of the nearest."""
    locality = service.get("locality")
    lines = []
    for tier in entries_of(locality.get("tiers")) if isinstance(locality, dict) else []:
        words = [str(tier.get("nearness"))]
        if isinstance(tier.get("distance_km"), int | float):
            words.append(f"{tier['distance_km']:,.0f} km")
        if tier.get("priority"):
            words.append(f"priority {tier['priority']}")
        text = f"tier {tier.get('tier')} ({', '.join(words)}): {', '.join(map(str, tier.get('zones') or ()))}"
        text += f" carries {_share(tier, 'share_ratio')}, {tier.get('available')} of {tier.get('total')} available"
        if isinstance(tier.get("extra_latency_s"), int | float) and tier.get("tier"):
            text += f", {tier['extra_latency_s'] * 1000:+,.1f} ms"
        lines.append(text)
    return lines


def _name(entry: Entry) -> str:
    return name_backend(str(entry.get("service", DEFAULT_SERVICE)), str(entry.get("id")))


def _head(answer: Entry, *, per_service: bool) -> list[str]:
    """Say in a line what runs, and in another what it does. per_service: the strategy is said of each service."""
    workers = entries_of(answer.get("workers"))
    parts = [f"generation {answer.get('generation', '?')}"]
    if not per_service:
        parts.insert(0, f"strategy {answer.get('strategy', '?')}")
    if workers:
        named = ", ".join(_worker(worker, answer.get("generation")) for worker in workers)
        parts.append(f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'} ({named})")
    if isinstance(answer.get("uptime_s"), int | float):
        parts.append(f"up {duration_text(answer['uptime_s'])}")
    lines = [", ".join(parts)]
    recent = answer.get("recent")
    if isinstance(recent, dict):
        rates = f"{_rate(recent, 'requests_per_s')} requests/s, {_rate(recent, 'failed_per_s')} failed/s"
        lines.append(f"in the last {recent.get('window_s', 0):.0f} s: {rates}")
    if words := refusal_words(answer):
        lines.append(f"refused since the start: {', '.join(words)}")
    if isinstance(answer.get("cluster"), dict):
        lines.append(cluster_line(answer["cluster"]))
    drowning = answer.get("drowning")
    if isinstance(drowning, dict):
        took = f"{drowning['now_s']:.1f} s, usually {drowning['usual_s'] * 1000:,.1f} ms"
        lines.append(f"drowning for {duration_text(drowning['for_s'])}: answers take {took}; see docs/overload.md")
    if answer.get("draining"):
        lines.append("draining: /health answers 503, so that whoever is in front sends nothing new")
    return lines


def refusal_words(answer: Mapping[str, Any]) -> list[str]:
    """Say how many requests were refused before any backend saw them, each reason that there is: no backend has them."""
    totals = answer.get("totals")
    counts = totals if isinstance(totals, dict) else {}
    reasons = (("queue_refused", "as no backend was free"), ("rate_limited", "beyond the rate limit"))
    return [f"{counts[key]:,} {why}" for key, why in reasons if isinstance(counts.get(key), int) and counts[key]]


def _worker(worker: Entry, generation: object) -> str:
    told = str(worker.get("pid"))
    if worker.get("leader"):
        told += " leads"
    if worker.get("generation", generation) != generation:
        told += f" still has generation {worker['generation']}"
    return told


def _why(entry: Entry) -> str:
    """Say why a backend may not be picked, with the number that makes it so."""
    reason = str(entry["why_not"])
    words = reason.replace("_", " ")
    check = entry.get("last_check")
    if reason == "unhealthy" and isinstance(check, dict) and not check.get("ok"):
        return ": ".join(str(part) for part in (words, check.get("asked"), check.get("detail")) if part)
    if reason == "breaker_open" and entry.get("ejected_s") is not None:
        return f"{words} for {entry['ejected_s']:.1f} s more"
    if reason == "full":
        return f"{words}: {entry.get('in_flight')} of {entry.get('max_in_flight')} in flight"
    return words


def _word(key: str) -> Callable[[Entry], str]:
    return lambda entry: "-" if entry.get(key) is None else str(entry[key])


def _count(key: str) -> Callable[[Entry], str]:
    return lambda entry: f"{entry[key]:,}" if isinstance(entry.get(key), int) else "-"


def _milliseconds(key: str) -> Callable[[Entry], str]:
    def show(entry: Entry) -> str:
        value = entry.get(key)
        return f"{value * 1000:,.1f} ms" if isinstance(value, int | float) and value else "-"  # 0 is: none yet

    return show


def _lately(key: str, show: Callable[[Entry, str], str]) -> Callable[[Entry], str]:
    return lambda entry: show(entry["recent"], key) if isinstance(entry.get("recent"), dict) else "-"


def _rate(recent: Entry, key: str) -> str:
    value = recent.get(key)
    return f"{value:,.1f}" if isinstance(value, int | float) else "-"


def _share(recent: Entry, key: str) -> str:
    value = recent.get(key)
    return f"{value:.1%}" if isinstance(value, int | float) else "-"


def _weight(entry: Entry) -> str:
    """Show what a slow start leaves of it, too."""
    weight, effective = entry.get("weight"), entry.get("effective_weight")
    if not isinstance(weight, int | float):
        return "-"
    return f"{weight:g}" if effective in (None, weight) else f"{weight:g} ({effective:g} now)"


_COLUMNS: tuple[tuple[str, bool, Callable[[Entry], str]], ...] = (
    ("BACKEND", True, _name),
    ("URL", True, _word("url")),
    ("WEIGHT", False, _weight),
    ("STATE", True, _word("state")),
    ("HEALTH", True, _word("health")),
    ("BREAKER", True, _word("breaker")),
    ("IN FLIGHT", False, _count("in_flight")),
    ("REQ/S", False, _lately("requests_per_s", _rate)),
    ("SHARE", False, _lately("share_ratio", _share)),
    ("FAILED/S", False, _lately("failed_per_s", _rate)),
    ("EWMA", False, _milliseconds("ewma_s")),
    ("P50", False, _milliseconds("p50_s")),
    ("P99", False, _milliseconds("p99_s")),
    ("REQUESTS", False, _count("requests")),
    ("FAILED", False, _count("failed")),
)
"""Title, whether it is a word, and what is shown. Rates and shares are those of the last minute, the last two since the start."""
