"""An edge and its client for each test of the admin pages."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.admin.small_edge import SmallEdge, client_of


@pytest.fixture
def edge() -> SmallEdge:
    return SmallEdge()


@pytest.fixture
def client(edge: SmallEdge) -> FlaskClient:
    return client_of(edge)
