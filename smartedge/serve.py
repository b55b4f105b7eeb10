"""The edge as a program of its own: listens, says so, minds signals, and stops without dropping a request."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

import gevent
from gevent.event import Event

from smartedge.app import SmartEdge, create_app
from smartedge.balancer.errors import EdgeError
from smartedge.config import Config, ConfigError
from smartedge.config_values import listen_name
from smartedge.proxy.server import EdgeServer
from smartedge.proxy.unix_listener import listen_unix

BACKLOG = 2048


def serve(config: Config, *, config_path: str | None, overrides: Mapping[str, Any], token: str | None) -> int:
    """Run until SIGTERM or SIGINT, then give requests in flight `shutdown_grace_s`; returns the exit status, 0.

    SIGHUP re-reads the configuration file. A second SIGTERM or SIGINT exits at once. Raises OSError when it can't listen.
    """
    speak_utf8()
    app = create_app(config, path=config_path, overrides=overrides, token=token)
    servers = [_listen(config.bind, app, ssl_context=app.edge.tls)]
    if config.admin_bind is not None:
        servers.append(_listen(config.admin_bind, app, environ={"smartedge.admin": True}))
    app.edge.listeners = [server.socket.getsockname() for server in servers]
    stop = Event()
    handlers = [
        gevent.signal_handler(signal.SIGTERM, stop.set),
        gevent.signal_handler(signal.SIGINT, stop.set),
        gevent.signal_handler(signal.SIGHUP, lambda: gevent.spawn(_reload, app)),
    ]
    print(f"🚀 SmartEdge iniciado na porta {servers[0].server_port}", flush=True)
    app.edge.begin()
    try:
        stop.wait()
        for handler in handlers[:2]:
            handler.cancel()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Not SIG_DFL: the kernel ignores that for process 1, which this is in a container.
            signal.signal(number, lambda which, _: os._exit(128 + which))
        app.edge.team.stopping = True
        done = [gevent.spawn(server.stop_gracefully, app.edge.config.shutdown_grace_s) for server in servers]
        gevent.joinall(done)
        return 0
    finally:
        app.edge.stop()


def speak_utf8() -> None:
    """Print what we have to say in any locale."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]


def _listen(bind: str, app: SmartEdge, **options: Any) -> EdgeServer:
    name = listen_name(bind)
    server = EdgeServer(listen_unix(name) if isinstance(name, str) else name, app, backlog=BACKLOG, **options)
    server.start()
    return server


def _reload(app: SmartEdge) -> None:
    """Do what POST /api/reload without a body does; what is wrong goes to standard error."""
    try:
        print(app.edge.reload(None).document["message"], flush=True)
    except (ConfigError, EdgeError) as error:
        print(f"smartedge: reload refused, nothing changed: {error}", file=sys.stderr, flush=True)
