from __future__ import annotations

import io
import json
import logging
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient
from werkzeug.routing import BaseConverter, Rule
from werkzeug.test import TestResponse

from smartedge.admin.blueprint import make_admin
from smartedge.admin.page import MAX_BODY_BYTES
from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import FAILED, OK, latency_cell
from smartedge.balancer.errors import EdgeError, NoBackend
from smartedge.balancer.health import ProbeResult
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.config.model import Config, ConfigError, Problem, parse
from smartedge.edge.reload import PreconditionFailed
from smartedge.observe.recent import Recent
from tests.fakes import local_client

TWO = {"backends": [{"url": "http://localhost:8081", "id": "b1", "zone": "eu"}, {"url": "http://localhost:8082", "id": "b2"}]}
PAGES = ["/health", "/api/reload", "/api/status", "/metrics"]


class SmallEdge:
    """The parts that the admin pages ask, real but for the reload, which only changes the configuration."""

    version = "0.1.0"

    def __init__(self, **config: Any) -> None:
        self.config = parse(json.dumps(TWO | config))
        backends = [Backend(spec, Learned(spec)) for spec in self.config.specs()]
        backends[0].learned.keep_probe(1000.0, ProbeResult(True, 200, "status 200", 0.002))
        self.pool = Pool(backends, STRATEGIES["round_robin"](), random.Random(1))
        self.generation = 17
        self.draining = False
        self.token: str | None = None
        self.edge_row = Learned()
        self.recent = Recent()
        self.started_at = 1000.0
        self.clock = 1060.0
        self.bodies: list[bytes | None] = []
        self.failure: Exception | None = None

    def now(self) -> float:
        return self.clock

    def meet_workers(self) -> None:
        pass

    def workers(self) -> Sequence[Mapping[str, Any]]:
        return [{"slot": 0, "pid": 4711}]

    def unix_time(self, at: float) -> float:
        return 1.75e9 - 1000.0 + at

    def request_id(self, environ: Mapping[str, Any]) -> str:
        return str(environ.get("HTTP_X_REQUEST_ID", "r-1"))

    def reload(self, body: bytes | None, if_match: str | None) -> Result:
        self.bodies.append(body)
        if self.failure:
            raise self.failure
        if if_match not in (None, f'"{self.config.etag}"'):
            raise PreconditionFailed(self.config.etag)
        config: Config = self.config if body is None else parse(body)
        changed, self.config = config != self.config, config
        self.generation += changed
        return Result(document={"generation": self.generation, "changed": changed})

    def drain(self, draining: bool) -> None:
        self.draining = draining

    def backend(self, id_: str) -> Backend:
        return next(backend for backend in self.pool.backends if backend.id == id_)


@dataclass
class Result:
    status: int = 200
    document: Mapping[str, Any] = field(default_factory=dict)


class AnyPath(BaseConverter):
    regex = "(?s:.*?)"
    part_isolating = False


def forwarded(path: str = "") -> flask.Response:
    return flask.Response("forwarded", 299)


@pytest.fixture
def edge() -> SmallEdge:
    return SmallEdge()


@pytest.fixture
def client(edge: SmallEdge) -> FlaskClient:
    return client_of(edge)


def client_of(edge: SmallEdge) -> FlaskClient:
    """A client on this machine; the app has a catch-all behind the admin pages, as the real one does."""
    app = flask.Flask("test", static_folder=None)
    app.url_map.converters["any"] = AnyPath
    app.url_map.merge_slashes = False
    app.register_blueprint(make_admin(edge))
    app.url_map.add(Rule("/<any:path>", endpoint="forward", methods=None))
    app.view_functions["forward"] = forwarded
    return local_client(app)


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = answer.get_json(force=True)
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == "r-1"
    return document


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


# ---- methods ----


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND", "TRACE", "PATCH"])
@pytest.mark.parametrize("path", ["/health", "/api/status", "/metrics"])
def test_a_page_is_read_and_no_other_method_falls_through_to_a_backend(client: FlaskClient, path: str, method: str) -> None:
    answer = client.open(path, method=method)
    problem(answer, 405)
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_a_reload_is_a_post(edge: SmallEdge, client: FlaskClient, method: str) -> None:
    answer = client.open("/api/reload", method=method)
    problem(answer, 405)
    assert answer.headers["Allow"] == "POST"
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
    assert (answer.status_code, answer.get_json()) == (200, {"generation": 17, "changed": False})
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
    assert (answer.status_code, answer.get_json()) == (200, {"generation": 18, "changed": True})
    assert answer.headers["ETag"] == f'"{edge.config.etag}"' != before
    assert edge.bodies == [body]


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


