"""`smartedge run --workers N`: gunicorn's own arbiter in this process, with workers that serve as one process does.

The arbiter listens, forks, replaces the dead, and hands signals on; everything else is what a worker of ours does anyway
(docs/workers.md). It differs from a bare gunicorn in these: SIGHUP has the workers read the configuration again instead of
replacing them, SIGUSR2 has another program take over (process/upgrade.py) instead of starting one beside this one, SIGINT and
SIGQUIT stop as gently as SIGTERM, `shutdown_grace_s` is the time for that, no signal comes too early, and the service manager is
told what is true of the workers, by whom the arbiter is told (`GunicornApp.tell_arbiter`).
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from smartedge.app import SmartEdge, create_app
from smartedge.balancer.errors import EdgeError
from smartedge.config.model import Config, ConfigError
from smartedge.edge import announce
from smartedge.edge.cluster_start import ClusterStart
from smartedge.http import resources
from smartedge.http.environ_keys import ADMIN
from smartedge.http.server_tls import front_context
from smartedge.observe import console
from smartedge.process import signals
from smartedge.process.http_door import HttpApp
from smartedge.process.listening import BACKLOG, open_listeners
from smartedge.process.predecessor import Listener, Predecessor
from smartedge.process.systemd import Notifier
from smartedge.process.upgrade import Upgrade
from smartedge.server.server import EdgeServer
from smartedge.worker import EdgeWorker
from smartedge.workers.identity import Succession, arbiter_identity
from smartedge.workers.state_dir import SHARED_MEMORY, StateDir

LOOK_S = 0.1
"""How often a worker looks whether a signal has asked for something."""

LEADER_FIRST_S = 0.5
"""How long the other workers leave a SIGHUP to the leader."""

LATER_S = 5.0
"""How much longer than its workers the arbiter waits, before it kills them."""

HUNG_S = 60
"""A worker whose loop has stood still for so long is replaced."""

STOOD_STILL_S = 10
"""An arbiter that has not looked after its workers for so long has stood still, and they may have, too."""

PROGRAM, NOBODY = 1, 2
"""Who serves when the workers have ended, as the arbiter tells them: a program that has taken over, or nobody."""

KEPT_SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
"""Signals that a worker which still begins must neither miss nor die of: they are kept until it can act on them."""

WAKE_SIGNAL = signal.SIGURG
"""Wakes the arbiter when a worker has written to its pipe; a process without a handler ignores it."""

SERVING, RELOADED, REFUSED = b"s", b"r", b"x"
"""What a worker tells the arbiter: that it serves, that it has read the configuration again, that it has refused it."""


def serve_many(
    config: Config,
    workers: int,
    *,
    config_path: str | None,
    overrides: Mapping[str, Any],
    token: str | None,
    cluster: ClusterStart | None = None,
    predecessor: Predecessor | None = None,
) -> int:
    """Run until SIGTERM or SIGINT, as `serve` does, in so many worker processes; or until another program takes over (SIGUSR2).

    Raises CannotListen, ConfigError for what can't be used, StateError when the workers would have no place to meet.
    """
    console.install()
    console.log_at(config.log_level)
    resources.raise_limit()
    StateDir.check()

    front = front_context() if config.speaks_tls else None

    def load() -> SmartEdge:
        how = None if predecessor is None else Succession(predecessor.identity, rereads=predecessor.tells is not None)
        return create_app(
            config, path=config_path, overrides=overrides, token=token, front=front, cluster=cluster, succession=how
        )

    listeners = open_listeners(config, () if predecessor is None else predecessor.listeners, ends_here=False)
    try:
        FleetArbiter(GunicornApp(config, listeners, workers, load), predecessor).run()
    except SystemExit as error:  # the arbiter's way to end
        return 2 if error.code else 0
    except HaltServer:  # a worker could not begin, and has said why
        return 2
    finally:
        console.flush()
    return 0


class GunicornApp(BaseApplication):  # type: ignore[misc]
    """gunicorn's application: its settings, and what a worker serves; made by `serve_many`, asked by arbiter and workers.

    A pipe is how workers tell the arbiter; a byte of memory is how it tells them who serves when they have ended.
    """

    def __init__(self, config: Config, listeners: list[Listener], workers: int, load: Callable[[], SmartEdge]) -> None:
        self._config = config
        self.listeners = listeners
        self.workers = workers
        self.load = load
        self._next = mmap.mmap(-1, 1)
        self._hears, self._tells = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        super().__init__(prog="smartedge")

    def load_config(self) -> None:
        """Turn our settings into gunicorn's; the rest of them stays as it is, whatever GUNICORN_CMD_ARGS says."""
        settings = {
            "bind": [f"fd://{one.descriptor}" for one in self.listeners],
            "workers": self.workers,
            "worker_class": FleetWorker,
            "backlog": BACKLOG,
            "graceful_timeout": math.ceil(self._config.shutdown_grace_s + LATER_S),
            "timeout": HUNG_S,
            "loglevel": "warning",
            "proc_name": "smartedge",
            "control_socket_disable": True,
            # Where workers show that they live: never on a slow disk, but in the state directory where that is read-only.
            "worker_tmp_dir": str(SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else StateDir.check()),
            "when_ready": _say_ready,
        }
        for key, value in settings.items():
            self.cfg.set(key, value)

    @property
    def is_taken_over(self) -> bool:
        """Whether another program serves in our place."""
        return self._next[0] == PROGRAM

    @property
    def is_ending(self) -> bool:
        """Whether nobody will serve."""
        return self._next[0] == NOBODY

    def say_who_is_next(self, who: int) -> None:
        """Say PROGRAM or NOBODY; called in the arbiter, before it ends its workers."""
        self._next[0] = who

    def tell_arbiter(self, what: bytes, arbiter: int) -> None:
        """Write SERVING, RELOADED or REFUSED to the arbiter, and wake it; called in a worker."""
        with contextlib.suppress(OSError):
            os.write(self._tells, what)
            os.kill(arbiter, WAKE_SIGNAL)

    def read_told(self) -> bytes:
        """Return what workers have written since the last time; called in the arbiter."""
        try:
            return os.read(self._hears, 4096)
        except OSError:
            return b""


