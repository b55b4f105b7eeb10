from __future__ import annotations

from math import inf
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.breaker import EARLY, Breaker
from smartedge.balancer.cells import private_rows
from tests.fakes import FakeClock
from tests.policies import breaker_policy


class HalfWay(Random):
    """Chance that always answers the same."""

    def __init__(self, answer: float) -> None:
        super().__init__()
        self.answer = answer

    def random(self) -> float:
        return self.answer


SHORTEST, LONGEST = HalfWay(0.0), HalfWay(1.0)


def opened(clock: FakeClock, rng: Random = LONGEST) -> Breaker:
    breaker = Breaker(breaker_policy(), private_rows())
    changes = [breaker.failed(clock(), rng) for _ in range(5)]
    assert changes == [None, None, None, None, "opened"]
    return breaker


def half_opened(clock: FakeClock) -> tuple[Breaker, int]:
    breaker = opened(clock)
    clock.advance(5.0)
    ticket = breaker.take_ticket(clock())
    assert ticket
    assert breaker.state == "half_open"
    return breaker, ticket


def test_a_closed_breaker_admits_and_nothing_will_change_by_time() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    assert breaker.admits(0.0)
    assert breaker.take_ticket(0.0) == 0
    assert breaker.next_change_at(0.0) == inf


def test_five_failures_in_a_row_open_it() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    assert breaker.state == "open"
    assert not breaker.admits(clock())


def test_a_success_starts_the_count_in_a_row_again() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(4):
        for _ in range(4):
            assert breaker.failed(1000.0, LONGEST) is None
        assert breaker.succeeded(1000.0) is None  # 16 failures of 20 by now, the last word was a success
    assert breaker.state == "closed"


def test_half_of_twenty_requests_failing_opens_it() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    changes = []
    for _ in range(10):
        breaker.succeeded(1000.0)
        changes.append(breaker.failed(1000.0, LONGEST))
    assert changes == [None] * 9 + ["opened"]


def test_less_than_half_failing_does_not_open_it() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(50):
        breaker.succeeded(1000.0)
        breaker.succeeded(1000.0)
        assert breaker.failed(1000.0, LONGEST) is None


def test_requests_that_left_the_window_do_not_count() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(9):
        breaker.succeeded(clock())
        breaker.failed(clock(), LONGEST)
    clock.advance(10.0)
    breaker.succeeded(clock())
    assert breaker.failed(clock(), LONGEST) is None


def test_requests_within_the_window_count_to_its_end() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(9):
        breaker.succeeded(clock())
        breaker.failed(clock(), LONGEST)
    clock.advance(9.9)
    breaker.succeeded(clock())
    assert breaker.failed(clock(), LONGEST) == "opened"


def test_a_caller_with_a_slightly_older_clock_does_not_empty_the_window() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for now in (1001.0, 1000.9) * 5:
        breaker.succeeded(now)
        changed = breaker.failed(now, LONGEST)
    assert changed == "opened"


def test_a_longer_window_after_a_reload_starts_empty_and_still_moves() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(9):
        breaker.succeeded(1000.0)
        breaker.failed(1000.0, LONGEST)
    breaker.policy = breaker_policy(window_s=60.0)
    breaker.succeeded(1000.0)
    assert breaker.failed(1000.0, LONGEST) is None
    for _ in range(9):
        breaker.succeeded(1050.0)
        changed = breaker.failed(1050.0, LONGEST)
    assert changed == "opened"


def test_too_many_requests_count_for_the_ratio_only() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    changes = [breaker.failed(1000.0, LONGEST, ratio_only=True) for _ in range(20)]
    assert changes == [None] * 19 + ["opened"]


def test_too_many_requests_neither_add_to_a_row_nor_break_it() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(4):
        breaker.failed(1000.0, LONGEST)
    assert breaker.failed(1000.0, LONGEST, ratio_only=True) is None
    assert breaker.failed(1000.0, LONGEST) == "opened"


def test_the_last_one_is_never_ejected_but_its_failures_are_remembered() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(50):
        assert breaker.failed(1000.0, LONGEST, must_stay=lambda: True) is None
    assert breaker.admits(1000.0)
    assert breaker.failed(1000.0, LONGEST) == "opened"