def test_a_configuration_that_is_wrong_is_answered_with_all_errors_and_their_paths(client: FlaskClient) -> None:
    body = json.dumps({"backends": ["ftp://x", {"url": "http://localhost:1", "wieght": 2}], "strategy": "best"})
    document = problem(client.post("/api/reload", data=body), 422)
    assert [error["path"] for error in document["errors"]] == ["backends[0]", "backends[1].wieght", "strategy"]
    assert all(error["detail"] and error["path"] in document["detail"] for error in document["errors"])


def test_what_is_not_json_is_400(client: FlaskClient) -> None:
    document = problem(client.post("/api/reload", data=b"{"), 400)
    assert "line 1" in document["errors"][0]["detail"]


def test_half_a_surrogate_pair_in_somebodys_json_breaks_no_answer(edge: SmallEdge, client: FlaskClient) -> None:
    edge.failure = ConfigError([Problem("\ud800", "is an unknown key")], status=422)
    assert problem(client.post("/api/reload"), 422)["errors"][0]["path"] == "\ud800"


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


def test_an_answer_that_is_not_complete_everywhere_is_202(edge: SmallEdge, client: FlaskClient) -> None:
    edge.reload = lambda body, if_match: Result(202, {"workers": {"applied": 3, "live": 4}})  # type: ignore[method-assign]
    assert client.post("/api/reload").status_code == 202


# ---- status ----


def serve(backend: Backend, requests: int, code: int = 200, latency_s: float = 0.01) -> None:
    for _ in range(requests):
        backend.learned.add(latency_cell(latency_s))
        backend.learned.add(OK)
        backend.learned.count(code, latency_s, bytes_in=10, bytes_out=100)


def test_the_status_of_an_edge_that_has_not_served_yet(edge: SmallEdge, client: FlaskClient) -> None:
    answer = client.get("/api/status")
    document = answer.get_json()
    assert answer.headers["ETag"] == f'"{document["etag"]}"'
    assert answer.headers["Cache-Control"] == "no-store"
    backends = document.pop("backends")
    assert document == {
        "strategy": "adaptive",
        "generation": 17,
        "etag": edge.config.etag,
        "version": "0.1.0",
        "draining": False,
        "drowning": None,
        "uptime_s": 60.0,
        "workers": [{"slot": 0, "pid": 4711}],
        "recent": {"window_s": 60.0, "requests_per_s": 0.0, "failed_per_s": 0.0},
        "totals": {"requests": 0, "answered_by_edge": 0, "in_flight": 0, "retries": 0, "received_bytes": 0, "sent_bytes": 0},
    }
    assert backends[0] == {
        "id": "b1",
        "url": "http://localhost:8081",
        "addresses": [],
        "weight": 1,
        "effective_weight": 1,
        "state": "enabled",
        "will": "enabled",
        "zone": "eu",
        "labels": {},
        "health": "unknown",
        "breaker": "closed",
        "available": False,
        "why_not": "unprobed",
        "ejected_s": None,
        "in_flight": 0,
        "max_in_flight": None,
        "tunnels": 0,
        "requests": 0,
        "share_ratio": 0.0,
        "ok": 0,
        "failed": 0,
        "abandoned": 0,
        "retries": 0,
        "hedges": 0,
        "connections": 0,
        "received_bytes": 0,
        "sent_bytes": 0,
        "ewma_s": 0.0,
        "p50_s": None,
        "p99_s": None,
        "last_check": {"asked": "GET /health", "at": 1.75e9, "ok": True, "status": 200, "detail": "status 200", "took_s": 0.002},
        "recent": {"requests_per_s": 0.0, "failed_per_s": 0.0, "share_ratio": 0.0},
    }
    assert (backends[1]["zone"], backends[1]["last_check"]) == (None, None)


def test_the_status_shows_how_the_requests_were_shared_out(edge: SmallEdge, client: FlaskClient) -> None:
    serve(edge.backend("b1"), 30)
    serve(edge.backend("b2"), 9)
    serve(edge.backend("b2"), 1, code=404)
    edge.edge_row.count(503, 0.001, bytes_in=1, bytes_out=2)
    document = client.get("/api/status").get_json()
    assert [backend["requests"] for backend in document["backends"]] == [30, 10]
    assert [backend["share_ratio"] for backend in document["backends"]] == [0.75, 0.25]
    assert document["totals"] == {
        "requests": 41, "answered_by_edge": 1, "in_flight": 0, "retries": 0, "received_bytes": 401, "sent_bytes": 4002,
    }  # fmt: skip


