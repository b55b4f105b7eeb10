from __future__ import annotations

import gevent

from smartedge.process.gunicorn_worker import gunicorn_servers, gunicorn_worker


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
