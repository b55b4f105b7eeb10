from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.retry import IDEMPOTENT, RetryBudget, RetryPolicy


def spend(budget: RetryBudget, now: float) -> int:
    """Withdraw all there is."""
    count = 0
    while budget.withdraw(now):
        count += 1
    return count


def test_a_fresh_budget_has_ten_retries_for_each_of_ten_seconds() -> None:
    assert spend(RetryBudget(), 5000.0) == 100


def test_every_fifth_request_adds_a_retry() -> None:
    budget = RetryBudget(per_second=0.0)
    for _ in range(50):
        budget.deposit(5000.0)
    assert spend(budget, 5000.0) == 10


def test_without_requests_and_reserve_there_is_no_retry() -> None:
    assert not RetryBudget(per_second=0.0).withdraw(5000.0)


def test_requests_are_forgotten_when_they_leave_the_window() -> None:
    budget = RetryBudget(per_second=0.0)
    for _ in range(50):
        budget.deposit(5000.0)
    assert budget.withdraw(5009.9)
    assert not budget.withdraw(5010.0)


def test_what_was_spent_comes_back_when_it_leaves_the_window() -> None:
    budget = RetryBudget()
    spend(budget, 5000.0)
    assert not budget.withdraw(5009.9)
    assert spend(budget, 5010.0) == 100


def test_a_long_silence_empties_the_window_once() -> None:
    budget = RetryBudget(per_second=0.0)
    for _ in range(50):
        budget.deposit(5000.0)
    assert not budget.withdraw(1e9)


def test_a_caller_with_an_older_clock_does_not_empty_the_window() -> None:
    budget = RetryBudget(per_second=0.0)
    for _ in range(50):
        budget.deposit(5005.0)
    budget.deposit(5003.9)
    assert spend(budget, 5005.0) == 10


def test_only_methods_of_rfc_9110_section_9_2_2_are_idempotent() -> None:
    assert sorted(IDEMPOTENT) == [b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PUT", b"TRACE"]


def test_the_policy_has_the_documented_defaults() -> None:
    policy = RetryPolicy()
    assert policy.statuses == {502, 503, 504}
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