def test_the_status_shows_what_leases_did(edge: SmallEdge, client: FlaskClient) -> None:
    for backend in edge.pool.backends:
        backend.learned.health.probed(True)
    edge.pool.renew_candidates()
    leases = [edge.pool.lease(1050.0) for _ in range(8)]
    outcomes = ("ok", "failed", "abandoned")
    for lease, outcome in zip(leases, outcomes * 2, strict=False):
        lease.answered(1050.1)
        lease.close(1050.2, outcome)  # type: ignore[arg-type]
    document = client.get("/api/status").get_json()
    assert [sum(backend[word] for backend in document["backends"]) for word in (*outcomes, "in_flight")] == [2, 2, 2, 2]
    assert document["totals"]["in_flight"] == 2
    assert all(
        backend["health"] == "healthy" and backend["available"] and backend["ewma_s"] > 0 for backend in document["backends"]
    )


def test_asking_changes_nothing(edge: SmallEdge, client: FlaskClient) -> None:
    backend = edge.backend("b1")
    backend.learned.health.probed(True)
    for _ in range(5):
        backend.learned.breaker.failed(1000.0, random.Random(1))
    assert backend.learned.breaker.state == "open"
    for path in ("/health", "/api/status", "/metrics"):
        client.get(path)
    assert client.get("/api/status").get_json()["backends"][0]["breaker"] == "open"
    edge.clock = 1002.0
    shown = client.get("/api/status").get_json()["backends"][0]
    assert shown["why_not"] == "breaker_open"
    assert 0 < shown["ejected_s"] <= 5


def test_quantiles_are_those_of_about_the_last_minute(edge: SmallEdge, client: FlaskClient) -> None:
    b1, backends = edge.backend("b1"), edge.pool.backends

    def quantiles() -> tuple[float | None, float | None]:
        status = client.get("/api/status").get_json()["backends"][0]
        return status["p50_s"], status["p99_s"]

    serve(b1, 100, latency_s=1.0)
    assert quantiles()[0] == pytest.approx(1.0, rel=0.3)  # since the start, as nothing was written down yet
    edge.recent.tick(1060.0, backends)
    assert quantiles() == (None, None)
    serve(b1, 98, latency_s=0.01)
    serve(b1, 2, latency_s=0.1)
    assert quantiles() == (pytest.approx(0.01, rel=0.3), pytest.approx(0.1, rel=0.3))
    for now in range(1060, 1121, 1):
        edge.recent.tick(float(now), backends)
    assert quantiles()[1] == pytest.approx(0.1, rel=0.3)
    for now in range(1121, 1131, 1):
        edge.recent.tick(float(now), backends)
    assert quantiles() == (None, None)


def test_rates_and_shares_are_those_of_the_last_minute_and_not_since_the_start(edge: SmallEdge, client: FlaskClient) -> None:
    """A backend that had come back an hour ago, and took half of the requests, was shown with 3% of them."""
    serve(edge.backend("b1"), 100_000)
    edge.recent.tick(1060.0, edge.pool.backends)
    serve(edge.backend("b1"), 90)
    serve(edge.backend("b2"), 30)
    edge.backend("b2").learned.add(FAILED)
    edge.clock = 1090.0
    document = client.get("/api/status").get_json()
    assert document["recent"] == {"window_s": 30.0, "requests_per_s": 4.0, "failed_per_s": 0.033}
    assert [backend["recent"] for backend in document["backends"]] == [
        {"requests_per_s": 3.0, "failed_per_s": 0.0, "share_ratio": 0.75},
        {"requests_per_s": 1.0, "failed_per_s": 0.033, "share_ratio": 0.25},
    ]


def test_a_backend_that_came_since_the_last_tick_is_counted_from_its_start(edge: SmallEdge, client: FlaskClient) -> None:
    edge.recent.tick(1060.0, [edge.backend("b2")])
    serve(edge.backend("b1"), 10)
    assert client.get("/api/status").get_json()["backends"][0]["p50_s"] is not None


def test_a_backend_that_left_and_came_back_is_counted_from_its_return(edge: SmallEdge, client: FlaskClient) -> None:
    serve(edge.backend("b1"), 10)
    edge.recent.tick(1060.0, edge.pool.backends)
    edge.backend("b1").learned.cells[latency_cell(0.01)] = 4
    assert client.get("/api/status").get_json()["backends"][0]["p50_s"] == pytest.approx(0.01, rel=0.3)


# ---- metrics ----


def test_metrics_show_the_edge_at_this_moment(edge: SmallEdge, client: FlaskClient) -> None:
    serve(edge.backend("b1"), 3)
    edge.backend("b1").learned.health.probed(True)
    edge.edge_row.count(503, 0.001, 0, 0)
    answer = client.get("/metrics")
    assert (answer.status_code, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    for line in (
        'smartedge_requests_total{backend="b1",code="200"} 3.0',
        'smartedge_requests_total{backend="none",code="503"} 1.0',
        'smartedge_backend_up{backend="b1"} 1.0',
        'smartedge_backend_up{backend="b2"} 0.0',
        'smartedge_last_probe_timestamp_seconds{backend="b1"} 1.75e+09',
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
