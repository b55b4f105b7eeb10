from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.retry import IDEMPOTENT, RetryBudget, Tries
from tests.policies import retry_policy


def spend(budget: RetryBudget, now: float) -> int:
    """Withdraw all there is."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_a_fresh_budget_has_ten_retries_for_each_of_ten_seconds() -> None:
    assert spend(RetryBudget(0.2, 10.0), 5000.0) == 100


def test_every_fifth_request_adds_a_retry() -> None:
    budget = RetryBudget(0.2, 0.0)
    for _ in range(50):
        budget.deposit(5000.0)
    assert spend(budget, 5000.0) == 10


def test_without_requests_and_reserve_there_is_no_retry() -> None:
    assert not RetryBudget(0.2, 0.0).withdraw(5000.0)


def test_requests_are_forgotten_when_they_leave_the_window() -> None:
    budget = RetryBudget(0.2, 0.0)
    for _ in range(50):
        budget.deposit(5000.0)
    assert budget.withdraw(5009.9)
    assert not budget.withdraw(5010.0)


def test_what_was_spent_comes_back_when_it_leaves_the_window() -> None:
    budget = RetryBudget(0.2, 10.0)
    spend(budget, 5000.0)
    assert not budget.withdraw(5009.9)
    assert spend(budget, 5010.0) == 100


def test_a_long_silence_empties_the_window_once() -> None:
    budget = RetryBudget(0.2, 0.0)
    for _ in range(50):
        budget.deposit(5000.0)
    assert not budget.withdraw(1e9)


def test_a_caller_with_an_older_clock_does_not_empty_the_window() -> None:
    budget = RetryBudget(0.2, 0.0)
    for _ in range(50):
        budget.deposit(5005.0)
    budget.deposit(5003.9)
    assert spend(budget, 5005.0) == 10


def test_only_methods_of_rfc_9110_section_9_2_2_are_idempotent() -> None:
    assert sorted(IDEMPOTENT) == [b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PUT", b"TRACE"]


def test_the_policy_has_the_documented_defaults() -> None:
    policy = retry_policy()
    assert policy.statuses == {500, 502, 503, 504}
    assert (policy.attempts, policy.body_bytes) == (3, 64 * 1024)


@given(st.lists(st.tuples(st.sampled_from(["request", "retry", "retry"]), st.floats(0.0, 4.0)), max_size=200))
def test_a_retry_is_paid_by_the_requests_and_seconds_of_the_window(steps: list[tuple[str, float]]) -> None:
    """Compared with the sum worked out anew from the whole history, one-second parts of the window included."""
    budget = RetryBudget(ratio=0.5, per_second=0.3, window_s=10.0)
    now = 5000.0
    history: list[tuple[int, float]] = []
    for what, pause in steps:
        now += pause
        if what == "request":
            budget.deposit(now)
            history.append((int(now), 0.5))
            continue
        balance = 3.0 + sum(amount for second, amount in history if second > int(now) - 10)
        assert budget.withdraw(now) == (balance >= 1.0)
        if balance >= 1.0:
            history.append((int(now), -1.0))


def test_a_refund_is_as_good_as_a_retry_that_was_never_asked_for() -> None:
    budget = RetryBudget(0.2, 0.1)
    assert budget.withdraw(5000.0)
    assert not budget.withdraw(5000.0)
    budget.refund(5000.0)
    assert budget.withdraw(5000.0)


def test_other_rates_hold_from_the_next_request_on_and_what_was_paid_in_stays() -> None:
    budget = RetryBudget(ratio=0.5, per_second=0.0)
    for _ in range(10):
        budget.deposit(5000.0)
    budget.set_rates(0.0, 0.2)
    budget.deposit(5000.0)
    assert spend(budget, 5000.0) == 5 + 2


def tries(budget: RetryBudget | None = None, *, idempotent: bool = True, **policy: Any) -> Tries:
    """The tries of a request that began at 5000.0, with backend a."""
    return Tries(retry_policy(**policy), budget or RetryBudget(0.2, 10.0), 5000.0, idempotent, "a")


def test_what_was_sent_is_tried_again_only_if_the_method_allows_it() -> None:
    assert tries().again(5000.0, sent=True)
    assert not tries(idempotent=False).again(5000.0, sent=True)
    assert tries(idempotent=False).again(5000.0, sent=False)


def test_there_are_so_many_attempts_and_hedges_are_among_them() -> None:
    request = tries(attempts=3)
    assert request.hedge(5000.0)
    request.begun("b")
    assert request.again(5000.0, sent=True)
    request.begun("c")
    assert not request.hedge(5000.0)
    assert not request.again(5000.0, sent=True)
    assert (request.count, request.tried) == (3, ["a", "b", "c"])


def test_what_no_backend_has_seen_is_tried_on_every_one_for_nothing() -> None:
    request = tries(RetryBudget(0.0, 0.0), attempts=2)
    for name in "bcdef":
        assert request.again(5000.0, sent=False)
        request.begun(name)
    assert not request.again(5000.0, sent=True)


def test_after_the_deadline_nothing_begins() -> None:
    request = tries(deadline_s=2.0)
    assert request.deadline == 5002.0
    assert request.again(5002.0, sent=True)
    assert not request.hedge(5002.0)
    assert not request.again(5002.1, sent=False)
    assert not request.hedge(5002.1)


def test_only_an_idempotent_request_is_hedged() -> None:
    assert tries().hedge(5000.0)
    assert not tries(idempotent=False).hedge(5000.0)


def test_retries_and_hedges_are_paid_from_one_budget() -> None:
    budget = RetryBudget(ratio=0.0, per_second=0.2)
    assert tries(budget).hedge(5000.0)
    assert tries(budget).again(5000.0, sent=True)
    assert not tries(budget).hedge(5000.0)
    assert not tries(budget).again(5000.0, sent=True)


def test_a_try_that_no_backend_could_have_costs_nothing() -> None:
    budget = RetryBudget(ratio=0.0, per_second=0.1)
    for _ in range(3):
        request = tries(budget)
        assert request.again(5000.0, sent=True)
        request.in_vain(5000.0)
        request.in_vain(5000.0)
    assert spend(budget, 5000.0) == 1


def test_what_was_free_or_has_begun_is_not_given_back() -> None:
    budget = RetryBudget(ratio=0.0, per_second=0.1)
    request = tries(budget)
    assert request.again(5000.0, sent=False)
    request.in_vain(5000.0)
    assert request.again(5000.0, sent=True)
    request.begun("b")
    request.in_vain(5000.0)
    assert spend(budget, 5000.0) == 0


def test_what_is_left_of_a_budget_is_what_can_be_withdrawn() -> None:
    budget = RetryBudget(ratio=0.5, per_second=0.2)
    for _ in range(7):
        budget.deposit(5000.0)
    assert budget.left(5000.0) == 5
    assert spend(budget, 5000.0) == 5
    assert budget.left(5000.0) == 0
    budget.set_rates(0.0, 0.0)
    assert budget.left(5000.0) == 0
    assert budget.left(6000.0) == 0


def test_the_applications_own_failure_is_repeated_once_for_what_changes_nothing_and_not_while_all_fail() -> None:
    """A 500 was passed on although another backend would have answered; repeated without end it would triple a bad URL's load."""

    def asked(times: int, *, safe: bool, hopeless: bool = False, status: int = 500) -> list[bool]:
        budget = RetryBudget(ratio=0.0, per_second=100.0)
        one = Tries(retry_policy(attempts=9), budget, 5000.0, True, "a", safe=safe)
        found = []
        for number in range(times):
            found.append(one.again_after(5000.0, status, lambda: hopeless))
            if found[-1]:
                one.begun(str(number))
        return found

    assert asked(3, safe=True) == [True, False, False]
    assert asked(1, safe=False) == [False]
    assert asked(1, safe=True, hopeless=True) == [False]
    assert asked(1, safe=True, status=501) == [False]
    for status in (502, 503, 504):
        assert asked(3, safe=False, hopeless=True, status=status) == [True] * 3


def test_a_refused_retry_after_a_500_is_not_paid_for() -> None:
    budget = RetryBudget(ratio=0.0, per_second=1.0)
    before = budget.left(5000.0)
    Tries(retry_policy(), budget, 5000.0, True, "a", safe=True).again_after(5000.0, 500, lambda: True)
    assert budget.left(5000.0) == before
