"""Retries: when another try is safe, and how many the pool can stand.

A retry hides one bad backend, but a sick pool that is sent every request three times gets no better. So
retries are paid from a budget that the requests themselves fill (Finagle's `RetryBudget`; RFC 9110 section
9.2.2 for what may be repeated), and hedges, which are tries that did not wait for a failure, from the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""The methods, as on the wire, that may be repeated with the effect of one (RFC 9110 section 9.2.2)."""

SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Those that ask for nothing to be changed (section 9.2.1), and are sent again even when the application has failed."""

GATEWAY: Final = frozenset({502, 503, 504})
"""Answers that say that the request was not worked on, or not to its end; any other 5xx is the application's own word."""

PARTS: Final = 10
"""The window moves in steps of a tenth."""

RETRY: Final = 1000
"""The price of a retry, in a currency without fractions: fifty times 0.2 is a little less than ten."""


DEADLINE_S: Final = 60.0
"""For all tries together, unless the operator says otherwise."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a request is tried again, as the operator wrote it; part of a `ServicePolicy`.

    statuses: answers after which there may be another try. attempts: tries in all, the first one included.
    deadline_s: for all tries together; after it no new one begins. wait_s: for a backend that may be restarting, when there
    is no other. body_bytes: up to this size a request's body is kept, to be sent again. hedge: ask another backend, too, when
    the first is slower than `hedge_percentile` of the recent answers. budget_ratio, budget_per_s: see RetryBudget.
    """

    statuses: frozenset[int]
    attempts: int
    deadline_s: float
    body_bytes: int
    hedge: bool
    hedge_percentile: float
    budget_ratio: float
    budget_per_s: float
    wait_s: float


class RetryBudget:
    """How many retries and hedges a service may make now; owned by the `Service`, paid from by the `Tries` of its requests.

    In a window they may be `ratio` of its requests, plus `per_second` for each of its seconds.
    """

    __slots__ = ("_deposit", "_earlier", "_part", "_part_ends", "_reserve", "_tick", "_ticks_per_s", "_window_s")

    def __init__(self, ratio: float, per_second: float, window_s: float = 10.0) -> None:
        self._window_s = window_s
        self._ticks_per_s = PARTS / window_s
        self._part = 0  # what came in less what was spent in this tenth of the window
        self._earlier = deque([0] * (PARTS - 1), PARTS - 1)  # the same in those before it
        self._tick = 0
        self._part_ends = 0.0
        self.set_rates(ratio, per_second)

    def set_rates(self, ratio: float, per_second: float) -> None:
        """Go on with other rates; what was paid in and spent stays."""
        self._deposit = round(ratio * RETRY)
        self._reserve = round(per_second * self._window_s * RETRY)

    def deposit(self, now: float) -> None:
        """Count a client's request; its retries are not requests."""
        if now >= self._part_ends:
            self._move_on(now)
        self._part += self._deposit

    def withdraw(self, now: float) -> bool:
        """Ask for one retry; True when it may be made, and then it is paid for."""
        if self.left(now) < 1:
            return False
        self._part -= RETRY
        return True

    def left(self, now: float) -> int:
        """Return how many retries may be made now."""
        if now >= self._part_ends:
            self._move_on(now)
        return max(0, (sum(self._earlier) + self._part + self._reserve) // RETRY)

    def refund(self, now: float) -> None:
        """Take back the price of a retry that could not be made after all."""
        if now >= self._part_ends:
            self._move_on(now)
        self._part += RETRY

    def _move_on(self, now: float) -> None:
        """Begin the tenth of the window that is now; a caller whose `now` is a little older does not turn time back."""
        tick = int(now * self._ticks_per_s)
        for _ in range(min(tick - self._tick, PARTS)):
            self._earlier.append(self._part)
            self._part = 0
        self._tick = tick
        self._part_ends = (tick + 1) / self._ticks_per_s


class Tries:
    """One request's tries, and whether there may be another; owned by its `Attempts`, which picks, sends and waits.

    The first try has been begun when this is made, which can wait until it matters: most requests need none.
    safe: its method asks for nothing to be changed. count: tries begun, hedges among them. tried: the backends that got
    them; the next one leaves them out.
    """

    __slots__ = ("_budget", "_erred", "_idempotent", "_paid", "_policy", "_safe", "count", "deadline", "tried")

    def __init__(
        self, policy: RetryPolicy, budget: RetryBudget, started: float, idempotent: bool, first: Any, *, safe: bool = False
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._idempotent = idempotent
        self._safe = safe
        self._erred = False
        self._paid = False
        self.deadline = started + policy.deadline_s
        self.count = 1
        self.tried = [first]

    def again(self, now: float, *, sent: bool) -> bool:
        """Ask for another try after one has failed; True when it may be made, and then it is paid for.

        sent: the backend may have acted on the request. Where it can't have, nothing is repeated and nothing
        is stormed: every backend may be tried, at no charge.
        """
        self._paid = False
        if now > self.deadline:
            return False
        return not sent or self._pay(now)

    def again_after(self, now: float, status: int, is_hopeless: Callable[[], bool], *, unacted: bool = False) -> bool:
        """Ask for another try after an answer; True when it may be made, and then it is paid for.

        is_hopeless: says whether the others fail at it, too. An application's own failure (500) is repeated once at most,
        for methods that change nothing, and not while that only doubles the load of backends that fail alike.
        unacted: the backend says that it has done nothing, so that any request may be repeated.
        """
        self._paid = False
        if status not in self._policy.statuses:
            return False
        if unacted:
            return now <= self.deadline and self._pay(now, unacted=True)
        if status < 500 or status in GATEWAY:
            return self.again(now, sent=True)
        if self._erred or not self._safe or is_hopeless():
            return False
        self._erred = self.again(now, sent=True)
        return self._erred

    def hedge(self, now: float) -> bool:
        """Ask for another try beside those under way; True when it may be made, and then it is paid for."""
        self._paid = False
        return now < self.deadline and self._pay(now)

    def begun(self, backend: Any) -> None:
        """Take note of the backend that got the try which was asked for."""
        self._paid = False
        self.count += 1
        self.tried.append(backend)

    def in_vain(self, now: float) -> None:
        """Give back the try that was asked for: no backend could have it."""
        if self._paid:
            self._paid = False
            self._budget.refund(now)

    def _pay(self, now: float, *, unacted: bool = False) -> bool:
        self._paid = (unacted or self._idempotent) and self.count < self._policy.attempts and self._budget.withdraw(now)
        return self._paid
