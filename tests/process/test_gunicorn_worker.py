from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import gevent

from smartedge.process.gunicorn_worker import count_request, gunicorn_servers, gunicorn_worker


class Worker:
    """What is looked for on the stack. seen: what is found from within its `run`."""

    sockets, cfg = (), None

    def run(self) -> None:
        servers = ["server"]
        self.seen = gunicorn_worker(), gunicorn_servers(), servers


def test_a_worker_is_found_by_its_run_on_the_stack_with_the_servers_that_it_has_made() -> None:
    worker = Worker()
    assert (gunicorn_worker(), gunicorn_servers()) == (None, [])
    worker.run()
    found, servers, own = worker.seen
    assert (found, servers) == (worker, ["server"])
    assert servers is own  # what is put into it is what the worker closes at its end


def test_it_is_found_from_another_greenlet_too() -> None:
    class Waiting(Worker):
        def run(self) -> None:
            servers = ["server"]
            self.seen = gevent.spawn(lambda: (gunicorn_worker(), gunicorn_servers())).get(), servers  # type: ignore[assignment]

    worker = Waiting()
    worker.run()
    assert worker.seen == ((worker, ["server"]), ["server"])


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
