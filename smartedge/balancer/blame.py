"""Blame: whether a failure is its backend's own, or everybody's.

A bad URL of the application, a dead database behind all of them, a client that sends what nobody can answer: then
all backends fail alike, and to eject one, or to send less after it, helps nobody. So a failure is compared with
what the others have made of the same kind of request at the same time. Nothing is counted while nothing fails: the
first failure of a kind begins an inquiry, which ends when there was none for ten seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from smartedge.balancer.learned import Learned

Cause = Literal["own", "shared", "unknown"]
"""Own: others do clearly better. Shared: none does. Unknown: no other has been asked for the like meanwhile."""

INQUIRY_S: Final = 10.0
"""An inquiry ends so long after the last failure; what a backend did longer ago says nothing."""

JUST_NOW_S: Final = 2.0
"""What another did within this time, or since this one began to fail, was at the same time."""

RECENT: Final = 16
"""A backend's share of failures is that of about so many requests."""

BETTER: Final = 0.5
"""Others do clearly better if their share of failures is less than this part of one's own."""

ENOUGH: Final = 0.25
"""So many of the others do better at least: when one of twenty is sound, the twenty have a trouble in common."""

HOPELESS: Final = 0.5
"""With so large a share of failures at the others it is no use to ask one of them, too."""


class Result:
    """How one backend's requests of one kind ended of late. failing_since: when its failures in a row began."""

    __slots__ = ("at", "count", "failing_since", "share")

    def __init__(self) -> None:
        self.at = self.failing_since = self.share = 0.0
        self.count = 0


class Results:
    """How requests of one kind ended, by backend, while an inquiry lasts; owned by a `Kind`, asked by `Evidence`."""

    __slots__ = ("_by", "_failed_at")

    def __init__(self) -> None:
        self._by: dict[Learned, Result] = {}
        self._failed_at = 0.0

    def note(self, who: Learned, now: float, *, failed: bool) -> None:
        """Take in how a request ended."""
        if failed:
            self._failed_at = now
        elif not self._by:
            return
        elif now - self._failed_at > INQUIRY_S:
            self._by.clear()
            return
        result = self._by.get(who)
        if result is None or now - result.at > INQUIRY_S:
            result = self._by[who] = Result()
        if result.count < RECENT:
            result.count += 1
        result.share += (failed - result.share) / result.count
        result.at = now
        if not failed:
            result.failing_since = 0.0
        elif not result.failing_since:
            result.failing_since = now

    def blame(self, who: Learned, now: float) -> Cause:
        """Say whose a failure is that was noted just now."""
        own = self._by.get(who)
        if own is None:
            return "unknown"
        others = self._others(who, min(own.failing_since or now, now - JUST_NOW_S), now)
        if not others:
            return "unknown"
        better = sum(other.share < BETTER * own.share for other in others)
        return "own" if better and better >= ENOUGH * len(others) else "shared"

    def is_hopeless(self, who: Learned, now: float) -> bool:
        """Whether the others fail at it, too, so that another try would only double the load."""
        own = self._by.get(who)
        since = own.failing_since if own is not None and own.failing_since else now
        others = self._others(who, min(since, now - JUST_NOW_S), now)
        return bool(others) and sum(other.share for other in others) >= HOPELESS * len(others)

    def keep(self, members: Collection[Learned]) -> None:
        """Forget those that are no members any more."""
        self._by = {who: result for who, result in self._by.items() if who in members}

    def forget(self, who: Learned) -> None:
        """Forget how one's requests ended so far."""
        self._by.pop(who, None)

    def sharers(self) -> list[Learned]:
        """Return all who have failed."""
        return [who for who, result in self._by.items() if result.share]

    def _others(self, who: Learned, since: float, now: float) -> list[Result]:
        since = max(since, now - INQUIRY_S)
        return [
            result for other, result in self._by.items() if other is not who and result.at >= since and not _is_ejected(other)
        ]


def _is_ejected(who: Learned) -> bool:
    """Whether a backend was found worse than others already: it is nobody to be compared with."""
    return who.breaker.state != "closed"
