"""MaxMind databases: what they say of addresses, and what is wrong with those that say nothing; replaced while they are read."""

from __future__ import annotations

import sys
from errno import ENOSPC
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.balancer.places import Place
from smartedge.http.certificates import file_stamp
from smartedge.proxy import place_database
from smartedge.proxy.countries import COUNTRIES
from smartedge.proxy.place_database import PlaceDatabase, PlaceDatabases, location_of, open_reader, place_in
from tests import mmdb
from tests.house import until

PARIS, ROME = mmdb.at(48.9, 2.3), mmdb.at(41.9, 12.5)


def found(database: PlaceDatabase, address: str) -> tuple[float, float] | None:
    place = database.find(ip_address(address))
    return None if place is None else place.location


def opened(path: Path) -> PlaceDatabase:
    databases = PlaceDatabases(print)
    databases.join_workers(None)
    return databases.open(str(path))


def test_addresses_of_both_kinds_are_found_and_others_are_not(tmp_path: Path) -> None:
    database = opened(mmdb.write(tmp_path / "city.mmdb", {"192.0.2.0/24": PARIS, "2001:db8::/32": ROME}))
    assert found(database, "192.0.2.77") == (48.9, 2.3)
    assert found(database, "2001:db8::1") == (41.9, 12.5)
    for address in ("10.0.0.1", "127.0.0.1", "::1", "fe80::1", "198.51.100.1"):
        assert found(database, address) is None
    assert repr(database) == f"<PlaceDatabase {tmp_path / 'city.mmdb'} GeoLite2-City>"


def test_a_database_of_ipv4_alone_knows_no_ipv6(tmp_path: Path) -> None:
    database = opened(mmdb.write(tmp_path / "4.mmdb", {"192.0.2.0/24": PARIS}, ip_version=4))
    assert found(database, "192.0.2.77") == (48.9, 2.3)
    assert found(database, "2001:db8::1") is None


def test_of_a_database_of_countries_it_is_where_most_people_of_the_country_live(tmp_path: Path) -> None:
    path = mmdb.write(
        tmp_path / "c.mmdb", {"192.0.2.0/24": mmdb.country("BR"), "198.51.100.0/24": mmdb.country("ZZ")}, "My-Country"
    )
    database = opened(path)
    assert found(database, "192.0.2.77") == COUNTRIES["BR"]
    assert found(database, "198.51.100.1") is None


@pytest.mark.parametrize(
    ("record", "location"),
    [
        ({"location": {"latitude": 1.0, "longitude": 2.0}, "country": {"iso_code": "BR"}}, (1.0, 2.0)),
        ({"location": {"accuracy_radius": 5}, "country": {"iso_code": "PT"}}, COUNTRIES["PT"]),
        ({"registered_country": {"iso_code": "PT"}}, COUNTRIES["PT"]),
        ({"lat": "1.5", "lng": "-2.5", "country": "US"}, (1.5, -2.5)),
        ({"country": "us"}, COUNTRIES["US"]),
        ({"country_code": "DE"}, COUNTRIES["DE"]),
        ({"location": {"latitude": 91.0, "longitude": 2.0}}, None),
        ({"location": {"latitude": float("nan"), "longitude": 2.0}}, None),
        ({"location": "Paris"}, None),
        ({"country": {"iso_code": 5}}, None),
        ({"autonomous_system_number": 5}, None),
        ({}, None),
        ("text", None),
        (None, None),
    ],
)
def test_a_record_is_read_as_makers_write_it(record: Any, location: tuple[float, float] | None) -> None:
    place = place_in(record)
    assert (None if place is None else place.location) == location


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(91, 0), (-91, 0), (0, 181), ("x", 0), (None, 0), ("nan", "0"), ("inf", "0")]
)
def test_coordinates_out_of_range_are_no_place(latitude: object, longitude: object) -> None:
    assert location_of(latitude, longitude) is None
    assert location_of("90", -180.0) == Place(location=(90.0, -180.0))


