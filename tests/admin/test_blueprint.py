"""Who may see which page, by which method, and what a page answers."""

from __future__ import annotations

import json
import logging
import socket

import flask
import pytest
from flask.testing import FlaskClient

from smartedge.balancer.errors import EdgeError, NoBackend
from smartedge.balancer.strategies.menu import STRATEGIES
from tests.admin.small_edge import Result, SmallEdge, client_of, problem, serve
from tests.fakes import no_descriptors

PAGES = ["/health", "/api/reload", "/api/status", "/metrics"]


# ---- health ----


def test_health_is_200_and_says_how_many_are_up(edge: SmallEdge, client: FlaskClient) -> None:
    edge.backend("b1").learned.health.probed(True)
    edge.backend("b2").learned.health.probed(False)
    edge.pool.renew_candidates()
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok", "up": 1, "total": 2})


def test_health_is_200_before_the_first_probe_for_then_the_unprobed_serve(client: FlaskClient) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok", "up": 0, "total": 2})


def test_health_is_503_when_no_backend_can_serve(edge: SmallEdge, client: FlaskClient) -> None:
    for backend in edge.pool.backends:
        backend.learned.health.probed(False)
    edge.pool.renew_candidates()
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "no_backend")


def test_the_whole_edge_is_drained_and_enabled_again(edge: SmallEdge, client: FlaskClient) -> None:
    drained = client.post("/smartedge/drain")
    assert (drained.status_code, drained.get_json()["draining"]) == (200, True)
    assert client.get("/health").status_code == 503
    assert client.get("/api/status").get_json()["draining"] is True
    enabled = client.post("/smartedge/enable")
    assert (enabled.status_code, enabled.get_json()["draining"]) == (200, False)
    assert client.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/smartedge/drain", "/smartedge/enable"])
def test_draining_the_edge_is_for_those_who_may_and_who_mean_it(edge: SmallEdge, client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 405
    edge.token = "secret"
    assert client.post(path).status_code == 401
    assert not edge.draining


def test_health_is_503_while_the_edge_is_draining(edge: SmallEdge, client: FlaskClient) -> None:
    edge.draining = True
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()["status"]) == (503, "draining")


def test_health_is_for_everybody(edge: SmallEdge, client: FlaskClient) -> None:
    edge.token = "s3cret"
    headers = {"Host": "edge.example", "X-Forwarded-For": "203.0.113.1", "Origin": "https://evil.example"}
    assert client.get("/health", headers=headers, environ_base={"REMOTE_ADDR": "203.0.113.2"}).status_code == 200


def test_a_page_for_which_there_is_no_descriptor_says_so(client: FlaskClient) -> None:
    """Regression: it was 500 Internal error, with a traceback in the log."""
    client.get("/smartedge/static/style.css")  # what is looked up once is
    with no_descriptors():
        answer = client.get("/smartedge/static/style.css")
    assert (answer.status_code, answer.get_json()["title"]) == (503, "Edge out of resources")
    assert "EMFILE" in answer.get_json()["detail"]
    assert answer.headers["Retry-After"] == "1"


