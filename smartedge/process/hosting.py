"""What a process that serves does for itself, whoever started it: limits, console and signals under gunicorn as under `run`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping

from smartedge.http import resources
from smartedge.observe import console
from smartedge.process import signals
from smartedge.process.abort import handle_abort
from smartedge.workers.identity import UNDER_GUNICORN, edge_identity


def set_up_process(log_level: str, reopen_log: Callable[[], None], env: Mapping[str, str] = os.environ) -> None:
    """Log, and in a worker of gunicorn's take over console, descriptor limit and signals; called by `Edge.begin_serving`."""
    console.log_at(log_level)
    if edge_identity(env).startswith(UNDER_GUNICORN):
        console.install()
        resources.raise_limit()
        signals.handle_worker_signals(reopen_log)
        handle_abort()
    console.stand_by()


def give_back_memory() -> None:
    """Give back what imports have used for a moment, to compile and to build checks (glibc's malloc_trim(3)): some 1 MB."""
    with contextlib.suppress(ImportError, OSError, AttributeError):  # another C library, or another Python
        import _ctypes  # what ctypes stands on: ctypes itself would take a quarter of what is given back

        program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
        _ctypes.call_function(_ctypes.dlsym(program, "malloc_trim"), (0,))
