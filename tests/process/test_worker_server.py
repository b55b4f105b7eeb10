from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from smartedge.process.worker_server import count_request


def test_a_worker_that_has_had_its_requests_ends_and_says_so_once() -> None:
    said: list[str] = []
    worker = SimpleNamespace(nr=0, max_requests=2, alive=True, log=SimpleNamespace(info=said.append))
    for expected in (True, False, False):
        count_request(worker)
        assert worker.alive == expected
    assert said == ["Autorestarting worker after current request."]


def test_the_arbiter_loads_the_worker_class_without_what_is_to_be_patched() -> None:
    """What is imported there is imported before gevent patches: each worker's end wrote a traceback of logging's to the log."""
    loads = "import sys, smartedge.worker; print(*{'flask', 'requests', 'logging.handlers', 'smartedge.app'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
