"""A configuration on trial with several workers: whoever is left goes back, and a file that is full or edited loses nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.live.acts import answers
from tests.live.edges import GEVENT, OWN, LiveEdge, start_edge
from tests.live.peers import Script
from tests.live.processes import wait_until
from tests.live.steady import SteadyLoad

pytestmark = pytest.mark.timeout(90)


def urls(edge: LiveEdge) -> list[str]:
    return [one["url"] for one in edge.backends()]


def send(edge: LiveEdge, path: str, document: Any = None, method: str = "POST") -> Any:
    return edge.admin(path, method, body=None if document is None else json.dumps(document))


@pytest.mark.parametrize("server", [OWN, GEVENT])
def test_the_edge_goes_back_although_the_leader_was_killed(server: str, tmp_path: Path) -> None:
    """The one that leads dies while a configuration is on trial; another one ends it."""
    count = ("--workers", "2") if server == OWN else ("-w", "2")
    with Script(answers()) as a, Script(answers()) as b, start_edge(tmp_path, a, server=server, arguments=count) as edge:
        wait_until(lambda: len(edge.status()["workers"]) == 2, 30, "both workers")
        before = (tmp_path / "backends.json").read_bytes()
        with SteadyLoad(edge.port) as load:
            changed = json.loads(before) | {"backends": [a.url, b.url], "confirm_s": 4, "author": "ana"}
            assert send(edge, "/api/reload", changed).status == 200
            assert urls(edge) == [a.url, b.url]
            assert edge.status()["trial"]["author"] == "ana"
        os.kill(edge.leader()["pid"], signal.SIGKILL)
        wait_until(lambda: urls(edge) == [a.url], 30, "the configuration before")
        assert load.failures == []
        wait_until(lambda: edge.status()["trial"] is None, 10, "every worker to know that the trial is over")
        assert (tmp_path / "backends.json").read_bytes() == before

        def newest_origins() -> list[str]:
            kept = send(edge, "/smartedge/generations", method="GET").json()["configurations"]
            return [one["origin"] for one in kept[:2]]

        # The configuration is in use before it is in the history.
        wait_until(lambda: newest_origins() == ["rollback", "api"], 10, "the history to have the way back")
