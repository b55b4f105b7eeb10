"""Waits that grow, and differ."""

from __future__ import annotations

from random import Random

from smartedge.discovery.backoff import Backoff


class Chance(Random):
    """Gives the least or the most that it may."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.share


def test_waits_double_up_to_the_longest_and_begin_again_after_success() -> None:
    backoff = Backoff(Chance(1.0))
    assert [backoff.next_wait_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.next_wait_s() == 0.5
    assert repr(backoff) == "<Backoff up to 1 s>"


def test_each_wait_is_between_half_of_it_and_all() -> None:
    backoff = Backoff(Chance(0.0), 2.0, 3.0)
    assert [backoff.next_wait_s() for _ in range(3)] == [1.0, 1.5, 1.5]
    waits = {round(Backoff(Random(seed)).next_wait_s(), 6) for seed in range(100)}
    assert len(waits) > 50
    assert min(waits) >= 0.25
    assert max(waits) <= 0.5
