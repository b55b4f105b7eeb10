"""How connections to a backend are opened: where its name leads, within what time, and with which TLS settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from smartedge.balancer.errors import ConnectFailed, OutOfResources
from smartedge.balancer.spec import TlsSpec
from smartedge.http.resources import OwnTrouble, with_room
from smartedge.http.sockets import Address, address_of, connect, destination, resolve
from smartedge.http.tls import context_for
from smartedge.http.tls_wire import TlsWire
from smartedge.http.wire import Wire, WireTimeout

H2: Final = "h2"
"""What TLS calls HTTP/2 (RFC 9113 section 3.2)."""


class Way:
    """How new connections to a backend are made; owned by its Dialer, which makes another when something of it changes.

    addresses: where to, the preferred one first; none while its name has not been looked up. tls: the context, None for plain.
    """

    __slots__ = ("addresses", "tls")

    def __init__(self, addresses: Sequence[Address], tls: Any) -> None:
        self.addresses = tuple(addresses)
        self.tls = tls


class Dialer:
    """Opens connections to one backend; owned by its adapter.

    url: as `config/values.py` writes it. connect_s: for all of it. tls: for https backends. on_connect: told of every new
    connection, and how many seconds it took (for the counters). context: the TLS settings, made from `tls` unless given.
    look_up: finds the addresses of a host name that nobody has looked up yet. way: how they are made now.
    """

    __slots__ = ("_connect_s", "_look_up", "_on_connect", "_server_name", "_url", "to", "way")

    def __init__(
        self,
        url: str,
        connect_s: float,
        tls: TlsSpec | None,
        on_connect: Callable[[float], None] | None = None,
        *,
        context: Any = None,
        look_up: Callable[[str, int], Sequence[Address]] = resolve,
    ) -> None:
        self._url = url
        self.to = destination(url)
        self._connect_s = connect_s
        if self.to.secure and context is None:
            context = context_for(tls)
        self._server_name = (tls.server_name if tls else None) or self.to.host
        self._on_connect = on_connect
        self._look_up = look_up
        self.way = Way(self.to.fixed, context)

    def use(self, ips: Sequence[str], context: Any) -> bool | None:
        """Go to these IP addresses and with these TLS settings from here on.

        ips: of the backend's name; none where it has none, or they are not known. Return whether another server is there than
        before, None where nothing has changed.
        """
        before = self.way
        addresses = self.to.fixed or tuple(address_of(ip, self.to.port) for ip in ips) or before.addresses
        if context is before.tls and (addresses == before.addresses or set(addresses) == set(before.addresses)):
            return None
        self.way = Way(addresses, context)
        return bool(before.addresses) and set(addresses).isdisjoint(before.addresses)

    def would_make(self, way: Way, address: Address | None) -> bool:
        """Whether a connection of an earlier way, to this address, would be the same if it were made now."""
        return way.tls is self.way.tls and address in self.way.addresses

    def open(self, protocol: str | None = None) -> tuple[Wire, Way, Address]:
        """Make a new connection, with TLS if need be; raises ConnectFailed, or OutOfResources when that is our own lack.

        protocol: what TLS must agree on (ALPN), None for whatever.
        """
        began = monotonic()
        deadline = began + self._connect_s
        way = self.way
        try:
            left_s = max(0.001, deadline - monotonic())
            sock = with_room(lambda: connect(way.addresses or self._first_addresses(), left_s), f"connecting to {self._url}")
        except OwnTrouble as error:
            raise OutOfResources(f"The edge itself can open no connection now: {error}.", retry_after_s=1.0) from error
        except TimeoutError as error:
            raise ConnectFailed(f"Connecting to {self._url} took more than {self._connect_s:g} s.") from error
        except OSError as error:
            raise ConnectFailed(f"Connecting to {self._url} failed: {error.strerror or error}.") from error
        if self._on_connect is not None:
            self._on_connect(monotonic() - began)
        address = sock.address
        assert address is not None
        if len(way.addresses) > 1 and address != way.addresses[0] and way is self.way:
            # The next one begins with what has worked (RFC 8305 section 4), and need not wait for the other.
            self.way = Way(sorted(way.addresses, key=lambda one: one != address), way.tls)
        if way.tls is None:
            return Wire(sock, urgent=True), way, address
        opened: Any = sock
        try:
            opened = wire = TlsWire(sock, way.tls, server_name=self._server_name, urgent=True)
            wire.handshake(max(0.001, deadline - monotonic()))
            if protocol is not None and wire.protocol != protocol:
                raise ConnectFailed(f"{self._url} does not offer {protocol} over TLS (ALPN): write another protocol for it.")
        except (OSError, ValueError, WireTimeout) as error:
            opened.close()
            raise ConnectFailed(f"TLS with {self._url} failed: {error}.") from error
        except BaseException:
            opened.close()
            raise
        return wire, way, address

    def _first_addresses(self) -> Sequence[Address]:
        """Look the name up for a request that comes before anybody else has done so; raises OSError."""
        found = self._look_up(self.to.name, self.to.port)
        if not self.way.addresses:
            self.way = Way(found, self.way.tls)
        return found
