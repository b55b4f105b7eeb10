"""What a worker does for its process: more under gunicorn, which knows nothing of it, than where it is a guest."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator

import gunicorn.arbiter  # noqa: F401  the identity of a gunicorn worker asks whether it is loaded
import pytest

from smartedge.observe import console
from smartedge.process.hosting import set_up_process


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)}
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_guest_in_somebody_elses_process_minds_no_signal() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    set_up_process("warning", lambda: None, {})
    assert signal.getsignal(signal.SIGUSR1) is before


def test_under_gunicorn_sigusr1_reopens_our_log_and_the_console_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(console, "install", lambda: done.append("console"))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    set_up_process("info", lambda: done.append("reopened"), {"SERVER_SOFTWARE": "gunicorn/23.0"})
    os.kill(os.getpid(), signal.SIGUSR1)
    assert done == ["console", "reopened"]