def test_too_many_requests_do_not_eject_for_a_row_that_was_let_pass() -> None:
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(9):
        breaker.failed(1000.0, LONGEST, must_stay=lambda: True)
    assert breaker.failed(1000.0, LONGEST, ratio_only=True) is None


@pytest.mark.parametrize(("rng", "open_s"), [(SHORTEST, 2.5), (LONGEST, 5.0)])
def test_it_is_open_for_five_seconds_with_equal_jitter(rng: Random, open_s: float) -> None:
    clock = FakeClock()
    breaker = opened(clock, rng)
    assert breaker.next_change_at(clock()) == 1000.0 + open_s
    assert not breaker.admits(1000.0 + open_s - 0.001)
    assert breaker.admits(1000.0 + open_s)
    assert breaker.next_change_at(1000.0 + open_s) == inf


def test_asking_whether_it_admits_does_not_use_up_the_probe() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    clock.advance(5.0)
    assert all(breaker.admits(clock()) for _ in range(9))
    assert breaker.state == "open"
    assert breaker.take_ticket(clock())


def test_half_open_admits_exactly_one_probe() -> None:
    clock = FakeClock()
    breaker, _ = half_opened(clock)
    assert not breaker.admits(clock())
    assert breaker.take_ticket(clock()) == 0


def test_the_probes_success_closes_it_with_a_clean_record() -> None:
    clock = FakeClock()
    breaker, ticket = half_opened(clock)
    assert breaker.succeeded(clock(), ticket) == "closed"
    assert breaker.state == "closed"
    assert [breaker.failed(clock(), LONGEST) for _ in range(4)] == [None] * 4
    assert breaker.failed(clock(), LONGEST) == "opened"


@pytest.mark.parametrize(("good_s", "term_s"), [(0.0, 40.0), (9.9, 40.0), (10.1, 20.0), (20.1, 10.0), (30.1, 5.0), (1e9, 5.0)])
def test_a_doubling_is_forgotten_for_every_window_of_good_time(good_s: float, term_s: float) -> None:
    """One that fails again and again, with a good answer in between, was out for 5 s each time, however often."""
    clock = FakeClock()
    breaker = opened(clock)
    for _ in range(2):
        clock.now = breaker.next_change_at(clock())
        assert breaker.failed(clock(), LONGEST, breaker.take_ticket(clock())) == "opened"
    clock.now = breaker.next_change_at(clock())
    assert breaker.succeeded(clock(), breaker.take_ticket(clock())) == "closed"
    clock.advance(good_s)
    assert [breaker.failed(clock(), LONGEST) for _ in range(5)][-1] == "opened"
    assert breaker.next_change_at(clock()) == clock() + term_s


def test_what_was_counted_of_a_process_that_was_replaced_says_nothing_of_the_next() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(9):
        breaker.succeeded(clock())
        breaker.failed(clock(), LONGEST)
    assert breaker.replaced(clock()) is None
    clock.advance(1.1)
    for _ in range(4):
        assert breaker.failed(clock(), LONGEST) is None
    assert breaker.failed(clock(), LONGEST) == "opened"
    assert breaker.replaced(clock()) == "closed"
    assert breaker.admits(clock())


def test_a_lease_before_its_time_closes_it_by_a_good_answer_and_does_nothing_by_a_bad_one() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    until = breaker.next_change_at(clock())
    assert breaker.take_ticket(clock()) == 0
    early = breaker.take_ticket(clock(), True)
    assert early == EARLY
    assert breaker.failed(clock(), LONGEST, early) is None
    assert breaker.outrun(clock(), LONGEST, early) is None
    breaker.abandoned(clock(), early)
    assert (breaker.state, breaker.next_change_at(clock())) == ("open", until)
    assert breaker.succeeded(clock(), early) == "closed"


def test_each_failed_probe_doubles_the_time_up_to_the_limit() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    times = []
    for _ in range(9):
        clock.now = breaker.next_change_at(clock())
        ticket = breaker.take_ticket(clock())
        assert breaker.failed(clock(), LONGEST, ticket) == "opened"
        times.append(breaker.next_change_at(clock()) - clock())
    assert times == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0, 300.0]


