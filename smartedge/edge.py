"""One worker's edge: every part, built from the configuration, begun when the worker serves, and replaced by a reload.

The parts do not know each other; this is where one's event becomes another's call. Time and chance come in here.
"""

from __future__ import annotations

import itertools
import logging
import os
import random
import secrets
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic, time
from typing import Any

from smartedge import __version__, settings
from smartedge.balancer.backend import LAYOUT, ROW_CELLS, Backend, Cell, Learned
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies import STRATEGIES
from smartedge.config import Config, ConfigError, Problem, parse
from smartedge.control.accesslog import AccessLog
from smartedge.control.checks import HealthLoop, HttpProbe
from smartedge.control.housekeeping import Housekeeping
from smartedge.control.place import Place, open_place
from smartedge.control.reload import Applied, Reloader
from smartedge.control.status import LastCheck, Recent
from smartedge.control.workers import StateError, edge_identity
from smartedge.discovery.file import FileSource
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.forward import Forwarder
from smartedge.proxy.request import Request
from smartedge.proxy.tls import ServerTls
from smartedge.proxy.transport import EdgeAdapter, EdgeSession
from smartedge.proxy.upgrade import exchange_for

log = logging.getLogger("smartedge")

EDGE_KEY = ""
"""The board's name for the edge's own row: answers that no backend gave."""

_GAUGES = (int(Cell.IN_FLIGHT), int(Cell.EWMA), int(Cell.TUNNELS))
_CONNECTS = int(Cell.CONNECTS)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What the reload's caller is told: status and body of the answer."""

    status: int
    document: Mapping[str, Any]


