"""Bodies and answers of the admin pages."""

from __future__ import annotations

import io
import json

import pytest
from flask.testing import FlaskClient

from smartedge.admin.page import MAX_BODY_BYTES
from smartedge.config.model import ConfigError, Problem
from tests.admin.small_edge import SmallEdge, problem


def test_a_body_without_a_length_is_read_to_its_end(edge: SmallEdge, client: FlaskClient) -> None:
    body = json.dumps({"backends": ["http://localhost:8083"]}).encode()
    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert client.post("/api/reload", input_stream=io.BytesIO(body), environ_overrides=environ).status_code == 200
    assert edge.bodies == [body]
    endless = io.BytesIO(b" " * (MAX_BODY_BYTES + 1))
    problem(client.post("/api/reload", input_stream=endless, environ_overrides=environ), 413)


@pytest.mark.parametrize("content_type", ["text/plain", "multipart/form-data; boundary=x", "application/xml"])
def test_a_body_of_another_type_is_refused(edge: SmallEdge, client: FlaskClient, content_type: str) -> None:
    problem(client.post("/api/reload", data=b"{}", content_type=content_type), 415)
    assert edge.bodies == []


def test_a_body_that_is_too_large_is_refused(edge: SmallEdge, client: FlaskClient) -> None:
    assert "8 MiB" in problem(client.post("/api/reload", data=b" " * (MAX_BODY_BYTES + 1)), 413)["detail"]
    assert edge.bodies == []


def test_a_body_that_breaks_off_is_refused(edge: SmallEdge, client: FlaskClient) -> None:
    problem(client.post("/api/reload", input_stream=io.BytesIO(b"{"), environ_overrides={"CONTENT_LENGTH": "100"}), 400)
    assert edge.bodies == []


def test_half_a_surrogate_pair_in_somebodys_json_breaks_no_answer(edge: SmallEdge, client: FlaskClient) -> None:
    edge.failure = ConfigError([Problem("\ud800", "is an unknown key")], status=422)
    assert problem(client.post("/api/reload"), 422)["errors"][0]["path"] == "\ud800"
