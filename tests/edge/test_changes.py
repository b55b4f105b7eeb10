"""What changes without anybody saying so, as the worker that leads notices it."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.balancer.cells import IN_FLIGHT
from smartedge.balancer.pool import Pool
from smartedge.discovery.source_health import SourceHealth
from smartedge.edge.announce import KINDS
from smartedge.edge.changes import CALM_LOOKS, LOST_EVERY_LOOKS, ChangeWatch, Seen
from smartedge.edge.noticed import Noticed
from smartedge.http.certificates import PemFiles
from smartedge.http.server_tls import Certificate
from tests import house
from tests.house import set_state


class Watched:
    """A service `web` of four backends, and what its edge's leading worker notices."""

    def __init__(self) -> None:
        self.pool: Pool = house.pool([house.backend(name, service="web") for name in "abcd"])
        self.events: list[dict[str, Any]] = []
        self.kept: dict[str, Any] = {}
        self.now = 1000.0
        self.changes = self.leader()

    def leader(self) -> ChangeWatch:
        return ChangeWatch(lambda: self.events)

    def look(self, *, leading: bool = True, **seen: Any) -> list[Noticed]:
        self.kept |= seen
        self.now += 1.0
        found = list(self.changes.look(Seen({"web": self.pool}, **self.kept), self.now, leading=leading))
        for one in found:
            self.events.append({"kind": one.kind, "service": one.service, **one.members})
            assert one.kind in KINDS
        return found

    def eject(self, *names: str) -> None:
        for backend in self.pool.backends:
            if backend.id in names:
                self.pool.eject(backend, self.now, 1.0)

    def readmit(self) -> None:
        for backend in self.pool.backends:
            backend.learned.breaker.forget(self.now)
        self.pool.renew_candidates()


@pytest.fixture
def watched() -> Watched:
    made = Watched()
    assert made.look() == []
    return made


def kinds(found: list[Noticed]) -> list[str]:
    return [one.kind for one in found]


def test_panic_is_told_at_once_and_its_end_when_it_lasts(watched: Watched) -> None:
    watched.eject("a", "b")
    assert watched.look() == []
    watched.eject("c")
    (panicked,) = watched.look()
    assert panicked == Noticed(
        "panicked",
        "error",
        "web panics: 1 of 4 backends are available, so ejected ones are used, too",
        "web",
        members={"available": 1, "backends": 4},
    )
    watched.readmit()
    assert [watched.look() for _ in range(CALM_LOOKS - 1)] == [[]] * (CALM_LOOKS - 1)
    watched.eject("a", "b", "c")
    assert watched.look() == []
    watched.readmit()
    found = [watched.look() for _ in range(CALM_LOOKS)]
    assert kinds(found[-1]) == ["calmed"]
    assert watched.look() == []


def test_the_next_leader_goes_on_from_what_was_told(watched: Watched) -> None:
    watched.eject("a", "b", "c")
    assert kinds(watched.look()) == ["panicked"]
    watched.changes = watched.leader()
    assert watched.look() == []
    watched.readmit()
    assert kinds([one for _ in range(CALM_LOOKS) for one in watched.look()]) == ["calmed"]
    watched.changes = watched.leader()
    assert [watched.look() for _ in range(CALM_LOOKS)] == [[]] * CALM_LOOKS


def test_who_does_not_lead_tells_nothing(watched: Watched) -> None:
    watched.eject("a", "b", "c")
    assert watched.look(leading=False) == []


def test_a_draining_backend_is_drained_when_its_last_request_has_ended(watched: Watched) -> None:
    a, b = watched.pool.backends[:2]
    a.learned.add(IN_FLIGHT, 2)
    for backend in (a, b):
        set_state(backend, "draining")
    assert watched.look() == []
    a.learned.add(IN_FLIGHT, -1)
    assert watched.look() == []
    a.learned.add(IN_FLIGHT, -1)
    assert watched.look() == [Noticed("drained", "info", "web/a is drained: nothing in flight", "web", "a")]
    assert watched.look() == []


def test_one_that_is_enabled_before_it_is_drained_is_not_told(watched: Watched) -> None:
    a = watched.pool.backends[0]
    a.learned.add(IN_FLIGHT, 1)
    set_state(a, "draining")
    watched.look()
    set_state(a, "enabled")
    watched.look()
    a.learned.add(IN_FLIGHT, -1)
    assert watched.look() == []


def test_a_source_that_fails_is_told_once_and_that_it_answers_again(watched: Watched) -> None:
    def source(problem: str | None) -> list[SourceHealth]:
        return [SourceHealth("web", "consul", "fresh" if problem is None else "stale", 1.0, 0, problem, 4)]

    assert watched.look(sources=source(None)) == []
    (failed,) = watched.look(sources=source("no connection"))
    assert (failed.kind, failed.service, failed.text) == (
        "source_failed",
        "web",
        "web: consul does not say which backends there are: no connection",
    )
    assert watched.look(sources=source("status 500")) == []
    watched.changes = watched.leader()
    assert watched.look() == []
    assert kinds(watched.look(sources=source(None))) == ["source_answered"]


def test_another_certificate_is_told_with_its_names(watched: Watched) -> None:
    def certificate(digest: bytes) -> Certificate:
        return Certificate(PemFiles("c.pem"), ("shop.example", "*.shop.example"), "ECDSA", 0.0, 2e9, digest)

    assert watched.look(certificates=[certificate(b"1")])[0].kind == "certificate_renewed"
    assert watched.look() == []
    (renewed,) = watched.look(certificates=[certificate(b"2")])
    assert renewed.text == "clients are shown a new certificate for shop.example, *.shop.example"
    assert renewed.members == {"names": ["shop.example", "*.shop.example"], "expires_at": 2e9}


def test_lost_lines_are_told_once_a_minute(watched: Watched) -> None:
    found = [watched.look(lines_lost=number) for number in range(1, LOST_EVERY_LOOKS * 2 + 1)]
    told = [one for some in found for one in some]
    assert kinds(told) == ["log_lost", "log_lost"]
    assert sum(one.members["lines"] for one in told) == pytest.approx(LOST_EVERY_LOOKS * 2, abs=1)


def test_what_becomes_of_the_cluster_is_told(watched: Watched) -> None:
    nodes = frozenset({"one", "two"})
    assert watched.look(cluster="stale") == []
    assert kinds(watched.look(cluster="live", nodes=nodes)) == ["cluster_followed"]
    assert kinds(watched.look(nodes=nodes | {"three"})) == ["node_joined"]
    assert [one.text for one in watched.look(nodes=nodes - {"one"} | {"three"})] == [
        "node one has left the cluster, or is not heard of"
    ]
    assert kinds(watched.look(cluster="stale")) == ["cluster_lost"]
    assert watched.look() == []
