"""What the edge tells people when it happens: the four lines of the console, and those of the log.

The four are the first edition's, word for word, on standard output. Everything else is logged, with a time and a level.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from smartedge.balancer.backend import Backend
from smartedge.balancer.silence import Fallen
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.config.found import Change
from smartedge.edge.reload import Discovered
from smartedge.edge.reload_report import Applied
from smartedge.observe.console import say

log = logging.getLogger("smartedge")

NAMED = 4
"""So many backends are named of those that were found at once."""

SILENCE_WORDS = {
    "silent": "backend has fallen silent",
    "heard": "backend is back",
    "observed": "backend would be called silent",
}

BREAKER_WORDS = {"opened": "ejected", "closed": "readmitted", "observed": "not ejected, for breakers only observe"}


def started(port: object) -> None:
    """Say where clients connect."""
    say(f"🚀 SmartEdge iniciado na porta {port}")


def reloaded(applied: Applied) -> None:
    """Say that there is another configuration, and on the next line what is different."""
    if applied.changed:
        say("🔄 Backends atualizados via /api/reload")
    if applied.changed or applied.certificate_renewed or applied.files_renewed:
        log.info("reload: %s", applied.message)


def discovered(found: Discovered) -> None:
    """Say what sources have found, and what they find no more."""
    log.info("generation %d: discovered %s", found.generation, "; ".join(map(_change, found.changes)))


def _change(change: Change) -> str:
    """Say what is another in one service: `web +2 -1 (new b3, b4; gone b1)`."""
    kinds = (("+", "new", change.new), ("-", "gone", change.gone), ("~", "changed", change.other))
    counts = [f"{sign}{len(ids)}" for sign, _, ids in kinds if ids]
    named = [f"{word} {_some(ids)}" for _, word, ids in kinds if ids]
    return f"{change.service} {' '.join(counts)} ({'; '.join(named)})"


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more


def unchanged(message: str) -> None:
    """Say to whoever has asked by a signal that there was nothing to do."""
    log.info("reload: %s", message)


def not_reloaded(error: Exception) -> None:
    """Say why the configuration stays as it was."""
    log.error("reload refused, nothing changed: %s", error)


def health_changed(backend: Backend, change: str) -> None:
    """Say what probes have found."""
    why = f"\n   {fault}" if (fault := backend.fault()) else ""
    spec = backend.spec
    where = spec.url if spec.id == spec.entry[0] else f"{spec.url} ({spec.addresses[0]})"
    if spec.service != DEFAULT_SERVICE:
        where += f" ({spec.name})"
    say(f"✅ {where} OK" if change == "up" else f"❌ {where} Offline{why}")


def breaker_changed(backend: Backend, change: str) -> None:
    """Say what a breaker did, and why."""
    why = backend.learned.breaker.why if change != "closed" else ""
    log.warning("backend %s: %s %s%s", BREAKER_WORDS[change], backend.spec.name, backend.url, f" ({why})" if why else "")


def silence(fallen: Fallen) -> None:
    """Say that a backend leaves requests unanswered that others answer, or that it no longer does."""
    level = logging.INFO if fallen.change == "heard" else logging.WARNING
    log.log(level, "%s: %s", SILENCE_WORDS[fallen.change], fallen)


def outlier(backend: Backend, found: Any) -> None:
    """Say that a backend is much worse than the others, and would be ejected if that were not only observed."""
    log.warning("backend would be ejected as an outlier: %s %s (%s)", backend.spec.name, backend.url, found)
