"""Where servers and clients stand, and who is near whom: pure functions of zones, regions and coordinates."""

from __future__ import annotations

from collections.abc import Iterable
from math import asin, cos, inf, radians, sin, sqrt
from typing import Final, Literal, NamedTuple

Location = tuple[float, float]
"""Latitude and longitude in degrees."""

EARTH_KM: Final = 6371.0
"""Mean radius."""

ALIKE_RATIO: Final = 1.25
ALIKE_KM: Final = 100.0
"""Distances are alike, and make one tier, that differ from its shortest by no more than a quarter, or so many kilometres."""


class Place(NamedTuple):
    """Where something stands, as far as that is known; made by the edge, of `zones` and of what clients are known by."""

    zone: str | None = None
    region: str | None = None
    location: Location | None = None

    def __str__(self) -> str:
        if self.zone or self.region or self.location is None:
            return self.zone or self.region or "an unknown place"
        return f"{self.location[0]:.4g}, {self.location[1]:.4g}"


NOWHERE: Final = Place()


class Group(NamedTuple):
    """Backends that nobody tells apart by where they stand: of one place and one priority."""

    priority: int
    place: Place


Nearness = Literal["same zone", "same region", "farther", "distance unknown"]


class Tier(NamedTuple):
    """Groups that are equally near to somebody."""

    groups: frozenset[Group]
    nearness: Nearness

    @property
    def priority(self) -> int:
        """That of all its groups."""
        return min(group.priority for group in self.groups)

    def distance_km(self, origin: Place) -> float | None:
        """Return how far the nearest of them is from somebody; None if that is not known."""
        found = [
            distance_km(origin.location, group.place.location)
            for group in self.groups
            if origin.location is not None and group.place.location is not None
        ]
        return min(found, default=None)


def distance_km(one: Location, other: Location) -> float:
    """Return the great-circle distance (haversine formula; the earth taken for a sphere is right to half a percent)."""
    latitude, longitude = map(radians, one)
    other_latitude, other_longitude = map(radians, other)
    half = sin((other_latitude - latitude) / 2) ** 2
    half += cos(latitude) * cos(other_latitude) * sin((other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_KM * asin(sqrt(min(half, 1.0)))


def tiers_of(origin: Place, groups: Iterable[Group]) -> tuple[Tier, ...]:
    """Sort groups into tiers, nearest to the origin first.

    Lower priorities go before all. Then who is in the same zone, then the same region, then by distance, alike ones together;
    last those of whom nothing is known.
    """
    ranked = [(group.priority, *_nearness(origin, group.place), group) for group in set(groups)]
    ranked.sort(key=lambda row: row[:3])
    tiers: list[Tier] = []
    begun: tuple[int, int, float] | None = None
    for priority, rank, km, group in ranked:
        if begun is not None and (priority, rank) == begun[:2] and (rank != _FAR or km <= _reach(begun[2])):
            tiers[-1] = tiers[-1]._replace(groups=tiers[-1].groups | {group})
        else:
            begun = priority, rank, km
            tiers.append(Tier(frozenset({group}), _NEARNESS[rank]))
    return tuple(tiers)


_FAR: Final = 2
_NEARNESS: Final[tuple[Nearness, ...]] = ("same zone", "same region", "farther", "distance unknown")


def _nearness(origin: Place, place: Place) -> tuple[int, float]:
    """Return its rank, and its distance if that is known."""
    known = origin.location is not None and place.location is not None
    km = distance_km(origin.location, place.location) if known else inf  # type: ignore[arg-type]
    if origin.zone is not None and place.zone == origin.zone:
        return 0, km
    if origin.region is not None and place.region == origin.region:
        return 1, km
    return _FAR if known else 3, km


def _reach(km: float) -> float:
    return max(km * ALIKE_RATIO, km + ALIKE_KM)