class Edge:
    """Everything that one worker runs.

    config_path: where the configuration is kept, None when flags named the backends. overrides: flags, laid over every new
    configuration too. token: SMARTEDGE_ADMIN_TOKEN. Nothing is opened or probed before `begin`.
    """

    version = __version__

    def __init__(
        self,
        config: Config,
        *,
        config_path: str | None = None,
        overrides: Mapping[str, Any] | None = None,
        token: str | None = None,
        env: Mapping[str, str] = os.environ,
    ) -> None:
        self.token = token
        self.draining = False
        self.began = False
        self.recent = Recent()
        self.own = Learned()
        self.started_at = monotonic()
        self._env = dict(env)
        self._place: Place | None = None
        self._rng = random.Random()
        self._learned: dict[str, Learned] = {}
        self._leaving: dict[str, tuple[Backend, float]] = {}
        self._access_log: AccessLog | None = None
        self._ids = itertools.count(1)
        self._id_prefix = f"{secrets.token_hex(6)}-"
        backends = self._build(config, ())
        self.pool = Pool(backends, STRATEGIES[config.strategy](), self._rng)
        self.forwarder = Forwarder(self.pool, settings.plan(config), self.own, self, self.next_request_id)
        self.forwarder.exchange_for = exchange_for
        self.server_limits = settings.server_limits(config)
        self.tls = ServerTls()
        if config.certfile is not None:
            self._certificate(config)()
        self.admin_apart = config.admin_bind is not None
        self._health = HealthLoop(lambda: self.pool.backends, HttpProbe(), self._flipped, self._rng)
        self._housekeeping = Housekeeping(self._tidy)
        self._reloader = Reloader(
            FileSource(config_path) if config_path is not None else None,
            config,
            lambda text: parse(text, origin=config_path or "the request body", env=self._env, overrides=overrides),
            self._apply,
            live=lambda: len(self.workers()),
            renew=self._certificate,
        )

    # ---- what the admin pages ask ----

    @property
    def config(self) -> Config:
        """The configuration in use."""
        return self._reloader.config

    @property
    def generation(self) -> int:
        """Its number."""
        return self._reloader.generation

    def now(self) -> float:
        """Return the time in seconds of a monotonic clock."""
        return monotonic()

    def workers(self) -> Sequence[Mapping[str, Any]]:
        """Return the live workers of this edge: slot and process number."""
        live = self._place.live() if self._place is not None else {0: os.getpid()}
        return [{"slot": slot, "pid": pid} for slot, pid in sorted(live.items())]

    def last_check(self, backend: Backend) -> LastCheck | None:
        """Return the latest probe of a backend."""
        check, at = backend.learned.last_check, backend.learned.last_check_at
        if check is None or at is None:
            return None
        return LastCheck(time() - (monotonic() - at), check.ok, check.status, check.detail, check.took_s)

    def next_request_id(self) -> str:
        """Make a request id, unique over workers and restarts."""
        return "%s%x" % (self._id_prefix, next(self._ids))  # noqa: UP031 (half the time of an f-string's format call)

    def request_id(self, environ: Mapping[str, Any]) -> str:
        """Return the id that an admin request is known by; the app puts it there."""
        return str(environ["smartedge.request_id"])

    def request_id_of(self, request: Request) -> str:
        """Return the id that a request brought along, or a new one."""
        said = request.fields.request_id
        return said.decode("latin-1") if said is not None else self.next_request_id()

    def reload(self, body: bytes | None, if_match: str | None = None) -> Reloaded:
        """Apply a configuration, the file's when there is no body; raises ConfigError or EdgeError and changes nothing."""
        applied: Applied = self._reloader.reload(body, if_match=if_match)
        if applied.changed:
            print("🔄 Backends atualizados via /api/reload", flush=True)
        return Reloaded(200, applied.to_json())

    # ---- life ----

    def begin(self) -> None:
        """Take this worker's place and start its loops; called when the worker begins to serve. A second call does nothing."""
        if self.began:
            return
        self.began = True
        try:
            self._place = open_place(edge_identity(self._env), ROW_CELLS, LAYOUT, self._env, log, _GAUGES)
        except StateError as error:
            # Serving on would tell half truths. A greenlet's exception ends nothing, so the process does: 3 tells gunicorn
            # that a worker can't boot, and that trying again is no use.
            print(f"smartedge: {error}", file=sys.stderr, flush=True)
            os._exit(3)
        self._attach(EDGE_KEY, self.own)
        for backend in self.pool.backends:
            self._attach(backend.key, backend.learned)
        self._open_access_log(self.config)
        self._health.start()
        self._housekeeping.start()

    def on_stopping(self) -> None:
        """Give open tunnels `shutdown_grace_s`; requests are waited for by the server, which knows nothing of tunnels."""
        self.forwarder.tunnels.end_all_after(self.config.shutdown_grace_s)

    def stop(self) -> None:
        """End the loops and give up the place; requests in flight have been waited for by the server."""
        self._health.stop()
        self._housekeeping.stop()
        for backend in self.pool.backends:
            backend.transport.adapter.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._place is not None:
            self._place.close()

    # ---- configuration ----

    def _apply(self, config: Config) -> None:
        """Build everything that a configuration needs, then swap it in; raises before anything has changed."""
        before = self.pool.backends
        backends = self._build(config, before)
        strategy = STRATEGIES[config.strategy]()
        plan, limits = settings.plan(config), settings.server_limits(config)
        if self._place is not None:
            try:
                self._place.rows_for(backend.key for backend in backends)
            except StateError as error:
                raise ConfigError([Problem("backends", str(error))], status=422) from error
            if config.access_log != self.config.access_log:
                self._open_access_log(config)
        # From here on nothing fails.
        for backend in backends:
            self._learned[backend.key] = backend.learned
            self._leaving.pop(backend.key, None)
            self._attach(backend.key, backend.learned)
        self.forwarder.plan = plan
        self.server_limits = limits
        self.pool.apply(backends, strategy)
        kept = {backend.key for backend in backends}
        transports = {id(backend.transport) for backend in backends}
        deadline = monotonic() + config.drain_s
        for backend in before:
            if id(backend.transport) not in transports:
                backend.transport.adapter.close()
            if backend.key not in kept:
                self._leaving[backend.key] = (backend, deadline)
        self._health.wake()

    def _certificate(self, config: Config) -> Callable[[], bool]:
        """Read the certificate that clients are shown; raises ConfigError, or gives what puts it to use."""
        if config.certfile is None:
            return lambda: False
        try:
            use = self.tls.prepare(config.certfile, config.keyfile)
        except (OSError, ValueError) as error:
            raise ConfigError([Problem("certfile", f"cannot be used: {error}")], status=422) from error
        # A port that began without TLS stays so until a restart (as the reload's answer says).
        return use if self.tls() is not None or not self.began else lambda: False

    def _build(self, config: Config, before: Sequence[Backend]) -> tuple[Backend, ...]:
        """Make the members: what was learned of an unchanged one, and its connections, go on."""
        limits = settings.backend_limits(config)
        old = {backend.key: backend for backend in before}
        backends = []
        for index, spec in enumerate(config.specs()):
            previous = old.get(spec.key)
            learned = self._learned.get(spec.key) or Learned(spec.health, spec.breaker)
            if previous is not None and previous.spec.tls == spec.tls and previous.transport.adapter.limits == limits:
                transport = previous.transport
            else:
                try:
                    transport = EdgeSession(EdgeAdapter(spec.url, limits, spec.tls, _counter(learned)))
                except (OSError, ssl.SSLError, ValueError) as error:
                    raise ConfigError([Problem(f"backends[{index}].tls", f"cannot be used: {error}")], status=422) from error
            backends.append(Backend(spec, learned, transport))
        if not before:
            self._learned = {backend.key: backend.learned for backend in backends}
        return tuple(backends)

    def _attach(self, key: str, learned: Learned) -> None:
        """Let a backend count on the board."""
        if self._place is None:
            return
        rows = self._place.row_for(key)
        if learned.cells is not rows.ints:
            learned.attach(rows.ints, rows.reals, rows.all_rows)

    def _open_access_log(self, config: Config) -> None:
        old, self._access_log = self._access_log, None
        self.forwarder.log = None
        if config.access_log:
            self._access_log = AccessLog(config.access_log)
            self.forwarder.log = self._log_exchange
        if old is not None:
            old.close()

    # ---- events ----

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Announce what a breaker did."""
        log.warning("backend %s: %s %s", "ejected" if change == "opened" else "readmitted", backend.id, backend.url)

    def unreachable(self, backend: Backend) -> None:
        """Have a backend probed soon that traffic could not connect to."""
        self._health.nudge(backend)

    def on_refused(self, peer: bytes, error: EdgeError, request_id: str) -> None:
        """Count and log a request that the server refused before anybody saw it."""
        self.own.count(error.status, 0.0, 0, 0)
        self._log_line(request_id=request_id, client=peer.decode("latin-1"), status=error.status, error=error.detail)

    def log_admin(self, request: Request, request_id: str, status: int) -> None:
        """Log an answer of the admin pages."""
        self._log_line(request_id=request_id, status=status, **_request_fields(request))

    def _log_line(self, **fields: Any) -> None:
        if self._access_log is not None:
            self._access_log.write(**(_NO_FIELDS | fields))

    def _flipped(self, backend: Backend, change: str, result: object) -> None:
        if change == "up":
            # What it was like before it went down is no longer known: it starts at the mean of the others again.
            backend.learned.ewma.seed(monotonic(), 0.0)
        self.pool.touch()
        print(f"✅ {backend.url} OK" if change == "up" else f"❌ {backend.url} Offline", flush=True)

    def _log_exchange(self, exchange: Exchange) -> None:
        self._log_line(
            request_id=exchange.request_id,
            status=exchange.status,
            backend=exchange.backend.id if exchange.backend is not None else None,
            attempts=exchange.attempts,
            latency_s=_rounded(exchange.latency_s),
            duration_s=_rounded(exchange.duration_s),
            bytes_out=exchange.bytes_out,
            **(_request_fields(exchange.request) | {"bytes_in": exchange.bytes_in}),
            **({"error": exchange.error.detail} if exchange.error is not None else {}),
        )

    def _tidy(self) -> None:
        """Once a second: write latencies down, let removed backends go that are idle, notice other workers."""
        now = monotonic()
        self.recent.tick(now, self.pool.backends)
        if self._access_log is not None:
            self._access_log.follow()
        tunnels = self.forwarder.tunnels
        tunnels.end_overdue(now)
        for key, (backend, deadline) in list(self._leaving.items()):
            if backend.in_flight() == 0 or now > deadline:
                if tunnels.end_of(key, "Its backend was removed, and drain_s is over."):
                    continue  # They give their leases back before the row goes.
                del self._leaving[key]
                self._learned.pop(key, None)
                backend.transport.adapter.close()
                if self._place is not None:
                    self._place.release(key)
        if self._place is not None and self._place.refresh():
            for backend in self.pool.backends:
                backend.learned.rows = self._place.row_for(backend.key).all_rows
            self.own.rows = self._place.row_for(EDGE_KEY).all_rows


_NO_FIELDS: dict[str, Any] = {
    "request_id": None,
    "client": None,
    "method": None,
    "path": None,
    "status": None,
    "backend": None,
    "attempts": 0,
    "latency_s": None,
    "duration_s": None,
    "bytes_in": 0,
    "bytes_out": 0,
}
"""An access log line has all of these, in this order."""


def _request_fields(request: Request) -> dict[str, Any]:
    return {
        "client": request.peer.decode("latin-1"),
        "method": request.method.decode("latin-1"),
        "path": request.target.partition(b"?")[0].decode("latin-1"),
        "bytes_in": request.body.received_bytes if request.body is not None else 0,
    }


def _counter(learned: Learned) -> Any:
    return lambda: learned.add(_CONNECTS)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
