"""The source against a Consul that keeps Consul's rules, and breaks all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import pytest

from smartedge.config.discover import ConsulConfig
from smartedge.discovery.consul import ConsulSource
from smartedge.discovery.source import SourceError
from tests.live.consul_server import ConsulServer, consul
from tests.peers import backend, head_of


@pytest.fixture
def agent() -> Iterator[ConsulServer]:
    with consul() as found:
        found.register("api", "a", 8001)
        yield found


def snapshots(agent: ConsulServer, environ: dict[str, str] | None = None, wait_s: float = 60.0, **said: Any) -> Any:
    config = ConsulConfig(**{"service": "api", "address": agent.url, **said})
    return ConsulSource(config, environ or {}, wait_s).snapshots()


def ids(snapshot: Any) -> list[str]:
    return [one["id"] for one in snapshot]


def failure(found: Any) -> str:
    with pytest.raises(SourceError) as raised, gevent.Timeout(40):
        next(found)
    return str(raised.value)


def until_waiting(agent: ConsulServer) -> None:
    with gevent.Timeout(40):
        while not agent.waiting:
            gevent.sleep(0.005)


def test_each_change_is_told_at_once(agent: ConsulServer) -> None:
    found = snapshots(agent)
    assert ids(next(found)) == ["node1-a"]
    following = gevent.spawn(next, found)
    until_waiting(agent)
    agent.register("other", "x", 1)  # another service's index is no news
    agent.register("api", "b", 8002)
    began = monotonic()
    assert ids(following.get(timeout=40)) == ["node1-a", "node1-b"]
    assert monotonic() - began < 20
    agent.deregister("api", "a")
    with gevent.Timeout(40):
        assert ids(next(found)) == ["node1-b"]
    assert [query.get("index") for _, query, _ in agent.asked] == [None, ["11"], ["13"]]
    assert agent.asked[1][1]["wait"] == ["60000ms"]


def test_an_answer_without_news_says_that_it_lives(agent: ConsulServer) -> None:
    found = snapshots(agent, wait_s=0.05)
    with gevent.Timeout(40):
        assert [ids(next(found)) for _ in range(2)] == [["node1-a"]] * 2
    assert [query.get("index") for _, query, _ in agent.asked] == [None, ["11"]]


def test_an_index_that_goes_back_is_begun_anew(agent: ConsulServer) -> None:
    found = snapshots(agent)
    next(found)
    following = gevent.spawn(next, found)
    until_waiting(agent)
    agent.put_back(3)
    assert ids(following.get(timeout=40)) == ["node1-a"]
    with gevent.Timeout(40):
        next(found)
    assert [query.get("index") for _, query, _ in agent.asked] == [None, ["11"], None]


@pytest.mark.parametrize("index", ["0", "-7"])
def test_an_index_that_is_not_above_0_counts_as_1(agent: ConsulServer, index: str) -> None:
    """Asked for as it is, no question would wait."""
    agent.headers = {"X-Consul-Index": index}
    found = snapshots(agent)
    next(found)
    with gevent.Timeout(40):
        next(found)
    assert [query.get("index") for _, query, _ in agent.asked] == [None, ["1"]]


def test_what_is_wanted_is_asked_for(agent: ConsulServer) -> None:
    agent.distances = {"node1": 2.0, "node2": 1.0}
    for node in ("node1", "node2"):
        agent.register("api", "b", 8002, node=node, Tags=["prod", "eu"])
    agent.register("api", "sick", 8003, Tags=["prod", "eu"], status="critical")
    said = {"tags": ("prod", "eu"), "near": "_agent", "datacenter": "dc1", "namespace": "team"}
    assert ids(next(snapshots(agent, **said))) == ["node2-b", "node1-b"]
    assert agent.asked[-1][:2] == (
        "/v1/health/service/api",
        {"tag": ["prod", "eu"], "passing": ["1"], "near": ["_agent"], "dc": ["dc1"], "ns": ["team"]},
    )
    assert "node1-sick" in ids(next(snapshots(agent, only_passing=False)))
    assert "passing" not in agent.asked[-1][1]


def test_a_name_is_one_part_of_the_path(agent: ConsulServer) -> None:
    agent.register("a b", "x", 1)
    next(snapshots(agent, service="a/b?c"))
    assert agent.asked[-1][0] == "/v1/health/service/a%2Fb%3Fc"


def test_no_instances_are_an_empty_answer(agent: ConsulServer) -> None:
    agent.deregister("api", "a")
    assert next(snapshots(agent)) == ()


def test_the_token_is_a_variable_or_a_file_that_may_change(agent: ConsulServer, tmp_path: Path) -> None:
    agent.token = "secret-1"
    assert failure(snapshots(agent)).endswith(
        "status 403: Permission denied: token with AccessorID '00000000' lacks permission 'service:read'"
    )
    assert ids(next(snapshots(agent, {"CONSUL_HTTP_TOKEN": "secret-1"}))) == ["node1-a"]
    file = tmp_path / "token"
    file.write_text("secret-1\n")
    found = snapshots(agent, {"CONSUL_HTTP_TOKEN": "other"}, wait_s=0.05, token_file=str(file))
    next(found)
    agent.token = "secret-2"
    file.write_text("secret-2\n")
    with gevent.Timeout(40):
        next(found)
    assert [token for _, _, token in agent.asked] == [None, "secret-1", "secret-1", "secret-2"]


def test_a_token_is_in_no_error(agent: ConsulServer, tmp_path: Path) -> None:
    agent.token = "other"
    agent.fault = (500, "rpc error: token 'secret' is unknown")
    agent.token = None
    assert failure(snapshots(agent, {"CONSUL_HTTP_TOKEN": "secret"})).endswith("status 500: rpc error: token '***' is unknown")
    assert failure(snapshots(agent, {"CONSUL_HTTP_TOKEN": "sec\nret"})).endswith(
        "the token in CONSUL_HTTP_TOKEN holds characters that no token has"
    )
    file = tmp_path / "token"
    file.write_bytes(b"\xff\xfe")
    assert failure(snapshots(agent, token_file=str(file))).endswith(f"the token in {file} cannot be read: it is no text")
    gone = snapshots(agent, token_file=str(file))
    file.unlink()
    assert failure(gone).endswith(f"the token in {file} cannot be read: no such file or directory")


def test_an_empty_answer_because_the_token_may_not_read_is_an_error(agent: ConsulServer) -> None:
    """Else a token that has lost its rights would take all backends away where `allow_empty` is set."""
    agent.token, agent.blind_token = "good", "blind"
    text = failure(snapshots(agent, {"CONSUL_HTTP_TOKEN": "blind"}))
    assert text == f"consul at {agent.url}: the token may not read the instances that there are"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ((500, "No cluster leader\n"), "it answered with status 500: No cluster leader"),
        ((503, "<html>\nno</html>"), "it answered with status 503"),
        ((429, "rate limit exceeded, try again later"), "it answered with status 429: rate limit exceeded, try again later"),
        ((404, "404 page not found"), "there is no Consul API (status 404)"),
        ((301, ""), "it answered with status 301"),
        ((500, "\x1b[31m" + "x" * 900), "it answered with status 500: \\u001b[31m" + "x" * 190),
        *(
            (body, "it answered with what is no list of instances, as JSON")
            for body in (b"<html>", b"", b"\xff\xff", b"[" * 100_000, b"{}", b"null", b"[1", b"[1,]", b"[1 2]", b"[] []", b"[,]")
        ),
    ],
)
def test_a_broken_answer_is_an_error_that_says_so(agent: ConsulServer, fault: Any, text: str) -> None:
    agent.fault = fault
    assert failure(snapshots(agent)) == f"consul at {agent.url}: {text}"


def test_without_a_leader_what_it_says_may_be_old(agent: ConsulServer) -> None:
    agent.leader = False
    assert failure(snapshots(agent)).endswith(
        ": its servers have no leader, and heard from one 12345 ms ago: what they say may be old"
    )


@pytest.mark.parametrize("index", [None, "", "x"])
def test_without_an_index_it_is_no_consul(agent: ConsulServer, index: str | None) -> None:
    agent.headers = {"X-Consul-Index": index}
    assert failure(snapshots(agent)).endswith(": it answered without an X-Consul-Index, as Consul does not")


def test_nobody_there(agent: ConsulServer) -> None:
    agent.down()
    assert failure(snapshots(agent)) == f"consul at {agent.url}: connection refused"


def test_an_agent_that_ends_while_it_is_waited_for(agent: ConsulServer) -> None:
    found = snapshots(agent)
    next(found)
    following = gevent.spawn(failure, found)
    until_waiting(agent)
    agent.down()
    assert "closed connection" in following.get(timeout=40)


def test_an_agent_that_falls_silent_is_waited_for_no_longer_than_the_question_may_wait(agent: ConsulServer) -> None:
    found = ConsulSource(ConsulConfig(service="api", address=agent.url), {}, wait_s=0.16, margin_s=0.2).snapshots()
    next(found)
    agent.break_with("hang")
    assert failure(found) == f"consul at {agent.url}: no answer within 0.37 s"
    again = ConsulSource(ConsulConfig(service="api", address=agent.url), {}, margin_s=0.2).snapshots()
    assert failure(again) == f"consul at {agent.url}: no answer within 0.4 s"


def test_an_agent_that_does_not_wait_is_not_asked_all_the_time() -> None:
    """Somebody in between answers for it."""
    times = []

    def play(sock: Any, _number: int) -> None:
        while head_of(sock):
            times.append(monotonic())
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 2\r\n\r\n[]")

    with backend(play) as url, gevent.Timeout(40):
        found = ConsulSource(ConsulConfig(service="api", address=url), {}).snapshots()
        for _ in range(3):
            next(found)
        assert times[2] - times[1] >= 0.9
