"""A source asked a single time, for people who want to know what it says: nothing is kept, and nothing goes by it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import gevent

from smartedge.config.backends import BackendConfig
from smartedge.config.named_class import described
from smartedge.discovery.check import EntryChecker, entries_of, why_unbelieved
from smartedge.discovery.menu import MadeSource
from smartedge.discovery.runner import FAILURES
from smartedge.discovery.source import SourceError

BESIDES_S: Final = 0.05
"""How long to wait, after an answer, for a part of it that failed: a source tells of that when it goes on."""


@dataclass(frozen=True, slots=True)
class SourceAnswer:
    """What a source said. problem: why it did not, or why nobody would go by it; "" for a good answer.

    findings: what is wrong with single entries, or with a part of the answer. ttl_s: how long it holds, None where nothing
    says so. took_s: seconds.
    """

    kind: str
    backends: tuple[BackendConfig, ...]
    problem: str
    findings: Sequence[str]
    ttl_s: float | None
    took_s: float


def ask_once(made: MadeSource, timeout_s: float) -> SourceAnswer:
    """Take the first answer of a source, for which it has so long; raises nothing that the source does."""
    started = time.monotonic()
    backends: tuple[BackendConfig, ...] = ()
    findings: list[str] = []
    ttl_s, problem = None, ""
    snapshots: Any = None
    try:
        with gevent.Timeout(timeout_s, SourceError(f"it gave no answer within {timeout_s:g} s")):
            source = made.make()
            snapshots = source.snapshots()
            entries = entries_of(next(snapshots))
        took_s = time.monotonic() - started
        checked = EntryChecker(made.options.defaults).check_entries(entries)
        backends, findings = checked.backends, list(checked.findings)
        ttl_s = getattr(source, "ttl_s", None)
        problem = why_unbelieved(entries, checked, allow_empty=made.options.allow_empty, source=source)
        findings += _besides(snapshots)
    except StopIteration:
        took_s, problem = time.monotonic() - started, "it has ended without an answer"
    except SourceError as error:
        took_s, problem = time.monotonic() - started, str(error)
    except FAILURES as error:
        took_s, problem = time.monotonic() - started, described(error)
    return SourceAnswer(made.kind, backends, problem, findings, ttl_s, took_s)


def _besides(snapshots: Any) -> list[str]:
    """Hear what else the source has to say of an answer in which a part is missing."""
    try:
        with gevent.Timeout(BESIDES_S, False):
            next(snapshots, None)
    except SourceError as error:
        return [str(error)]
    except FAILURES as error:
        return [described(error)]
    return []
