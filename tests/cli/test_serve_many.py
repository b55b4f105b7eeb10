"""What gunicorn is told; that workers serve, reload and stop is shown by tests/live/test_workers.py."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from smartedge.cli import serve_many
from smartedge.cli.serve_many import HUNG_S, LATER_S, RELOADED, SERVING, STOOD_STILL_S, FleetArbiter, FleetWorker, GunicornApp
from smartedge.config.model import parse
from smartedge.process.predecessor import Listener


def application() -> GunicornApp:
    config = parse('{"backends": ["http://a:1"], "shutdown_grace_s": 7.5}')
    listeners = [Listener(7, "clients", "127.0.0.1:0"), Listener(8, "admin", "127.0.0.1:0")]
    return GunicornApp(config, listeners, 3, lambda: None)  # type: ignore[arg-type, return-value]


def test_gunicorn_has_our_settings() -> None:
    cfg = application().cfg
    assert (cfg.workers, cfg.bind, cfg.worker_class) == (3, ["fd://7", "fd://8"], FleetWorker)
    assert 7.5 + LATER_S <= cfg.graceful_timeout < 7.5 + LATER_S + 1, "the workers' own grace is over by then"


def test_workers_show_that_they_live_in_shared_memory_or_in_the_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a container whose /dev/shm was read-only, gunicorn's file there ended the start with a traceback."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(serve_many, "SHARED_MEMORY", tmp_path / "none")
    assert Path(application().cfg.worker_tmp_dir).parent == tmp_path
    (tmp_path / "none").mkdir()
    assert application().cfg.worker_tmp_dir == str(tmp_path / "none")  # a state directory may be removed under a running edge


def test_what_workers_tell_the_arbiter_reads_once_and_in_order() -> None:
    app = application()
    assert app.read_told() == b""
    app.tell_arbiter(SERVING, os.getpid())
    app.tell_arbiter(RELOADED, os.getpid())
    assert app.read_told() == SERVING + RELOADED
    assert app.read_told() == b""


def test_a_worker_whose_arbiter_is_gone_tells_nobody() -> None:
    application().tell_arbiter(SERVING, 1 << 30)


def test_after_the_whole_edge_stood_still_its_workers_are_not_taken_for_hung(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGSTOP of all processes for longer than HUNG_S ended with an arbiter that woke first and killed its workers."""
    for name in ("SERVER_SOFTWARE", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "")  # which the arbiter changes
    arbiter = FleetArbiter(application())
    killed: list[int] = []
    monkeypatch.setattr(arbiter, "kill_worker", lambda pid, how: killed.append(pid))
    silent = SimpleNamespace(tmp=SimpleNamespace(last_update=lambda: time.monotonic() - 2 * HUNG_S), aborted=False)
    arbiter.WORKERS = {1: silent}
    arbiter._looked_at -= 2 * STOOD_STILL_S
    arbiter.murder_workers()
    arbiter.murder_workers()
    assert killed == []
    arbiter._patient_until -= HUNG_S
    arbiter.murder_workers()
    assert killed == [1]