# ---- methods ----


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "TRACE", "PATCH"])
@pytest.mark.parametrize("path", ["/health", "/api/status", "/metrics"])
def test_a_page_is_read_and_no_other_method_falls_through_to_a_backend(client: FlaskClient, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    problem(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_a_reload_is_a_post_or_a_patch(edge: SmallEdge, client: FlaskClient, method: str) -> None:
    answer = client.open("/api/reload", method=method)
    problem(answer, 405)
    assert answer.headers["Allow"] == "POST, PATCH"
    assert edge.bodies == []


@pytest.mark.parametrize("path", ["/health", "/api/status", "/metrics"])
def test_head_is_get_without_the_body(client: FlaskClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content_type, head.data) == (200, got.content_type, b"")


@pytest.mark.parametrize("path", ["/", "/health/", "/healthy", "/api", "/api/status/x", "/Metrics"])
def test_every_other_path_is_forwarded(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 299


# ---- access ----


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/api/reload"), ("GET", "/api/status"), ("GET", "/metrics"), ("GET", "/api/reload")]
)
def test_another_machine_gets_403(edge: SmallEdge, client: FlaskClient, method: str, path: str) -> None:
    answer = client.open(path, method=method, environ_base={"REMOTE_ADDR": "203.0.113.2"})
    assert "SMARTEDGE_ADMIN_TOKEN" in problem(answer, 403)["detail"]
    assert edge.bodies == []


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "https://evil.example"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_foreign_page_and_a_forwarded_request_get_403(edge: SmallEdge, client: FlaskClient, headers: dict[str, str]) -> None:
    problem(client.post("/api/reload", headers=headers), 403)
    assert edge.bodies == []


def test_the_token_opens_the_pages_and_its_absence_closes_them(edge: SmallEdge, client: FlaskClient) -> None:
    edge.token = "s3cret"
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic czNjcmV0"}):
        answer = client.get("/api/status", headers=headers)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="smartedge"'
        assert "s3cret" not in answer.text
    answer = client.get("/api/status", headers={"Authorization": "bearer s3cret"}, environ_base={"REMOTE_ADDR": "203.0.113.2"})
    assert answer.status_code == 200
    assert "s3cret" not in answer.text


def test_the_operators_networks_may_use_addresses_and_this_machines_name() -> None:
    client = client_of(SmallEdge(admin_allow=["203.0.113.0/24"]))
    for host in ("203.0.113.1:8080", socket.gethostname().upper()):
        answer = client.get("/metrics", headers={"Host": host}, environ_base={"REMOTE_ADDR": "203.0.113.2"})
        assert answer.status_code == 200
    problem(client.get("/metrics", headers={"Host": "evil.example"}, environ_base={"REMOTE_ADDR": "203.0.113.2"}), 403)


def test_a_peer_on_a_unix_socket_is_on_this_machine(client: FlaskClient) -> None:
    assert client.get("/api/status", environ_overrides={"REMOTE_ADDR": ""}).status_code == 200


# ---- reload ----


def test_an_empty_body_has_the_file_read_again(edge: SmallEdge, client: FlaskClient) -> None:
    answer = client.post("/api/reload")
    assert (answer.status_code, answer.get_json()) == (200, {"generation": 17, "changed": False, "etag": edge.config.etag})
    assert edge.bodies == [None]


@pytest.mark.parametrize(
    "content_type", [None, "application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]
)
def test_a_body_is_the_new_configuration_also_as_curl_sends_it(
    edge: SmallEdge, client: FlaskClient, content_type: str | None
) -> None:
    body = json.dumps({"backends": ["http://localhost:8083"]}).encode()
    before = client.get("/api/status").headers["ETag"]
    answer = client.post("/api/reload", data=body, content_type=content_type)
    assert (answer.status_code, answer.get_json()) == (200, {"generation": 18, "changed": True, "etag": edge.config.etag})
    assert answer.headers["ETag"] == f'"{edge.config.etag}"' != before
    assert edge.bodies == [body]


def test_a_configuration_that_is_wrong_is_answered_with_all_errors_and_their_paths(client: FlaskClient) -> None:
    body = json.dumps({"backends": ["ftp://x", {"url": "http://localhost:1", "wieght": 2}], "strategy": "best"})
    document = problem(client.post("/api/reload", data=body), 422)
    assert [error["path"] for error in document["errors"]] == ["backends[0]", "backends[1].wieght", "strategy"]
    assert all(error["detail"] and error["path"] in document["detail"] for error in document["errors"])


def test_what_is_not_json_is_400(client: FlaskClient) -> None:
    document = problem(client.post("/api/reload", data=b"{"), 400)
    assert "line 1" in document["errors"][0]["detail"]


def test_if_match_guards_against_overwriting_somebody_elses_change(edge: SmallEdge, client: FlaskClient) -> None:
    etag = client.get("/api/status").headers["ETag"]
    assert client.post("/api/reload", headers={"If-Match": etag}).status_code == 200
    answer = client.post("/api/reload", headers={"If-Match": '"0000000000000000"'})
    problem(answer, 412)
    assert answer.headers["ETag"] == etag


def test_an_error_of_the_edge_says_its_status_and_when_to_come_back(edge: SmallEdge, client: FlaskClient) -> None:
    edge.failure = NoBackend("2 unhealthy", retry_after_s=1.2)
    answer = client.post("/api/reload")
    document = problem(answer, 503)
    assert (document["title"], document["detail"], answer.headers["Retry-After"]) == ("No backend available", "2 unhealthy", "2")
    edge.failure = EdgeError("the disk is full")
    assert "Retry-After" not in client.post("/api/reload").headers


def test_a_fault_of_ours_is_a_problem_too_and_its_traceback_goes_to_the_log_only(
    edge: SmallEdge, client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    edge.failure = RuntimeError("s3cret internals")
    with caplog.at_level(logging.ERROR):
        answer = client.post("/api/reload")
    problem(answer, 500)
    assert "s3cret" not in answer.text
    assert "s3cret internals" in caplog.text
    assert "r-1" in str(caplog.records[0].__dict__["request_id"])


def test_what_a_hook_of_the_app_aborts_is_a_problem_with_its_own_status(client: FlaskClient) -> None:
    client.application.before_request(lambda: flask.abort(429))
    assert problem(client.get("/api/status"), 429)["title"] == "Too Many Requests"


def test_the_etag_of_a_reloads_answer_is_that_of_what_it_has_applied(edge: SmallEdge, client: FlaskClient) -> None:
    """It was that of what was in use when the answer was written: by then another one's, which this client had not seen."""
    edge.apply = lambda body, if_match=None, **_: Result(200, {"etag": "mine", "changed": False})  # type: ignore[method-assign]
    assert client.post("/api/reload").headers["ETag"] == '"mine"'


def test_an_answer_that_is_not_complete_everywhere_is_202(edge: SmallEdge, client: FlaskClient) -> None:
    late = {"workers": {"applied": 3, "live": 4}, "etag": "e", "changed": False}
    edge.apply = lambda body, if_match=None, **_: Result(202, late)  # type: ignore[method-assign]
    assert client.post("/api/reload").status_code == 202


# ---- metrics ----


def test_metrics_show_the_edge_at_this_moment(edge: SmallEdge, client: FlaskClient) -> None:
    serve(edge.backend("b1"), 3)
    edge.backend("b1").learned.health.probed(True)
    edge.edge_row.count(503, 0.001, 0, 0)
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    for line in (
        'smartedge_requests_total{backend="b1",code="200",service="default"} 3.0',
        'smartedge_requests_total{backend="none",code="503",service="none"} 1.0',
        'smartedge_backend_up{backend="b1",service="default"} 1.0',
        'smartedge_backend_up{backend="b2",service="default"} 0.0',
        'smartedge_last_probe_timestamp_seconds{backend="b1",service="default"} 1.75e+09',
        "smartedge_generation 17.0",
        "smartedge_workers 1.0",
        "process_open_fds ",
    ):
        assert f"\n{line}" in answer.text
    openmetrics = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert openmetrics.text.endswith("# EOF\n")


def test_a_backend_that_was_removed_has_no_series(edge: SmallEdge, client: FlaskClient) -> None:
    edge.pool.replace_backends([edge.backend("b1")], STRATEGIES["round_robin"]())
    assert 'backend="b2"' not in client.get("/metrics").text


def test_no_page_tells_the_token(edge: SmallEdge, client: FlaskClient) -> None:
    edge.token = "s3cret"
    for method in ("GET", "POST"):
        for path in PAGES:
            for authorization in ("Bearer s3cret", "Bearer wrong"):
                answer = client.open(path, method=method, headers={"Authorization": authorization})
                assert "s3cret" not in answer.text + str(answer.headers)
