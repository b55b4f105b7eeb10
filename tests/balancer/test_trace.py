from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import BackendTimeout, NoBackend
from smartedge.balancer.pool import Lease, Pool
from smartedge.balancer.strategies.adaptive import Adaptive
from smartedge.balancer.strategies.menu import STRATEGIES, RoundRobin
from smartedge.balancer.trace import CANDIDATE, FEW_SEEN, MOST_SEEN, MOST_TRIES, Trace, TryKind
from tests.house import backend, backends, pool, set_state
from tests.policies import breaker_policy

NOW = 1000.0


def traced(members: Pool, trace: Trace | None = None, **how: Any) -> tuple[Trace, Lease]:
    trace = trace or Trace("sampled")
    return trace, members.lease(NOW, trace=trace, **how)


def begun(trace: Trace, lease: Lease, kind: TryKind) -> None:
    assert lease.record is not None
    lease.record.kind = kind
    trace.because(kind)


def ended(lease: Lease, *how: Any, **more: Any) -> None:
    assert lease.record is not None
    lease.record.end(*how, **more)


def rows(trace: Trace, number: int = -1) -> dict[str, dict[str, Any]]:
    named = [dict(zip(CANDIDATE, row, strict=True)) for row in trace.tries[number].candidates]
    return {row["id"]: row for row in named}


def known(one: Backend, latency_s: float, leases: int = 0) -> Backend:
    """A backend with a latency and so many open leases."""
    one.learned.ewma.observe(NOW, latency_s)
    one.learned.cells[0] += leases
    return one


def test_a_pick_is_noted_with_the_numbers_that_the_strategy_saw() -> None:
    a, b, c = backends(1, 2, 1)
    members = pool([known(a, 0.1), known(b, 0.1, leases=1), known(c, 0.3)], STRATEGIES["ewma"]())
    waiting = members.lease(NOW - 2, tried=[a, b])  # of c, which has not answered
    trace, lease = traced(members)

    assert rows(trace) == {
        "a": _row("a", 1, in_flight=0, ewma_s=0.1, waiting_s=0.0, latency_s=0.1, cost=0.1),
        "b": _row("b", 2, in_flight=1, ewma_s=0.1, waiting_s=0.0, latency_s=0.1, cost=0.1),
        "c": _row("c", 1, in_flight=1, ewma_s=0.3, waiting_s=2.0, latency_s=2.0, cost=4.0),
    }
    (pick,) = trace.tries
    assert (pick.backend, pick.strategy, pick.kind) == (lease.backend.id, "ewma", "first")
    assert lease.record is pick
    assert (pick.reason, pick.cost, pick.count, pick.recorded, pick.panic) == ("least cost", 0.1, 3, True, False)
    assert trace.summary() == f"{lease.backend.id} was picked: least cost 0.1 of 3 candidates"
    assert waiting.backend is c


def _row(id_: str, weight: int, **more: float) -> dict[str, Any]:
    return {"id": id_, "weight": weight, "effective_weight": weight, "pace_s": None, "turns_ratio": None, **more}


def test_the_oldest_wait_may_be_in_another_worker() -> None:
    (a,) = backends(1)
    known(a, 0.1).learned._others_waited_s = 5.0
    trace, _ = traced(pool([a]))
    assert (rows(trace)["a"]["waiting_s"], rows(trace)["a"]["latency_s"]) == (5.0, 5.0)


def test_those_who_were_left_out_are_noted_with_the_reason_and_the_time() -> None:
    policy = breaker_policy(failures=1)
    _, tripped, _, _, drained, off, full = members = [
        backend("a"),
        backend("tripped", breaker=policy),
        backend("down", probed=False),
        backend("new", probed=None),
        backend("drained"),
        backend("off"),
        backend("full", max_in_flight=1),
    ]
    set_state(drained, "draining")
    set_state(off, "disabled")
    tripped.learned.breaker.failed(NOW - 1, Random(1))
    full.learned.cells[0] += 1
    trace, _ = traced(pool([*members, backend("z")], panic="fail"), tried=[backend("z")])

    left_out = {who: (why, for_s) for who, why, for_s in trace.tries[0].left_out}
    for_s = tripped.learned.breaker.next_change_at(NOW) - NOW
    assert left_out == {
        "tripped": ("breaker_open", pytest.approx(for_s, abs=1e-6)),
        "down": ("unhealthy", None),
        "new": ("unprobed", None),
        "drained": ("draining", None),
        "off": ("disabled", None),
        "full": ("full", None),
        "z": ("tried", None),
    }
    assert list(rows(trace)) == ["a"]
    assert trace.summary() == (
        "a was picked: next in turn, the only candidate; "
        f"tripped left out: breaker open for {for_s:.1f} s; down left out: unhealthy; new left out: unprobed; and 4 more"
    )


