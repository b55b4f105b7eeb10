"""A server that the tests of one file share: each of their cases has a connection of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from smartedge.server.server import EdgeServer
from tests.http2.house import EchoApp, serving


@pytest.fixture(scope="module")
def app() -> EchoApp:
    return EchoApp()


@pytest.fixture(scope="module")
def server(app: EchoApp) -> Iterator[EdgeServer]:
    with serving(app) as one:
        yield one
