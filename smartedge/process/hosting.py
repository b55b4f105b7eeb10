"""What a process that serves does for itself, whoever started it: limits, console and signals under gunicorn as under `run`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from smartedge.http import resources
from smartedge.observe import console
from smartedge.process import signals
from smartedge.workers.identity import UNDER_GUNICORN, edge_identity


def set_up_process(log_level: str, reopen_log: Callable[[], None], env: Mapping[str, str] = os.environ) -> None:
    """Have it log, and if it is a worker of gunicorn's, make it as robust as our own; where we are a guest, change no more."""
    console.log_at(log_level)
    if edge_identity(env).startswith(UNDER_GUNICORN):
        console.install()
        resources.raise_limit()
        signals.mind_in_worker(reopen_log)
