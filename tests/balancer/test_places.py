"""Who is near whom."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.places import ALIKE_KM, ALIKE_RATIO, NOWHERE, Group, Place, distance_km, tiers_of

SAO_PAULO, LISBON, SYDNEY = (-23.55, -46.63), (38.72, -9.14), (-33.87, 151.21)

locations = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
names = st.sampled_from([None, "a", "b", "c"])
places = st.builds(Place, names, names, st.none() | locations)
groups = st.lists(st.builds(Group, st.integers(0, 2), places), max_size=12)


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        (SAO_PAULO, LISBON, 7949),
        (LISBON, SYDNEY, 18_200),
        ((0, 179.5), (0, -179.5), 111),
        ((90, 0), (90, 120), 0),
        ((90, 0), (-90, 0), 20_015),
        ((0, 0), (0, 180), 20_015),
    ],
)
def test_distances_are_those_of_the_atlas(one: tuple[float, float], other: tuple[float, float], km: float) -> None:
    assert distance_km(one, other) == pytest.approx(km, rel=0.005, abs=1)
    assert distance_km(other, one) == pytest.approx(distance_km(one, other))


@given(locations, locations, locations)
def test_a_detour_is_never_shorter(one: tuple[float, float], other: tuple[float, float], by: tuple[float, float]) -> None:
    assert distance_km(one, other) <= distance_km(one, by) + distance_km(by, other) + 1e-3
    assert distance_km(one, one) == 0.0


def nearness(origin: Place, *found: Group) -> list[tuple[str, list[str]]]:
    return [
        (
            f"{tier.distance_km(origin):.0f} km" if tier.nearness == "farther" else tier.nearness,
            sorted(str(group.place) for group in tier.groups),
        )
        for tier in tiers_of(origin, found)
    ]


def test_the_same_zone_is_before_the_same_region_before_distance() -> None:
    here = Place("sa-1a", "sa-1", SAO_PAULO)
    assert nearness(
        here,
        Group(0, Place("eu-1a", "eu-1", LISBON)),
        Group(0, Place("sa-1b", "sa-1", (-23.4, -46.5))),
        Group(0, Place("ap-1a", "ap-1", SYDNEY)),
        Group(0, Place("somewhere")),
        Group(0, here),
    ) == [
        ("same zone", ["sa-1a"]),
        ("same region", ["sa-1b"]),
        ("7949 km", ["eu-1a"]),
        ("13357 km", ["ap-1a"]),
        ("distance unknown", ["somewhere"]),
    ]


def test_a_priority_goes_before_any_nearness() -> None:
    here = Place("a")
    assert nearness(here, Group(10, here), Group(0, Place("b")), Group(0, here)) == [
        ("same zone", ["a"]),
        ("distance unknown", ["b"]),
        ("same zone", ["a"]),
    ]


def test_distances_that_are_alike_make_one_tier() -> None:
    here = Place(location=(0, 0))
    north = [Group(0, Place(f"z{km}", location=(km / 111.2, 0))) for km in (10, 90, 1000, 1200, 1300, 5000)]
    assert [zones for _, zones in nearness(here, *north)] == [["z10", "z90"], ["z1000", "z1200"], ["z1300"], ["z5000"]]


def test_to_who_stands_nowhere_all_are_equally_near() -> None:
    found = [Group(0, Place("a", "r", SAO_PAULO)), Group(0, Place("b")), Group(0, NOWHERE)]
    assert len(tiers_of(NOWHERE, found)) == 1
    assert tiers_of(NOWHERE, []) == ()


@given(places, groups)
def test_every_group_is_in_one_tier_and_no_later_tier_is_nearer(origin: Place, found: list[Group]) -> None:
    tiers = tiers_of(origin, found)
    together = [group for tier in tiers for group in tier.groups]
    assert sorted(map(repr, together)) == sorted(map(repr, set(found)))
    assert tiers == tiers_of(origin, list(reversed(found)))
    for tier in tiers:
        assert len({group.priority for group in tier.groups}) == 1
        assert all((group.place.zone == origin.zone) is (tier.nearness == "same zone") for group in tier.groups if origin.zone)
        if tier.nearness == "farther":
            least = tier.distance_km(origin)
            assert least is not None
            for group in tier.groups:
                assert origin.location is not None
                assert group.place.location is not None
                km = distance_km(origin.location, group.place.location)
                assert least <= km <= max(least * ALIKE_RATIO, least + ALIKE_KM)
    for tier, later in pairwise(tiers):
        (priority,) = {group.priority for group in tier.groups}
        assert all(group.priority >= priority for group in later.groups)
