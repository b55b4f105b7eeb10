"""Listeners of gunicorn's gevent worker (`-k gevent`) that our own server serves, as it does under `EdgeWorker`.

    gunicorn listens ──▶ its worker makes a StreamServer for each listener, and keeps them in a list ──▶ runs its loop
                                                                                    │
    the app, as the loop begins to run: take_over ──▶ a TakenServer in its place ◀──┘

gunicorn's worker goes on as before with what stands in its list: it beats for the arbiter, closes the servers when it is to end,
and waits for their connections. Only its parser and its loop for each request are left out. What these do with a request is done
here: requests are counted (`--max-requests`), and gunicorn's limits hold where they are stricter than ours.
"""

from __future__ import annotations

import os
from dataclasses import replace
from time import monotonic
from typing import Any

import gevent
import gevent.socket

from smartedge.http.resources import raise_limit
from smartedge.process.gunicorn_worker import gunicorn_servers, gunicorn_worker
from smartedge.process.worker_server import WorkerServer, counted
from smartedge.server.front import ServerLimits
from smartedge.server.server import ENDED_S


def take_over(app: Any) -> None:
    """Serve the listeners of the gunicorn worker that this process is, if it is one of gunicorn's own for gevent.

    app: the Flask app (`smartedge.app`), which stands above this folder. Called in the worker as its event loop begins to run:
    the listeners are there then, and nothing has been accepted.
    """
    worker = gunicorn_worker()
    if worker is not None and worker.wsgi is app and is_plain_gevent(worker):
        replace_servers(gunicorn_servers(), worker, app)


def replace_servers(servers: list[Any], worker: Any, app: Any) -> None:
    """Put servers of ours in the place of those that a worker of gunicorn's has made, and start them."""
    raise_limit()  # before a server asks how many clients it carries
    for place, (sock, theirs) in enumerate(zip(worker.sockets, servers, strict=True)):
        listener = gevent.socket.socket(sock.family, fileno=os.dup(sock.fileno()))
        server = TakenServer(listener, theirs, worker, app)
        theirs.close()  # and its listener's first descriptor
        worker.sockets[place], servers[place] = listener, server
        server.start()


class TakenServer(WorkerServer):
    """Our server on a listener of gunicorn's, in its worker's list of servers; made by `replace_servers`.

    theirs: gevent's server that gunicorn had made for it, which is closed. A connection that somebody wants to see in
    gunicorn's loop is given to that, as `theirs` would have.
    """

    def __init__(self, listener: Any, theirs: Any, worker: Any, app: Any) -> None:
        self._theirs, self._worker, self._app = theirs, worker, app
        super().__init__(
            listener,
            counted(app, worker),
            ssl_context=theirs.wrap_socket.__self__ if theirs.ssl_enabled else None,
            spawn=theirs.pool.size,
            environ={"wsgi.multithread": True, "wsgi.multiprocess": worker.cfg.workers > 1},
        )
        self._in_their_loop: set[Any] = set()  # greenlets
        self._known: tuple[ServerLimits, ServerLimits] | None = None
        self.front.hooks = replace(self.front.hooks, limits=self._limits)

    def handle(self, sock: Any, address: Any) -> None:
        """Serve one connection, in a greenlet of its own."""
        app = self._app
        if app.edge.config.take_over and app.is_bare():
            super().handle(sock, address)
            return
        client = gevent.socket.socket(self.family, fileno=sock.detach())
        self._in_their_loop.add(gevent.getcurrent())
        try:
            if self._theirs.ssl_enabled:
                client = self._theirs.wrap_socket(client, **self._theirs.ssl_args)
            self._worker.handle(self, client, address)
        finally:
            self._in_their_loop.discard(gevent.getcurrent())
            client.close()

    def stop(self, timeout: float | None = None) -> None:
        """End what is still under way when gunicorn's `graceful_timeout` is over, in its own loop as gevent's server would."""
        super().stop(timeout)
        for greenlet in list(self._in_their_loop):
            gevent.kill(greenlet)  # gunicorn's worker goes on behind that: they do not end
        deadline = monotonic() + ENDED_S
        while self._in_their_loop and monotonic() < deadline:
            gevent.sleep(0.01)

    def getsockname(self) -> Any:
        """Say what the listener is bound to: gunicorn's loop asks its listener, which may have been closed meanwhile."""
        return self.address

    def _limits(self) -> ServerLimits:
        """Give the limits for a new connection: ours and gunicorn's, of each the stricter."""
        ours: ServerLimits = self._app.server_hooks.limits()
        if self._known is None or self._known[0] is not ours:
            self._known = ours, stricter(ours, self._worker.cfg)
        return self._known[1]


def is_plain_gevent(worker: Any) -> bool:
    """Whether a worker is gunicorn's own for gevent, keeps connections, and does with a request what ours does."""
    kind, cfg = type(worker), worker.cfg
    logs = cfg.accesslog or cfg.logconfig or cfg.logconfig_dict or getattr(cfg, "logconfig_json", None)
    logs = logs or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
    hooks = (cfg.settings[name] for name in ("pre_request", "post_request"))
    return (
        (kind.__module__, kind.__name__) == ("gunicorn.workers.ggevent", "GeventWorker")
        and bool(cfg.keepalive)
        and not logs
        and type(worker.log).access.__module__ == "gunicorn.glogging"  # not that of statsd, or somebody's own
        and all(hook.get() is hook.default for hook in hooks)
        and cfg.proxy_protocol in (False, "off")
        and list(getattr(cfg, "http_protocols", None) or ["h1"]) == ["h1"]
    )


def stricter(ours: ServerLimits, cfg: Any) -> ServerLimits:
    """Give our limits, with gunicorn's own where those leave less: `--keep-alive` and `--limit-request-...`."""
    line_bytes = 8190 if cfg.limit_request_line < 0 else min(cfg.limit_request_line, 8190)  # 0 is none
    return replace(
        ours,
        keepalive_s=min(ours.keepalive_s, cfg.keepalive),
        target_bytes=min(ours.target_bytes, line_bytes or ours.target_bytes),
        headers=min(ours.headers, cfg.limit_request_fields if cfg.limit_request_fields > 0 else ours.headers),
        line_bytes=line_bytes,
        field_bytes=cfg.limit_request_field_size if cfg.limit_request_field_size > 0 else 8190,
    )
