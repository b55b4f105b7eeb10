"""Backends from DNS and from files, as edges of two workers serve them under load: what comes serves, what goes is not missed."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.dns_server import DnsServer, dns_server
from tests.live.edges import GEVENT, OWN, LiveEdge, start_edge
from tests.live.processes import ROOT, free_port, listens, running, wait_until
from tests.live.steady import SteadyLoad

TWO = {OWN: ("--workers", "2"), GEVENT: ("-w", "2")}


class Machines:
    """Backends on addresses of this machine, all on one port, each a process of its own that can go."""

    def __init__(self) -> None:
        self.port = free_port()
        self._running: dict[str, ExitStack] = {}

    def start(self, *ips: str) -> None:
        for ip in ips:
            stack = self._running[ip] = ExitStack()
            server = [sys.executable, str(ROOT / "server1.py"), "--host", ip, "--port", str(self.port)]
            stack.enter_context(running(server, partial(listens, self.port, ip)))

    def stop(self, *ips: str) -> None:
        for ip in ips:
            self._running.pop(ip).close()

    def stop_all(self) -> None:
        self.stop(*self._running)


@contextmanager
def machines(*ips: str) -> Iterator[Machines]:
    made = Machines()
    try:
        made.start(*ips)
        yield made
    finally:
        made.stop_all()


def found(edge: LiveEdge) -> dict[str, str]:
    """Address and health of each backend."""
    return {one["url"].removeprefix("http://").rpartition(":")[0]: one["health"] for one in edge.backends()}


def wait_serving(edge: LiveEdge, *ips: str) -> None:
    wait_until(lambda: found(edge) == dict.fromkeys(ips, "healthy"), 60, f"{ips} to serve")


def wait_asked(server: DnsServer, times: int) -> None:
    """Wait until the edge has asked so often from now on."""
    before = len(server.asked)
    wait_until(lambda: len(server.asked) >= before + times, 60, "the edge to ask")


def wait_load(load: SteadyLoad) -> None:
    """Wait until requests that were under way have ended, and others have been answered."""
    answered = load.answered
    wait_until(lambda: load.answered > answered + 50, 60, "the load to go on")


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_what_dns_says_is_served_and_what_it_does_wrong_costs_no_request(tmp_path: Path, server: str) -> None:
    with dns_server() as names, machines("127.0.1.1", "127.0.1.2") as backends:
        names.negative_ttl = 0
        names.put("web.test", "A", "127.0.1.1", "127.0.1.2", ttl=1)
        said = {"name": "web.test", "port": backends.port, "servers": [names.address], "min_ttl_s": 0.2, "timeout_s": 1}
        with start_edge(tmp_path, server=server, arguments=TWO[server], discover={"dns": said}, backends=[]) as edge:
            wait_serving(edge, "127.0.1.1", "127.0.1.2")
            with SteadyLoad(edge.port) as load:
                # One comes.
                backends.start("127.0.1.3")
                names.put("web.test", "A", "127.0.1.1", "127.0.1.2", "127.0.1.3", ttl=0)
                wait_serving(edge, "127.0.1.1", "127.0.1.2", "127.0.1.3")
                # The server fails in each of its ways, and nothing changes.
                for how in ("servfail", "silent", "garbage", "truncated", "forged"):
                    names.how["*"] = how
                    wait_asked(names, 2)
                    assert len(found(edge)) == 3
                names.how.clear()
                # An empty answer is not believed.
                names.take_away("web.test", "A")
                wait_asked(names, 4)
                assert len(found(edge)) == 3
                # One goes, and then its machine.
                names.put("web.test", "A", "127.0.1.2", "127.0.1.3", ttl=0)
                wait_serving(edge, "127.0.1.2", "127.0.1.3")
                wait_load(load)
                backends.stop("127.0.1.1")
                # All move at once.
                backends.start("127.0.1.4")
                names.put("web.test", "A", "127.0.1.4", ttl=0)
                wait_serving(edge, "127.0.1.4")
                wait_load(load)
            assert load.failures == []
            assert "Traceback" not in edge.process.output, edge.process


def test_srv_records_say_weight_and_priority(tmp_path: Path) -> None:
    with dns_server() as names, machines("127.0.1.1", "127.0.1.2") as backends:
        names.put("a.test", "A", "127.0.1.1")
        names.put("b.test", "A", "127.0.1.2")
        port = backends.port
        names.put("_http._tcp.web.test", "SRV", f"10 30 {port} a.test.", f"10 10 {port} b.test.", ttl=0)
        said = {"name": "_http._tcp.web.test", "type": "SRV", "servers": [names.address], "min_ttl_s": 0.2}
        with start_edge(tmp_path, discover={"dns": said}, backends=[]) as edge:
            wait_serving(edge, "127.0.1.1", "127.0.1.2")
            assert {one["labels"]["target"]: one["weight"] for one in edge.backends()} == {"a.test": 30, "b.test": 10}
            names.put("_http._tcp.web.test", "SRV", f"10 0 {port} a.test.", f"10 10 {port} b.test.", ttl=0)
            wait_until(lambda: [one["weight"] for one in edge.backends()] == [1, 10], 60, "the weights to change")


def test_a_file_of_backends_and_the_configuration_itself_are_followed_through_links(tmp_path: Path) -> None:
    """As a ConfigMap is mounted: the files are links into `..data`, which is turned."""
    with machines("127.0.1.1", "127.0.1.2", "127.0.1.3") as backends:

        def mount(version: str, ips: list[str], **more: object) -> None:
            (tmp_path / version).mkdir()
            (tmp_path / version / "api.json").write_text(json.dumps([f"http://{ip}:{backends.port}" for ip in ips]))
            document = {"discover": {"file": {"path": "api.json"}}, "watch": True, "health": {"interval_s": 0.2}, **more}
            (tmp_path / version / "backends.json").write_text(json.dumps(document))
            (tmp_path / "..new").symlink_to(version)
            os.replace(tmp_path / "..new", tmp_path / "..data")

        mount("1", ["127.0.1.1", "127.0.1.2"])
        for name in ("api.json", "backends.json"):
            (tmp_path / name).symlink_to(f"..data/{name}")
        with start_edge(tmp_path, server=GEVENT, arguments=TWO[GEVENT]) as edge, SteadyLoad(edge.port) as load:
            wait_serving(edge, "127.0.1.1", "127.0.1.2")
            mount("2", ["127.0.1.2", "127.0.1.3"], strategy="ewma")
            wait_serving(edge, "127.0.1.2", "127.0.1.3")
            wait_until(lambda: edge.status()["strategy"] == "ewma", 60, "the configuration to be reloaded")
            mount("3", ["127.0.1.2"], strategie="ewma")
            wait_serving(edge, "127.0.1.2")
            wait_until(lambda: "has changed and is refused, nothing changed" in edge.process.output, 60, "the refusal to be told")
            load.stop()
            assert load.failures == []
            assert edge.status()["strategy"] == "ewma"
            assert edge.process.output.count("is refused, nothing changed") == 1


OWN_SOURCE = '''
import os, sys, time

class Moody:
    """Does what its file says: gives these ports, or something that no source should."""

    def __init__(self, path):
        self.path = path

    def snapshots(self):
        while True:
            with open(self.path) as file:
                mood = file.read()
            if mood == "exits":
                sys.exit(1)
            if mood == "hangs":
                time.sleep(600)
            yield ["rubbish"] if mood == "rubbish" else mood.split()
            time.sleep(0.05)
'''


def test_a_source_of_ones_own_harms_nobody_whatever_it_does_and_another_worker_goes_on_with_it(tmp_path: Path) -> None:
    with machines("127.0.1.1", "127.0.1.2") as backends:
        one, two = (f"http://{ip}:{backends.port}" for ip in ("127.0.1.1", "127.0.1.2"))
        (tmp_path / "own_moody.py").write_text(OWN_SOURCE)

        def say(mood: str) -> None:
            (tmp_path / "new").write_text(mood)
            os.replace(tmp_path / "new", tmp_path / "mood")

        say(one)
        discover = {"own_moody:Moody": {"path": str(tmp_path / "mood"), "timeout_s": 0.5}}
        with start_edge(tmp_path, server=GEVENT, arguments=TWO[GEVENT], discover=discover, backends=[]) as edge:
            wait_serving(edge, "127.0.1.1")
            wait_until(lambda: len(edge.status()["workers"]) == 2, 60, "both workers")
            pids = {worker["pid"] for worker in edge.status()["workers"]}
            told = {
                "exits": "SystemExit: 1",
                "hangs": "it gave nothing within 0.5 s",
                "rubbish": "nothing in its answer is right",
                "": "its answer is empty",
            }
            with SteadyLoad(edge.port, clients=2) as load:
                for mood, problem in told.items():
                    say(mood)
                    wait_until(lambda problem=problem: problem in edge.process.output, 60, problem)  # type: ignore[misc]
                    before = edge.process.output.count("answers again")
                    say(one)
                    wait_until(lambda before=before: edge.process.output.count("answers again") > before, 60)  # type: ignore[misc]
            assert load.failures == []
            assert found(edge) == {"127.0.1.1": "healthy"}
            assert {worker["pid"] for worker in edge.status()["workers"]} == pids
            os.kill(edge.leader()["pid"], signal.SIGKILL)
            say(f"{one} {two}")
            wait_serving(edge, "127.0.1.1", "127.0.1.2")
