"""The rules of the app: the URL of a view is still there for who asks for it."""

from __future__ import annotations

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.routing import BuildError


@pytest.mark.parametrize(
    ("view", "parts", "url"),
    [
        ("admin.health", {}, "/health"),
        ("admin.status", {"fresh": "1"}, "/api/status?fresh=1"),
        ("admin.backend", {"backend_id": "b 1"}, "/smartedge/backends/b%201"),
        ("admin.backend", {"service": "web", "backend_id": "b1"}, "/smartedge/services/web/backends/b1"),
    ],
)
def test_the_url_of_a_view_is_made_when_it_is_asked_for(client: FlaskClient, view: str, parts: dict[str, str], url: str) -> None:
    with client.application.test_request_context():
        assert flask.url_for(view, **parts) == url


def test_a_part_that_is_missing_is_named(client: FlaskClient) -> None:
    with client.application.test_request_context(), pytest.raises(BuildError, match="backend_id"):
        flask.url_for("admin.backend")
