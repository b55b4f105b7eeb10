"""Backends of a name: where it leads to now, each address with what is known of it, on a whole edge with servers on 127.0.0.x."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.server import StreamServer

from smartedge.app import SmartEdge
from smartedge.config.model import Config, parse
from smartedge.edge.edge import Edge
from tests.fakes import local_client
from tests.peers import head_of

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
A, B, C = "127.0.0.2", "127.0.0.3", "127.0.0.4"


class Town:
    """Servers that answer on one port of 127.0.0.2, .3 and .4, and a resolver that says which of them are `app` now."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.book: list[str] | OSError = [A]
        self.servers = [StreamServer((A, 0), self.serve)]
        self.servers[0].start()
        self.port = self.servers[0].server_port
        for ip in (B, C):
            self.servers.append(StreamServer((ip, self.port), self.serve))
            self.servers[-1].start()

    def serve(self, sock: Any, _: object) -> None:
        with contextlib.suppress(OSError):
            while head := head_of(sock):
                if b" /health " not in head:
                    self.asked[sock.getsockname()[0]] += 1
                sock.sendall(OK)
        sock.close()

    def look_up(self, name: str) -> list[str]:
        if name == "localhost":
            return ["::1", "127.0.0.1"]
        if isinstance(self.book, OSError):
            raise self.book
        return self.book

    def config(self, **more: Any) -> Config:
        backends = [{"url": f"http://app:{self.port}", "id": "b1", **more.pop("entry", {})}, *more.pop("others", [])]
        document = {"backends": backends, "strategy": "round_robin", "resolve_s": 0.1, "health": {"interval_s": 0.1}}
        return parse(json.dumps(document | more))


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    town = Town()
    with gevent.Timeout(30):
        yield town
    for server in town.servers:
        server.stop(timeout=0)


@pytest.fixture
def start(town: Town) -> Iterator[Callable[..., Edge]]:
    """Start an edge that serves, and end it afterwards."""
    running: list[Edge] = []

    def begin(config: Config | None = None) -> Edge:
        running.append(Edge(config or town.config(), look_up=town.look_up))
        running[-1].begin_serving()
        return running[-1]

    yield begin
    for edge in running:
        edge.stop()


def until(condition: Callable[[], object]) -> None:
    while not condition():
        gevent.sleep(0.005)


def ids(edge: Edge) -> list[str]:
    return [backend.id for backend in edge.pool.backends]


def healthy(edge: Edge, count: int) -> None:
    until(lambda: sum(backend.learned.health.state == "healthy" for backend in edge.pool.backends) == count)


def ask(edge: Edge, times: int = 1, **headers: str) -> list[Any]:
    client = SmartEdge(edge).test_client(use_cookies=False)
    return [client.get("/", headers=headers, buffered=True) for _ in range(times)]


def test_a_name_of_one_address_is_called_as_before_and_traffic_follows_it(town: Town, start: Callable[..., Edge]) -> None:
    """All traffic stayed on the old server for ever, as long as that answered, while probes asked the new one."""
    edge = start()
    healthy(edge, 1)
    assert ids(edge) == ["b1"]
    ask(edge, 3)
    assert town.asked == {A: 3}
    town.book = [B]
    until(lambda: edge.pool.backends[0].spec.addresses == (B,))
    assert ids(edge) == ["b1"]
    ask(edge, 3)
    assert town.asked == {A: 3, B: 3}
    healthy(edge, 1)
    town.book = OSError("the resolver is gone")
    gevent.sleep(0.3)
    ask(edge, 3)
    assert town.asked == {A: 3, B: 6}


def test_of_the_server_at_another_address_nothing_is_known_yet(town: Town, start: Callable[..., Edge]) -> None:
    """The breaker that the old one had opened kept the new one out of service for up to five minutes."""
    edge = start(town.config(health={"interval_s": 60}))
    healthy(edge, 1)
    backend = edge.pool.backends[0]
    backend.learned.breaker.eject(edge.now(), edge._rng)
    backend.learned.ewma.fail(edge.now())
    town.book = [C]
    until(lambda: backend.learned.breaker.state == "closed")
    assert backend.learned.ewma.mean_s == 0.0
    healthy(edge, 1)  # it is probed at once, and not a minute later


def test_a_name_of_several_addresses_uses_all_of_them_each_for_itself(town: Town, start: Callable[..., Edge]) -> None:
    town.book = [B, A]
    edge = start(town.config(entry={"weight": 3}))
    healthy(edge, 2)
    assert ids(edge) == [f"b1/{A}", f"b1/{B}"]
    ask(edge, 6)
    assert town.asked == {A: 3, B: 3}
    status = local_client(SmartEdge(edge)).get("/api/status").get_json()["backends"]
    assert [(one["id"], one["addresses"], one["weight"], one["requests"], one["health"]) for one in status] == [
        (f"b1/{A}", [A], 3, 3, "healthy"),
        (f"b1/{B}", [B], 3, 3, "healthy"),
    ]
    town.servers[1].stop(timeout=0)
    until(lambda: edge.pool.backends[1].learned.health.state == "unhealthy")
    assert edge.pool.backends[0].learned.health.state == "healthy"
    town.asked.clear()
    assert {answer.status_code for answer in ask(edge, 4)} == {200}
    assert town.asked == {A: 4}


