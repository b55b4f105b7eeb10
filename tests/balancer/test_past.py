"""What a record says of a pick is worked out later: it must be what was so then, whatever has become of the backends since."""

from __future__ import annotations

from math import exp
from random import Random
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.balancer.trace import COST, Trace
from tests.house import backend, move, pool, private_row

NOW = 1000.0


class Own:
    """A user's strategy, which has the public methods only; its score is another one each time that it is asked."""

    reason = "as it likes"

    def __init__(self) -> None:
        self.asked = 0

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Backend:
        return candidates[int(rng.random() * len(candidates))]  # type: ignore[no-any-return]

    def score(self, one: Backend, candidates: Any, now: float) -> float:
        self.asked += 1
        return one.latency_s(now) + self.asked


def told_now(one: Backend, members: Pool, now: float) -> tuple[Any, ...]:
    """The row of a candidate as all rules give it at present."""
    learned, strategy = one.learned, members.strategy
    mean_s, waiting_s = learned.ewma.read(now), learned.waited_s(now)
    if waiting_s <= mean_s:
        waiting_s = now - next(iter(learned.waiting.values()), now)  # what another worker has told of is no matter then
    pace_s = exp(learned.pace.log_mean) if learned.pace.known else None
    score = None if isinstance(strategy, Guarded) else strategy.score(one, members.candidates(now), now)
    known = one.id, one.full_weight, one.weight, one.in_flight(), mean_s, pace_s, waiting_s, one.latency_s(now)
    return *known, score, strategy.turns_ratio(one)


def picked(members: Pool, now: float) -> tuple[Lease, Trace, list[tuple[Any, ...]]]:
    """A recorded pick, and what was so right after it, before its lease counted."""
    trace = Trace("sampled")
    lease = members.lease(now, trace=trace)
    learned = lease.backend.learned
    learned.cells[0] -= 1
    del learned.waiting[lease]
    rows = [told_now(one, members, now) for one in members.backends]
    learned.cells[0] += 1
    learned.waiting[lease] = now
    return lease, trace, rows


@pytest.mark.parametrize("name", [*STRATEGIES, "own"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_record_that_is_read_late_says_what_was_so_at_the_pick(name: str, workers: int) -> None:
    rng, now = Random(5), NOW
    strategy: Strategy = Guarded(Own(), "own", lambda: 0.0) if name == "own" else STRATEGIES[name]()
    ones = [backend("a"), backend("b", 3, slow_start_s=9.0), backend("c")]
    others = [private_row() for _ in ones]
    if workers == 2:
        for one, other in zip(ones, others, strict=True):
            move(one.learned, private_row(), other)
            one.learned.health.probed(True)
    members = pool(ones, strategy)
    open_leases: list[Lease] = []
    known: list[tuple[Trace, list[tuple[Any, ...]]]] = []
    for _ in range(300):
        now += rng.choice([0.0002, 0.003, 0.04, 0.4])
        while open_leases and rng.random() < 0.55:
            lease = open_leases.pop(rng.randrange(len(open_leases)))
            if rng.random() < 0.97:
                lease.finish(now, 200)
            else:
                lease.close(now, "failed")
        if workers == 2:
            for one, other in zip(ones, others, strict=True):
                other[0][0], other[1][7] = rng.randrange(3), rng.choice([0.0, now - 0.5])
                one.learned.tell_waiting(now)
        if rng.random() < 0.05:
            members.set_weight("c", rng.choice([None, 1, 2]))
        lease, trace, rows = picked(members, now)
        open_leases.append(lease)
        known.append((trace, rows))
    for trace, rows in known:
        (one,) = trace.tries
        if len(one.candidates) == len(rows):
            found = one.candidates if name != "own" else [(*row[:COST], None, *row[COST + 1 :]) for row in one.candidates]
            assert found == rows
    assert sum(len(trace.tries[0].candidates) == 3 for trace, _ in known) > 100


def test_a_strategy_of_a_users_own_is_asked_for_its_scores_at_the_pick_and_never_again() -> None:
    own = Own()
    members = pool([backend("a"), backend("b")], Guarded(own, "own", lambda: 0.0))
    traces = [Trace("sampled"), Trace("sampled")]
    for trace in traces:
        members.lease(NOW, trace=trace)
    assert own.asked == 4
    assert [[row[COST] for row in trace.tries[0].candidates] for trace in reversed(traces)] == [[3.0, 4.0], [1.0, 2.0]]
    assert own.asked == 4
