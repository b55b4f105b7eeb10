"""Requests with `Upgrade`: forwarded with it, and a tunnel when the backend switches (RFC 9110 section 7.8).

A backend that does not switch has answered like any other, and the client's connection goes on as HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

from smartedge.balancer.cells import BYTES_IN, BYTES_OUT, TUNNELS
from smartedge.balancer.errors import BadAnswer, ClientGone, EdgeError
from smartedge.balancer.pool import Lease
from smartedge.http.environ_keys import HANDLER
from smartedge.http.headers import tokens
from smartedge.http.request import Request
from smartedge.http.side import Side, SwitchedHead
from smartedge.http.wire import WireTimeout
from smartedge.proxy.answer import Answer
from smartedge.proxy.attempts import Attempts, HedgedSend
from smartedge.proxy.exchange import Ending, Exchange
from smartedge.proxy.foreign import take_over
from smartedge.proxy.transport import Http1Answer
from smartedge.proxy.tunnel import Tunnel, Tunnels

NEVER: Final = frozenset((b"h2c", b"h2", b"http", b"tls"))
"""Protocols that carry HTTP requests: through a tunnel they would pass the edge unseen (h2c smuggling; RFC 9113 section 3.1)."""

_PROTOCOL: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_CONTENT_LENGTH: Final = re.compile(rb"^content-length:[^\n]*\n", re.IGNORECASE | re.MULTILINE)


def offer(request: Request) -> bytes | None:
    """Give the protocols that a request offers to switch to, as its Upgrade field goes on; None when that ends here.

    It does in HTTP/1.0, when `Connection` does not name it, and for what is in NEVER; WebSocket is for GET only (RFC 6455
    section 4.1).
    """
    fields = request.fields
    if fields.upgrade is None or request.version == 10 or b"upgrade" not in tokens(fields.connection):
        return None
    protocols = [protocol.strip(b" \t") for protocol in fields.upgrade.split(b",")]
    return b", ".join([protocol for protocol in protocols if _may_go_on(protocol, request.method)]) or None


def _may_go_on(protocol: bytes, method: bytes) -> bool:
    name = protocol.partition(b"/")[0].lower()
    return _PROTOCOL.fullmatch(protocol) is not None and name not in NEVER and (name != b"websocket" or method == b"GET")


def say_switched(client: Side, head: SwitchedHead, timeout_s: float) -> None:
    """Tell a client of HTTP/1.1 that the backend has switched; raises OSError or WireTimeout."""
    client.send_now(b"HTTP/1.1 %b%b%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % head, timeout_s)


class UpgradeExchange(Exchange):
    """One client request that offers to switch protocols, and the tunnel that it may become; made by the Forwarder.

    The lease is open as long as the tunnel; the request counts as answered with the 101, and is logged at the end.
    tunnels: has the tunnel while it is open.
    """

    __slots__ = ("_tunnel", "_tunnels")

    def __init__(self, attempts: Attempts, forwarder: Ending, tunnels: Tunnels) -> None:
        super().__init__(attempts, forwarder)
        self._tunnels = tunnels
        self._tunnel: Tunnel | None = None

    def run(self, race: HedgedSend | None = None) -> None:
        """Have a backend's answer; a 101 must be to what was offered."""
        super().run(race)
        attempts = self.attempts
        answer = attempts.answer
        if isinstance(answer, Http1Answer) and answer.status_code == 101 and answer.connection is not None:
            switched_to = tokens(answer.connection.switched_to)
            if not switched_to or not switched_to <= tokens(attempts.offered or b""):
                attempts.answer = None
                answer.close()
                raise BadAnswer("The backend switched to a protocol that it was not offered.")

    @property
    def switches(self) -> bool:
        """Whether the backend has switched, so that this is not answered as HTTP."""
        answer = self.attempts.answer
        return answer is not None and answer.status_code == 101

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        """Answer as a WSGI app does; a tunnel goes on until its end."""
        if not self.switches:
            return super().__call__(environ, start_response)
        try:
            client, early, result = take_over(environ)
            self._switch(client, early, getattr(environ.get(HANDLER), "say_switched", say_switched))
        except BaseException:
            self.close()  # The server does not know us yet.
            raise
        if result is None:
            return self
        self.close()
        return result

    def _switch(self, client: Side, early: bytes, say: Callable[[Side, SwitchedHead, float], None]) -> None:
        """Tell the client, then be a tunnel until that ends. say: tells it, in its protocol."""
        attempts = self.attempts
        answer, lease, policy = attempts.answer, attempts.lease, attempts.policy
        assert isinstance(answer, Http1Answer)
        assert answer.connection is not None
        assert lease is not None
        connection = answer.connection
        self.request.waiter = None
        block = _CONTENT_LENGTH.sub(b"", answer.fields.block)  # RFC 9110 section 8.6: a 1xx has none
        head = (answer.status_line, block, self.added(answer), connection.switched_to or b"")
        try:
            say(client, head, policy.idle_s)
        except (OSError, WireTimeout):
            self.error = ClientGone("The client left before its connection was switched.")
            return
        self.finished = True
        learned = lease.backend.learned
        if change := lease.proved(monotonic()):
            attempts.service.events.breaker_changed(lease.backend, change)

        def count(bytes_in: int, bytes_out: int) -> None:
            learned.add(BYTES_IN, bytes_in)
            learned.add(BYTES_OUT, bytes_out)

        learned.count(101, monotonic() - attempts.started, super().bytes_in, 0)
        self.counted = True
        learned.add(TUNNELS)
        is_websocket = (connection.switched_to or b"").lower() == b"websocket"
        times = policy.tunnel_idle_s, policy.idle_s
        tunnel = self._tunnel = Tunnel(client, connection.wire, *times, count, is_websocket=is_websocket)
        self._tunnels.add(tunnel, lease.backend.key)
        try:
            tunnel.run(early, connection.take_rest())
        finally:
            self._tunnels.remove(tunnel)
            learned.add(TUNNELS, -1)
            self.bytes_out = tunnel.bytes_out

    @property
    def bytes_in(self) -> int:
        """Bytes of the request's body, and from the client through the tunnel."""
        return super().bytes_in + (self._tunnel.bytes_in if self._tunnel is not None else 0)

    def __next__(self) -> Any:
        """Give the body, which a tunnel has none of: its bytes have gone their own way."""
        if self.switches:
            raise StopIteration
        return super().__next__()

    def _end_lease(self, lease: Lease, answer: Answer | None) -> None:
        """Give the lease back; how a tunnel ended is not its backend's fault."""
        if self._tunnel is None:
            super()._end_lease(lease, answer)
            return
        if self._tunnel.why:
            self.error = EdgeError(self._tunnel.why)
        self.attempts.end_lease(lease, "ok", answer)
