"""What holds for all live tests, and the edges that they share."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator, Iterator

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, start_edge
from tests.live.peers import Script

LONGEST = """
    make workers upgrading cluster_chaos workers_signals environment page services operate_live commands_live strategies_live
    edge_tls own_trouble cluster_live discovery_etcd http2_live grpc discovery_dns cluster_attacks stopping make_cluster acme
    many_workers tunnel gunicorn soak prometheus discovery_chaos
""".split()  # noqa: SIM905


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: at the end one of them alone would keep one process busy, and the others idle.

    By itself xdist begins with those that have most tests; several of the longest have three or fewer.
    """
    place = {f"test_{name}": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def edge_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LiveEdge]]:
    """One edge for each way to run it, started when it is first asked for, kept for the whole session."""
    started: dict[str, LiveEdge] = {}
    with contextlib.ExitStack() as stack:

        def get(server: str) -> LiveEdge:
            if server not in started:
                nobody = stack.enter_context(Script())
                started[server] = stack.enter_context(start_edge(tmp_path_factory.mktemp(server), nobody, server=server))
            return started[server]

        yield get
        for edge in started.values():
            assert "Traceback" not in edge.process.output, edge.process


@pytest.fixture(params=[WORKER, GEVENT])
def edge(request: pytest.FixtureRequest, edge_of: Callable[[str], LiveEdge]) -> Iterator[LiveEdge]:
    """Our server in a gunicorn worker, then gunicorn's own loop and parser. After the test every lease must be back."""
    found = edge_of(request.param)
    yield found
    found.settled()


@pytest.fixture
def own(edge_of: Callable[[str], LiveEdge]) -> Iterator[LiveEdge]:
    """`smartedge run`: for what does not depend on the server, and for our wire; gunicorn's is in test_gunicorn.py."""
    found = edge_of(OWN)
    yield found
    found.settled()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything is installed (CI=true) a test that skips itself has failed: something is missing."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped where nothing may be missing: {report.longrepr}"
    return report