def test_a_backend_that_is_away_for_years_overflows_nothing() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    for _ in range(2000):
        clock.advance(300.0)
        breaker.failed(clock(), LONGEST, breaker.take_ticket(clock()))
    assert breaker.next_change_at(clock()) == clock() + 300.0


def test_a_throttled_probe_opens_it_again() -> None:
    clock = FakeClock()
    breaker, ticket = half_opened(clock)
    assert breaker.failed(clock(), LONGEST, ticket, ratio_only=True) == "opened"


def test_an_abandoned_probe_frees_its_place_at_once() -> None:
    clock = FakeClock()
    breaker, ticket = half_opened(clock)
    breaker.abandoned(clock(), ticket)
    assert breaker.admits(clock())
    assert breaker.take_ticket(clock()) not in (0, ticket)
    assert not breaker.admits(clock())


def test_an_abandoned_request_that_is_not_the_probe_changes_nothing() -> None:
    clock = FakeClock()
    breaker, _ = half_opened(clock)
    breaker.abandoned(clock())
    assert not breaker.admits(clock())


def test_a_silent_probe_makes_way_for_the_next_after_its_deadline_which_doubles() -> None:
    clock = FakeClock()
    breaker, first = half_opened(clock)
    assert breaker.next_change_at(clock()) == clock() + 5.0
    clock.advance(5.0)
    second = breaker.take_ticket(clock())
    assert second not in (0, first)
    assert breaker.next_change_at(clock()) == clock() + 10.0
    breaker.abandoned(clock(), first)  # its place was given away already
    assert not breaker.admits(clock())
    assert breaker.failed(clock(), LONGEST, first) == "opened"
    assert breaker.next_change_at(clock()) == clock() + 20.0


@pytest.mark.parametrize("state", ["open", "half_open"])
def test_requests_from_before_it_opened_change_nothing_when_they_end(state: str) -> None:
    clock = FakeClock()
    breaker = opened(clock)
    if state == "half_open":
        clock.advance(5.0)
        breaker.take_ticket(clock())
    until = breaker.next_change_at(clock())
    assert breaker.succeeded(clock()) is None
    assert breaker.failed(clock(), LONGEST) is None
    breaker.abandoned(clock())
    assert breaker.state == state
    assert breaker.next_change_at(clock()) == until


def test_a_success_that_comes_when_it_has_opened_again_does_not_close_it() -> None:
    clock = FakeClock()
    breaker, first = half_opened(clock)
    clock.advance(5.0)
    breaker.failed(clock(), LONGEST, breaker.take_ticket(clock()))
    assert breaker.succeeded(clock(), first) is None
    assert breaker.state == "open"


EVENTS = st.tuples(st.sampled_from(["ok", "failed", "429"]), st.floats(0.0, 3.0))


@given(st.lists(EVENTS, max_size=120))
def test_it_opens_exactly_when_the_rules_say_so(events: list[tuple[str, float]]) -> None:
    """Compared with the rules worked out anew from the whole history, one-second parts of the window included."""
    policy = breaker_policy(min_requests=6)
    breaker = Breaker(policy, private_rows())
    now, row = 1000.0, 0
    history: list[tuple[int, bool]] = []
    for what, pause in events:
        now += pause
        history.append((int(now), what != "ok"))
        row = {"ok": 0, "failed": row + 1, "429": row}[what]
        window = [bad for second, bad in history if second > int(now) - 10]
        ratio_reached = len(window) >= 6 and sum(window) >= 0.5 * len(window)
        if what == "ok":
            assert breaker.succeeded(now) is None
            continue
        change = breaker.failed(now, LONGEST, ratio_only=what == "429")
        if (what == "failed" and row >= 5) or ratio_reached:
            assert change == "opened"
            return
        assert change is None


ACTIONS = st.sampled_from(["begin", "succeed", "fail", "abandon", "wait"])


