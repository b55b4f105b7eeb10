"""The edge as a program of its own: listens, says so, minds signals, and stops without dropping a request."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event

from smartedge.app import SmartEdge, create_app
from smartedge.balancer.errors import EdgeError
from smartedge.config.model import Config, ConfigError
from smartedge.edge import announce
from smartedge.edge.cluster_start import ClusterStart
from smartedge.http import resources
from smartedge.http.environ_keys import ADMIN
from smartedge.observe import console
from smartedge.process import signals
from smartedge.process.http_door import HttpApp
from smartedge.process.listening import disown_sockets, open_listeners, own_sockets
from smartedge.process.predecessor import Listener, Predecessor
from smartedge.process.systemd import Notifier
from smartedge.process.upgrade import Upgrade
from smartedge.server.server import EdgeServer
from smartedge.workers.identity import Succession

LOOK_S = 0.05
"""How often it is looked whether a new program has taken over."""


def serve(
    config: Config,
    *,
    config_path: str | None,
    overrides: Mapping[str, Any],
    token: str | None,
    cluster: ClusterStart | None = None,
    predecessor: Predecessor | None = None,
) -> int:
    """Run until SIGTERM, SIGINT or SIGQUIT, then give requests in flight `shutdown_grace_s`; returns the exit status, 0.

    SIGHUP re-reads the configuration file, SIGUSR1 has the access log opened anew, SIGUSR2 starts the program that takes over
    (process/upgrade.py), and ends this one when it has. A second SIGTERM or SIGINT exits at once. predecessor: from which
    program this one takes over.
    Raises CannotListen, ConfigError when something that is configured can't be used, StateError.
    """
    console.install()
    console.log_at(config.log_level)
    resources.raise_limit()
    manager = Notifier()
    upgrade = Upgrade(manager.env)
    succession = None if predecessor is None else Succession(predecessor.identity, rereads=True)
    app = create_app(config, path=config_path, overrides=overrides, token=token, cluster=cluster, succession=succession)
    stop = Event()
    enders = [gevent.signal_handler(number, stop.set) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)]
    gevent.signal_handler(signal.SIGHUP, lambda: None if stop.is_set() else gevent.spawn(_reload, app, manager))
    gevent.signal_handler(signal.SIGUSR1, app.edge.access_log.reopen)
    try:
        app.edge.take_place()  # before anybody is told that we serve: what can't be used is told now
        listeners = open_listeners(config, () if predecessor is None else predecessor.listeners)
        servers = _servers(listeners, app)
        app.edge.be_found([server.socket.getsockname() for server in servers if server.application is app])
        announce.started(servers[0].server_port or servers[0].address)
        app.edge.begin_serving()
        manager.ready()
        if predecessor is not None:
            predecessor.we_serve()
            own_sockets(predecessor.listeners)
        gevent.signal_handler(signal.SIGUSR2, lambda: gevent.spawn(_upgrade, upgrade, app, listeners, stop))
        if signals.reload_was_asked_for():
            gevent.spawn(_reload, app, manager)
        stop.wait()
        for handler in enders:
            handler.cancel()
        signals.end_at_once(forgiven=int(upgrade.done))
        if upgrade.done and upgrade.successor is not None:
            manager.taken_over_by(upgrade.successor.pid)
            disown_sockets()
            app.edge.follower.retire()
        else:
            upgrade.end()
            manager.stopping()
            app.edge.follower.stopping = True
        grace_s = app.edge.config.shutdown_grace_s
        done = [gevent.spawn(server.stop_gracefully, grace_s, lingers=upgrade.done) for server in servers]
        gevent.joinall(done)
        return 0
    finally:
        app.edge.stop()
        console.flush()


def _servers(listeners: Sequence[Listener], app: SmartEdge) -> list[EdgeServer]:
    """Serve on what we listen on; the first one is for clients."""
    servers = []
    for sock, role, _ in listeners:
        if role == "http":
            server = EdgeServer(socket.socket(fileno=sock), HttpApp(app.edge))
        elif role == "admin":
            server = EdgeServer(socket.socket(fileno=sock), app, environ={ADMIN: True})
        else:
            server = EdgeServer(socket.socket(fileno=sock), app, ssl_context=app.edge.tls)
        server.start()
        servers.append(server)
    return servers


def _upgrade(upgrade: Upgrade, app: SmartEdge, listeners: Sequence[Listener], stop: Event) -> None:
    """Start the program that takes over, and stop when it has."""
    if not stop.is_set() and upgrade.begin(app.edge.identity, listeners):
        while not upgrade.look() and not stop.is_set():
            gevent.sleep(LOOK_S)
        if upgrade.done:
            stop.set()


def _reload(app: SmartEdge, manager: Notifier) -> None:
    """Do what POST /api/reload without a body does; what is wrong is logged."""
    manager.reloading()
    try:
        document = app.edge.reload(None, by="SIGHUP").document
        if not document["changed"] and not document["files_renewed"]:
            announce.unchanged(document["message"])
        manager.ready(document["message"])
    except (ConfigError, EdgeError) as error:
        announce.not_reloaded(error)
        app.edge.announcer.reload_refused(error, "SIGHUP")
        manager.ready(f"reload refused, nothing changed: {error}")
