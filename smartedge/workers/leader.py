"""Who does what one worker does for all: probes, and looks for outliers.

The leader is whoever holds `leader.lock`, which the kernel lets go of when it dies. Each worker has a heartbeat: it writes the
time on the board whenever it comes round. While the leader has none, though it lives (it was stopped, or its loop hangs), the
first of the other workers that has one does its work, until the leader is back. Two of them may then overlap
for a moment: a probe too many does no harm.
"""

from __future__ import annotations

from smartedge.workers.membership import Membership

SILENT_S = 3.0
"""A worker without a heartbeat for so long does nothing for others."""


class Leadership:
    """Whether one worker leads, by its membership; owned by its follower, asked by all that one worker does for all."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def __call__(self, now: float) -> bool:
        """Say whether this worker is to do the leader's work now; asked often, which shows that it lives."""
        membership = self._membership
        membership.beat(now)
        if membership.lead():
            return True
        beats = membership.last_beats()
        leader = membership.leader_slot()
        if leader is None or now - (beats.get(leader) or now) < SILENT_S:
            return False
        awake = [slot for slot, at in beats.items() if now - at < SILENT_S]
        return min(awake, default=None) == membership.slot
