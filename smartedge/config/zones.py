"""Where servers stand: the key `zones`, and coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from smartedge.balancer.places import NOWHERE, Place
from smartedge.config import values
from smartedge.config.section import Label, Section


def _location(value: object) -> tuple[float, float]:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 2 or not all(type(number) in (int, float) for number in numbers):
        written = values.shown(value)
        raise ValueError(f"must be a latitude and a longitude in degrees, such as [-23.55, -46.63], not {written}")
    latitude, longitude = numbers
    if not -90 <= latitude <= 90:
        swapped = "; the latitude comes first" if abs(longitude) <= 90 < abs(latitude) <= 180 else ""
        raise ValueError(f"must have a latitude from -90 to 90, not {values.shown(latitude)}{swapped}")
    if not -180 <= longitude <= 180:
        raise ValueError(f"must have a longitude from -180 to 180, not {values.shown(longitude)}")
    return float(latitude), float(longitude)


def _pair(location: tuple[float, float]) -> Any:
    return list(location)  # not by `list` itself, see `section.AS_OBJECT`


_SCHEMA = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
Location = Annotated[tuple[float, float], PlainValidator(_location), PlainSerializer(_pair), WithJsonSchema(_SCHEMA)]
"""Latitude and longitude in degrees, as in GeoIP databases and ISO 6709: north and east are above 0."""


class ZoneConfig(Section):
    """One zone: where the servers stand that name it."""

    region: Label | None = None
    """The region that it belongs to; zones of one region are near each other."""
    location: Location | None = None
    """Latitude and longitude in degrees, such as `[-23.55, -46.63]`."""


class NamedZones(dict[str, ZoneConfig]):
    """Zones in the order of their names; part of a Config, and as frozen as that."""

    def __init__(self, zones: Mapping[str, ZoneConfig] | None = None) -> None:
        super().__init__(sorted((zones or {}).items()))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self.items()))


Zones = Annotated[
    dict[Label, ZoneConfig],
    AfterValidator(NamedZones),
    Field(json_schema_extra={"propertyNames": {"pattern": "^[A-Za-z0-9._-]{1,64}$"}, "default": {}}),
]


def places_of(zones: Mapping[str, ZoneConfig]) -> dict[str, Place]:
    """Return the same as the balancer's own values."""
    return {name: Place(name, zone.region, zone.location) for name, zone in zones.items()}


def place_of_zone(zone: str | None, places: Mapping[str, Place]) -> Place:
    """Return where a zone is; of one that nobody explains, only its name is known."""
    return NOWHERE if zone is None else places.get(zone, Place(zone))
