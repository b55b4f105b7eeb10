"""The answers of a running balancer as text for a terminal: its status as a table, a reload as a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from smartedge.config_values import escaped


def reload_text(answer: dict[str, Any]) -> str:
    """Say in one line what a reload has changed."""
    return escaped(str(answer.get("message") or json.dumps(answer)))


def status_text(answer: dict[str, Any]) -> str:
    """Lay the status out as a table, one line for each backend."""
    backends = [_with_will(entry) for entry in answer.get("backends") or [] if isinstance(entry, dict)]
    rows = [[escaped(show(entry.get(key))) for _, key, show in _COLUMNS] for entry in backends]
    table = [[title for title, _, _ in _COLUMNS], *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    head = f"strategy {answer.get('strategy', '?')}, generation {answer.get('generation', '?')}"
    return "\n".join([escaped(head), *(_row(cells, widths) for cells in table)])


def _with_will(entry: dict[str, Any]) -> dict[str, Any]:
    """Have the health of a backend that the operator took out say so, too: it alone explains why it gets nothing."""
    will = entry.get("will", "enabled")
    return entry if will == "enabled" else entry | {"health": f"{_word(entry.get('health'))}, {will}"}


def _row(cells: list[str], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    aligned = (
        cell.ljust(width) if show is _word else cell.rjust(width)
        for cell, width, (_, _, show) in zip(cells, widths, _COLUMNS, strict=True)
    )
    return "  ".join(aligned).rstrip()


def _word(value: object) -> str:
    return "-" if value is None else str(value)


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def _share(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else "-"


def _milliseconds(value: object) -> str:
    return f"{value * 1000:,.1f} ms" if isinstance(value, int | float) and value else "-"  # 0 is: none yet


_COLUMNS: tuple[tuple[str, str, Callable[[object], str]], ...] = (
    ("BACKEND", "id", _word),
    ("URL", "url", _word),
    ("HEALTH", "health", _word),
    ("BREAKER", "breaker", _word),
    ("IN FLIGHT", "in_flight", _count),
    ("REQUESTS", "requests", _count),
    ("SHARE", "share_ratio", _share),
    ("FAILED", "failed", _count),
    ("EWMA", "ewma_s", _milliseconds),
    ("P50", "p50_s", _milliseconds),
    ("P99", "p99_s", _milliseconds),
)
