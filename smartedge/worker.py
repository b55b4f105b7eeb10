"""A gunicorn worker class that brings our own server: `gunicorn -k smartedge.worker.EdgeWorker 'smartedge:create_app()'`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from gunicorn.workers.ggevent import GeventWorker

from smartedge.http.request import Request
from smartedge.http.resources import raise_limit
from smartedge.server.front import hooks_of
from smartedge.server.server import EdgeServer


class EdgeWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker with `EdgeServer` in place of gunicorn's own parser and loop."""

    server_class: Any = EdgeServer
    wsgi: Any
    speaks_tls = False
    """Whether clients speak TLS with certificates of our configuration, not with gunicorn's."""

    def load_wsgi(self) -> None:
        """Load the app, and have its requests counted if the worker is to end after so many (`--max-requests`).

        `certificates` and `certificates_dir` count where gunicorn has no `--certfile`; our own `certfile` never did.
        """
        raise_limit()  # before the server asks how many clients it carries
        super().load_wsgi()
        app: Any = self.wsgi
        edge = getattr(app, "edge", None)
        if edge is not None and not self.cfg.is_ssl and (edge.config.certificates or edge.config.certificates_dir):
            self.speaks_tls = True
            self.server_class = partial(EdgeServer, ssl_context=edge.tls)
        if self.max_requests < sys.maxsize:
            self.wsgi = CountedApp(app, self.max_requests, self._had_enough)

    def _had_enough(self) -> None:
        self.log.info("Autorestarting worker after current request.")
        self.alive = False


class CountedApp:
    """An app that says when it has been called so often; made by `EdgeWorker`, called by its server as the app would be.

    gunicorn counts requests in its own loop, which we do not use.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], most: int, on_enough: Callable[[], None]) -> None:
        self._app = app
        self._left = most
        self._on_enough = on_enough
        self._hooks = hooks_of(app)
        self.server_hooks = replace(self._hooks, forward=self._forward)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, and count it."""
        self._count()
        return self._app(environ, start_response)

    def _forward(self, request: Request) -> Any:
        """Count a request that does not come here, too."""
        answer = self._hooks.forward(request)
        if answer is not None:
            self._count()
        return answer

    def _count(self) -> None:
        self._left -= 1
        if not self._left:
            self._on_enough()
