from __future__ import annotations

from smartedge.workers.loop_lag import WINDOW_S, LoopLag


def test_the_longest_delay_is_seen_for_one_window_at_least_and_two_at_most() -> None:
    lag = LoopLag()
    start = 100 * WINDOW_S
    assert lag.note(start + 1, 0.001) == 0.001
    assert lag.note(start + 2, 0.25) == 0.25
    assert lag.note(start + 3, 0.001) == 0.25
    assert lag.note(start + 2 + WINDOW_S, 0.002) == 0.25
    assert lag.note(start + 2 + 2 * WINDOW_S, 0.001) == 0.002


def test_what_was_before_a_long_stop_is_forgotten_and_the_stop_itself_is_a_delay() -> None:
    lag = LoopLag()
    lag.note(10.0, 0.5)
    assert lag.note(1000.0, 0.001) == 0.001
    assert lag.note(1001.0, 60.0) == 60.0


def test_a_turn_that_comes_early_is_no_delay() -> None:
    assert LoopLag().note(1.0, float("-inf")) == 0.0
