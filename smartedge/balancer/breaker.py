"""The circuit breaker: stop sending to a backend that fails, and try it again with one request at a time.

    closed --- 5 failures in a row, or half of at least 20 requests in 10 s ---> open
    open --- after 5 s, doubling up to 300 s, with equal jitter: the next lease is the probe ---> half_open
    half_open --- the probe succeeds ---> closed, or fails ---> open
    open, half_open --- a health check is good again after bad ones, or an answer is good when nobody else is left ---> closed

Each time it opens it stays so for twice as long. A doubling is forgotten for every `window_s` that it was closed, and all are
when the backend was unhealthy and is healthy again: another process does not serve its predecessor's term (Envoy's outlier
detection has both, as `successful_active_health_check_uneject_host` and as a multiplier that goes down with time).

Seconds are those of a monotonic clock, the same one in all workers. Equal jitter is half of the time plus a
random part of the other half ("Exponential Backoff And Jitter", AWS Architecture Blog). What was begun before
the breaker opened says nothing new when it ends afterwards: a lease carries the ticket that `take_ticket` gave it,
and out of half_open only a probe's ticket counts.

One breaker may live in several processes. Its state is in the row that they share; what each of them counts
in the window is in a row of its own, and whoever sees a failure adds all rows up. Only two steps must not be
taken by two workers at once, to open it and to begin a probe; for those they keep each other out (`try_exclusive`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final, Literal

from smartedge.balancer.cells import (
    BREAKER,
    BREAKER_PROBE,
    BREAKER_STREAK,
    BREAKER_TICK,
    BREAKER_TICKETS,
    BREAKER_TRIPS,
    BREAKER_UNTIL,
    OUTRUN_SINCE,
    WINDOW_FAILURES,
    WINDOW_PARTS,
    WINDOW_REQUESTS,
    WINDOW_TICK,
    BackendRows,
)

BreakerState = Literal["closed", "open", "half_open"]
BreakerChange = Literal["opened", "closed", "observed"]
TryExclusive = Callable[[], AbstractContextManager[bool]]
"""Keeps the other workers out for a few lines; says False, and does not wait, when one of them is in there."""

STATES: Final[tuple[BreakerState, ...]] = ("closed", "open", "half_open")
"""What the shared cell's numbers mean."""

CLOSED, OPEN, HALF_OPEN = range(3)

TAKEN: Final = -1
"""What `take_ticket` says when another worker has begun the probe in the same moment."""

EARLY: Final = -2
"""The ticket of a lease before its time, for nobody else can serve: its failure says nothing new, its success closes it."""

LEAST_OUTRUN: Final = 5
"""So often in a row at least is a backend outrun before it is ejected: an operator's `failures: 1` means failures."""

LEAST_OUTRUN_S: Final = 1.0
"""And for so long at least."""

AGAIN: Final = "the request that tried it again failed too"