def test_one_that_was_passed_over_for_no_reason_of_its_own_is_told_so() -> None:
    """Another worker has begun the probe of its breaker in the same moment, so the strategy was asked again without it."""
    trace = Trace("sampled")
    a, b = backends(1, 1)
    trace.add_pick([a, b], [a], (), RoundRobin(), a, NOW, None, probe=False)
    assert trace.tries[0].left_out == [["b", "passed over", None]]


def test_a_probe_and_panic_are_told() -> None:
    policy = breaker_policy(failures=1)
    a, b = backend("a", breaker=policy), backend("b", breaker=policy)
    members = pool([a, b], STRATEGIES["least_requests"]())
    for one in (a, b):
        one.learned.breaker.failed(NOW, Random(1))
    trace, _ = traced(members)
    assert trace.tries[0].panic is True
    assert ", in panic" in trace.summary()

    later = Trace("sampled")
    members.lease(NOW + 60, trace=later)
    assert later.tries[0].reason == "fewest open leases for its weight, as the probe of its breaker"


def test_a_sticky_session_needs_no_reason_of_the_strategy() -> None:
    a, b = backends(1, 1)
    set_state(b, "draining")
    trace, lease = traced(pool([a, b], STRATEGIES["ewma"]()), prefer="b")
    assert lease.backend is b
    assert (trace.tries[0].reason, trace.tries[0].cost) == ("its session is with it", None)
    assert sorted(rows(trace)) == ["a", "b"]
    assert trace.summary() == "b was picked: its session is with it, one of 2 candidates"


class Opaque(RoundRobin):
    """A strategy with a figure for only one of the backends, and much to say."""

    name = "opaque"
    reason = "it felt right" * 100

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float | None:
        return 2.5 if backend.id == "a" else None


def test_a_strategy_may_have_no_figures_and_many_words() -> None:
    members = pool(backends(1, 1), Opaque())
    trace, _ = traced(members)
    traced(members, trace)
    assert [one.cost for one in trace.tries] == [2.5, None]
    assert {id_: row["cost"] for id_, row in rows(trace).items()} == {"a": 2.5, "b": None}
    assert trace.tries[0].reason == Opaque.reason[:200]


def test_the_only_candidate_is_told_with_its_cost() -> None:
    trace, _ = traced(pool([known(backend("a"), 0.1)], STRATEGIES["ewma"]()))
    assert trace.summary() == "a was picked: least cost 0.1, the only candidate"


def test_a_large_pool_is_not_held_up_by_its_explanation() -> None:
    """Candidates and others are looked at up to a limit; the picked one is always among them, the rest is counted."""
    members = [*backends(*[1] * 100), *(backend(f"down{i}", probed=False) for i in range(100))]
    asked = []

    class Last(RoundRobin):
        def pick(self, candidates: Sequence[Backend], *_: Any) -> Backend:
            return candidates[-1]

        def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float:
            asked.append(len(candidates))
            return 1.0

    trace, lease = traced(pool(members, Last()))
    (pick,) = trace.tries
    assert (len(pick.candidates), len(pick.left_out), pick.count) == (MOST_SEEN + 1, MOST_SEEN, 100)
    assert pick.unseen == 100 - MOST_SEEN
    assert trace.summary() == f"{lease.backend.id} was picked: next in turn 1 of 100 candidates; " + (
        "".join(f"down{i} left out: unhealthy; " for i in range(3)) + "and 97 more"
    )
    assert lease.backend.id in rows(trace)
    assert asked == [MOST_SEEN + 1] * (MOST_SEEN + 1)


def test_of_a_large_pool_few_are_shown_where_the_strategy_goes_by_none_of_their_figures_and_nobody_asks() -> None:
    for why, shown in (("sampled", FEW_SEEN), ("asked", MOST_SEEN)):
        trace = Trace(why)
        lease = pool(backends(*[1] * 100), Adaptive()).lease(NOW, trace=trace)
        (pick,) = trace.tries
        assert (len(pick.candidates), pick.count, lease.backend.id in rows(trace)) == (shown, 100, True)
        assert trace.summary() == f"{lease.backend.id} was picked: next in turn, one of 100 candidates"