@given(st.lists(st.tuples(ACTIONS, st.floats(0.0, 4.0), st.integers(0, 20)), max_size=150))
def test_two_probes_never_run_within_one_deadline(steps: list[tuple[str, float, int]]) -> None:
    clock = FakeClock()
    breaker = opened(clock, Random(3))
    running: dict[int, float] = {}
    for action, pause, which in steps:
        clock.advance(pause)
        ticket = sorted(running)[which % len(running)] if running else 0
        if action == "begin":
            admitted = breaker.admits(clock())
            fresh = breaker.take_ticket(clock())
            assert bool(fresh) == (admitted and breaker.state != "closed")
            if fresh:
                assert not [one for one, deadline in running.items() if clock() < deadline]
                running[fresh] = breaker.next_change_at(clock())
                assert running[fresh] >= clock() + 5.0
        elif action == "wait":
            assert breaker.next_change_at(clock()) >= clock()
        else:
            running.pop(ticket, None)
            if action == "succeed":
                breaker.succeeded(clock(), ticket)
            elif action == "fail":
                breaker.failed(clock(), LONGEST, ticket)
            else:
                breaker.abandoned(clock(), ticket)
        if breaker.state != "half_open":
            running.clear()


def test_being_outrun_again_and_again_with_no_answer_between_opens_it() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(4):
        assert breaker.outrun(clock(), LONGEST) is None
    assert breaker.streak == 4
    breaker.succeeded(clock())
    assert breaker.streak == 0
    changes = []
    for _ in range(5):
        changes.append(breaker.outrun(clock(), LONGEST))
        clock.advance(0.25)
    assert changes == [None, None, None, None, "opened"]


def test_a_busy_moment_is_no_reason_to_open_it() -> None:
    """A few slow requests held all slots of a healthy backend for a while, and hedging ejected one after the other."""
    clock = FakeClock()
    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(9):
        assert [breaker.outrun(clock(), LONGEST) for _ in range(50)] == [None] * 50
        clock.advance(0.99)
        assert breaker.outrun(clock(), LONGEST) is None
        breaker.succeeded(clock())
    breaker.outrun(clock(), LONGEST)
    clock.advance(1.0)
    assert [breaker.outrun(clock(), LONGEST) for _ in range(4)][-1] == "opened"


def test_being_outrun_says_nothing_about_the_ratio() -> None:
    clock = FakeClock()
    breaker = Breaker(breaker_policy(failures=1000, min_requests=10), private_rows())
    for _ in range(500):
        assert breaker.outrun(clock(), LONGEST) is None
    assert breaker.counted(clock()) == (0, 0)


def test_it_takes_five_at_least_and_never_the_last_backend() -> None:
    clock = FakeClock()
    eager = Breaker(breaker_policy(failures=1), private_rows())
    last = Breaker(breaker_policy(), private_rows())
    eager.outrun(clock(), LONGEST)
    last.outrun(clock(), LONGEST)
    clock.advance(2.0)
    assert [eager.outrun(clock(), LONGEST) for _ in range(4)][-2:] == [None, "opened"]
    assert [last.outrun(clock(), LONGEST, must_stay=lambda: True) for _ in range(9)] == [None] * 9


def test_a_probe_that_is_outrun_has_failed_and_others_say_nothing_new() -> None:
    clock = FakeClock()
    breaker, ticket = half_opened(clock)
    assert breaker.outrun(clock(), LONGEST) is None
    assert breaker.state == "half_open"
    assert breaker.outrun(clock(), LONGEST, ticket) == "opened"
    assert breaker.outrun(clock(), LONGEST, ticket) is None


def test_it_says_why_it_opened() -> None:
    clock = FakeClock()
    breaker = opened(clock)
    assert breaker.why == "5 failures in a row"
    clock.advance(5.0)
    breaker.failed(clock(), LONGEST, breaker.take_ticket(clock()))
    assert breaker.why == "the request that tried it again failed too"

    breaker = Breaker(breaker_policy(), private_rows())
    for _ in range(10):
        breaker.succeeded(100.0)
        breaker.failed(100.0, LONGEST)
    assert breaker.why == "10 of 20 requests failed in 10 s"

    breaker = Breaker(breaker_policy(), private_rows())
    breaker.eject(0.0, LONGEST, "an outlier: 9 of 10")
    assert breaker.why == "an outlier: 9 of 10"