MAX_DOUBLINGS: Final = 40
"""Beyond any sensible `max_open_s`; a backend that is away for weeks must not overflow a float."""


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a backend is ejected and for how long, as the operator wrote it; part of a `BackendSpec`.

    failures: in a row. ratio: of failures to requests within `window_s`, once there are `min_requests` of
    them. max_ejected_ratio: of all backends; no more are ejected than that, and never the last one that is
    available. observe: say when it would open, and stay closed.
    """

    failures: int
    ratio: float
    window_s: float
    min_requests: int
    open_s: float
    max_open_s: float
    max_ejected_ratio: float
    observe: bool


class Breaker:
    """One backend's breaker; owned by its `Learned`, told by leases through the pool, asked by whoever picks.

    The policy may be replaced at any time: state and counts stay.

    rows: where all workers count, for the window. why: what opened it last in this process, in words.
    """

    __slots__ = ("_counted_at", "_ints", "_own", "_part_ends", "_policy", "_reals", "rows", "try_exclusive", "why")

    def __init__(self, policy: BreakerPolicy, rows: BackendRows) -> None:
        self.policy = policy
        self.why = ""
        self._counted_at = WINDOW_REQUESTS  # the cell of the window's newest part, which is the current one until `_part_ends`
        self.try_exclusive: TryExclusive = lambda: nullcontext(True)
        self.rows = rows.everyone
        self._own = rows.own[0]
        self._ints, self._reals = rows.shared

    @property
    def policy(self) -> BreakerPolicy:
        """When it opens, and for how long."""
        return self._policy

    @policy.setter
    def policy(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._part_ends = -inf

    @property
    def state(self) -> BreakerState:
        """Closed passes, open refuses, half_open tries one."""
        return STATES[self._ints[BREAKER]]

    def admits(self, now: float) -> bool:
        """Whether a lease may be taken now; asking changes nothing."""
        return self._ints[BREAKER] == CLOSED or now >= self._reals[BREAKER_UNTIL]

    def next_change_at(self, now: float) -> float:
        """Return when `admits` will change by time alone; infinite when it will not."""
        return inf if self.admits(now) else self._reals[BREAKER_UNTIL]

    def take_ticket(self, now: float, early: bool = False) -> int:
        """Return the ticket of a lease that is taken now: 0, or another number for the one that is the probe, or TAKEN, or EARLY.

        early: nobody else can serve, so that a good answer is one too many for a breaker that is open.
        A probe has as long as the breaker was last open for; after that another may begin, and its silence
        has doubled the time.
        """
        ints = self._ints
        if ints[BREAKER] == CLOSED:
            return 0
        if now < self._reals[BREAKER_UNTIL]:
            return EARLY if early else 0
        with self.try_exclusive() as exclusive:
            if not exclusive or now < self._reals[BREAKER_UNTIL]:
                return TAKEN
            if ints[BREAKER_PROBE]:
                ints[BREAKER_TRIPS] += 1
            ticket = ints[BREAKER_TICKETS] = ints[BREAKER_PROBE] = ints[BREAKER_TICKETS] + 1
            self._reals[BREAKER_UNTIL] = now + self._pause_s()
            ints[BREAKER] = HALF_OPEN
            return ticket

    def succeeded(self, now: float, ticket: int = 0) -> BreakerChange | None:
        """Take in a success; return "closed" when it was the probe's."""
        ints = self._ints
        state = ints[BREAKER]
        if state == CLOSED:
            if now >= self._part_ends:
                self._begin_part(now)
            self._own[self._counted_at] += 1
            if ints[BREAKER_STREAK]:
                ints[BREAKER_STREAK] = 0
            return None
        if not ticket or (state == OPEN and ticket != EARLY):
            return None
        return self._close(now)

    def replaced(self, now: float) -> BreakerChange | None:
        """Hear that probably another process has taken the backend's place: what was counted of its predecessor says nothing."""
        ints = self._ints
        ints[BREAKER_STREAK] = 0
        ints[BREAKER_TICK] = self._tick(now)
        return None if ints[BREAKER] == CLOSED else self._close(now)

    def forgive(self) -> None:
        """Forget how often it has opened: the backend was gone, and is back."""
        self._ints[BREAKER_TRIPS] = 0

    def _close(self, now: float) -> BreakerChange:
        ints = self._ints
        ints[BREAKER_PROBE] = ints[BREAKER_STREAK] = 0
        self._reals[BREAKER_UNTIL] = now
        ints[BREAKER] = CLOSED
        return "closed"

    def failed(
        self,
        now: float,
        rng: Random,
        ticket: int = 0,
        *,
        ratio_only: bool = False,
        must_stay: Callable[[], bool] = lambda: False,
    ) -> BreakerChange | None:
        """Take in a failure; return "opened" when it was one too many, or the probe's.

        ratio_only: it says nothing about failures in a row (429: the backend works, and is asked too much).
        must_stay: says whether no other backend is available, or too many are ejected already, so that this one
        is not ejected; the failure counts all the same. Asked only when it matters, for it looks at all backends.
        """
        ints = self._ints
        state = ints[BREAKER]
        if state != CLOSED:
            return self._open(now, rng, state, AGAIN) if ticket > 0 and state == HALF_OPEN else None
        if now >= self._part_ends:
            self._begin_part(now)
        self._own[self._counted_at] += 1
        self._own[self._counted_at + WINDOW_PARTS] += 1
        if not ratio_only:
            ints[BREAKER_STREAK] += 1
        one_too_many = not ratio_only and ints[BREAKER_STREAK] >= self.policy.failures
        if (one_too_many or self._ratio_reached(now)) and not must_stay():
            requests, failures = self.counted(now)
            row, ratio = (
                f"{ints[BREAKER_STREAK]} failures in a row",
                f"{failures} of {requests} requests failed in {self.policy.window_s:g} s",
            )
            return self._open(now, rng, state, row if one_too_many else ratio)
        return None

    def outrun(
        self, now: float, rng: Random, ticket: int = 0, *, must_stay: Callable[[], bool] = lambda: False
    ) -> BreakerChange | None:
        """Take in that another backend has answered a request that this one had had for longer.

        Once is chance. Return "opened" when it was too often in a row, with no answer between for a second, or
        a probe. (Without that second, a few slow requests that hold all slots of a busy backend would eject it, and
        what it did would fall to the others: their slots are next.) must_stay: as for `failed`.
        """
        ints = self._ints
        state = ints[BREAKER]
        if state != CLOSED:
            return self._open(now, rng, state, AGAIN) if ticket > 0 and state == HALF_OPEN else None
        if not ints[BREAKER_STREAK]:
            self._reals[OUTRUN_SINCE] = now
        ints[BREAKER_STREAK] += 1
        lasting = now - self._reals[OUTRUN_SINCE] >= LEAST_OUTRUN_S
        if lasting and ints[BREAKER_STREAK] >= max(self.policy.failures, LEAST_OUTRUN) and not must_stay():
            return self._open(now, rng, state, f"{ints[BREAKER_STREAK]} requests in a row were answered elsewhere before it did")
        return None

    @property
    def streak(self) -> int:
        """How often in a row it has failed or was outrun."""
        return self._ints[BREAKER_STREAK]

    def abandoned(self, now: float, ticket: int = 0) -> None:
        """Take in that the client left, which is no evidence; if it was the probe, the next lease is."""
        if ticket and ticket == self._ints[BREAKER_PROBE]:
            self._ints[BREAKER_PROBE] = 0
            self._reals[BREAKER_UNTIL] = now

    def forget(self, now: float) -> None:
        """Close it, with nothing counted: another server has taken the place of the one that all this was about."""
        ints = self._ints
        ints[BREAKER] = ints[BREAKER_PROBE] = ints[BREAKER_TRIPS] = ints[BREAKER_STREAK] = 0
        ints[BREAKER_TICK] = self._tick(now)

    def eject(self, now: float, rng: Random, why: str = "") -> BreakerChange | None:
        """Open it, if it is closed, for what somebody else has found out."""
        return self._open(now, rng, CLOSED, why)

    def counted(self, now: float) -> tuple[int, int]:
        """Return how many requests and failures all workers have counted in the window, since it last opened."""
        tick = self._tick(now)
        opened = self._ints[BREAKER_TICK]
        oldest = tick - WINDOW_PARTS + 1
        if oldest <= opened <= tick:  # else it was long ago, or in ticks of another window_s
            oldest = opened + 1
        requests = failures = 0
        for row in self.rows:
            newest = row[WINDOW_TICK]
            for at in range(max(newest - WINDOW_PARTS + 1, oldest), min(newest, tick + 1) + 1):
                part = at % WINDOW_PARTS
                requests += row[WINDOW_REQUESTS + part]
                failures += row[WINDOW_FAILURES + part]
        return requests, failures

    def _ratio_reached(self, now: float) -> bool:
        requests, failures = self.counted(now)
        return requests >= self.policy.min_requests and failures >= self.policy.ratio * requests

    def _open(self, now: float, rng: Random, before: int, why: str) -> BreakerChange | None:
        """Open it, or only say so, if it still is as it was `before` and no other worker does so now."""
        ints = self._ints
        with self.try_exclusive() as exclusive:
            if not exclusive or ints[BREAKER] != before:
                return None
            self.why = why
            ints[BREAKER_STREAK] = 0
            ints[BREAKER_TICK] = self._tick(now)
            if self.policy.observe:
                ints[BREAKER_PROBE] = ints[BREAKER_TRIPS] = ints[BREAKER] = 0
                return "observed"
            ints[BREAKER_PROBE] = 0
            if before == CLOSED:
                ints[BREAKER_TRIPS] = max(0, ints[BREAKER_TRIPS] - int((now - self._reals[BREAKER_UNTIL]) / self.policy.window_s))
            ints[BREAKER_TRIPS] += 1
            half = self._pause_s() / 2
            self._reals[BREAKER_UNTIL] = now + half + rng.random() * half
            ints[BREAKER] = OPEN
            return "opened"

    def _pause_s(self) -> float:
        policy = self.policy
        doublings = min(self._ints[BREAKER_TRIPS] - 1, MAX_DOUBLINGS)
        return min(policy.open_s * 2.0**doublings, policy.max_open_s)

    def _tick(self, now: float) -> int:
        return int(now * WINDOW_PARTS / self.policy.window_s)

    def _begin_part(self, now: float) -> None:
        """Count in the current tenth of the window from here on, having emptied those of our own that have left it."""
        own, tick = self._own, self._tick(now)
        self._counted_at = WINDOW_REQUESTS + tick % WINDOW_PARTS
        self._part_ends = (tick + 1) * self.policy.window_s / WINDOW_PARTS
        step = tick - own[WINDOW_TICK]
        if step > 0 or step <= -WINDOW_PARTS:  # a little back is a caller with an older `now`; far back is a new window_s
            for gone in range(tick + 1 - min(abs(step), WINDOW_PARTS), tick + 1):
                part = gone % WINDOW_PARTS
                own[WINDOW_REQUESTS + part] = own[WINDOW_FAILURES + part] = 0
            own[WINDOW_TICK] = tick