def test_addresses_come_and_go_and_what_is_known_of_the_others_stays(town: Town, start: Callable[..., Edge]) -> None:
    town.book = [A, B]
    edge = start()
    healthy(edge, 2)
    ask(edge, 4)
    gone, stays = edge.pool.backends
    lease = edge.pool.lease(edge.now(), prefer=gone.id)
    town.book = [B, C]
    until(lambda: ids(edge) == [f"b1/{B}", f"b1/{C}"])
    healthy(edge, 2)
    assert edge.pool.backends[0].learned is stays.learned
    assert gone.key in edge.registry._leaving  # its last request ends in peace
    lease.close(edge.now(), "ok")
    until(lambda: gone.key not in edge.registry._leaving)
    town.asked.clear()
    ask(edge, 4)
    assert town.asked == {B: 2, C: 2}
    town.book = [C]
    until(lambda: ids(edge) == ["b1"])


def test_what_the_operator_says_of_a_name_is_said_of_all_its_addresses_those_to_come_too(
    town: Town, start: Callable[..., Edge]
) -> None:
    town.book = [A, B]
    edge = start(town.config(others=["http://127.0.0.1:1"]))
    client = local_client(SmartEdge(edge))
    answer = client.post("/smartedge/backends/b1/drain").get_json()
    assert answer["message"] == "b1 (2 addresses) is draining: no new requests but those of sticky sessions; 0 in flight"
    assert answer["backends"] == [f"b1/{A}", f"b1/{B}"]
    client.post("/smartedge/backends/b1/weight", json={"weight": 7})
    town.book = [B, C]
    until(lambda: f"b1/{C}" in ids(edge))
    said = [(backend.state, backend.full_weight) for backend in edge.pool.backends_of("b1")]
    assert said == [("draining", 7)] * 2
    one = client.get("/smartedge/backends/b1").get_json()
    assert (one["id"], one["in_flight"], [each["id"] for each in one["backends"]]) == ("b1", 0, [f"b1/{B}", f"b1/{C}"])
    assert client.post(f"/smartedge/backends/b1/{B}/enable").get_json()["id"] == f"b1/{B}"
    assert client.post(f"/smartedge/backends/b1%2F{B}/enable").get_json()["message"].endswith("unchanged")
    found = client.get(f"/smartedge/backends/b1%2F{B}")
    assert (found.status_code, found.get_json(force=True).get("state")) == (200, "enabled"), found.text
    assert [backend.state for backend in edge.pool.backends_of("b1")] == ["enabled", "draining"]
    until(lambda: not edge.registry._leaving)  # A is forgotten
    town.book = [A, B, C]
    until(lambda: f"b1/{A}" in ids(edge))  # the others disagree: the file's word
    assert edge.pool.backends_of(f"b1/{A}")[0].state == "enabled"
    assert edge.pool.backends_of(f"b1/{A}")[0].full_weight == 1
    assert client.post(f"/smartedge/backends/b1/{A}/drain", json={"persist": True}).status_code == 409


def test_what_the_operator_took_back_of_the_files_word_holds_for_new_addresses(town: Town, start: Callable[..., Edge]) -> None:
    town.book = [A, B]
    edge = start(town.config(entry={"state": "draining"}, others=["http://127.0.0.1:1"]))
    assert {backend.state for backend in edge.pool.backends_of("b1")} == {"draining"}
    edge.pool.set_state("b1", "enabled")
    town.book = [C, B]
    until(lambda: f"b1/{C}" in ids(edge))
    assert {backend.state for backend in edge.pool.backends_of("b1")} == {"enabled"}


def test_a_sticky_session_is_with_an_address(town: Town, start: Callable[..., Edge]) -> None:
    town.book = [A, B]
    edge = start(town.config(sticky={"cookie": "S"}))
    healthy(edge, 2)
    town.book = [A, B, C]
    until(lambda: len(ids(edge)) == 3)
    healthy(edge, 3)
    cookies = [answer.headers["Set-Cookie"].partition(";")[0] for answer in ask(edge, 3)]
    assert len(set(cookies)) == 3
    for cookie in cookies:
        town.asked.clear()
        assert all("Set-Cookie" not in answer.headers for answer in ask(edge, 4, Cookie=cookie))
        assert list(town.asked.values()) == [4]


def test_one_address_of_each_family_is_one_server(town: Town, start: Callable[..., Edge]) -> None:
    """`localhost` most of all: two ways to one server are no two servers."""
    town.book = ["::1", A]
    edge = start(town.config(others=[f"http://localhost:{town.port + 1}"]))
    assert ids(edge) == ["b1", f"localhost-{town.port + 1}"]
    assert edge.pool.backends[0].spec.addresses == ("::1", A)
    until(lambda: edge.pool.backends[0].learned.health.state == "healthy")
    ask(edge, 2)
    assert town.asked == {A: 2}


def test_a_name_that_cannot_be_looked_up_holds_nobody_up(town: Town, start: Callable[..., Edge]) -> None:
    town.book = OSError("no such name")
    edge = start(town.config(others=[f"http://{A}:{town.port}"]))
    until(lambda: edge.pool.backends[1].learned.health.state == "healthy")
    until(lambda: edge.pool.backends[0].learned.health.state == "unhealthy")
    assert [answer.status_code for answer in ask(edge, 3)] == [200] * 3
    town.book = [B]
    until(lambda: edge.pool.backends[0].learned.health.state == "healthy")


def test_addresses_in_urls_are_never_looked_up(town: Town, start: Callable[..., Edge]) -> None:
    edge = start(parse(json.dumps({"backends": [f"http://{A}:{town.port}", f"http://[::1]:{town.port}", "unix:/run/none.sock"]})))
    assert edge.registry.names._due == {}
    assert [backend.spec.addresses for backend in edge.pool.backends] == [()] * 3
