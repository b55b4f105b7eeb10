"""What was found outlives whoever found it: a leader that is killed, and the whole edge while the source is gone."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.live.edges import GEVENT, OWN, start_edge
from tests.live.found import named_backends, source_of, wait_found
from tests.live.processes import ask, wait_until

TWO = {OWN: ("--workers", "2"), GEVENT: ("-w", "2")}


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_what_was_found_outlives_its_leader_and_a_restart_without_its_source(tmp_path: Path, server: str) -> None:
    source = tmp_path / "api.json"
    with named_backends(2) as backends:
        ids, urls = [f"127.0.0.1-{one.port}" for one in backends], [f"http://127.0.0.1:{one.port}" for one in backends]
        source.write_text(json.dumps(urls[:1]))
        discover = {"file": {"path": "api.json"}}

        with start_edge(tmp_path, server=server, arguments=TWO[server], discover=discover, backends=[]) as edge:
            wait_found(edge, ids[0])
            killed = edge.leader()["pid"]
            os.kill(killed, signal.SIGKILL)
            edge.leader(after=killed)
            wait_until(lambda: len(edge.status()["workers"]) == 2, 60, "another worker")
            wait_found(edge, ids[0])
            source.with_suffix(".new").write_text(json.dumps(urls))
            os.replace(source.with_suffix(".new"), source)
            wait_found(edge, *ids)
            wait_until(lambda: len({worker["generation"] for worker in edge.status()["workers"]}) == 1, 60, "all to have it")
            assert json.loads((tmp_path / "backends.json").read_text())["backends"] == []

        source.unlink()
        kept = tmp_path / ".backends.json.found.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        with start_edge(tmp_path, server=server, arguments=TWO[server]) as edge:
            wait_found(edge, *ids)
            assert {ask(f"http://127.0.0.1:{edge.port}/").text for _ in range(20)} == {"0", "1"}
            assert (source_of(edge)["state"], source_of(edge)["backends"]) == ("stale", 2)
            assert "what it has found before is used: 2" in edge.process.output