def test_what_is_no_database_of_places_is_told_by_what_it_is(tmp_path: Path) -> None:
    asn = {"192.0.2.0/24": {"autonomous_system_number": (6, 64496), "autonomous_system_organization": "Example"}}
    whole = mmdb.database({"192.0.2.0/24": PARIS})
    cases = {
        "is no MaxMind database, or is cut short": [b"", b"hello", whole[: len(whole) // 2], whole[:-40], b"\0" * 100_000],
        'says nothing of places: its type is "GeoLite2-ASN"': [mmdb.database(asn, "GeoLite2-ASN")],
        'says nothing of places: its type is "GeoLite2-City"': [mmdb.database({})],
    }
    for message, contents in cases.items():
        for content in contents:
            path = tmp_path / "x.mmdb"
            path.write_bytes(content)
            with pytest.raises(ValueError, match=message):
                open_reader(path)
    with pytest.raises(FileNotFoundError):
        open_reader(tmp_path / "missing.mmdb")


def test_a_record_that_is_broken_is_an_unknown_place(tmp_path: Path) -> None:
    whole = mmdb.database({"192.0.2.0/24": PARIS, "198.51.100.0/24": ROME})
    at = whole.rindex(b"\x48location")  # of the second record: no such pointer
    path = tmp_path / "x.mmdb"
    path.write_bytes(whole[:at] + b"\x3f\xff\xff\xff\xff" + whole[at + 5 :])
    database = opened(path)
    assert found(database, "192.0.2.1") == (48.9, 2.3)
    assert found(database, "198.51.100.1") is None


class Workers:
    """Two workers that share a directory; the first one leads."""

    def __init__(self, directory: Path | None) -> None:
        self.told: list[str] = []
        self.all = [PlaceDatabases(self.told.append) for _ in range(2)]
        for one in self.all:
            one.join_workers(directory)

    def look(self, times: int = 3) -> None:
        for _ in range(times):
            for number, one in enumerate(self.all):
                one.look(leading=number == 0)
            gevent.sleep(0.01)


def test_a_replaced_database_is_copied_by_the_leader_and_used_by_all(tmp_path: Path) -> None:
    path, shared = tmp_path / "city.mmdb", tmp_path / "state"
    shared.mkdir()
    mmdb.write(path, {"192.0.2.0/24": PARIS})
    workers = Workers(shared)
    databases = [one.open(str(path)) for one in workers.all]
    assert [found(one, "192.0.2.1") for one in databases] == [(48.9, 2.3)] * 2
    assert len(list(shared.iterdir())) == 1
    serials = [one.serial for one in databases]

    mmdb.write(path, {"192.0.2.0/24": ROME, "198.51.100.0/24": PARIS})
    until(lambda: workers.look() or [found(one, "192.0.2.1") for one in databases] == [(41.9, 12.5)] * 2)
    assert [one.serial for one in databases] == [number + 1 for number in serials]
    for turn in range(5):
        mmdb.write(path, {"192.0.2.0/24": mmdb.at(turn, turn)})
        until(lambda turn=turn: workers.look() or [found(one, "192.0.2.1") for one in databases] == [(turn, turn)] * 2)
    assert len(list(shared.iterdir())) <= 2
    assert workers.told == []


@pytest.mark.parametrize("with_directory", [True, False])
def test_a_file_that_is_cut_short_under_a_reader_does_no_harm_and_is_told_once(tmp_path: Path, with_directory: bool) -> None:
    """A mapped file that loses its end ends the process with SIGBUS."""
    path, shared = tmp_path / "city.mmdb", tmp_path / "state"
    shared.mkdir()
    mmdb.write(path, {f"10.{n}.0.0/16": mmdb.at(n / 10, n) for n in range(150)})
    workers = Workers(shared if with_directory else None)
    databases = [one.open(str(path)) for one in workers.all]
    with open(path, "r+b") as file:
        file.truncate(100)
    assert [found(one, "10.77.0.1") for one in databases] == [(7.7, 77)] * 2
    until(lambda: workers.look() or workers.told)
    workers.look(5)
    assert len(workers.told) == (1 if with_directory else 2)
    assert f"the place database {path} is no MaxMind database, or is cut short" in workers.told[0]
    assert workers.told[0].endswith("; the one before stays in use")
    assert [found(one, "10.77.0.1") for one in databases] == [(7.7, 77)] * 2
    path.unlink()
    workers.look(5)
    assert [found(one, "10.77.0.1") for one in databases] == [(7.7, 77)] * 2
    mmdb.write(path, {"10.77.0.0/16": ROME})
    until(lambda: workers.look() or [found(one, "10.77.0.1") for one in databases] == [(41.9, 12.5)] * 2)


def test_while_a_database_is_copied_others_have_their_turn(tmp_path: Path) -> None:
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0)

    greenlet = gevent.spawn(take_turns)
    try:
        large = tmp_path / "large.mmdb"
        large.write_bytes(bytes(20 * place_database.PIECE_BYTES))
        place_database._copy(str(large), tmp_path / "copy", file_stamp(str(large)))
    finally:
        greenlet.kill()
    assert turns >= 20
    assert (tmp_path / "copy").stat().st_size == large.stat().st_size


def test_a_disk_without_room_leaves_nothing_behind(tmp_path: Path) -> None:
    path = mmdb.write(tmp_path / "city.mmdb", {"192.0.2.0/24": PARIS})
    databases = PlaceDatabases(print)
    databases.join_workers(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        databases.open(str(path))
    assert list(tmp_path.iterdir()) == [path]


def test_a_worker_that_begins_when_the_file_is_spoilt_goes_on_with_what_the_others_have(tmp_path: Path) -> None:
    path, shared = tmp_path / "city.mmdb", tmp_path / "state"
    shared.mkdir()
    mmdb.write(path, {"192.0.2.0/24": PARIS})
    workers = Workers(shared)
    workers.all[0].open(str(path))
    path.write_bytes(b"spoilt")
    with pytest.raises(ValueError, match="is no MaxMind database"):
        Workers(tmp_path).all[0].open(str(path))
    assert found(workers.all[1].open(str(path)), "192.0.2.1") == (48.9, 2.3)
    workers.look(4)
    assert len(workers.told) == 1  # by the first, which follows the file; the other knows
    mmdb.write(path, {"192.0.2.0/24": ROME})
    until(lambda: workers.look() or all(found(one.open(str(path)), "192.0.2.1") == (41.9, 12.5) for one in workers.all))


def test_before_the_worker_has_its_place_nothing_is_read(tmp_path: Path) -> None:
    databases = PlaceDatabases(print)
    database = databases.open(str(tmp_path / "missing.mmdb"))
    assert found(database, "192.0.2.1") is None
    databases.join_workers(None)
    with pytest.raises(FileNotFoundError):
        databases.open(str(tmp_path / "missing.mmdb"))


def test_a_database_that_is_named_no_more_leaves_no_copy_behind(tmp_path: Path) -> None:
    shared = tmp_path / "state"
    shared.mkdir()
    one, other = (str(mmdb.write(tmp_path / f"{name}.mmdb", {"192.0.2.0/24": PARIS})) for name in ("one", "other"))
    databases = PlaceDatabases(print)
    databases.join_workers(shared)
    databases.open(one)
    kept = databases.open(other)
    databases.keep_paths({other})
    until(lambda: len(list(shared.iterdir())) == 1)
    assert found(kept, "192.0.2.1") == found(databases.open(one), "192.0.2.1") == (48.9, 2.3)


def test_without_the_library_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "maxminddb", None)
    with pytest.raises(ValueError, match=r'needs the package maxminddb: pip install "smartedge\[geo\]"'):
        open_reader(mmdb.write(tmp_path / "city.mmdb", {"192.0.2.0/24": PARIS}))


def test_a_file_that_is_written_into_while_it_is_copied_is_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "city.mmdb"
    path.write_bytes(bytes(5 * place_database.PIECE_BYTES))
    before = file_stamp(str(path))
    greenlet = gevent.spawn(place_database._copy, str(path), tmp_path / "copy", before)
    gevent.sleep(0)
    path.write_bytes(b"another")
    with pytest.raises(ValueError, match="is being written"):
        greenlet.get(timeout=20)
    assert [one.name for one in tmp_path.iterdir()] == ["city.mmdb"]


def test_where_shared_memory_has_no_room_each_worker_has_a_copy_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has 64 MB of it, unless it is asked for."""
    shared, copy = tmp_path / "state", place_database._copy

    def copy_where_there_is_room(path: str, target: Path, stamp: object) -> None:
        if target.parent == shared:
            raise OSError(ENOSPC, "No space left on device")
        copy(path, target, stamp)

    monkeypatch.setattr(place_database, "_copy", copy_where_there_is_room)
    path = mmdb.write(tmp_path / "city.mmdb", {"192.0.2.0/24": PARIS})
    workers = Workers(shared)
    databases = [one.open(str(path)) for one in workers.all]
    assert [found(one, "192.0.2.1") for one in databases] == [(48.9, 2.3)] * 2
    mmdb.write(path, {"192.0.2.0/24": ROME})
    until(lambda: workers.look() or [found(one, "192.0.2.1") for one in databases] == [(41.9, 12.5)] * 2)
    assert workers.told == []
