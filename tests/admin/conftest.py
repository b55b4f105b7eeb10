"""An edge and its client for each test of the admin pages."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.admin.small_edge import SITE, SmallEdge, client_of


@pytest.fixture
def edge() -> SmallEdge:
    return SmallEdge()


@pytest.fixture
def client(edge: SmallEdge) -> FlaskClient:
    return client_of(edge)


@pytest.fixture
def services() -> SmallEdge:
    """An edge of several services."""
    return SmallEdge(**SITE)
