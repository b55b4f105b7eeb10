"""Where clients are: networks, what proxies say, a database; and that nobody else is believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartedge.balancer.places import Place
from smartedge.http.forwarded import IsTrusted
from smartedge.proxy.client_places import ClientPlaces
from smartedge.proxy.countries import COUNTRIES
from smartedge.proxy.place_database import PlaceDatabase, PlaceDatabases
from tests import mmdb
from tests.house import request

PROXY = b"10.0.0.1"
ZONES = {"zone-a": Place("zone-a", "r", (1.0, 2.0)), "zone-b": Place("zone-b")}


def joined() -> PlaceDatabases:
    databases = PlaceDatabases(print)
    databases.join_workers(None)
    return databases


def trusts(peer: bytes) -> bool:
    return peer == PROXY


def places(
    header: str | tuple[str, str] | None = None,
    networks: dict[str, str] | None = None,
    database: PlaceDatabase | None = None,
    is_trusted: IsTrusted = trusts,
) -> ClientPlaces:
    return ClientPlaces(is_trusted, {text: ZONES[zone] for text, zone in (networks or {}).items()}, header, ZONES, database)


def where(found: ClientPlaces, peer: bytes = b"192.0.2.1", fields: bytes = b"") -> Place | None:
    return found.place_of(request(peer=peer, fields=fields))


@pytest.fixture
def database(tmp_path: Path) -> PlaceDatabase:
    path = mmdb.write(tmp_path / "c.mmdb", {"192.0.2.0/24": mmdb.at(10, 20), "2001:db8::/32": mmdb.at(30, 40)})
    return joined().open(str(path))


def test_the_smallest_network_counts() -> None:
    found = places(networks={"10.0.0.0/8": "zone-a", "10.1.0.0/16": "zone-b", "2001:db8::/32": "zone-b"})
    assert where(found, b"10.2.3.4") == ZONES["zone-a"]
    assert where(found, b"10.1.3.4") == ZONES["zone-b"]
    assert where(found, b"::ffff:10.1.3.4") == ZONES["zone-b"]
    assert where(found, b"2001:db8::5") == ZONES["zone-b"]
    for unknown in (b"11.0.0.1", b"::1", b"", b"unix", b"300.1.1.1", b"10.1.3.4.5", b"fe80::1%eth0"):
        assert where(found, unknown) is None


def test_the_address_is_the_clients_behind_trusted_proxies(database: PlaceDatabase) -> None:
    found = places(database=database)
    assert where(found, b"192.0.2.9") == Place(location=(10, 20))
    assert where(found, PROXY, b"X-Forwarded-For: 2001:db8::7\r\n") == Place(location=(30, 40))
    assert where(found, PROXY, b"X-Forwarded-For: 192.0.2.1:4711\r\n") == Place(location=(10, 20))
    assert where(found, b"198.51.100.1", b"X-Forwarded-For: 192.0.2.1\r\n") is None
    assert where(found, PROXY, b"X-Forwarded-For: nonsense\r\n") is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (b"BR", Place(location=COUNTRIES["BR"])),
        (b"br", Place(location=COUNTRIES["BR"])),
        (b" PT ", Place(location=COUNTRIES["PT"])),
        (b"zone-a", ZONES["zone-a"]),
        (b"38.7,-9.1", Place(location=(38.7, -9.1))),
        (b"38.7, -9.1", Place(location=(38.7, -9.1))),
        (b"XX", None),
        (b"T1", None),
        (b"", None),
        (b"91,0", None),
        (b"nan,nan", None),
        (b"1,2,3", None),
        (b"\xff\xfe", None),
        (b"B" * 5000, None),
    ],
)
def test_a_trusted_proxy_says_it_by_a_country_a_zone_or_coordinates(value: bytes, place: Place | None) -> None:
    found = places(header="CF-IPCountry")
    assert where(found, PROXY, b"cf-ipcountry: " + value + b"\r\n") == place


def test_what_a_client_says_of_itself_is_not_believed(database: PlaceDatabase) -> None:
    forged = b"CF-IPCountry: BR\r\n"
    assert where(places(header="CF-IPCountry"), b"192.0.2.1", forged) is None
    assert where(places(header="CF-IPCountry", database=database), b"192.0.2.1", forged) == Place(location=(10, 20))
    assert where(places(header="CF-IPCountry", is_trusted=None), PROXY, forged) is None


def test_two_headers_are_latitude_and_longitude() -> None:
    found = places(header=("CF-IPLatitude", "CF-IPLongitude"))
    assert where(found, PROXY, b"CF-IPLatitude: -23.5\r\nCF-IPLongitude: -46.6\r\n") == Place(location=(-23.5, -46.6))
    for half in (
        b"CF-IPLatitude: -23.5\r\n",
        b"CF-IPLatitude: x\r\nCF-IPLongitude: 1\r\n",
        b"CF-IPLatitude: 99\r\nCF-IPLongitude: 1\r\n",
    ):
        assert where(found, PROXY, half) is None


def test_networks_go_before_the_header_and_that_before_the_database(database: PlaceDatabase) -> None:
    found = places("CF-IPCountry", {"192.0.2.128/25": "zone-b"}, database)
    behind = b"X-Forwarded-For: 192.0.2.%d\r\nCF-IPCountry: BR\r\n"
    assert where(found, PROXY, behind % 200) == ZONES["zone-b"]
    assert where(found, PROXY, behind % 1) == Place(location=COUNTRIES["BR"])
    assert where(found, PROXY, b"X-Forwarded-For: 192.0.2.1\r\nCF-IPCountry: XX\r\n") == Place(location=(10, 20))


def test_what_was_remembered_is_forgotten_with_another_database(tmp_path: Path) -> None:
    path = mmdb.write(tmp_path / "c.mmdb", {"192.0.2.0/24": mmdb.at(10, 20)})
    databases = joined()
    found = places(database=databases.open(str(path)))
    assert where(found) == Place(location=(10, 20))
    mmdb.write(path, {"192.0.2.0/24": mmdb.at(30, 40), "198.51.100.0/24": mmdb.at(1, 1)})
    databases.open(str(path))
    assert where(found) == Place(location=(30, 40))
