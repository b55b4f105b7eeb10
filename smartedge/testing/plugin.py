"""The fixtures for pytest; found by its entry point `pytest11` where SmartEdge is installed.

`backends` and `edge` are made to fit a test by `@pytest.mark.smartedge(backends=3, strategy="ewma", ...)`; `make_backend` and
`make_edge` make more of them. The edge's code is imported by the first test that wants one, not by every run of pytest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from smartedge.testing.edge_under_test import EdgeUnderTest
    from smartedge.testing.scripted_backend import ScriptedBackend

MARK = "smartedge"


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "smartedge(backends=2, **settings): how many backends, and keys of backends.json")


@pytest.fixture
def make_backend() -> Iterator[Callable[[str], ScriptedBackend]]:
    """Make a scripted backend of this id; it ends with the test."""
    from smartedge.testing.scripted_backend import ScriptedBackend

    with contextlib.ExitStack() as stack:

        def make(name: str = "a") -> ScriptedBackend:
            return stack.enter_context(ScriptedBackend(name))

        yield make


@pytest.fixture
def make_edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., EdgeUnderTest]]:
    """Make an edge in front of a list of scripted backends, with settings as keywords; it ends with the test."""
    from smartedge.testing.edge_under_test import EdgeUnderTest

    with contextlib.ExitStack() as stack:

        def make(backends: Any = (), **settings: Any) -> EdgeUnderTest:
            directory = tmp_path_factory.mktemp("smartedge")
            return stack.enter_context(EdgeUnderTest(backends, directory, **settings))

        yield make


@pytest.fixture
def backends(request: pytest.FixtureRequest, make_backend: Callable[[str], ScriptedBackend]) -> list[ScriptedBackend]:
    """Two scripted backends called a and b, or as many as the mark says (up to 26)."""
    count = _marked(request).get("backends", 2)
    if not isinstance(count, int) or not 0 <= count <= 26:
        raise pytest.UsageError(f"mark smartedge: backends must be a number from 0 to 26, not {count!r}")
    return [make_backend(chr(ord("a") + number)) for number in range(count)]


@pytest.fixture
def edge(
    request: pytest.FixtureRequest, backends: list[ScriptedBackend], make_edge: Callable[..., EdgeUnderTest]
) -> EdgeUnderTest:
    """An edge in front of `backends`, with the settings of the mark."""
    settings = {name: value for name, value in _marked(request).items() if name != "backends"}
    return make_edge(backends, **settings)


def _marked(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Put the marks together: what stands nearer to the test counts."""
    found: dict[str, Any] = {}
    for mark in request.node.iter_markers(MARK):
        found = dict(mark.kwargs) | found
    return found
