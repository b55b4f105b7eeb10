"""`smartedge run --workers N`: gunicorn's own arbiter in this process, with workers that serve as one process does.

The arbiter listens, forks, replaces the dead, and hands signals on; everything else is what a worker of ours does anyway
(docs/workers.md). It differs from a bare gunicorn in three things: SIGHUP has the workers read the configuration again
instead of replacing them, SIGINT stops as gently as SIGTERM, and `shutdown_grace_s` is the time for that.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import gevent
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from smartedge.app import SmartEdge, create_app
from smartedge.balancer.errors import EdgeError
from smartedge.config import Config, ConfigError
from smartedge.config_values import listen_name
from smartedge.control.workers import StateDir
from smartedge.proxy.server import EdgeServer
from smartedge.proxy.unix_listener import listen_unix
from smartedge.serve import BACKLOG, speak_utf8
from smartedge.worker import EdgeWorker

LOOK_S = 0.1
"""How often a worker looks whether it has been told something."""

LEADER_FIRST_S = 0.5
"""How long the other workers leave a SIGHUP to the leader."""

LATER_S = 5.0
"""How much longer than its workers the arbiter waits, before it kills them."""

HUNG_S = 60
"""A worker whose loop has stood still for so long is replaced."""


def serve_many(config: Config, workers: int, *, config_path: str | None, overrides: Mapping[str, Any], token: str | None) -> int:
    """Run until SIGTERM or SIGINT, as `serve` does, in so many worker processes.

    Raises OSError when it can't listen, StateError when the workers would have no place to meet.
    """
    speak_utf8()
    StateDir.check()

    def load() -> SmartEdge:
        return create_app(config, path=config_path, overrides=overrides, token=token)

    binds = [bind for bind in (config.bind, config.admin_bind) if bind is not None]
    if "GUNICORN_FD" not in os.environ:  # after SIGUSR2 the listeners are the old arbiter's
        binds = [f"fd://{_listener(bind)}" for bind in binds]
    try:
        FleetArbiter(Fleet(config, binds, workers, load)).run()
    except SystemExit as error:  # the arbiter's way to end
        return 2 if error.code else 0
    except HaltServer:  # a worker could not begin, and has said why
        return 2
    return 0


class Fleet(BaseApplication):  # type: ignore[misc]
    """What gunicorn needs to know: where it listens, how many workers, and what they serve."""

    def __init__(self, config: Config, binds: list[str], workers: int, load: Any) -> None:
        self._config = config
        self._binds = binds
        self._workers = workers
        self.load = load
        super().__init__(prog="smartedge")

    def load_config(self) -> None:
        """Turn our settings into gunicorn's; the rest of them stays as it is, whatever GUNICORN_CMD_ARGS says."""
        settings = {
            "bind": self._binds,
            "workers": self._workers,
            "worker_class": FleetWorker,
            "backlog": BACKLOG,
            "graceful_timeout": math.ceil(self._config.shutdown_grace_s + LATER_S),
            "timeout": HUNG_S,
            "loglevel": "warning",
            "proc_name": "smartedge",
            "control_socket_disable": True,
            "worker_tmp_dir": "/dev/shm" if os.path.isdir("/dev/shm") else None,
            "when_ready": _say_ready,
        }
        for key, value in settings.items():
            self.cfg.set(key, value)


def _listener(bind: str) -> int:
    """Listen there, and return the descriptor; raises OSError."""
    name = listen_name(bind)
    if isinstance(name, str):
        return listen_unix(name, removed_at_exit=False).detach()  # the arbiter removes it
    host, port = name
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        return sock.detach()


def _say_ready(arbiter: Arbiter) -> None:
    print(f"🚀 SmartEdge iniciado na porta {arbiter.LISTENERS[0].getsockname()[1]}", flush=True)


class FleetArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter; see the module's head for what is different."""

    def __init__(self, app: Fleet) -> None:
        super().__init__(app)
        self._ending = False
        if sys.argv[0].endswith("__main__.py"):  # how SIGUSR2 starts the next arbiter
            self.START_CTX["args"] = [sys.executable, "-m", "smartedge", *sys.argv[1:]]

    def signal(self, sig: int, frame: Any) -> None:
        """Queue a signal; the second one that ends us ends us at once."""
        if self._ending and sig in (signal.SIGTERM, signal.SIGINT):
            self.kill_workers(signal.SIGKILL)
            os._exit(128 + sig)
        super().signal(sig, frame)

    def handle_int(self) -> None:
        """Stop as for SIGTERM."""
        raise StopIteration

    def handle_hup(self) -> None:
        """Have the workers read the configuration again: all of them are told, for one may be stopped or about to end."""
        self.kill_workers(signal.SIGHUP)

    def spawn_worker(self) -> Any:
        """Start a worker; a SIGHUP that comes too early for it waits until it can be minded."""
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """End."""
        self._ending = True
        super().halt(reason, exit_status)


class FleetWorker(EdgeWorker):
    """A worker that serves, reloads and stops as `smartedge.serve` does."""

    def init_signals(self) -> None:
        """Mind the arbiter's signals, and leave those to it that a terminal sends to everybody."""
        super().init_signals()
        self.told_to_reload = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, self._on_hup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    def _on_hup(self, *_: object) -> None:
        self.told_to_reload = True

    def notify(self) -> None:
        """Show the arbiter that we live; without one, end gently."""
        self.tmp.notify()
        if self.ppid != os.getppid():
            self.alive = False

    def run(self) -> None:
        """Serve until told to stop, then give requests in flight `shutdown_grace_s`."""
        app: SmartEdge = self.wsgi
        app.edge.listeners = [sock.getsockname() for sock in self.sockets]
        servers = [self._serve(sock, app, is_admin=number > 0) for number, sock in enumerate(self.sockets)]
        app.edge.begin()
        try:
            while self.alive:
                self.notify()
                if self.told_to_reload:
                    self.told_to_reload = False
                    gevent.spawn(_reload, app)
                gevent.sleep(LOOK_S)
            app.edge.team.stopping = True
            grace_s = app.edge.config.shutdown_grace_s
            stopping = [gevent.spawn(server.stop_gracefully, grace_s) for server in servers]
            while not all(greenlet.ready() for greenlet in stopping):
                self.tmp.notify()
                gevent.sleep(LOOK_S)
        finally:
            app.edge.stop()

    def _serve(self, sock: Any, app: SmartEdge, *, is_admin: bool) -> EdgeServer:
        sock.setblocking(0)
        environ = {"wsgi.multiprocess": True} | ({"smartedge.admin": True} if is_admin else {})
        server = EdgeServer(sock, app, environ=environ, ssl_context=None if is_admin else app.edge.tls)
        server.start()
        return server


def _reload(app: SmartEdge) -> None:
    """Do what POST /api/reload without a body does: the leader for all, and soon the others, in case that it can't."""
    if not (leading := app.edge.team.leading):
        gevent.sleep(LEADER_FIRST_S)
    try:
        document = app.edge.reload(None).document
        if leading or document["changed"] or document["certificate_renewed"]:
            print(document["message"], flush=True)
    except (ConfigError, EdgeError) as error:
        if leading:
            print(f"smartedge: reload refused, nothing changed: {error}", file=sys.stderr, flush=True)
