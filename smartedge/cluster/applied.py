"""Who has applied a generation of the cluster's configuration, by the cards of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from smartedge.cluster.view import View


class Followed(Protocol):
    """A cluster as it is followed: by a ClusterWatch, or by a worker that another one tells what its watch has seen."""

    @property
    def view(self) -> View:
        """What is known now."""

    def wait_for(self, condition: Callable[[View], object], wait_s: float) -> bool:
        """Wait, for so long at most, until a view fulfils a condition; return whether one does."""


@dataclass(frozen=True, slots=True)
class AppliedByNodes:
    """How far a generation has come. late: nodes that have not said anything of it yet. refused: why not, by node.

    live, applied: nodes. workers_live, workers_applied: of all nodes together.
    """

    live: int
    applied: int
    late: tuple[str, ...]
    refused: Mapping[str, str]
    workers_live: int
    workers_applied: int


def applied_in(view: View, generation: int) -> AppliedByNodes:
    """Count who has applied this generation or a later one."""
    refused = {node: reason for node, card in view.cards.items() if (reason := _refusal(card, generation)) is not None}
    applied, late = [], []
    live_workers = applied_workers = 0
    for node, card in sorted(view.cards.items()):
        has_it = _number(card.get("generation")) >= generation
        workers = card.get("workers")
        counts: Mapping[str, Any] = workers if isinstance(workers, dict) else {}
        live_here, applied_here = _number(counts.get("live")), _number(counts.get("applied"))
        live_workers += live_here
        applied_workers += applied_here if has_it else 0
        if has_it and applied_here >= live_here:
            applied.append(node)
        elif node not in refused:
            late.append(node)
    refused = {node: reason for node, reason in sorted(refused.items()) if node not in applied}
    return AppliedByNodes(len(view.cards), len(applied), tuple(late), refused, live_workers, applied_workers)


def wait_applied(watch: Followed, generation: int, wait_s: float) -> AppliedByNodes:
    """Wait, for so long at most, until no node that lives is late."""
    watch.wait_for(lambda view: not applied_in(view, generation).late, wait_s)
    return applied_in(watch.view, generation)


def _refusal(card: Mapping[str, Any], generation: int) -> str | None:
    refused = card.get("refused")
    if not isinstance(refused, dict) or _number(refused.get("generation")) < generation:
        return None
    return str(refused.get("reason"))


def _number(value: object) -> int:
    return value if type(value) is int else 0
