from __future__ import annotations

from collections.abc import Sequence
from random import Random
from time import monotonic

import gevent
import gevent.monkey

from smartedge.balancer.backend import Backend
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.round_robin import RoundRobin
from smartedge.edge.service_set import lock_for
from tests.house import backends


class Chatty:
    """A user's strategy that waits in the middle of a pick, as for a log line to be written."""

    inside = 0

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        self.inside += 1
        assert self.inside == 1, "one pick at a time"
        gevent.sleep(0.001)
        self.inside -= 1
        return candidates[0]


def test_a_users_strategy_that_waits_in_its_pick_has_the_others_wait_and_stops_nobody() -> None:
    """Under a lock of the interpreter's own the second greenlet would stop the whole worker, and the first with it."""
    chatty = Guarded(Chatty(), "chatty", monotonic)
    pool = Pool(backends(1, 1), chatty, Random(1), lock=lock_for(chatty))
    asked = [gevent.spawn(pool.lease, 1.0) for _ in range(5)]
    gevent.joinall(asked, timeout=20, raise_error=True)
    assert all(one.value is not None for one in asked)
    assert chatty.troubles() == []


def test_our_own_strategies_decide_under_the_interpreters_lock_also_after_a_reload() -> None:
    native = type(gevent.monkey.get_original("_thread", "allocate_lock")())
    pool = Pool(backends(1), RoundRobin(), Random(1), lock=lock_for(RoundRobin()))
    assert type(pool.lock) is native
    kept = pool.lock
    pool.replace_backends(pool.backends, RoundRobin(), lock=lock_for(RoundRobin()))
    assert pool.lock is kept, "the strategy is kept, and so is what guards it"
    chatty = Guarded(Chatty(), "chatty", monotonic)
    pool.replace_backends(pool.backends, chatty, lock=lock_for(chatty))
    assert type(pool.lock) is type(lock_for(chatty))
    pool.replace_backends(pool.backends, RoundRobin(), lock=lock_for(RoundRobin()))
    assert type(pool.lock) is native
