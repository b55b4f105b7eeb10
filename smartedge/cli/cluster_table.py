"""The nodes of a cluster as text for a terminal: a table, and above it how they stand together."""

from __future__ import annotations

import time
from typing import Any

from smartedge.config.values import escaped

Entry = dict[str, Any]

_TITLES = ("node", "address", "version", "generation", "workers", "up", "requests", "since", "")


def cluster_text(answer: Entry, now: float | None = None) -> str:
    """Lay the nodes out as a table of one line each, and say below why one does not use what the others do. now: Unix time."""
    now = time.time() if now is None else now
    nodes = [one for one in answer.get("nodes") or [] if isinstance(one, dict)]
    rows = [_TITLES, *(_row(one, now) for one in nodes)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [cluster_line(answer | {"nodes": len(nodes)}), *(_line(row, widths) for row in rows)]
    for one in nodes:
        if isinstance(refused := one.get("refused"), dict):
            lines.append(f"{one.get('node')} cannot use generation {refused.get('generation')}: {refused.get('reason')}")
    if answer.get("problem"):
        lines.append(str(answer["problem"]))
    return "\n".join(map(escaped, lines))


def cluster_line(answer: Entry) -> str:
    """Say in a line how the cluster stands. answer: with its nodes as a number."""
    state, nodes = "live", answer.get("nodes", "?")
    if answer.get("state") != "live":
        age_s = answer.get("age_s")
        state = "stale: etcd has not been heard of" + (f" for {age_s:.0f} s" if isinstance(age_s, int | float) else " yet")
    parts = [f"cluster {answer.get('prefix', '?')}", f"generation {answer.get('generation', '?')}"]
    parts += [f"{nodes} {'node' if nodes == 1 else 'nodes'}", state]
    return ", ".join(parts)


def _row(node: Entry, now: float) -> tuple[str, ...]:
    since = node.get("since")
    marks = [mark for mark, is_so in (("draining", node.get("draining")), ("refuses", node.get("refused"))) if is_so]
    return (
        str(node.get("node", "?")),
        str(node.get("address", "?")),
        str(node.get("version", "?")),
        str(node.get("generation", "?")),
        _of(node.get("workers"), "applied", "live"),
        _of(node.get("backends"), "up", "total"),
        f"{node['requests']:,}" if isinstance(node.get("requests"), int) else "?",
        _duration(now - since) if isinstance(since, int | float) else "?",
        ", ".join(marks),
    )


def _of(counts: object, some: str, whole: str) -> str:
    return f"{counts.get(some, '?')}/{counts.get(whole, '?')}" if isinstance(counts, dict) else "?"


def _duration(seconds: float) -> str:
    minutes = int(max(seconds, 0.0)) // 60
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days}d {hours}h" if days else f"{hours}h {minutes % 60}m" if hours else f"{minutes}m {int(max(seconds, 0)) % 60}s"


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
