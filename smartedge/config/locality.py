"""The key `locality` of a service: whose nearness counts, how clients are placed, and when requests leave a tier."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from smartedge.balancer.locality import SpillPolicy
from smartedge.balancer.near_first import Locality
from smartedge.balancer.places import NOWHERE, Place
from smartedge.config import values
from smartedge.config.section import AS_OBJECT, Section, where

MOST_DATABASE_BYTES = 1 << 30
"""Ten times what the largest free databases have."""

MOST_NETWORKS = 10_000


def _database(text: str) -> str:
    if not os.path.isfile(values.line(text)):
        raise ValueError(f"names {values.shown(text)}, which is no file {where(text)}")
    if os.path.getsize(text) > MOST_DATABASE_BYTES:
        raise ValueError(f"names {values.shown(text)}, which is longer than {MOST_DATABASE_BYTES} bytes")
    return text


def _header(value: object) -> str | tuple[str, str]:
    if isinstance(value, str):
        return values.field_name(value)
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(name, str) for name in value):
        return values.field_name(value[0]), values.field_name(value[1])
    example = 'such as "CF-IPCountry", or two for latitude and longitude, ["CF-IPLatitude", "CF-IPLongitude"]'
    raise ValueError(f"must be the name of a header field, {example}, not {values.shown(value)}")


def _networks(found: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(found, dict):
        raise ValueError(f'must be an object of ranges and zones, such as {{"10.1.0.0/16": "zone-a"}}, not {values.shown(found)}')
    if len(found) > MOST_NETWORKS:
        raise ValueError(f"must hold at most {MOST_NETWORKS} ranges, not {len(found)}; a database is for more")
    zones: dict[str, str] = {}
    for text, zone in found.items():
        if not isinstance(zone, str):
            raise ValueError(f"must have a zone for {values.shown(text)}, not {values.shown(zone)}")
        network = values.network(text)
        if zones.setdefault(network, values.label(zone)) != zone:
            raise ValueError(f"has two zones for {network}: {zones[network]} and {zone}")
    return tuple(sorted(zones.items(), key=lambda pair: (ip_network(pair[0]).version, ip_network(pair[0]))))


_HEADER_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}]}
_NETWORKS_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}}

Header = Annotated[
    str | tuple[str, str],
    PlainValidator(_header),
    PlainSerializer(lambda header: header if isinstance(header, str) else list(header)),
    WithJsonSchema(_HEADER_SCHEMA),
]
NetworkZones = Annotated[tuple[tuple[str, str], ...], PlainValidator(_networks), AS_OBJECT, WithJsonSchema(_NETWORKS_SCHEMA)]


class LocalityConfig(Section):
    """Which backends come first by where they stand."""

    prefer: Literal["edge", "client"] | None = None
    """Nearest to whom comes first: to this edge, or to the client; null minds no places, but `priority` if a backend has one."""
    database: Annotated[str, AfterValidator(_database)] | None = None
    """MaxMind database (`.mmdb`) of cities or countries that says where clients are; needs `pip install "smartedge[geo]"`."""
    header: Header | None = None
    """Field by which `trusted_proxies` say where the client is, with a country's code, a zone, or a latitude, a comma and a
    longitude; or two fields, for latitude and longitude."""
    networks: Annotated[NetworkZones, Field(json_schema_extra={"default": {}})] = ()
    """Zones of clients by their addresses, the smallest range first; before header and database."""
    spill_ratio: Annotated[float, Field(ge=1, le=100)] = 1.4
    """A tier can carry so many times the share of it that is available; what it can't goes to the next."""
    failover_only: bool = False
    """A tier carries all as long as anything of it is available, and then nothing."""
    min_available: Annotated[int, Field(ge=1, le=10_000)] = 1
    """With fewer available backends a tier carries nothing, unless it has no more, or nobody else can."""
    blend_rtt: bool = False
    """Sort tiers by what their answers take, once enough have come; each gets a hundredth of the requests at least."""

    @field_validator("database", "header", "networks")
    @classmethod
    def _of_clients(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("prefer", "wrong in itself") in (None, "edge"):
            raise ValueError('says where clients are; it needs prefer to be "client"')
        return value

    @field_validator("blend_rtt")
    @classmethod
    def _measured_here(cls, blend_rtt: bool, info: ValidationInfo) -> bool:
        if blend_rtt and info.data.get("prefer") == "client":
            raise ValueError('needs prefer to be "edge": what is measured is the way from here, not from the client')
        if blend_rtt and info.data.get("prefer", "wrong in itself") is None:
            raise ValueError('needs prefer to be "edge"')
        return blend_rtt

    @model_validator(mode="after")
    def _by_something(self) -> LocalityConfig:
        if self.prefer == "client" and not (self.database or self.header or self.networks):
            raise ValueError('needs a database, a header or networks that say where clients are, for prefer is "client"')
        return self

    @property
    def spill(self) -> SpillPolicy:
        """When requests leave a tier, as the balancer's own value."""
        return SpillPolicy(self.spill_ratio, self.failover_only, self.min_available)

    def locality(self, edge: Place, places: Mapping[str, Place], priorities: Collection[int]) -> Locality | None:
        """Return how a service goes by places; None where it does not, and no backend goes before another.

        edge: where that is. places: of the zones. priorities: of the backends.
        """
        if self.prefer is None and len(set(priorities)) < 2:
            return None
        origin = NOWHERE if self.prefer is None else edge
        return Locality(origin, places, self.spill, self.blend_rtt, self.prefer == "client")
