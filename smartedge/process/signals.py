"""Signals from the first instruction on: what comes before the program can act on it is remembered, or does nothing.

Left to themselves, SIGHUP, SIGUSR1 and SIGUSR2 end a process, which a service manager takes for a clean end, and SIGTTIN and
SIGTTOU make it stand still. Only `os` and `signal` are imported here: this runs before gevent patches anything.
"""

from __future__ import annotations

import os
import signal

MEANINGLESS = (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU)
"""What an arbiter of several workers understands, and a single process does not."""

_came: list[int] = []


def handle_early_signals() -> None:
    """Remember a SIGHUP, ignore SIGUSR1 and MEANINGLESS, until the program has handlers of its own; SIGTERM and SIGINT end it."""
    signal.signal(signal.SIGHUP, lambda number, _: _came.append(number))
    for number in (signal.SIGUSR1, *MEANINGLESS):
        signal.signal(number, signal.SIG_IGN)


def reload_was_asked_for() -> bool:
    """Whether a SIGHUP came before the program had a handler for it; says so once."""
    asked = signal.SIGHUP in _came
    _came.clear()
    return asked


def end_at_once(*, forgiven: int = 0) -> None:
    """Have SIGTERM and SIGINT end the process from here on, after so many that change nothing; SIGQUIT does nothing any more.

    Not SIG_DFL: the kernel ignores that for process 1, which this is in a container.
    """
    left = [None] * forgiven

    def end(number: int, _: object) -> None:
        if left:
            left.pop()
        else:
            os._exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)


def handle_worker_signals(reopen: object) -> None:
    """In a worker of gunicorn: SIGUSR1 reopens our log besides gunicorn's; SIGHUP and SIGUSR2, which would end it, do nothing.

    They are meant for the arbiter, but are also sent to all processes of a name, or of a group.
    """
    assert callable(reopen)
    before = signal.getsignal(signal.SIGUSR1)

    def on_usr1(number: int, frame: object) -> None:
        reopen()
        if callable(before):
            before(number, frame)  # type: ignore[arg-type]

    signal.signal(signal.SIGUSR1, on_usr1)
    for number in (signal.SIGHUP, signal.SIGUSR2):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)