def test_tries_are_noted_with_their_ends() -> None:
    a, b, c = backends(1, 1, 1)
    members = pool([a, b, c])
    trace, first = traced(members)
    ended(first, NOW + 5, "failed", error=BackendTimeout("It was silent for 5 s."))
    _, second = traced(members, trace, tried=[first.backend])
    begun(trace, second, "retry")
    ended(second, NOW + 6, "failed", 503)
    third = members.lease(NOW + 6, [first.backend, second.backend], trace=trace)
    begun(trace, third, "hedge")
    third.answered(NOW + 6.5)
    trace.close(NOW + 7, "ok", 200)

    assert trace.why == ["sampled", "retry", "hedge"]
    assert [(one.kind, one.at, one.outcome, one.status, one.blame) for one in trace.tries] == [
        ("first", NOW, "failed", 0, "backend"),
        ("retry", NOW, "failed", 503, "backend"),
        ("hedge", NOW + 6, "ok", 200, ""),
    ]
    assert [(one.latency_s, one.duration_s) for one in trace.tries] == [(None, 5.0), (None, 6.0), (0.5, 1.0)]
    assert trace.summary() == (
        "a was picked: next in turn, one of 3 candidates, and failed: It was silent for 5 s; "
        "then b was picked for the retry: next in turn, one of 2 candidates, and failed with status 503; "
        "then c was picked for the hedge: next in turn, the only candidate"
    )


def test_what_is_left_open_at_the_end_shares_the_fate_of_the_request_if_it_is_the_last() -> None:
    members = pool(backends(1, 1))
    trace, first = traced(members)
    _, second = traced(members, trace, tried=[first.backend])
    ended(first, NOW + 1, "outrun")
    ended(first, NOW + 2, "failed")  # only its first end counts
    third = members.lease(NOW, trace=trace)
    trace.close(NOW + 3, "failed", 502, BackendTimeout("x" * 1000))
    outcomes = [(one.outcome, one.status, one.blame, len(one.error)) for one in trace.tries]
    assert outcomes == [("outrun", 0, "", 0), ("abandoned", 0, "", 0), ("failed", 502, "backend", 200)]
    assert "and was outrun" in trace.summary()
    assert "and ended abandoned" in trace.summary()
    assert (second.backend.id, third.backend.id) == (trace.tries[1].backend, trace.tries[2].backend)


def test_a_try_that_nobody_recorded_is_told_as_such() -> None:
    members = pool(backends(1, 1))
    first = members.lease(NOW)
    trace = Trace("failed")
    first.record = trace.add_missed(first.opened_at, first.backend.id)
    ended(first, NOW + 1, "failed")
    assert trace.tries[0].recorded is False
    assert trace.failed
    assert trace.summary() == "a was picked (not recorded), and failed"


def test_no_backend_is_told_with_every_reason() -> None:
    down = backend("down", probed=False)
    members = pool([down])
    trace = Trace("sampled")
    with pytest.raises(NoBackend):
        members.lease(NOW, trace=trace)
    with pytest.raises(NoBackend):  # it waits in the queue, and asks again
        members.lease(NOW + 1, trace=trace)
    trace.close(NOW + 1, "failed", 503)
    assert [(one.backend, one.at, one.outcome) for one in trace.tries] == [(None, NOW + 1, "no backend")]
    assert trace.summary() == "no backend could be picked; down left out: unhealthy"

    later = Trace("sampled")
    later.add_missed(NOW, "a")
    later.add_none([down], [down], NOW)
    assert [one.kind for one in (*trace.tries, *later.tries)] == ["first", "first", "retry"]
    assert later.summary() == "a was picked (not recorded); then no backend was left; down left out: tried"


def test_of_many_tries_the_first_and_the_last_are_kept() -> None:
    members = pool(backends(*[1] * 30))
    trace = Trace("failed")
    leases = [members.lease(NOW + number, trace=trace) for number in range(30)]
    assert len(trace.tries) == MOST_TRIES
    assert trace.more == 30 - MOST_TRIES
    ids = [one.backend for one in trace.tries]
    assert ids[:5] == [lease.backend.id for lease in leases[:5]]
    assert ids[-1] == leases[-1].backend.id


def test_nothing_is_said_of_no_tries() -> None:
    trace = Trace("error")
    trace.because("error")
    trace.close(NOW, "failed", 503)
    assert (trace.summary(), trace.why, trace.failed) == ("", ["error"], False)


def test_a_try_that_was_moved_away_from_a_silent_backend_says_so() -> None:
    members = pool(backends(1, 1))
    trace, lease = traced(members)
    ended(lease, NOW + 0.2, "overdue")
    assert trace.summary().endswith(", and left it unanswered for longer than others take")
