"""Talking to a running balancer: a question to its admin endpoints, and the answer as text for a terminal."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from smartedge.config_values import escaped, printable

TIMEOUT_S = 30.0  # a reload waits for all workers
MAX_ANSWER_BYTES = 64 * 1024 * 1024


class UnreachableError(Exception):
    """Nobody answers there, or not like a balancer; the text says what to do."""


class RefusedError(Exception):
    """The balancer answers, and says no; the text has one line for each problem."""


def ask(method: str, url: str, path: str, *, token: str | None, body: object = None) -> dict[str, Any]:
    """Send one request with the bearer token, if there is one, and give the JSON object that comes back.

    body: what is sent as JSON, None for nothing.
    No proxy is used and no redirect is followed: the token goes nowhere else.
    """
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        status, text = _exchange(method, url, path, headers, body)
    except ValueError:  # of urlsplit: a port that is none, brackets that do not match
        raise UnreachableError(f"{printable(url)} is no URL; one looks like http://127.0.0.1:8080") from None
    except (OSError, http.client.HTTPException):
        message = f"no balancer answers at {printable(url)}; start one with: make run (or name it with --url)"
        raise UnreachableError(message) from None
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise UnreachableError(f"what answers at {printable(url)} is no balancer (status {status}, not JSON)")
    if status >= 300:
        raise RefusedError(_problem_text(status, answer))
    return answer


def reload_text(answer: dict[str, Any]) -> str:
    """Say in one line what a reload has changed."""
    return escaped(str(answer.get("message") or json.dumps(answer)))


def status_text(answer: dict[str, Any], *, as_json: bool = False) -> str:
    """Lay the status out as a table, one line for each backend, or as JSON."""
    if as_json:
        return json.dumps(answer, indent=2)
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


def _exchange(method: str, url: str, path: str, headers: dict[str, str], body: object) -> tuple[int, bytes]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT_S)
    try:
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        connection.request(method, parts.path + path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, response.read(MAX_ANSWER_BYTES)
    finally:
        connection.close()


def _problem_text(status: int, problem: dict[str, Any]) -> str:
    """Put problem+json (RFC 9457) into lines."""
    errors = [error for error in problem.get("errors") or [] if isinstance(error, dict)]
    said = ["title"] if errors else ["title", "detail"]  # the detail says the errors again, in one line
    lines = [_joined([f"refused with status {status}", *map(problem.get, said)])]
    lines += [_joined([error.get("path"), error.get("detail")]) for error in errors]
    if status in (401, 403):
        lines.append("set SMARTEDGE_ADMIN_TOKEN to the token that the balancer was started with")
    return "\n  ".join(map(escaped, lines))


def _joined(parts: list[object]) -> str:
    return ": ".join(str(part) for part in parts if part)


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
