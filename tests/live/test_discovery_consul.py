"""Backends from a Consul that keeps its rules, under steady load: they come and go, it fails in every way, nothing is lost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.discover import ConsulConfig
from smartedge.discovery.check import EntryChecker
from smartedge.discovery.consul import ConsulSource
from tests.live.consul_server import ConsulServer, consul
from tests.live.edges import OWN, WORKER, start_edge
from tests.live.found import documented, named_backends, requests_of, source_of, wait_found, wait_kept, wait_state
from tests.live.processes import ask, wait_until
from tests.live.steady import SteadyLoad

TWO_WORKERS = ("-w", "2", "--worker-tmp-dir", "/dev/shm")

pytestmark = pytest.mark.timeout(300)


def edge_on(directory: Path, agent: ConsulServer, *, server: str = OWN, arguments: tuple[str, ...] = (), **more: Any) -> Any:
    """An edge whose backends are the instances of a service."""
    env = more.pop("env", None)
    said = {"service": "api", "address": agent.url, **more}
    return start_edge(
        directory, server=server, arguments=arguments, env=env, backends=[], discover={"consul": said}, probed=False
    )


def test_instances_come_and_go(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first-secret\n")
    with named_backends(3) as scripts, consul() as agent:
        a, b, c = (script.port for script in scripts)
        agent.token = "first-secret"
        agent.register("api", "a", a, Tags=["prod"])
        with (
            edge_on(tmp_path, agent, tags=["prod"], near="_agent", token_file=str(token)) as edge,
            SteadyLoad(edge.port, clients=4) as load,
        ):
            wait_found(edge, "node1-a")
            meta = {"version": "7", "zone": "eu-1a"}
            weights = {"Passing": 3, "Warning": 1}
            agent.register("api", "b", b, node="node2", Tags=["eu", "prod"], Meta=meta, Weights=weights, Address="localhost")
            agent.register("api", "other", c)
            found = wait_found(edge, "node1-a", "node2-b")["node2-b"]
            assert (found["weight"], found["zone"], found["url"]) == (3, "eu-1a", f"http://localhost:{b}")
            assert found["labels"] == {"tags": "eu,prod", **meta}

            agent.register("api", "a", a, Tags=["prod"], status="critical")
            wait_found(edge, "node2-b")
            agent.register("api", "a", a, Tags=["prod"])
            wait_found(edge, "node1-a", "node2-b")

            agent.token = "second-secret"
            token.write_text("second-secret\n")
            agent.register("api", "c", c, Tags=["prod"])
            wait_found(edge, "node1-a", "node2-b", "node1-c")
            agent.deregister("api", "a")
            agent.deregister("api", "b", "node2")
            wait_found(edge, "node1-c")
            load.stop()
            assert (requests_of(edge, scripts[0]), requests_of(edge, scripts[2])) == (0, 20)
            assert load.failures == []
            assert "-secret" not in edge.process.output + ask(f"{edge.url}/api/status").text
        assert {query["near"][0] for _, query, _ in agent.asked} == {"_agent"}


def test_whatever_consul_does_nothing_is_lost(tmp_path: Path) -> None:
    with named_backends(3) as scripts, consul() as agent:
        for name, script in zip("ab", scripts, strict=False):
            agent.register("api", name, script.port)
        with (
            edge_on(tmp_path, agent, server=WORKER, arguments=TWO_WORKERS, env={"CONSUL_HTTP_TOKEN": "secret"}) as edge,
            SteadyLoad(edge.port, clients=4) as load,
        ):
            both = ("node1-a", "node1-b")
            wait_found(edge, *both)
            agent.break_with(b"[{}, 7, null]")
            wait_state(edge, "stale", "nothing in its answer is right")
            agent.break_with((500, "No cluster leader"))
            wait_state(edge, "stale", "it answered with status 500: No cluster leader")
            agent.break_with(b"<html>it works</html>")
            wait_state(edge, "stale", "it answered with what is no list of instances")
            wait_found(edge, *both)
            agent.down()
            wait_state(edge, "stale", "connection refused")
            wait_found(edge, *both)
            agent.break_with(None)
            agent.put_back(2)  # it starts again from a snapshot
            agent.up()
            wait_state(edge, "fresh")
            agent.register("api", "c", scripts[2].port)
            wait_found(edge, *both, "node1-c")
            agent.put_back(1)
            agent.deregister("api", "c")
            wait_found(edge, *both)

            for name in "ab":
                agent.deregister("api", name)
            wait_state(edge, "stale", "its answer is empty")
            agent.register("api", "c", scripts[2].port)
            wait_found(edge, "node1-c")
            wait_state(edge, "fresh")
            wait_until(lambda: source_of(edge)["problem"] is None, 20, "the problem to be over")
            wait_kept(edge, "node1-c")
            assert load.failures == []
            assert load.answered > 100
            assert "Traceback" not in edge.process.output, edge.process

        agent.down()
        with edge_on(tmp_path, agent) as edge:  # what was found before is used
            wait_found(edge, "node1-c")
            assert "connection refused" in source_of(edge)["problem"]
            agent.up()
            agent.register("api", "a", scripts[0].port)
            wait_found(edge, "node1-a", "node1-c")
            wait_state(edge, "fresh")


def test_the_commands_of_the_documentation_make_these_backends() -> None:
    with consul() as agent:
        for script in documented("Consul"):
            subprocess.run(["bash", "-ec", script.replace("http://127.0.0.1:8500", agent.url)], check=True, timeout=60)
        source = ConsulSource(ConsulConfig(service="api", address=agent.url, tags=("prod",)), {})
        found = EntryChecker({}).check_entries(next(source.snapshots()))
        assert found.findings == ()
        assert [(one.id, one.url, one.weight, one.zone, dict(one.labels)) for one in found.backends] == [
            ("node1-api-1", "http://10.0.0.1:8000", 2, "eu-1a", {"tags": "prod", "version": "7", "zone": "eu-1a"}),
            ("node1-api-2", "http://127.0.0.1:8001", 1, None, {"tags": "prod"}),
        ]
