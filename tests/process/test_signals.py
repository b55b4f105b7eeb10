"""Signals that come before the program can act on them, and in a worker of gunicorn's."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from smartedge.process.signals import MEANINGLESS, handle_early_signals, handle_worker_signals, reload_was_asked_for

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
