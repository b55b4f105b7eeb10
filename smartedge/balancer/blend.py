"""The order of tiers by what was measured: a near place that is slow loses its place, and has it back when it is quick again.

Nothing flaps: who is nearer loses only to one that takes clearly less time, several looks in a row, and has its place back when
it takes no longer than the other. Numbers in, order out; seconds throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SLOWER_RATIO: Final = 1.25
SLOWER_S: Final = 0.001
"""A nearer tier loses its place if it takes so many times as long as the other, and this much more."""

IN_ROW: Final = 3
"""So many looks in a row have to say so."""

TRIAL_RATIO: Final = 0.01
"""The share of the requests that each tier gets which would have none: it must be measured."""


class MeasuredOrder:
    """The order of some tiers; kept by `NearFirst`, looked at about once a second. order: their numbers, best first."""

    def __init__(self, count: int) -> None:
        self.order = list(range(count))
        self._wishes: dict[tuple[int, int], int] = {}

    def look(self, latencies_s: Sequence[float | None], priorities: Sequence[int]) -> bool:
        """Take in what each tier takes, None while too little is known; say whether the order is another now.

        Tiers of different priorities never change places.
        """
        wishes = {}
        changed = False
        for place in range(len(self.order) - 1):
            first, second = self.order[place : place + 2]
            if priorities[first] != priorities[second] or not _wants_change(first, second, latencies_s):
                continue
            count = self._wishes.get((first, second), 0) + 1
            if count < IN_ROW:
                wishes[first, second] = count
            elif not changed:  # one change a look: the next pairs are others now
                self.order[place], self.order[place + 1] = second, first
                changed = True
        self._wishes = wishes
        return changed


def _wants_change(first: int, second: int, latencies_s: Sequence[float | None]) -> bool:
    one, other = latencies_s[first], latencies_s[second]
    if one is None or other is None:
        return False
    if first < second:  # the nearer one is first
        return one > other * SLOWER_RATIO + SLOWER_S
    return other <= one


def with_trials(shares: Sequence[float], may_try: Sequence[bool]) -> list[float]:
    """Give each tier that has no share, and may be tried, a small one, at the cost of the others in proportion."""
    trials = [may and share < TRIAL_RATIO for share, may in zip(shares, may_try, strict=True)]
    rest = sum(share for share, trial in zip(shares, trials, strict=True) if not trial)
    if not rest:
        return list(shares)
    left = (1.0 - sum(trials) * TRIAL_RATIO) / rest
    return [TRIAL_RATIO if trial else share * left for share, trial in zip(shares, trials, strict=True)]
