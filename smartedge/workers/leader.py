"""Who does what one worker does for all: probes, and looks for outliers.

The leader is whoever holds `leader.lock`, which the kernel lets go of when it dies. It shows a sign of life on the board each
time that it comes round. While it shows none, though it lives (it was stopped, or its loop hangs), the first of the other
workers that shows one does its work, until the leader is back. Two of them may then overlap for a moment: a probe too
many does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

SILENT_S = 3.0
"""A worker that has shown no sign of life for so long does nothing for others."""


class Workers(Protocol):
    """The live workers of the edge, such as workers/membership.py's Membership."""

    slot: int

    def lead(self) -> bool:
        """Say whether this worker is the leader, made so if nobody else is."""

    def show(self, now: float) -> None:
        """Show a sign of life."""

    def shown(self) -> Mapping[int, float]:
        """Return when each live worker last showed one, by its slot; 0.0 for not yet."""

    def leader_slot(self) -> int | None:
        """Return the leader's slot; None while there is none."""


class Leadership:
    """One worker's view of who leads."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def __call__(self, now: float) -> bool:
        """Say whether this worker is to do the leader's work now; asked often, which shows that it lives."""
        workers = self._workers
        workers.show(now)
        if workers.lead():
            return True
        shown = workers.shown()
        leader = workers.leader_slot()
        if leader is None or now - (shown.get(leader) or now) < SILENT_S:
            return False
        awake = [slot for slot, at in shown.items() if now - at < SILENT_S]
        return min(awake, default=None) == workers.slot
