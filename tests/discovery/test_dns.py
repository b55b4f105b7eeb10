"""Names as sources: every address a backend, what part of an answer fails is kept, and asked again when it expires."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from smartedge.config.discover import DnsConfig
from smartedge.discovery import dns as module
from smartedge.discovery.dns import DnsSource
from smartedge.discovery.name_servers import NameServers, Records
from smartedge.discovery.runner import SourceOptions, SourceRunner
from smartedge.discovery.source import SourceError
from tests.dns_server import DnsServer, dns_server
from tests.house import until

A, B, SIX = "10.0.0.1", "10.0.0.2", "2001:db8::1"


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A way to every address, whatever this machine has; what hangs ends."""
    monkeypatch.setattr(module, "reachable", list)
    with gevent.Timeout(60):
        yield


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with dns_server() as made:
        yield made


class Book:
    """Name servers that say what stands in a book: addresses, or an error; and wait where they are told to."""

    def __init__(self, ttl_s: float = 30.0, **families: Sequence[str] | SourceError) -> None:
        self.ttl_s = ttl_s
        self.said: dict[str, Any] = {"A": (), "AAAA": (), **families}
        self.wait_s: dict[str, float] = {}
        self.asked: list[tuple[str, str]] = []

    def ask(self, name: str, kind: str) -> Records:
        self.asked.append((name, kind))
        gevent.sleep(self.wait_s.get(kind, 0))
        said = self.said.get(f"{name} {kind}", self.said[kind])
        if isinstance(said, SourceError):
            raise said
        data = said if kind == "SRV" else [SimpleNamespace(address=ip) for ip in said]
        return Records(tuple(data), self.ttl_s, {})


def no_system(name: str) -> list[str]:
    raise OSError(-2, "Name or service not known")


def source(asked: Any = None, look_up: Any = no_system, hosts: str = "/nowhere", **said: Any) -> DnsSource:
    usual: dict[str, Any] = {"name": "web.test", "port": 8000, "min_ttl_s": 0.001}
    if said.get("type") == "SRV":
        del usual["port"]
    return DnsSource(DnsConfig(**(usual | said)), 5.0, Random(1), asked, look_up, hosts)


def real(server: DnsServer, **said: Any) -> DnsSource:
    servers = (server.address,)
    return source(NameServers(servers, 20.0, "/nowhere"), servers=servers, **said)


def first(made: DnsSource) -> Sequence[Any]:
    return next(made.snapshots())


def hosts_of(entries: Sequence[Any]) -> list[str]:
    return [entry if isinstance(entry, str) else entry["url"] for entry in entries]


# ---- addresses ----


def test_every_address_of_both_families_is_a_backend(server: DnsServer) -> None:
    server.put("web.test", "A", B, A, ttl=30)
    server.put("web.test", "AAAA", SIX, ttl=20)
    made = real(server)
    assert first(made) == [f"http://{A}:8000", f"http://{B}:8000", f"http://[{SIX}]:8000"]
    assert made.ttl_s == 20


def test_https_backends_are_checked_as_the_name(server: DnsServer) -> None:
    server.put("web.test", "A", A)
    assert first(real(server, scheme="https", name="web.test.")) == [
        {"url": f"https://{A}:8000", "tls": {"server_name": "web.test"}}
    ]
    defaults = {"tls": {"server_name": "shop.example"}}
    assert first(real(server, scheme="https", defaults=defaults)) == [{"url": f"https://{A}:8000"}]


def test_a_name_that_does_not_exist_is_an_empty_answer(server: DnsServer) -> None:
    made = real(server)
    assert first(made) == []
    assert (made.ttl_s, made.why_empty) == (server.negative_ttl, "web.test does not exist")
    server.put("web.test", "TXT", "text")
    assert first(made) == []
    assert made.why_empty == "web.test has no A or AAAA record"
    server.put("web.test", "A", A)
    assert first(made) != []
    assert made.why_empty == ""


def test_that_there_is_nothing_is_not_kept_where_the_server_says_no_time_for_it(server: DnsServer) -> None:
    """dnsmasq gives no SOA with its own names: one that came back was in use up to `max_ttl_s`, five minutes, later."""
    server.negative_ttl = None
    for made in (real(server), real(server, type="SRV")):
        assert first(made) == []
        assert made.ttl_s == 0
    server.put("web.test", "A", A, ttl=60)
    assert first(made := real(server)) != []
    assert made.ttl_s == 60  # there is no AAAA: that takes nothing from the time that A has
    server.put("srv.test", "SRV", "0 1 8000 web.test.", "0 1 8000 none.test.", ttl=50)
    server.how["SRV"] = "bare"
    assert len(first(made := real(server, name="srv.test", type="SRV"))) == 1
    assert made.ttl_s == 50


def test_what_is_no_servers_address_is_left_out() -> None:
    """Resolvers that block names answer with 0.0.0.0, which would be this machine itself."""
    assert first(source(Book(A=("0.0.0.0", A, "224.0.0.1"), AAAA=("::",)))) == [f"http://{A}:8000"]


