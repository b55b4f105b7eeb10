"""The edge that the fixtures give: what it tells, and time that passes at once."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from smartedge.config.problems import ConfigError
from smartedge.testing.clock import VirtualClock
from smartedge.testing.edge_under_test import EdgeUnderTest
from smartedge.testing.scripted_backend import ScriptedBackend

Backends = list[ScriptedBackend]


def test_shares_retries_and_the_decision_of_a_request(edge: EdgeUnderTest, backends: Backends) -> None:
    a, _ = backends
    a.replies(503, times=1)
    answers = [edge.get(f"/{number}") for number in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert (edge.retries, edge.failures, edge.hedges) == (1, 1, 0)
    assert sum(edge.share.values()) == 1.0
    assert [len(edge.explain(answer)["tries"]) for answer in answers].count(2) == 1
    with pytest.raises(LookupError, match="knows no request nobody"):
        edge.explain("nobody")


@pytest.mark.smartedge(backends=1, retry={"wait_s": 0})
def test_a_problem_of_the_edges_own_can_be_explained(edge: EdgeUnderTest, backends: Backends) -> None:
    backends[0].resets()
    answer = edge.post("/", data=b"x")
    assert answer.status_code == 502
    assert edge.explain(answer)["status"] == 502


@pytest.mark.smartedge(breaker={"failures": 3, "open_s": 60})
def test_a_breaker_closes_when_its_time_has_passed(edge: EdgeUnderTest, backends: Backends) -> None:
    a, _ = backends
    a.resets(times=3)
    while edge.backend("a")["breaker"] == "closed":
        edge.get("/")
    began = time.monotonic()
    edge.advance(61)
    while edge.backend("a")["breaker"] != "closed":
        edge.get("/")
    assert time.monotonic() - began < 30, "it took a minute of the test's time"


def test_probes_that_are_due_are_done_when_time_has_passed(edge: EdgeUnderTest, backends: Backends) -> None:
    a, _ = backends
    a.fails_probes()
    before = a.probes
    edge.advance(3).advance(3).advance(3)
    assert a.probes >= before + 3
    assert (edge.backend("a")["health"], edge.backend("b")["health"]) == ("unhealthy", "healthy")
    a.recovers()
    edge.advance(3).advance(3)
    assert edge.backend("a")["health"] == "healthy"


def test_time_does_not_go_back() -> None:
    clock = VirtualClock()
    with pytest.raises(ValueError, match="forward only"):
        clock.advance(-1)
    clock.advance(2)
    assert repr(clock) == "<VirtualClock 2 s ahead>"


def test_the_machines_time_is_back_when_the_edge_has_gone(make_edge: Callable[..., EdgeUnderTest], backends: Backends) -> None:
    from smartedge.proxy import attempts

    edge = make_edge(backends)
    edge.advance(1_000)
    edge.stop()
    assert attempts.monotonic is time.monotonic


def test_a_reload_takes_effect_and_a_wrong_one_changes_nothing(edge: EdgeUnderTest, backends: Backends) -> None:
    a, b = backends
    assert edge.reload(backends=[b])["removed"] == ("a",)
    assert edge.share == {"b": 0.0}
    with pytest.raises(ConfigError, match="strategy"):
        edge.reload(strategy="luck")
    assert edge.status()["generation"] == 2
    edge.reload(backends=[a, b])
    assert set(edge.share) == {"a", "b"}


def test_the_operators_word(edge: EdgeUnderTest, backends: Backends) -> None:
    edge.set_state("a", "draining")
    for _ in range(4):
        edge.get("/")
    assert edge.share == {"a": 0.0, "b": 1.0}
    with pytest.raises(LookupError):
        edge.set_state("z", "draining")
    with pytest.raises(LookupError, match="no backend z"):
        edge.backend("z")


def test_what_hangs_is_not_settled(edge: EdgeUnderTest, backends: Backends) -> None:
    for one in backends:
        one.hangs()
    with socket.create_connection(("127.0.0.1", int(edge.url.rpartition(":")[2]))) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        edge.wait_until(lambda: any(one.requests for one in backends))
        with pytest.raises(TimeoutError, match="1 tries are still under way"):
            edge.settled(0.1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a client that has gone, by a reset
    edge.settled()


def test_two_edges_side_by_side(make_edge: Callable[..., EdgeUnderTest], backends: Backends) -> None:
    one, other = make_edge(backends[:1]), make_edge(backends[1:], strategy="ewma")
    assert (one.get("/").status_code, other.get("/").status_code) == (200, 200)
    assert (one.share, other.share) == ({"a": 1.0}, {"b": 1.0})


def test_a_wrong_setting_is_named_and_leaves_nothing_behind(make_edge: Callable[..., Any], backends: Backends) -> None:
    threads = threading.active_count()
    with pytest.raises(ConfigError, match="wieght"):
        make_edge(backends, wieght=1)
    assert threading.active_count() == threads
