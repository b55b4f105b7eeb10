"""The HTTP probe: ask one backend for its health path, within one deadline."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket

from smartedge.control.verdict import ProbeError, ProbeResult, judge, read_status
from smartedge.proxy.sockets import Address, Destination, address_of, connect, destination
from smartedge.proxy.tls import context_for
from smartedge.proxy.tlswire import TlsWire
from smartedge.proxy.wire import Wire, WireTimeout

if TYPE_CHECKING:
    from smartedge.balancer.backend import Backend, BackendSpec, TlsSpec

REQUEST = b"GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: smartedge-health\r\nAccept: */*\r\nConnection: close\r\n\r\n"


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
        try:
            status = self._ask(backend.spec, started + policy.timeout_s)
            return judge(status, policy, self._now() - started)
        except ProbeError as error:
            detail = str(error)
        except (TimeoutError, WireTimeout):
            detail = f"timed out after {policy.timeout_s:g} s"
        except ssl.SSLCertVerificationError as error:
            detail = f"TLS: certificate refused, {error.verify_message}"
        except ssl.SSLError as error:
            detail = f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
        except OSError as error:
            detail = (error.strerror or str(error) or type(error).__name__).lower()
        return ProbeResult(False, None, detail, self._now() - started)

    def _ask(self, spec: BackendSpec, deadline: float) -> int:
        to = destination(spec.url)
        addresses: Sequence[Address] = to.fixed or [address_of(ip, to.port) for ip in spec.addresses]
        if not addresses:
            addresses = self._addresses(to.name, to.port, deadline)
        opened: Any = connect(addresses, self._left(deadline))
        try:
            if to.secure:
                name = spec.tls.server_name if spec.tls else None
                opened = TlsWire(opened, self._tls_context(spec.tls), server_name=name or to.host)
                try:
                    opened.handshake(self._left(deadline))
                except ConnectionError as error:
                    raise ProbeError(f"TLS: {error.strerror or error}") from error
            else:
                opened = Wire(opened)
            wire: Wire = opened
            wire.send(question_of(to, spec.health.path), self._left(deadline))
            return read_status(lambda size: wire.recv(self._left(deadline), size))
        finally:
            opened.close()

    def _left(self, deadline: float) -> float:
        left = deadline - self._now()
        if left <= 0.0:
            raise TimeoutError
        return left

    def _addresses(self, host: str, port: int, deadline: float) -> list[Address]:
        """Resolve a name through gevent's resolver.

        A name is looked up once at a time, however many probes gave up waiting for it: gevent resolves in ten
        threads, and one name whose servers are silent would soon hold all of them.
        """
        lookup = self._lookups.get((host, port))
        if lookup is None:
            lookup = self._lookups[host, port] = gevent.spawn(self._look_up, host, port)
        if not lookup.ready():
            lookup.join(self._left(deadline))
        if not lookup.ready():
            raise TimeoutError
        found = lookup.value
        if isinstance(found, OSError):
            raise ProbeError(f"cannot resolve {host}: {(found.strerror or str(found)).lower()}")
        if not found:
            raise ProbeError(f"{host} has no address")
        return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]

    def _look_up(self, host: str, port: int) -> Sequence[Any] | OSError:
        """Return an error instead of raising it: it is for those who wait, and there may be none left."""
        try:
            return self._resolve(host, port)
        except OSError as error:
            return error
        finally:
            del self._lookups[host, port]


@lru_cache(8192)
def question_of(to: Destination, path: str) -> bytes:
    """Work out what to ask a backend, once for each; its base path goes before the health path, as before every request's."""
    return REQUEST % (to.base + path.encode(), to.authority)


def _resolve(host: str, port: int) -> Sequence[Any]:
    found: Sequence[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found