def test_addresses_that_this_machine_has_no_way_to_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "reachable", lambda ips: [ip for ip in ips if ":" not in ip] or ips)
    assert first(source(Book(A=(A,), AAAA=(SIX,)))) == [f"http://{A}:8000"]
    assert first(source(Book(AAAA=(SIX,)))) == [f"http://[{SIX}]:8000"]


def test_a_server_that_fails_is_an_error(server: DnsServer) -> None:
    server.how["*"] = "servfail"
    with pytest.raises(SourceError) as caught:
        first(real(server))
    assert str(caught.value) == f"web.test A: {server.address} answers SERVFAIL"


def test_one_family_that_fails_and_was_there_stays_and_is_an_error_besides() -> None:
    """A server that drops AAAA for a while would have half of the backends go."""
    book = Book(A=(A,), AAAA=(SIX,))
    made = source(book)
    both = first(made)
    book.said |= {"A": (B,), "AAAA": SourceError("web.test AAAA: no answer")}
    snapshots = made.snapshots()
    assert next(snapshots) == [f"http://{B}:8000", both[1]]
    with pytest.raises(SourceError, match=r"web\.test AAAA: no answer"):
        next(snapshots)
    book.said["AAAA"] = ()
    assert first(made) == [f"http://{B}:8000"]  # it is gone, says the server itself


def test_one_family_that_fails_and_never_was_there_is_no_error() -> None:
    made = source(Book(ttl_s=0, A=(A,), AAAA=SourceError("web.test AAAA: no answer")))
    snapshots = made.snapshots()
    assert [next(snapshots) for _ in range(3)] == [[f"http://{A}:8000"]] * 3


def test_nothing_in_one_family_and_an_error_in_the_other_is_an_error_and_no_empty_answer() -> None:
    with pytest.raises(SourceError, match=r"web\.test AAAA: no answer"):
        first(source(Book(A=(), AAAA=SourceError("web.test AAAA: no answer"))))


def test_both_fail_and_the_first_is_named() -> None:
    with pytest.raises(SourceError, match="four"):
        first(source(Book(A=SourceError("four"), AAAA=SourceError("six"))))


def test_a_family_that_never_was_there_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRACE_S", 0.01)
    book = Book(A=(A,), AAAA=(SIX,))
    book.wait_s["AAAA"] = 0.3
    made = source(book)
    assert first(made) == [f"http://{A}:8000"]
    book.wait_s["AAAA"] = 0
    assert len(first(made)) == 2
    book.wait_s["AAAA"] = 0.3  # now it is waited for
    assert len(first(made)) == 2


# ---- where a name is looked up ----


def test_a_local_name_is_the_systems(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"127.0.0.1 localhost\n{B}\tother Web.test # web2.test\n")
    book = Book(A=(A,))
    made = source(book, look_up=lambda name: [B, B], hosts=str(hosts))
    assert (first(made), made.ttl_s, book.asked) == ([f"http://{B}:8000"], 5.0, [])
    assert first(source(book, look_up=lambda name: [B], hosts=str(hosts), name="app.localhost")) == [f"http://{B}:8000"]
    assert first(source(book, look_up=lambda name: [B], hosts=str(hosts), name="web2.test")) == [f"http://{A}:8000"]


def test_servers_that_are_named_are_asked_for_local_names_too(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{B} web.test\n")
    made = source(Book(A=(A,)), look_up=lambda name: [B], hosts=str(hosts), servers=("10.0.0.53:53",))
    assert first(made) == [f"http://{A}:8000"]


def test_what_dns_does_not_know_the_system_may_know_by_other_ways() -> None:
    assert first(source(Book(), look_up=lambda name: [B])) == [f"http://{B}:8000"]
    assert first(source(Book())) == []
    assert first(source(Book(), look_up=lambda name: [B], servers=("10.0.0.53:53",))) == []


def test_without_dnspython_the_system_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "has_dnspython", lambda: False)
    assert first(source(look_up=lambda name: [A, B])) == [f"http://{A}:8000", f"http://{B}:8000"]
    with pytest.raises(SourceError, match=r"web\.test: name or service not known"):
        first(source())


# ---- SRV ----


def test_srv_records_say_all_of_a_backend(server: DnsServer) -> None:
    server.put("_http._tcp.web.test", "SRV", "10 60 8000 a.test.", "20 0 8001 b.test.", ttl=40)
    server.put("a.test", "A", A, ttl=30)
    server.put("b.test", "A", B, ttl=35)
    made = real(server, name="_http._tcp.web.test", type="SRV")
    assert first(made) == [
        {"url": f"http://{A}:8000", "weight": 60, "priority": 10, "labels": {"target": "a.test"}},
        {"url": f"http://{B}:8001", "weight": 1, "priority": 20, "labels": {"target": "b.test"}},
    ]
    assert made.ttl_s == 40
    assert [kind for _, kind, _ in server.asked] == ["SRV"]  # the addresses came along


