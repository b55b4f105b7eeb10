"""The circuit breaker: stop sending to a backend that fails, and try it again with one request at a time.

    closed --- 5 failures in a row, or half of at least 20 requests in 10 s ---> open
    open --- after 5 s, doubling up to 300 s, with equal jitter: the next lease is the probe ---> half_open
    half_open --- the probe succeeds ---> closed, or fails ---> open

Seconds are those of a monotonic clock. Equal jitter is half of the time plus a random part of the other half
("Exponential Backoff And Jitter", AWS Architecture Blog). What was begun before the breaker opened says
nothing new when it ends afterwards: a lease carries the ticket that `begin` gave it, and out of half_open
only a probe's ticket counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from random import Random
from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]
BreakerChange = Literal["opened", "closed"]

PARTS = 10
"""The window moves in steps of a tenth."""

MAX_DOUBLINGS = 40
"""Beyond any sensible `max_open_s`; a backend that is away for weeks must not overflow a float."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a backend is ejected and for how long, as the operator wrote it.

    failures: in a row. ratio: of failures to requests within `window_s`, once there are `min_requests` of
    them.
    """

    failures: int = 5
    ratio: float = 0.5
    window_s: float = 10.0
    min_requests: int = 20
    open_s: float = 5.0
    max_open_s: float = 300.0


class Breaker:
    """One backend's breaker. The policy may be replaced at any time: state and counts stay."""

    __slots__ = (
        "_failures",
        "_probe",
        "_requests",
        "_streak",
        "_tick",
        "_tickets",
        "_trips",
        "_until",
        "policy",
        "state",
    )

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.state: BreakerState = "closed"
        self._until = -inf  # not closed: when the next probe may begin
        self._trips = 0  # failed rounds since it was last closed
        self._tickets = 0
        self._probe = 0  # ticket of the probe under way
        self._streak = 0
        self._tick = 0
        self._requests = [0] * PARTS
        self._failures = [0] * PARTS

    def admits(self, now: float) -> bool:
        """Whether a lease may be taken now; asking changes nothing."""
        return self.state == "closed" or now >= self._until

    def next_change_at(self, now: float) -> float:
        """Return when `admits` will change by time alone; infinite when it will not."""
        return inf if self.admits(now) else self._until

    def begin(self, now: float) -> int:
        """Say that a lease is taken; return its ticket: 0, or another number for the one that is the probe.

        A probe has as long as the breaker was last open for; after that another may begin, and its silence
        has doubled the time.
        """
        if self.state == "closed" or now < self._until:
            return 0
        if self._probe:
            self._trips += 1
        self.state = "half_open"
        self._tickets += 1
        self._probe = self._tickets
        self._until = now + self._pause_s()
        return self._probe

    def succeeded(self, now: float, ticket: int = 0) -> BreakerChange | None:
        """Take in a success; return "closed" when it was the probe's."""
        if self.state == "closed":
            part = self._part(now)
            self._requests[part] += 1
            self._streak = 0
            return None
        if not ticket or self.state == "open":
            return None
        self.state = "closed"
        self._probe = self._trips = 0
        return "closed"

    def failed(
        self, now: float, rng: Random, ticket: int = 0, *, ratio_only: bool = False, last: bool = False
    ) -> BreakerChange | None:
        """Take in a failure; return "opened" when it was one too many, or the probe's.

        ratio_only: it says nothing about failures in a row (429: the backend works, and is asked too much).
        last: no other backend is available, so this one is not ejected; the failure counts all the same.
        """
        if self.state != "closed":
            return self._open(now, rng) if ticket and self.state == "half_open" else None
        part = self._part(now)
        self._requests[part] += 1
        self._failures[part] += 1
        self._streak += not ratio_only
        if last:
            return None
        policy = self.policy
        requests = sum(self._requests)
        if (not ratio_only and self._streak >= policy.failures) or (
            requests >= policy.min_requests and sum(self._failures) >= policy.ratio * requests
        ):
            return self._open(now, rng)
        return None

    def abandoned(self, now: float, ticket: int = 0) -> None:
        """Take in that the client left, which is no evidence; if it was the probe, the next lease is."""
        if ticket and ticket == self._probe:
            self._probe = 0
            self._until = now

    def _open(self, now: float, rng: Random) -> BreakerChange:
        self.state = "open"
        self._trips += 1
        half = self._pause_s() / 2
        self._until = now + half + rng.random() * half
        self._probe = self._streak = 0
        self._requests = [0] * PARTS
        self._failures = [0] * PARTS
        return "opened"

    def _pause_s(self) -> float:
        policy = self.policy
        doublings = min(self._trips - 1, MAX_DOUBLINGS)
        return min(policy.open_s * 2.0**doublings, policy.max_open_s)

    def _part(self, now: float) -> int:
        """Return the index of the current tenth of the window, having emptied those that have left it."""
        tick = int(now * PARTS / self.policy.window_s)
        step = tick - self._tick
        if step > 0 or step <= -PARTS:  # a little back is a caller with an older `now`; far back is a new window_s
            for gone in range(tick + 1 - min(abs(step), PARTS), tick + 1):
                self._requests[gone % PARTS] = self._failures[gone % PARTS] = 0
            self._tick = tick
        return tick % PARTS
