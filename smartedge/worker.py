"""A gunicorn worker class that brings our own server: `gunicorn -k smartedge.worker.EdgeWorker 'smartedge:create_app()'`."""

from __future__ import annotations

from functools import partial
from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from smartedge.http.resources import TooFewDescriptors, require_descriptors
from smartedge.process.plugins import plugins_found_once
from smartedge.process.worker_server import WorkerServer, counted


class EdgeWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with `WorkerServer` in place of gunicorn's own parser and loop."""

    server_class: Any = WorkerServer
    wsgi: Any
    speaks_tls = False
    """Whether clients speak TLS with certificates of our configuration, not with gunicorn's."""

    def patch(self) -> None:
        """Patch the standard library, as gunicorn's worker does."""
        with plugins_found_once():
            super().patch()

    def init_process(self) -> None:
        """Begin; too few descriptors are one clear line, and the end of gunicorn, before it opens what it needs itself."""
        try:
            require_descriptors()  # and raise their limit, before the server asks how many clients it carries
        except TooFewDescriptors as error:
            from smartedge.app import cannot_begin  # late: gunicorn's arbiter imports this file, before anything is patched

            raise cannot_begin(error) from error
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the app, and have its requests counted if the worker is to end after so many (`--max-requests`).

        `certificates` and `certificates_dir` count where gunicorn has no `--certfile`; our own `certfile` never did.
        """
        super().load_wsgi()
        app: Any = self.wsgi
        edge = getattr(app, "edge", None)
        if edge is not None and not self.cfg.is_ssl and (edge.config.certificates or edge.config.certificates_dir):
            self.speaks_tls = True
            self.server_class = partial(WorkerServer, ssl_context=edge.tls)
        self.wsgi = counted(app, self)