def _say_ready(arbiter: Arbiter) -> None:
    there = arbiter.LISTENERS[0].getsockname()
    announce.started(there[1] if isinstance(there, tuple) else there)


class FleetArbiter(Arbiter):  # type: ignore[misc]
    """gunicorn's arbiter, made and run by `serve_many`; the module's head says what is different from gunicorn's own."""

    def __init__(self, app: GunicornApp, predecessor: Predecessor | None = None) -> None:
        self._manager = Notifier()
        self._upgrade = Upgrade(self._manager.env)
        self._predecessor = predecessor
        os.environ.pop("NOTIFY_SOCKET", None)  # gunicorn would say that it is ready when nothing serves yet
        super().__init__(app)
        # Unix sockets are removed at our end, but for those of the service manager, or of a program that may go on.
        self.systemd = predecessor is not None or any(not one.bind for one in app.listeners)
        self._ending = self._reload_asked = False
        self._serving, self._forgiven = 0, 0
        self._looked_at = self._patient_until = time.monotonic()

    def start(self) -> None:
        """Begin; what SIGHUP asked for before is done when the workers are there."""
        super().start()
        self._reload_asked = signals.reload_was_asked_for()

    def signal(self, sig: int, frame: Any) -> None:
        """Queue a signal; the second one that ends us ends us at once."""
        if self._ending and sig in (signal.SIGTERM, signal.SIGINT):
            if self._forgiven:
                self._forgiven -= 1
                return
            self.kill_workers(signal.SIGKILL)
            os._exit(128 + sig)
        super().signal(sig, frame)

    def handle_int(self) -> None:
        """Stop as for SIGTERM."""
        raise StopIteration

    def handle_quit(self) -> None:
        """Stop as for SIGTERM: it is what some containers' images send."""
        raise StopIteration

    def handle_hup(self) -> None:
        """Have the workers read the configuration again: all of them are told, for one may be stopped or about to end."""
        if not self._serving:  # whoever listens for it wants to hear first that we serve
            self._reload_asked = True
            return
        self._manager.reloading()
        self.kill_workers(signal.SIGHUP)

    def handle_usr2(self) -> None:
        """Start the program that takes over."""
        identity = arbiter_identity() if self._predecessor is None else self._predecessor.identity
        handed = [one._replace(descriptor=sock.fileno()) for one, sock in zip(self.app.listeners, self.LISTENERS, strict=True)]
        if self._upgrade.begin(identity, handed) and self._upgrade.successor is not None:
            self.reexec_pid = self._upgrade.successor.pid

    def init_signals(self) -> None:
        """Act on gunicorn's signals, and on the one by which a worker says that it has written something."""
        super().init_signals()
        signal.signal(WAKE_SIGNAL, lambda *_: self.wakeup())

    def murder_workers(self) -> None:
        """Do what comes round in the arbiter's loop: hear what workers and a new program have told, and end those that hang."""
        self._act_on_told()
        if self._upgrade.look():
            if self._upgrade.done:
                raise StopIteration
            self.reexec_pid = 0
        now = time.monotonic()
        if (
            now - self._looked_at > STOOD_STILL_S
        ):  # the whole edge was stopped: workers tell that they live before they are judged
            self._patient_until = now + HUNG_S
        self._looked_at = now
        if now >= self._patient_until:
            super().murder_workers()

    def _act_on_told(self) -> None:
        """Tell the service manager what workers have told, and hand on a SIGHUP that came before they served."""
        for what in self.app.read_told():
            if what in REFUSED:
                self._manager.ready("reload refused, nothing changed; the log says why")
                continue
            if what in RELOADED or not self._serving:
                self._manager.ready()
            self._serving += what in SERVING
            if self._predecessor is not None and self._serving >= self.app.workers:
                self._predecessor.we_serve()
                self.systemd = any(not one.bind for one in self.app.listeners)
            if self._reload_asked:
                self._reload_asked = False
                self.handle_hup()

    def spawn_worker(self) -> Any:
        """Start a worker; a signal that comes too early for it waits until it can act on it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, KEPT_SIGNALS)
        try:
            return super().spawn_worker()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, KEPT_SIGNALS)

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """End."""
        self._ending = True
        if self._upgrade.done and self._upgrade.successor is not None:
            self._forgiven = 1
            self._manager.taken_over_by(self._upgrade.successor.pid)
            self.app.say_who_is_next(PROGRAM)
        else:
            self._upgrade.end()
            self.app.say_who_is_next(NOBODY)
            self._manager.stopping()
        super().halt(reason, exit_status)


class FleetWorker(EdgeWorker):
    """A worker process of FleetArbiter; it serves, reloads and stops as `cli/serve.py` does."""

    def init_signals(self) -> None:
        """Act on the arbiter's signals, and leave those to it that a terminal sends to everybody."""
        super().init_signals()
        self.told_to_reload = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, self._on_hup)
        for number in signals.MEANINGLESS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, KEPT_SIGNALS)

    def _on_hup(self, *_: object) -> None:
        self.told_to_reload = True

    def notify(self) -> None:
        """Show the arbiter that we live; without one, end gently."""
        self.tmp.notify()
        if self.ppid != os.getppid():
            self.alive = False

    def run(self) -> None:
        """Serve until told to stop, then give requests in flight `shutdown_grace_s`."""
        app: Any = self.wsgi
        listeners = [(sock, one.role) for sock, one in zip(self.sockets, self.app.listeners, strict=True)]
        app.edge.be_found([sock.getsockname() for sock, role in listeners if role != "http"])
        servers = [self._serve(sock, app, role) for sock, role in listeners]
        app.edge.begin_serving()
        self.app.tell_arbiter(SERVING, self.ppid)
        try:
            while self.alive:
                self.notify()
                if self.told_to_reload:
                    self.told_to_reload = False
                    gevent.spawn(self._reload, app)
                gevent.sleep(LOOK_S)
            if is_taken_over := self.app.is_taken_over:
                app.edge.follower.retire()
            else:
                app.edge.follower.stopping = True
            grace_s = float(self.cfg.graceful_timeout) if self.aborted else app.edge.config.shutdown_grace_s
            others_serve = is_taken_over or (self.ppid == os.getppid() and not self.app.is_ending)
            stopping = [gevent.spawn(server.stop_gracefully, grace_s, lingers=others_serve) for server in servers]
            while not all(greenlet.ready() for greenlet in stopping):
                self.tmp.notify()
                if self.app.is_ending:
                    for server in servers:
                        server.stop_lingering()
                gevent.sleep(LOOK_S)
        finally:
            app.edge.stop()

    def _serve(self, sock: Any, app: SmartEdge, role: str) -> EdgeServer:
        sock.setblocking(0)
        environ: dict[str, Any] = {"wsgi.multiprocess": True}
        if role == "http":
            server = EdgeServer(sock, HttpApp(app.edge), environ=environ)
        elif role == "admin":
            server = EdgeServer(sock, app, environ=environ | {ADMIN: True})
        else:
            server = EdgeServer(sock, app, environ=environ, ssl_context=app.edge.tls)
        server.start()
        return server

    def _reload(self, app: SmartEdge) -> None:
        """Do what POST /api/reload without a body does: the leader for all, and soon the others, in case that it can't."""
        if not (leading := app.edge.follower.leading):
            gevent.sleep(LEADER_FIRST_S)
        try:
            document = app.edge.reload(None, by="SIGHUP").document
        except (ConfigError, EdgeError) as error:
            if leading:
                announce.not_reloaded(error)
                app.edge.announcer.reload_refused(error, "SIGHUP")
                self.app.tell_arbiter(REFUSED, self.ppid)
            return
        if leading and not document["changed"] and not document["files_renewed"]:
            announce.unchanged(document["message"])
        self.app.tell_arbiter(RELOADED, self.ppid)
