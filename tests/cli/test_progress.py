from __future__ import annotations

import io

import pytest

from smartedge.cli.progress import EACH_S, ERASE, progress
from smartedge.simulator.engine import compare
from tests.simulator.makers import scenario


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_is_written_over_and_goes_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    stream, now = Terminal(), [100.0]
    with progress(stream, lambda: now[0]) as show:
        show("one")
        show("at once after it")
        now[0] += 2 * EACH_S
        show("two, and more than the terminal has room for")
    assert stream.getvalue() == f"{ERASE}one{ERASE}two, and more than {ERASE}"


def test_nothing_is_shown_where_there_is_no_terminal_or_one_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, term in ((io.StringIO(), "xterm"), (Terminal(), "dumb")):
        monkeypatch.setenv("TERM", term)
        with progress(stream) as show:
            show("one")
        assert stream.getvalue() == ""


def test_a_simulation_tells_how_far_each_strategy_is() -> None:
    told: list[tuple[str, float]] = []
    made = scenario({"strategies": ["round_robin", "ewma"]})
    compare(made, lambda strategy, now_s: told.append((strategy, now_s)))
    assert list(dict.fromkeys(name for name, _ in told)) == ["round_robin", "ewma"]
    times = [now_s for name, now_s in told if name == "ewma"]
    assert times == sorted(times)
    assert times[-1] >= made.world.duration_s * 0.9
