"""Connections of gunicorn's gevent worker (`-k gevent`) that our own handler serves, from their first request on.

    gunicorn accepts ──▶ its parser reads one head ──▶ app ──▶ TakeOver ──▶ EdgeHandler: this request, and all that follow
                                                                   │
    gunicorn closes ◀──────────── "already handled" ◀──────────────┘  at the connection's end, in the same greenlet

For gunicorn a connection is one long request: its limit of connections and its heartbeat are what they were, and a stop waits for
it. What its loop does for each request is done here: requests are counted (`--max-requests`), its limits hold where they are
stricter than ours, and a worker that ends says so in its answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from socket import AF_UNIX
from sys import maxsize
from time import monotonic
from typing import Any, Final

import gevent.socket

from smartedge.http.environ_keys import GUNICORN_SOCKET
from smartedge.http.request import Request
from smartedge.http.resources import HOLDERS
from smartedge.process.gunicorn_worker import count_request, gunicorn_servers, gunicorn_worker
from smartedge.proxy.foreign import can_take_over, take_from_gunicorn
from smartedge.server.counted import CountedApp
from smartedge.server.front import Front, ServerLimits
from smartedge.server.handler import EdgeHandler
from smartedge.server.wsgi import head_from_environ

CLOSE_S: Final = 1.0
"""How long connections are accepted at most that come while a listener is about to be closed, in seconds."""

_KEPT: Final = ("wsgi.version", "wsgi.errors", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", "SERVER_SOFTWARE")


class TakeOver:
    """Takes connections from gunicorn's gevent worker; owned by the app, which asks it for each request that gunicorn has read.

    app: the Flask app (`smartedge.app`), which stands above this folder. find_worker, find_servers: who serves, and what accepts.
    """

    def __init__(
        self,
        app: Any,
        find_worker: Callable[[], Any] = gunicorn_worker,
        find_servers: Callable[[], list[Any]] = gunicorn_servers,
    ) -> None:
        self._app = app
        self._find_worker = find_worker
        self._find_servers = find_servers
        self._worker: Any = None
        self._may: bool | None = None
        self._fronts: dict[tuple[str, str], Front] = {}
        self._known: tuple[ServerLimits, ServerLimits] | None = None
        self._stopping = False

    def serve(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Serve this request's connection to its end; give what to return to gunicorn then, None if it keeps the connection."""
        sock = environ.get(GUNICORN_SOCKET)
        if type(sock) is not gevent.socket.socket or not self._app.edge.config.take_over or not self._may_take(environ):
            return None  # a socket with TLS is another class
        parsed = start_response.__self__.req
        address = (environ["REMOTE_ADDR"], environ.get("REMOTE_PORT", "")) if environ.get("REMOTE_ADDR") else ""
        handler = EdgeHandler(sock, address, self._front_of(sock, environ))
        handler.incoming.unread, result = take_from_gunicorn(environ)
        parsed.must_close = True  # so that gunicorn's parser asks for no more behind this one
        if self._worker.max_requests < maxsize:
            self._worker.nr -= 1  # gunicorn has counted it, and the front will

        def read_head() -> Request:
            request = head_from_environ(environ, start_response)
            request.secure = False  # whose word counts for X-Forwarded-Proto is ours to say (trusted_proxies)
            return request

        handler.handle(lambda reader: reader.take_on(read_head, environ["REQUEST_METHOD"] == "HEAD"))
        return result

    def close_idle(self, most: int) -> int:
        """Close so many connections at most that wait for a request, where descriptors run out; say how many (see HOLDERS)."""
        closed = 0
        for front in self._fronts.values():
            for incoming in front.longest_idle():
                if closed < most and not incoming.wire.stuck and incoming.wire.peer_is_quiet():
                    incoming.wire.close()
                    closed += 1
        return closed

    def _may_take(self, environ: dict[str, Any]) -> bool:
        """Whether nobody would miss what gunicorn's loop does for a request; found out once for a worker."""
        if self._may is None:
            worker, servers = self._find_worker(), self._find_servers()
            self._may = worker is not None and worker.wsgi is self._app and is_plain_gevent(worker) and bool(servers)
            if self._may:
                self._worker = worker
                HOLDERS.add(self)
                for server in servers:
                    server.close = partial(self._close, server, server.close)
        return self._may and can_take_over(environ)

    def _front_of(self, sock: Any, environ: dict[str, Any]) -> Front:
        """Give what the connections of a listener share."""
        name = ("", "") if sock.family == AF_UNIX else (environ["SERVER_NAME"], environ["SERVER_PORT"])
        front = self._fronts.get(name)
        if front is None:
            app = self._app
            if self._worker.max_requests < maxsize:
                app = CountedApp(app, partial(count_request, self._worker))
            front = self._fronts[name] = Front(app, lambda: None)
            front.hooks = replace(front.hooks, limits=self._limits)
            front.environ = {key: environ[key] for key in _KEPT} | {"SERVER_NAME": name[0], "SERVER_PORT": name[1]}
            front.stopping = self._stopping
        return front

    def _limits(self) -> ServerLimits:
        """Give the limits for a new connection: ours and gunicorn's, of each the stricter."""
        ours: ServerLimits = self._app.server_hooks.limits()
        if self._known is None or self._known[0] is not ours:
            self._known = ours, stricter(ours, self._worker.cfg)
        return self._known[1]

    def _close(self, server: Any, close: Callable[[], None]) -> None:
        """Close a listener and what is idle, and serve what has been accepted for it; called by gunicorn as the server's `close`.

        The system would reset what it has accepted. And gunicorn's loop asks the listener for its name when it begins to serve a
        connection: each must have begun before the close. The worker waits for those that are under way.
        """
        if not server.started:
            return
        if not self._stopping:
            self._stopping = True
            self._app.server_hooks.on_stopping()
            for front in self._fronts.values():
                front.stopping = True
        server.stop_accepting()
        gevent.sleep(0)
        deadline = monotonic() + CLOSE_S
        while monotonic() < deadline and not server.full() and (accepted := server.do_read()) is not None:
            server.do_handle(*accepted)
            gevent.sleep(0)
        close()
        for front in self._fronts.values():
            front.close_idle(fresh=False)


def is_plain_gevent(worker: Any) -> bool:
    """Whether a worker is gunicorn's own for gevent, keeps connections, and tells nobody of each request but its app."""
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
