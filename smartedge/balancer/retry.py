"""Retries: when another try is safe, and how many the pool can stand.

A retry hides one bad backend, but a sick pool that is sent every request three times gets no better. So
retries are paid from a budget that the requests themselves fill (Finagle's `RetryBudget`; RFC 9110 section
9.2.2 for what may be repeated).
"""

from __future__ import annotations

from dataclasses import dataclass

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""The methods, as on the wire, that may be repeated with the effect of one (RFC 9110 section 9.2.2)."""

PARTS = 10
"""The window moves in steps of a tenth."""

RETRY = 1000
"""The price of a retry, in a currency without fractions: fifty times 0.2 is a little less than ten."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is tried again, as the operator wrote it.

    statuses: answers that count as failures of the backend. attempts: tries in all, the first one included.
    deadline_s: after it no new try begins. body_bytes: up to this size a request's body is kept, to be sent
    again.
    """

    statuses: frozenset[int] = frozenset({502, 503, 504})
    attempts: int = 3
    deadline_s: float = 60.0
    body_bytes: int = 65_536


class RetryBudget:
    """In a window, retries may be `ratio` of its requests, plus `per_second` for each of its seconds."""

    __slots__ = ("_deposit", "_parts", "_reserve", "_tick", "_ticks_per_s")

    def __init__(self, ratio: float = 0.2, per_second: float = 10.0, window_s: float = 10.0) -> None:
        self._deposit = round(ratio * RETRY)
        self._reserve = round(per_second * window_s * RETRY)
        self._ticks_per_s = PARTS / window_s
        self._parts = [0] * PARTS  # what came in less what was spent, for each tenth of the window
        self._tick = 0

    def deposit(self, now: float) -> None:
        """Count a client's request; its retries are not requests."""
        self._parts[self._part(now)] += self._deposit

    def withdraw(self, now: float) -> bool:
        """Ask for one retry; True when it may be made, and then it is paid for."""
        part = self._part(now)
        if sum(self._parts) + self._reserve < RETRY:
            return False
        self._parts[part] -= RETRY
        return True

    def _part(self, now: float) -> int:
        """Return the index of the current tenth, having emptied those that have left the window."""
        tick = int(now * self._ticks_per_s)
        if tick > self._tick:  # a caller whose `now` is a little older must not turn time back
            for gone in range(max(self._tick + 1, tick + 1 - PARTS), tick + 1):
                self._parts[gone % PARTS] = 0
            self._tick = tick
        return tick % PARTS
