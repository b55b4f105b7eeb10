"""Where a request's client is: by a table of networks, by what a trusted proxy says, by a database; each looked up once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from smartedge.balancer.places import Place
from smartedge.http.cookies import field
from smartedge.http.forwarded import IsTrusted, client_address
from smartedge.http.request import Request
from smartedge.proxy.countries import COUNTRIES
from smartedge.proxy.networks import address_in
from smartedge.proxy.place_database import PlaceDatabase, location_of

MOST_REMEMBERED: Final = 4096
"""Clients whose place is kept, and values of a header."""

LONGEST: Final = 64
"""Characters of a header's value; a longer one says no place."""


class ClientPlaces:
    """Says where clients are; made by the edge at reload, owned by an `Affinity`. None means at the edge.

    networks: places by range of addresses, of which the smallest counts. header: the name of the field that says it, or two for
    latitude and longitude; believed from trusted proxies alone. zones: places by name, which that may say too. database: None
    without one.
    """

    def __init__(
        self,
        is_trusted: IsTrusted,
        networks: Mapping[str, Place],
        header: str | tuple[str, str] | None,
        zones: Mapping[str, Place],
        database: PlaceDatabase | None,
    ) -> None:
        self._is_trusted = is_trusted
        names = (header,) if isinstance(header, str) else header or ()
        self._fields = tuple(name.lower().encode() for name in names)
        self._zones = zones
        self._database = database
        self._serial = -1
        self._networks: dict[tuple[int, int], dict[int, Place]] = {}
        for text, place in networks.items():
            network = ip_network(text)
            bits = network.max_prefixlen - network.prefixlen
            self._networks.setdefault((network.version, bits), {})[int(network.network_address) >> bits] = place
        self._of_address = lru_cache(MOST_REMEMBERED)(self._find_address)
        self._of_value = lru_cache(MOST_REMEMBERED)(self._read_value)

    def place_of(self, request: Request) -> Place | None:
        """Return where the client of a request is; None for one that nobody knows."""
        if self._database is not None and self._database.serial != self._serial:
            self._serial = self._database.serial
            self._of_address.cache_clear()
        address = client_address(request, self._is_trusted)
        if self._networks and (place := self._of_address(address, True)) is not None:
            return place
        if self._fields and self._is_trusted is not None and self._is_trusted(request.peer):
            said = tuple(field(request.block, name) for name in self._fields)
            if None not in said and (place := self._of_value(said)) is not None:
                return place
        return self._of_address(address, False) if self._database is not None else None

    def _find_address(self, text: bytes, by_network: bool) -> Place | None:
        address = address_in(text)
        if address is None:
            return None
        if not by_network:
            return None if self._database is None else self._database.find(address)
        number = int(address)
        for version, bits in sorted(self._networks):
            if version == address.version:
                place = self._networks[version, bits].get(number >> bits)
                if place is not None:
                    return place
        return None

    def _read_value(self, said: tuple[bytes, ...]) -> Place | None:
        """Read a country's code, coordinates, or the name of a zone."""
        texts = [text.decode("latin-1").strip() for text in said]
        if any(len(text) > LONGEST for text in texts):
            return None
        if len(texts) == 2:
            return location_of(*texts)
        text = texts[0]
        if text.upper() in COUNTRIES:
            return Place(location=COUNTRIES[text.upper()])
        latitude, comma, longitude = text.partition(",")
        return location_of(latitude, longitude) if comma else self._zones.get(text)
