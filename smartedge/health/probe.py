"""The probe: ask one backend for its health path, or only for a connection, within one deadline.

What its Host field says. An operator may write it (`health.host`). Otherwise, where backends get the Host of their own URL
(`preserve_host: false`), so do probes. Where they get the clients', nobody knows it before a client has come, and a client must
not decide whom probes call unhealthy: with a Host that a backend refuses, or has another site for, it could take all of them out.
So the URL's own is asked with first, and only if that is refused as a Host (probe_answer.HOST_REFUSALS) one that a client brought
lately: that can make an answer good, never bad.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import gevent
from gevent import socket

from smartedge.balancer.health import HealthPolicy, ProbeResult
from smartedge.health.probe_answer import ProbeAnswer, ProbeError, judge, read_answer, refuses_host
from smartedge.http.resources import OwnTrouble, is_own
from smartedge.http.sockets import Address, Destination, address_of, connect, destination
from smartedge.http.tls import context_for
from smartedge.http.tls_wire import TlsWire
from smartedge.http.wire import Wire, WireTimeout

if TYPE_CHECKING:
    from smartedge.balancer.backend import Backend
    from smartedge.balancer.spec import BackendSpec, TlsSpec

ROUND_S = 0.001
"""When a round of the event loop has lasted so long, answers that have come are worked on in the next one."""

FIELDS = {b"User-Agent": b"smartedge-health", b"Accept": b"*/*"}
"""What a probe's request has besides Host and Connection; the operator's `health.headers` go before them."""


class HttpProbe:
    """Asks one backend for its health path and judges the answer; owned by the edge, called by the `HealthLoop`.

    A probe is one fresh connection and one deadline over everything: name, connection, TLS and answer. So it
    is not done with requests, whose timeouts are per socket operation (a backend that drips is read for ever)
    and whose connections are pooled (an old one that works says nothing about new ones).

    tls_context, resolve: make the TLS settings, and look a name up as `getaddrinfo(host, port)` does; given by the
    app so that probes have the same as traffic. clients_host: gives the Host of a request that came lately for a service, by
    its name; None for none. give_way: called when a part of an answer has come, before it is worked on: answers that come
    together would else hold up requests for as long as all of them take.
    """

    def __init__(
        self,
        tls_context: Callable[[TlsSpec | None], Any] | None = None,
        resolve: Callable[[str, int], Sequence[Any]] | None = None,
        now: Callable[[], float] = time.monotonic,
        clients_host: Callable[[str], bytes | None] = lambda _service: None,
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._tls_context = tls_context or context_for
        self._resolve = resolve or _resolve
        self._now = now
        self._clients_host = clients_host
        self._give_way = give_way
        self._lookups: dict[tuple[str, int], Any] = {}
        self._hosts: dict[str, bytes] = {}  # a client's, for backends that refused the URL's own, and took that

    def __call__(self, backend: Backend) -> ProbeResult:
        """Probe; a failure is a result too. Raises OwnTrouble when we can't ask: that says nothing about the backend."""
        policy = backend.spec.health
        started = self._now()
        try:
            if policy.type == "tcp":
                self._open(backend.spec, started + policy.timeout_s).close()
                return ProbeResult(True, None, "connected", self._now() - started)
            if policy.type == "grpc":
                return ProbeResult(True, None, self._call(backend.spec, started + policy.timeout_s), self._now() - started)
            return self._ask_with_hosts(backend, started)
        except ProbeError as error:
            detail = str(error)
        except (TimeoutError, WireTimeout):
            detail = f"timed out after {policy.timeout_s:g} s"
        except ssl.SSLCertVerificationError as error:
            detail = f"TLS: certificate refused, {error.verify_message}"
        except ssl.SSLError as error:
            detail = f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
        except MemoryError as error:
            raise OwnTrouble(error) from error
        except OSError as error:
            if is_own(error):
                raise OwnTrouble(error) from error
            detail = (error.strerror or str(error) or type(error).__name__).lower()
        return ProbeResult(False, None, detail, self._now() - started)

    def _call(self, spec: BackendSpec, deadline: float) -> str:
        if spec.protocol == "http/1.1":
            raise ProbeError('health.type "grpc" needs "protocol": "h2" or "h2c"')
        from smartedge.health.http2_probe import call_health

        wire, to = self._open(spec, deadline), destination(spec.url)
        try:
            return call_health(wire, to, to.authority, lambda: self._left(deadline))
        finally:
            wire.close()

    def _ask_with_hosts(self, backend: Backend, started: float) -> ProbeResult:
        """Ask with one Host after the other, as long as that is what is refused; see the head of this file."""
        spec = backend.spec
        policy = spec.health
        own = destination(spec.url).authority
        hosts: list[bytes | None] = [policy.host.encode()] if policy.host else [own]
        if not policy.host and spec.preserve_host:
            hosts = [self._hosts.get(backend.key), own, self._clients_host(spec.service)]
        result = None
        for host in dict.fromkeys(filter(None, hosts)):
            answer = self._ask(spec, host, started + policy.timeout_s)
            judged = judge(answer, policy, self._now() - started, host.decode("latin-1"))
            if judged.ok and host != own and not policy.host:
                self._hosts[backend.key] = host
                return replace(judged, detail=f"{judged.detail}, with the clients' Host")
            result = result or judged
            if judged.ok or refuses_host(answer) is None:
                return judged
        assert result is not None
        return result

    def _ask(self, spec: BackendSpec, host: bytes, deadline: float) -> ProbeAnswer:
        wire = self._open(spec, deadline)
        try:
            to = destination(spec.url)
            question = question_of(to, spec.health, host)
            if spec.protocol != "http/1.1":
                from smartedge.health.http2_probe import ask_by_http2  # late: its memory is for those who speak HTTP/2

                return ask_by_http2(wire, to, question, spec.health, lambda: self._left(deadline))
            wire.send(question, self._left(deadline))
            return read_answer(lambda size: self._recv(wire, size, deadline), spec.health)
        finally:
            wire.close()

    def _open(self, spec: BackendSpec, deadline: float) -> Wire:
        """Connect, TLS included; raises OSError, ProbeError and those of TLS."""
        to = destination(spec.url)
        port = spec.health.port or to.port
        addresses: Sequence[Address] = to.fixed or [address_of(ip, port) for ip in spec.addresses]
        if to.fixed and spec.health.port and not spec.url.startswith("unix:"):
            addresses = [address_of(to.host, port)]
        if not addresses:
            addresses = self._addresses(to.name, port, deadline)
        opened: Any = connect(addresses, self._left(deadline))
        if not to.secure:
            return Wire(opened)
        try:
            name = spec.tls.server_name if spec.tls else None
            opened = TlsWire(opened, self._tls_context(spec.tls), server_name=name or to.host)
            opened.handshake(self._left(deadline))
        except ConnectionError as error:
            opened.close()
            raise ProbeError(f"TLS: {error.strerror or error}") from error
        except BaseException:
            opened.close()
            raise
        return opened  # type: ignore[no-any-return]

    def _recv(self, wire: Wire, size: int, deadline: float) -> bytes:
        try:
            received = wire.recv(self._left(deadline), size)
        except WireTimeout:
            raise TimeoutError from None
        if time.monotonic() - wire.loop.polled_at > ROUND_S:
            self._give_way()
        return received

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
            if is_own(found):
                raise found
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


@lru_cache(32_768)  # see `destination`
def question_of(to: Destination, policy: HealthPolicy, host: bytes) -> bytes:
    """Work out what to ask a backend, once for each; its base path goes before the health path, as before every request's."""
    written = {name.lower() for name, _ in policy.headers}
    fields = [(name, text) for name, text in FIELDS.items() if name.decode().lower() not in written]
    fields += [(name.encode(), text.encode("latin-1")) for name, text in policy.headers]
    if policy.method == "POST":
        fields.append((b"Content-Length", b"0"))
    lines = b"".join(b"%b: %b\r\n" % field for field in [(b"Host", host), *fields, (b"Connection", b"close")])
    return b"%b %b%b HTTP/1.1\r\n%b\r\n" % (policy.method.encode(), to.base, policy.path.encode(), lines)


def _resolve(host: str, port: int) -> Sequence[Any]:
    found: Sequence[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return found
