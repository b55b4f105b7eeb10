"""What name servers say, and what is made of servers that are silent, broken or lie."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from smartedge.discovery.name_servers import NameServers, Records
from smartedge.discovery.source import SourceError
from tests.dns_server import DnsServer, dns_server

NONE = "/nowhere/resolv.conf"


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server() as made:
        made.put("web.test", "A", "10.0.0.1", "10.0.0.2", ttl=30)
        yield made


@pytest.fixture
def second() -> Iterator[DnsServer]:
    with dns_server() as made:
        made.put("web.test", "A", "10.0.0.1", "10.0.0.2", ttl=30)
        yield made


def asking(*servers: DnsServer, timeout_s: float = 20.0) -> NameServers:
    return NameServers([one.address for one in servers], timeout_s, NONE)


def addresses(found: Records) -> list[str]:
    return sorted(one.address for one in found.data)


def failure(servers: NameServers, name: str = "web.test", kind: str = "A") -> str:
    with pytest.raises(SourceError) as caught:
        servers.ask(name, kind)
    return str(caught.value)


def test_a_name_has_its_addresses_for_so_long(server: DnsServer) -> None:
    found = asking(server).ask("web.test", "A")
    assert addresses(found) == ["10.0.0.1", "10.0.0.2"]
    assert found.ttl_s == 30
    assert server.asked == [("web.test", "A", "udp")]


def test_what_does_not_exist_or_has_no_such_record_is_empty_for_as_long_as_the_zone_says(server: DnsServer) -> None:
    servers = asking(server)
    assert servers.ask("none.test", "A") == Records((), server.negative_ttl, {}, exists=False)
    assert servers.ask("web.test", "AAAA") == Records((), server.negative_ttl, {})
    server.negative_ttl = None
    assert servers.ask("none.test", "A") == Records((), inf, {}, exists=False)
    assert servers.ask("web.test", "AAAA") == Records((), inf, {})


@pytest.mark.parametrize("how", ["", "bare"])
def test_aliases_are_followed_and_the_shortest_ttl_of_the_chain_counts(server: DnsServer, how: str) -> None:
    """A server that does not resolve for others gives one alias at a time."""
    server.put("www.test", "CNAME", "edge.test.", ttl=50)
    server.put("edge.test", "CNAME", "web.test.", ttl=20)
    server.how["*"] = how
    found = asking(server).ask("www.test", "A")
    assert (addresses(found), found.ttl_s) == (["10.0.0.1", "10.0.0.2"], 20)
    assert len(server.asked) == (3 if how else 1)


def test_aliases_in_a_circle_end(server: DnsServer) -> None:
    server.put("a.test", "CNAME", "b.test.")
    server.put("b.test", "CNAME", "a.test.")
    server.how["*"] = "bare"
    assert failure(asking(server), "a.test") == "a.test A: a chain of more than 8 aliases"


def test_what_does_not_fit_a_datagram_is_asked_for_by_tcp(server: DnsServer) -> None:
    server.how["*"] = "truncated"
    server.put("web.test", "A", *(f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1000)))
    assert len(asking(server).ask("web.test", "A").data) == 1000
    assert [transport for _, _, transport in server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("servfail", "answers SERVFAIL"),
        ("refused", "answers REFUSED"),
        ("silent", "gave no answer within 0.3 s"),
        ("garbage", "gave no answer within 0.3 s"),  # as if it had not come: anybody can send a datagram
        ("other question", "gave no answer within 0.3 s"),
        ("cut", "gives no whole answer, not even over TCP"),
        ("referral", "sends us on to other servers, so it is none to ask"),
    ],
)
def test_a_server_that_does_not_answer_is_named_with_what_it_does(server: DnsServer, how: str, said: str) -> None:
    server.how["*"] = how
    timeout_s = 0.3 if "0.3" in said else 20.0
    assert failure(asking(server, timeout_s=timeout_s)).startswith(f"web.test A: {server.address} {said}")


def test_a_server_that_is_not_there_is_named(server: DnsServer) -> None:
    server.stop()
    assert failure(asking(server, timeout_s=0.5)).startswith(f"web.test A: {server.address} ")


def test_a_forged_answer_with_another_id_is_not_believed(server: DnsServer) -> None:
    server.how["*"] = "forged"
    assert addresses(asking(server).ask("web.test", "A")) == ["10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("how", ["servfail", "refused", "silent", "garbage"])
def test_of_two_servers_one_is_enough_and_is_asked_first_from_then_on(server: DnsServer, second: DnsServer, how: str) -> None:
    server.how["*"] = how
    servers = asking(server, second, timeout_s=4.5)
    for _ in range(3):
        assert addresses(servers.ask("web.test", "A")) == ["10.0.0.1", "10.0.0.2"]
    assert (server.count(), second.count()) == (1, 3)


def test_a_server_that_knows_nothing_is_asked_last_next_time(server: DnsServer, second: DnsServer) -> None:
    server.take_away("web.test", "A")
    servers = asking(server, second)
    assert servers.ask("web.test", "A").data == ()
    assert len(servers.ask("web.test", "A").data) == (0 if server.count() == 2 else 2)


def test_both_broken_are_both_named(server: DnsServer, second: DnsServer) -> None:
    server.how["*"], second.how["*"] = "servfail", "refused"
    said = failure(asking(server, second))
    assert f"{server.address} answers SERVFAIL" in said
    assert f"{second.address} answers REFUSED" in said


def test_addresses_of_targets_that_come_along_are_known(server: DnsServer) -> None:
    server.put("_http._tcp.web.test", "SRV", "1 5 8000 A.test.", "1 5 8001 b.test.")
    server.put("a.test", "A", "10.0.0.1")
    server.put("a.test", "AAAA", "2001:db8::1")
    found = asking(server).ask("_http._tcp.web.test", "SRV")
    assert sorted((one.priority, one.weight, one.port) for one in found.data) == [(1, 5, 8000), (1, 5, 8001)]
    assert found.came_along == {"a.test": ("10.0.0.1", "2001:db8::1")}


# ---- the system's settings ----


def test_search_domains_and_servers_are_those_of_resolv_conf_and_it_is_read_again(server: DnsServer, tmp_path: Path) -> None:
    """dnspython asks port 53 of what resolv.conf names, so the servers are ours here, and its search list is used."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\nsearch nowhere.test test\n")
    servers = NameServers([server.address], 20.0, str(conf))
    assert addresses(servers.ask("web", "A")) == ["10.0.0.1", "10.0.0.2"]
    assert [name for name, _, _ in server.asked] == ["web.nowhere.test", "web.test"]
    server.asked.clear()
    assert servers.ask("web.", "A").data == ()
    assert [name for name, _, _ in server.asked] == ["web"]
    conf.write_text("nameserver 127.0.0.1\nsearch elsewhere.test\n# longer than before")
    server.asked.clear()
    assert servers.ask("web", "A").data == ()
    assert [name for name, _, _ in server.asked] == ["web.elsewhere.test", "web"]


def test_a_search_domain_whose_servers_fail_is_not_in_the_way(server: DnsServer, tmp_path: Path) -> None:
    """With "ndots:5", as Kubernetes sets it, the search domains are asked first, also for whole names."""
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\nsearch broken.test\noptions ndots:5\n")
    server.how_of["web.test.broken.test"] = "servfail"
    servers = NameServers([server.address], 20.0, str(conf))
    assert addresses(servers.ask("web.test", "A")) == ["10.0.0.1", "10.0.0.2"]
    assert [name for name, _, _ in server.asked] == ["web.test.broken.test", "web.test"]
    server.how_of["none.test.broken.test"] = "servfail"
    assert failure(servers, "none.test") == f"none.test A: {server.address} answers SERVFAIL"


def test_a_machine_without_name_servers_says_so(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    assert failure(NameServers([], 1.0, str(conf))) == f"{conf} names no name server"
    conf.write_text("search test\n")
    assert failure(NameServers([], 1.0, str(conf))) == f"{conf} names no name server"
