"""The nodes of a cluster as text for a terminal: a table, and above it how they stand together."""

from __future__ import annotations

import time

from smartedge.cli.paint import Paint, unpainted
from smartedge.cli.table import Entry, duration_text, entries_of, table_lines
from smartedge.config.values import escaped

_TITLES = ("node", "address", "version", "generation", "workers", "up", "requests", "since", "")


def cluster_text(answer: Entry, now: float | None = None, paint: Paint = unpainted) -> str:
    """Lay the nodes out as a table of one line each, and say below why one does not use what the others do. now: Unix time."""
    now = time.time() if now is None else now
    nodes = entries_of(answer.get("nodes"))
    rows = [_TITLES, *(_row(one, now) for one in nodes)]
    head = escaped(cluster_line(answer | {"nodes": len(nodes)}))
    lines = [head if answer.get("state") == "live" else paint(head, "bad"), *table_lines(rows, paint=paint)]
    for one in nodes:
        if isinstance(refused := one.get("refused"), dict):
            reason = f"{one.get('node')} cannot use generation {refused.get('generation')}: {refused.get('reason')}"
            lines.append(paint(escaped(reason), "bad"))
    if answer.get("problem"):
        lines.append(paint(escaped(str(answer["problem"])), "bad"))
    return "\n".join(lines)


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
        duration_text(now - since) if isinstance(since, int | float) else "?",
        ", ".join(marks),
    )


def _of(counts: object, some: str, whole: str) -> str:
    return f"{counts.get(some, '?')}/{counts.get(whole, '?')}" if isinstance(counts, dict) else "?"