def test_targets_whose_addresses_do_not_come_along_are_looked_up(server: DnsServer) -> None:
    server.put("_http._tcp.web.test", "SRV", "0 1 8000 a.test.", "0 1 8000 b.test.", "0 1 8001 a.test.", ttl=40)
    server.put("a.test", "A", A, ttl=30)
    server.put("b.test", "CNAME", "c.test.", ttl=35)
    server.put("c.test", "A", B, ttl=35)
    server.how["SRV"] = "bare"
    made = real(server, name="_http._tcp.web.test", type="SRV", scheme="https")
    entries = first(made)
    assert hosts_of(entries) == [f"https://{A}:8000", f"https://{A}:8001", f"https://{B}:8000"]
    assert [entry["tls"] for entry in entries] == [{"server_name": name} for name in ("a.test", "a.test", "b.test")]
    assert made.ttl_s == server.negative_ttl  # that there is no AAAA holds no longer


def test_a_service_that_is_said_not_to_be_there_is_an_empty_answer(server: DnsServer) -> None:
    server.put("_http._tcp.web.test", "SRV", "0 0 0 .")
    made = real(server, name="_http._tcp.web.test", type="SRV")
    assert first(made) == []
    assert made.why_empty == "_http._tcp.web.test says that there is no such service"
    server.take_away("_http._tcp.web.test", "SRV")
    assert first(made) == []
    assert made.why_empty == "_http._tcp.web.test does not exist"


def record(host: str) -> Any:
    import dns.name

    return SimpleNamespace(target=dns.name.from_text(host), port=8000, priority=0, weight=1)


def test_a_target_that_cannot_be_looked_up_stays_as_it_was_and_one_that_is_gone_goes() -> None:
    book = Book(SRV=[record("a.test"), record("b.test"), record("c.test")])
    book.said |= {"a.test A": (A,), "b.test A": (B,), "c.test A": ("10.0.0.3",)}
    made = source(book, name="_http._tcp.web.test", type="SRV")
    assert hosts_of(first(made)) == [f"http://{A}:8000", f"http://{B}:8000", "http://10.0.0.3:8000"]
    book.said |= {"b.test A": SourceError("b.test A: no answer"), "b.test AAAA": SourceError("x"), "c.test A": ()}
    snapshots = made.snapshots()
    assert hosts_of(next(snapshots)) == [f"http://{A}:8000", f"http://{B}:8000"]
    with pytest.raises(SourceError, match=r"b\.test A: no answer"):
        next(snapshots)


def test_no_target_with_an_address_and_an_error_is_an_error() -> None:
    book = Book(SRV=[record("a.test"), record("b.test")])
    book.said |= {"a.test A": (), "b.test A": SourceError("b.test A: no answer"), "b.test AAAA": SourceError("x")}
    with pytest.raises(SourceError, match=r"b\.test A: no answer"):
        first(source(book, name="_http._tcp.web.test", type="SRV"))


# ---- when it is asked again ----


@pytest.mark.parametrize(
    ("ttl_s", "least", "most"), [(0, 1.0, 1.1), (0.2, 1.0, 1.1), (30, 30, 30.5), (4, 4, 4.4), (86_400, 300, 300.5)]
)
def test_a_name_is_asked_for_again_when_it_expires_and_not_all_at_the_same_moment(
    ttl_s: float, least: float, most: float
) -> None:
    made = source(Book(), min_ttl_s=1.0)
    waits = [made.wait_s(ttl_s) for _ in range(200)]
    assert least <= min(waits) < max(waits) <= most


def test_changes_are_seen_failures_keep_and_the_first_good_answer_counts_again(server: DnsServer) -> None:
    """Under a runner, as it runs."""
    server.put("web.test", "A", A, ttl=0)
    made = real(server, min_ttl_s=0.02)
    runner = SourceRunner("web", "dns", lambda: made, SourceOptions(most_wait_s=0.05), Random(1))
    runner.start()

    def found() -> list[str]:
        return [one.url for one in runner.found or ()]

    try:
        until(lambda: found() == [f"http://{A}:8000"], 30)
        server.put("web.test", "A", A, B, ttl=0)
        until(lambda: len(found()) == 2, 30)
        for how in ("servfail", "refused"):
            server.how["*"] = how
            errors = runner.errors
            until(lambda before=errors: runner.errors >= before + 2, 60)  # type: ignore[misc]
            assert (len(found()), runner.state) == (2, "stale")
            server.how.clear()
            until(lambda: runner.state == "fresh", 30)
        server.negative_ttl = 0
        server.take_away("web.test", "A")
        until(lambda: runner.state == "stale", 30)
        assert (len(found()), runner.health()["problem"]) == (
            2,
            'its answer is empty (web.test does not exist), and "allow_empty" is not true',
        )
        server.put("web.test", "A", B, ttl=0)
        until(lambda: found() == [f"http://{B}:8000"], 30)
    finally:
        runner.stop()
