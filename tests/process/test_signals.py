"""Signals that come before the program can act on them, and in a worker of gunicorn's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from smartedge.process.signals import MEANINGLESS, end_at_once, handle_early_signals, handle_worker_signals, reload_was_asked_for

ALL = (signal.SIGHUP, signal.SIGUSR1, *MEANINGLESS)


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


def test_a_sighup_before_anybody_can_act_on_it_is_remembered_once_and_others_do_nothing() -> None:
    handle_early_signals()
    send(signal.SIGUSR1, *MEANINGLESS)
    assert not reload_was_asked_for()
    send(signal.SIGHUP, signal.SIGHUP)
    assert reload_was_asked_for()
    assert not reload_was_asked_for()


def test_in_a_worker_sigusr1_reopens_our_log_beside_gunicorns_and_nothing_ends_it() -> None:
    done: list[str] = []
    signal.signal(signal.SIGUSR1, lambda *_: done.append("gunicorn"))
    for number in (signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    handle_worker_signals(lambda: done.append("ours"))
    send(signal.SIGUSR1, signal.SIGHUP, signal.SIGUSR2)
    assert done == ["ours", "gunicorn"]
    assert [signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGUSR2)] == [signal.SIG_IGN] * 2


def test_what_gunicorn_minds_itself_in_a_worker_is_left_to_it() -> None:
    def minded(*_: object) -> None: ...

    signal.signal(signal.SIGHUP, minded)
    handle_worker_signals(lambda: None)
    assert signal.getsignal(signal.SIGHUP) is minded


def test_a_program_that_ends_anyway_forgives_one_signal_and_ends_at_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends the old program by hand after SIGUSR2, as with gunicorn, must not cut what it still answers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)}
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    try:
        end_at_once(forgiven=1)
        send(signal.SIGTERM, signal.SIGQUIT)
        assert ended == []
        send(signal.SIGINT)
        assert ended == [128 + signal.SIGINT]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
