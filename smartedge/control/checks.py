"""Health checks: a greenlet loop that probes every backend again and again, and the HTTP probe it uses.

`HealthLoop` runs what control/schedule.py says is due; `HttpProbe` asks one backend, and control/verdict.py
reads the answer. What follows from a row of answers is the domain's affair (balancer/health.py); to log it
and to tell the pool is the caller's (`on_change`).
"""

from __future__ import annotations

import logging
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool

from smartedge.balancer.health import HealthChange
from smartedge.control.schedule import Entry, Schedule
from smartedge.control.verdict import ProbeError, ProbeResult, judge, read_status
from smartedge.proxy.tls import context_for

if TYPE_CHECKING:
    from smartedge.balancer.backend import Backend, BackendSpec, TlsSpec

log = logging.getLogger(__name__)

CONCURRENT_PROBES = 64
REQUEST = b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: smartedge-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"
HEARTBEAT_S = 5.0  # the loop comes round at least this often, so that `last_run` tells whether it lives
RESTART_S = 1.0


class HealthLoop:
    """Probe all backends for as long as it runs: the first time at once, then each at its own pace.

    backends: gives the current members; asked at the start and after `wake()`.
    probe: asks one backend, within a deadline of its own.
    on_change: called with (backend, "up" or "down", result) once for each flip and for the first result; no
    lock is held.
    last_run: when the loop last came round, on the clock of `now`; it does so at least every HEARTBEAT_S.
    """

    def __init__(
        self,
        backends: Callable[[], Sequence[Backend]],
        probe: Callable[[Backend], ProbeResult],
        on_change: Callable[[Backend, HealthChange, ProbeResult], None],
        rng: random.Random,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backends = backends
        self._probe = probe
        self._on_change = on_change
        self._now = now
        self._schedule = Schedule(rng)
        self._probes = Pool(CONCURRENT_PROBES)
        self._wakeup = Event()
        self._stale = True
        self._runner: Any = None
        self.last_run = float("-inf")

    def start(self) -> None:
        """Begin; all backends are probed at once."""
        if self._runner is None:
            self._stale = True
            self._spawn(0)

    def stop(self) -> None:
        """End the loop and the probes that are under way."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.kill()
            self._probes.kill()

    def wake(self) -> None:
        """Say that the members have changed: new ones are probed at once, removed ones no more."""
        self._stale = True
        self._wakeup.set()

    def nudge(self, backend: Backend) -> None:
        """Say that traffic could not connect: probe soon, but at most every half second."""
        if self._schedule.nudge(backend):
            self._wakeup.set()

    def _spawn(self, delay_s: float) -> None:
        self._runner = gevent.spawn_later(delay_s, self._run)
        self._runner.link(self._ended)

    def _ended(self, greenlet: Any) -> None:
        """Start again after a crash; nobody waits for a greenlet, so its death would go unnoticed."""
        if greenlet is self._runner:
            log.error("the health loop died and starts again", exc_info=greenlet.exception)
            self._stale = True
            self._spawn(RESTART_S)

    def _run(self) -> None:
        while True:
            self._wakeup.clear()
            if self._stale:
                self._stale = False
                self._schedule.sync(self._backends(), self._now())
            self._probes.wait_available()
            self.last_run = now = self._now()
            if entry := self._schedule.take(now):
                self._probes.spawn(self._check, entry)
            else:
                self._wakeup.wait(min(self._schedule.next_due() - now, HEARTBEAT_S))

    def _check(self, entry: Entry) -> None:
        try:
            result = self._probe(entry.backend)
            if self._schedule.knows(entry):
                self._learn(entry.backend, result)
        except Exception:
            # Our own fault, no evidence against the backend: its standing stays, the next probe comes.
            log.exception("the health check of %s broke off", entry.backend.id)
        finally:
            if self._schedule.done(entry, self._now()):
                self._wakeup.set()

    def _learn(self, backend: Backend, result: ProbeResult) -> None:
        learned = backend.learned
        learned.last_check = result
        learned.last_check_at = self._now()
        if change := learned.health.probed(result.ok):
            self._on_change(backend, change, result)


class HttpProbe:
    """Ask one backend for its health path and judge the status.

    A probe is one fresh connection and one deadline over everything: name, connection, TLS and answer. So it
    is not done with requests, whose timeouts are per socket operation (a backend that drips is read for ever)
    and whose connections are pooled (an old one that works says nothing about new ones).

    tls_context, resolve: make the TLS settings, and look a name up as `getaddrinfo(host, port)` does; given by the
    app so that probes have the same as traffic.
    """

    def __init__(
        self,
        tls_context: Callable[[TlsSpec | None], Any] | None = None,
        resolve: Callable[[str, int], Sequence[Any]] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tls_context = tls_context or context_for
        self._resolve = resolve or _resolve
        self._now = now
        self._lookups: dict[tuple[str, int], Any] = {}

    def __call__(self, backend: Backend) -> ProbeResult:
        """Probe; a failure is a result too."""
        policy = backend.spec.health
        started = self._now()
        late = f"timed out after {policy.timeout_s:g} s"
        try:
            with gevent.Timeout(policy.timeout_s, ProbeError(late)):
                status = self._ask(backend.spec)
            return judge(status, policy, self._now() - started)
        except ProbeError as error:
            detail = str(error)
        except TimeoutError:
            detail = late
        except ssl.SSLCertVerificationError as error:
            detail = f"TLS: certificate refused, {error.verify_message}"
        except ssl.SSLError as error:
            detail = f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
        except OSError as error:
            detail = (error.strerror or str(error) or type(error).__name__).lower()
        return ProbeResult(False, None, detail, self._now() - started)

    def _ask(self, spec: BackendSpec) -> int:
        url = urlsplit(spec.url)
        secure = url.scheme == "https"
        host, port = url.hostname or "", url.port or (443 if secure else 80)
        sock = self._connect(host, port, self._now() + spec.health.timeout_s)
        try:
            if secure:
                name = spec.tls.server_name if spec.tls else None
                context = self._tls_context(spec.tls)
                sock = context.wrap_socket(sock, server_hostname=name or host, do_handshake_on_connect=False)
                sock.do_handshake()  # apart from the wrapping: `finally` has the right socket then
            sock.sendall(REQUEST % (spec.health.path.encode(), url.netloc.encode()))
            return read_status(sock)
        finally:
            sock.close()

    def _connect(self, host: str, port: int, deadline: float) -> Any:
        """Try every address, each with its part of the time left: a dead one must not use up all of it."""
        addresses = self._addresses(host, port)
        for left, (family, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(max(deadline - self._now(), 0.001) / left)
                sock.connect(address)
                sock.settimeout(None)  # from here on the deadline over the whole probe is enough
                return sock
            except OSError:
                sock.close()
                if left == 1:
                    raise
            except BaseException:
                sock.close()
                raise
        raise ProbeError(f"{host} has no address")

    def _addresses(self, host: str, port: int) -> list[tuple[int, Any]]:
        """Resolve a name through gevent's resolver; an address needs none.

        A name is looked up once at a time, however many probes gave up waiting for it: gevent resolves in ten
        threads, and one name whose servers are silent would soon hold all of them.
        """
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                socket.inet_pton(family, host)
            except OSError:
                continue
            return [(family, (host, port))]
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = self._lookups[host, port] = gevent.spawn(self._look_up, host, port)
        found = lookup.get()
        if isinstance(found, OSError):
            raise ProbeError(f"cannot resolve {host}: {(found.strerror or str(found)).lower()}")
        return [(family, address) for family, _, _, _, address in found]

    def _look_up(self, host: str, port: int) -> Sequence[Any] | OSError:
        """Return an error instead of raising it: it is for those who wait, and there may be none left."""
        try:
            return self._resolve(host, port)
        except OSError as error:
            return error
        finally:
            del self._lookups[host, port]


def _resolve(host: str, port: int) -> Sequence[Any]:
    found: Sequence[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found
