"""What names lead to: looked up beside all requests, kept when the resolver fails, the same in all workers."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import gevent
import gevent.event
import pytest

from smartedge.discovery import names as module
from smartedge.discovery.names import Names, NamesFile, look_up
from tests.fakes import FakeClock


class Resolver:
    """Says what `book` has for a name: addresses, or an error; while it is not `open`, look-ups hang."""

    def __init__(self, **book: list[str] | OSError) -> None:
        self.book: dict[str, list[str] | OSError] = dict(book)
        self.asked: list[str] = []
        self.open = gevent.event.Event()
        self.open.set()

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        self.open.wait()
        found = self.book[name]
        if isinstance(found, OSError):
            raise found
        return found


class Worker:
    """Names on a clock of their own, and how often they said that something has changed."""

    def __init__(
        self, resolver: Resolver, clock: FakeClock | None = None, *, leads: bool = True, file: Path | None = None
    ) -> None:
        self.clock = clock or FakeClock()
        self.changes = 0
        self.names = Names(resolver, Random(1), self.clock)
        self.names.changed = self.count
        self.leads = leads
        self.names.share_file(NamesFile(file) if file else None, lambda: self.leads)

    def count(self) -> None:
        self.changes += 1

    def step(self, seconds: float = 0.0) -> None:
        """Do what is due after so long, and let it end."""
        self.clock.advance(seconds)
        self.names.do_what_is_due()
        gevent.joinall(list(self.names._running.values()), timeout=5)
        self.names.do_what_is_due()


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(10):
        yield


def test_a_name_is_looked_up_at_once_and_then_every_so_often() -> None:
    resolver = Resolver(app=["10.0.0.5"])
    worker = Worker(resolver)
    worker.names.follow_names(["app"], 5.0)
    worker.step()
    assert (worker.names.found, worker.changes) == ({"app": ("10.0.0.5",)}, 1)
    worker.step(4.4)
    assert resolver.asked == ["app"]
    resolver.book["app"] = ["10.0.0.6"]
    worker.step(1.2)
    assert (worker.names.found, worker.changes) == ({"app": ("10.0.0.6",)}, 2)
    worker.names.follow_names(["app"], 1.0)  # a reload with another resolve_s
    worker.step(1.2)
    assert resolver.asked == ["app"] * 3
    worker.names.follow_names([], 1.0)
    worker.step(100)
    assert resolver.asked == ["app"] * 3


@pytest.mark.parametrize("trouble", [OSError(-2, "Name or service not known"), []])
def test_a_look_up_that_fails_or_finds_nothing_keeps_the_last_good_addresses_and_says_so_once(
    trouble: OSError | list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """An empty answer that empties the pool has taken whole sites down (traefik#1689)."""
    resolver = Resolver(app=["10.0.0.5"])
    worker = Worker(resolver)
    worker.names.follow_names(["app"], 1.0)
    worker.step()
    resolver.book["app"] = trouble
    for _ in range(5):
        worker.step(2)
    assert (worker.names.found["app"], worker.changes, len(resolver.asked)) == (("10.0.0.5",), 1, 6)
    (said,) = caplog.messages
    assert said.startswith("name app cannot be looked up: ")
    assert said.endswith("; it is still taken for 10.0.0.5")
    resolver.book["app"] = ["10.0.0.5"]
    worker.step(2)
    worker.step(2)
    assert caplog.messages[1:] == ["name app can be looked up again: 10.0.0.5"]
    assert worker.changes == 1


def test_a_resolver_that_shuffles_or_repeats_has_said_nothing_new() -> None:
    resolver = Resolver(app=["10.0.0.5", "10.0.0.6"])
    worker = Worker(resolver)
    worker.names.follow_names(["app"], 1.0)
    worker.step()
    resolver.book["app"] = ["10.0.0.6", "10.0.0.5", "10.0.0.6"]
    worker.step(2)
    assert worker.changes == 1
    assert worker.names.found["app"] == ("10.0.0.5", "10.0.0.6")


def test_a_name_is_looked_up_once_at_a_time_and_a_silent_server_holds_up_no_other_name() -> None:
    """gevent resolves in ten threads: look-ups of one name must not fill them, nor those of many dead ones."""
    resolver = Resolver(**{f"n{number}": ["10.0.0.1"] for number in range(20)})
    resolver.open.clear()
    worker = Worker(resolver)
    worker.names.follow_names(resolver.book, 1.0)
    for _ in range(10):
        worker.clock.advance(5)
        worker.names.do_what_is_due()
        gevent.sleep(0)
    assert len(resolver.asked) == module.AT_ONCE
    resolver.open.set()
    worker.step()
    assert sorted(resolver.asked) == sorted(resolver.book)


def test_what_cannot_be_reached_is_looked_up_again_soon_but_not_all_the_time() -> None:
    resolver = Resolver(app=["10.0.0.5"])
    worker = Worker(resolver)
    worker.names.follow_names(["app"], 60.0)
    worker.step()
    for _ in range(100):
        worker.names.look_up_soon("app")
        worker.names.look_up_soon("of nobody")
    worker.step(0.9)
    assert len(resolver.asked) == 1
    worker.step(0.2)
    assert len(resolver.asked) == 2


def test_the_leader_asks_and_the_others_read(tmp_path: Path) -> None:
    """A resolver that gives some of many addresses, others each time, would have each worker use other backends."""
    file, clock = tmp_path / "names.json", FakeClock()
    resolver, unasked = Resolver(app=["10.0.0.5"]), Resolver(app=["10.0.0.9"])
    leader, follower = Worker(resolver, clock, file=file), Worker(unasked, clock, leads=False, file=file)
    for worker in (leader, follower):
        worker.names.follow_names(["app"], 1.0)
        worker.step()
    assert follower.names.found == {"app": ("10.0.0.5",)}
    resolver.book["app"] = ["10.0.0.6", "10.0.0.7"]
    leader.step(2)
    follower.step()
    follower.step()
    assert follower.names.found == leader.names.found == {"app": ("10.0.0.6", "10.0.0.7")}
    assert (follower.changes, unasked.asked) == (2, [])
    follower.leads = True  # the leader has died
    follower.step(2)
    assert follower.names.found == {"app": ("10.0.0.9",)}


def test_a_file_that_cannot_be_written_or_read_ends_nothing_and_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "gone" / "names.json"
    worker, other = Worker(Resolver(app=["10.0.0.5"]), file=file), Worker(Resolver(), leads=False, file=file)
    worker.names.follow_names(["app"], 1.0)
    other.names.follow_names(["app"], 1.0)
    for _ in range(5):
        worker.step(2)
    assert [message for message in caplog.messages if "cannot be told" in message] == caplog.messages[:1]
    file.parent.mkdir()
    file.write_text("{")
    other.step()
    assert other.names.found == {}
    worker.step()
    other.step()
    assert other.names.found == {"app": ("10.0.0.5",)}
    assert [path.name for path in file.parent.iterdir()] == ["names.json"]


def test_the_start_waits_a_moment_for_names_and_not_again_for_those_that_failed() -> None:
    resolver = Resolver(app=["10.0.0.5"], none=OSError("no"))
    worker = Worker(resolver)
    worker.names.wait_for_names(["app", "none"], 5)
    worker.names.wait_for_names(["app", "none"], 5)
    assert worker.names.found == {"app": ("10.0.0.5",)}
    assert sorted(resolver.asked) == ["app", "none"]
    resolver.open.clear()
    worker.names.wait_for_names(["late"], 0.01)
    resolver.book["late"] = ["10.0.0.6"]
    waiting = gevent.spawn(worker.names.addresses, "late", 5)
    gevent.sleep(0)
    resolver.open.set()
    assert waiting.get() == ("10.0.0.6",)
    assert resolver.asked.count("late") == 1
    with pytest.raises(OSError, match="none cannot be looked up: no"):
        worker.names.addresses("none", 5)
    resolver.open.clear()
    with pytest.raises(TimeoutError):
        worker.names.addresses("none2", 0.01)
    worker.names.stop()


def test_the_loop_runs_until_it_is_stopped_and_survives_what_is_made_of_the_news(caplog: pytest.LogCaptureFixture) -> None:
    resolver = Resolver(app=["10.0.0.5"])
    worker = Worker(resolver)

    def broken() -> None:
        worker.count()
        raise RuntimeError("in the middle")

    worker.names.changed = broken
    worker.names.follow_names(["app"], 1.0)
    worker.names.start()
    worker.names.start()
    until(lambda: worker.changes)
    assert not worker.names._runner.ready()
    assert "app: 10.0.0.5" in repr(worker.names)
    worker.names.stop()
    assert worker.names._runner is None
    assert len(caplog.records) == 1


def until(condition: Callable[[], object]) -> None:
    while not condition():
        gevent.sleep(0.002)


# ---- the system's resolver ----


def test_localhost_and_literals_are_known_to_the_system() -> None:
    assert set(look_up("localhost")) <= {"127.0.0.1", "::1"}
    assert look_up("127.0.0.1") == ["127.0.0.1"]
    with pytest.raises(OSError):
        look_up("nowhere.invalid")


def test_of_several_servers_those_without_a_way_to_them_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each address is a server of its own: on a machine without IPv6 half of them would be "Offline"."""

    def found(*ips: str) -> None:
        infos = [(socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, 0, 0, 7 if ip > "fe" else 0)) for ip in ips]
        monkeypatch.setattr("gevent.socket.getaddrinfo", lambda *_, **__: infos)

    monkeypatch.setattr(module, "has_route", lambda ip: ":" not in ip)
    found("2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2")
    assert look_up("app") == ["10.0.0.1", "10.0.0.2"]
    found("2001:db8::1", "10.0.0.1")  # two ways to one server
    assert look_up("app") == ["2001:db8::1", "10.0.0.1"]
    found("2001:db8::1", "2001:db8::2")
    assert look_up("app") == ["2001:db8::1", "2001:db8::2"]
    found("fe80::1")
    assert look_up("app") == ["fe80::1%7"]


def test_this_machine_has_a_way_to_itself() -> None:
    assert module.has_route("127.0.0.1")
    assert not module.has_route("255.255.255.255")
