"""The Flask app: it forwards alike the short way and Flask's own, hooks and middleware work, and it starts nothing by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import gevent
import pytest

from smartedge.admin import hello
from smartedge.app import CATCH_ALL, SmartEdge, create_app
from smartedge.config.model import ConfigError, parse
from smartedge.http.environ_keys import ADMIN, REQUEST
from tests.fakes import local_client
from tests.house import request
from tests.live.peers import Script, answers, bodiless, echo, parse_answers, serves
from tests.live.peers import message as answer_of
from tests.peers import edge_server, talk


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, and patience that ends."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    with gevent.Timeout(10):
        yield tmp_path / "state"


def app_for(*backends: Script | str, **settings: Any) -> SmartEdge:
    urls = [getattr(backend, "url", backend) for backend in backends]
    document = {"backends": urls, "timeouts": {"connect_s": 1, "first_byte_s": 1, "idle_s": 1}, **settings}
    return create_app(parse(json.dumps(document)))


def with_a_hook(app: SmartEdge) -> SmartEdge:
    """Take the short way from it: now Flask dispatches every request."""
    app.before_request(lambda: None)
    return app


def as_it_is(app: SmartEdge) -> SmartEdge:
    return app


WAYS = pytest.mark.parametrize("way", [as_it_is, with_a_hook], ids=["the short way", "Flask's way"])


def in_flight(app: SmartEdge) -> int:
    return sum(backend.in_flight() for backend in app.edge.pool.backends)


@pytest.fixture
def backend() -> Iterator[Script]:
    with Script(answers(headers=[("X-From", "backend"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])) as script:
        yield script


# Both ways.


@WAYS
def test_an_answer_comes_through_with_nothing_added(backend: Script, way: Any) -> None:
    app = way(app_for(backend))
    answer = local_client(app).get("/")
    assert (answer.status, answer.data) == ("200 OK", b"hello\n")
    assert answer.headers.to_wsgi_list() == [
        ("X-From", "backend"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("Content-Length", "6"),
        ("Via", "1.1 smartedge"),
    ]
    assert in_flight(app) == 0
    app.edge.stop()


@WAYS
@pytest.mark.parametrize("path", ["/", "/a", "//a//", "/a%0Ab", "/a/../b", "/static/x", "/%2F%00"])
def test_every_method_and_path_is_forwarded(backend: Script, way: Any, path: str) -> None:
    """A plain catch-all answers 405 to PROPFIND and TRACE, OPTIONS itself, 404 to %0A, and redirects on `//`."""
    app = way(app_for(backend))
    methods = ("GET", "HEAD", "POST", "OPTIONS", "TRACE", "PROPFIND", "BREW")
    with edge_server(app) as server:
        for method in methods:
            raw = f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
            (answer,) = parse_answers(talk(server, raw), method.encode())
            assert answer.status == 200, method
        app.edge.stop()
    lines = [raw.partition(b"\r\n")[0].decode() for raw in backend.requests]
    assert lines == [f"{method} {path} HTTP/1.1" for method in methods]


@WAYS
def test_a_websocket_request_is_forwarded(backend: Script, way: Any) -> None:
    """Flask has rules of their own for those, and answers 400."""
    app = way(app_for(backend))
    fields = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    assert local_client(app).get("/", headers=fields).status_code == 200
    app.edge.stop()


@WAYS
def test_a_body_goes_through_both_ways(way: Any) -> None:
    with Script(serves(lambda _call, request: answer_of(body=request.body[::-1]))) as backend:
        app = way(app_for(backend))
        assert local_client(app).post("/", data=b"x" * 100_000 + b"end").data == b"dne" + b"x" * 100_000
        app.edge.stop()


@WAYS
@pytest.mark.parametrize(("status", "method"), [(200, "HEAD"), (304, "GET"), (204, "GET")])
def test_an_answer_without_a_body_gives_its_lease_back(way: Any, status: int, method: str) -> None:
    """Werkzeug never closes the body of a HEAD or a 304."""
    with Script(bodiless(status)) as backend:
        app = way(app_for(backend))
        for _ in range(3):
            assert local_client(app).open("/", method=method).status_code == status
        assert in_flight(app) == 0
        assert backend.connections == 1
        app.edge.stop()


@WAYS
def test_an_answer_that_is_dropped_half_way_gives_its_lease_back(way: Any) -> None:
    with Script(answers(body=b"x" * 5_000_000)) as backend:
        app = way(app_for(backend))
        answer = local_client(app).get("/", buffered=False)
        assert in_flight(app) == 1
        next(iter(answer.response))
        answer.close()
        assert in_flight(app) == 0
        app.edge.stop()


@WAYS
def test_our_own_errors_are_problems(way: Any) -> None:
    with Script(health=answers(500)) as backend:
        app = way(app_for(backend))
        client = local_client(app)
        client.get("/")
        while app.edge.pool.backends[0].learned.health.state == "unknown":
            gevent.sleep(0.01)
        answer = client.get("/")
        assert (answer.status, answer.content_type) == ("503 Service Unavailable", "application/problem+json")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.get_json()["request_id"]
        app.edge.stop()


@WAYS
def test_a_request_that_another_server_let_through_is_refused(backend: Script, way: Any) -> None:
    app = way(app_for(backend))
    answer = local_client(app).get("/", headers={"Host": "a/b"})
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert backend.requests == []
    app.edge.stop()


# What people build around a Flask app.


def test_a_hook_may_answer_instead(backend: Script) -> None:
    app = app_for(backend)

    @app.before_request
    def deny() -> Any:
        return ("no", 403) if flask.request.path.startswith("/private") else None

    client = local_client(app)
    assert (client.get("/private/x").status_code, client.get("/public").status_code) == (403, 200)
    assert len(backend.requests) == 1
    app.edge.stop()


def test_hooks_see_every_request_and_may_change_answers(backend: Script) -> None:
    app = app_for(backend)
    seen: list[str] = []

    @app.after_request
    def mark(response: flask.Response) -> flask.Response:
        response.headers["X-Marked"] = "1"
        return response

    @app.teardown_request
    def done(_error: BaseException | None) -> None:
        seen.append(flask.request.full_path)

    client = local_client(app)
    assert client.get("/a?b=c").headers["X-Marked"] == "1"
    assert client.get("/metrics").headers["X-Marked"] == "1"
    assert seen == ["/a?b=c", "/metrics?"]
    app.edge.stop()


def test_hooks_work_under_our_own_server(backend: Script) -> None:
    app = app_for(backend)
    told: list[tuple[str, str, str | None]] = []

    @app.before_request
    def tell() -> None:
        request = flask.request
        told.append((request.method, request.full_path, request.headers.get("X-One")))

    with edge_server(app) as server:
        raw = b"PROPFIND /a%20b?c=d HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nConnection: close\r\n\r\n"
        assert talk(server, raw).startswith(b"HTTP/1.1 200 ")
        app.edge.stop()
    assert told == [("PROPFIND", "/a b?c=d", "1")]


def test_a_hook_that_reads_the_body_is_given_it(backend: Script) -> None:
    app = app_for(backend)
    read: list[bytes] = []

    @app.before_request
    def look() -> Any:
        read.append(flask.request.get_data())
        return "seen"

    with edge_server(app) as server:
        raw = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
        assert talk(server, raw).endswith(b"seen")
        app.edge.stop()
    assert read == [b"body"]


@pytest.mark.parametrize("served", [True, False], ids=["our server", "test client"])
def test_middleware_around_wsgi_app_sees_a_complete_environ_and_may_change_the_head(backend: Script, served: bool) -> None:
    app = app_for(backend)
    seen: list[Any] = []
    inner = app.wsgi_app

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("HTTP_X_ONE")))

        def marked(status: str, fields: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*fields, ("X-Marked", "1")], *rest)

        return inner(environ, marked)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    if served:
        with edge_server(app) as server:
            received = talk(server, b"GET /a%20b HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nConnection: close\r\n\r\n")
            app.edge.stop()
        (answer,) = parse_answers(received)
        assert (answer.status, answer.body, answer.get(b"x-marked")) == (200, b"hello\n", b"1")
    else:
        plain = local_client(app).get("/a b", headers={"X-One": "1"})
        assert (plain.status_code, plain.data, plain.headers["X-Marked"]) == (200, b"hello\n", "1")
        app.edge.stop()
    assert seen == [("GET", "/a b", "1")]


def test_our_own_server_need_not_call_the_app_for_what_is_only_forwarded(backend: Script) -> None:
    app = app_for(backend)
    forward = app.server_hooks.forward
    exchange = forward(request(target=b"/a"))
    assert exchange.status == 200
    exchange.close()
    assert forward(request(target=b"/metrics")) is None
    assert forward(request(fields=b"Connection: upgrade\r\nUpgrade: websocket\r\n")) is None
    app.wsgi_app = app.wsgi_app  # type: ignore[method-assign]
    assert forward(request(target=b"/a")) is None
    app.edge.stop()


def test_a_catch_all_of_somebody_elses_is_used(backend: Script) -> None:
    app = app_for(backend)
    app.view_functions[CATCH_ALL] = lambda path: f"mine: {flask.request.environ[REQUEST].target.decode()}"
    assert local_client(app).get("/a%2Fb").text == "mine: /a%2Fb"
    assert backend.requests == []


def test_a_route_of_somebody_elses_goes_before_the_catch_all_with_a_blueprint(backend: Script) -> None:
    app = app_for(backend)

    @app.before_request
    def route() -> Any:
        return "mine" if flask.request.path == "/mine" else None

    assert local_client(app).get("/mine").text == "mine"
    app.edge.stop()


# The reserved paths.


@WAYS
def test_the_reserved_paths_are_answered_here(backend: Script, way: Any) -> None:
    app = way(app_for(backend))
    client = local_client(app)
    for path in ("/health", "/api/status", "/metrics"):
        assert client.get(path).status_code in (200, 503)
    assert client.get("/smartedge/nothing").status_code == 404
    assert client.get("/api/reload").status_code == 405
    assert backend.requests == []
    for path in ("/health/", "/healthy", "/api", "/smartedge"):
        assert client.get(path).data == b"hello\n"
    assert len(backend.requests) == 4
    app.edge.stop()


@WAYS
def test_with_an_admin_listener_the_traffic_port_reserves_nothing(backend: Script, way: Any) -> None:
    app = way(app_for(backend, admin_bind="127.0.0.1:9"))
    client = local_client(app)
    for path in ("/health?x", "/api/status", "/metrics", "/smartedge/x"):
        assert client.get(path).data == b"hello\n"
    assert client.get("/api/status", environ_overrides={ADMIN: True}).is_json
    assert client.get("/other", environ_overrides={ADMIN: True}).status_code == 404
    for path in ("/", "/smartedge"):
        assert client.get(path, environ_overrides={ADMIN: True}).location == "smartedge/"
    assert len(backend.requests) == 4
    app.edge.stop()


# Beginning.


def test_create_app_opens_no_socket_and_probes_nothing(state: Path) -> None:
    with Script() as backend:
        app = app_for(backend)
        assert not app.edge.began
        assert not state.exists()
        assert (backend.connections, backend.probes) == (0, 0)
        while not backend.probes:  # the loop runs: it begins to serve, before any request
            gevent.sleep(0.01)
        assert app.edge.began
        app.edge.stop()


def test_create_app_reads_the_file_that_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"backends": ["http://127.0.0.1:1"], "strategy": "ewma"}')
    monkeypatch.setenv("SMARTEDGE_CONFIG", str(path))
    assert create_app().edge.config.strategy == "ewma"
    path.write_text('{"backends": ["ftp://x"], "colour": 1}')
    with pytest.raises(ConfigError) as wrong:
        create_app()
    assert {problem.path for problem in wrong.value.problems} == {"backends[0]", "colour"}


def test_a_stopped_edge_has_left_its_place(backend: Script, state: Path) -> None:
    app = app_for(backend)
    local_client(app).get("/")
    assert list(state.rglob("slot-*"))
    app.edge.stop()
    assert list(state.rglob("slot-*")) == []


# What is the edge's own in a request that is forwarded.


@WAYS
def test_the_admin_token_goes_to_no_backend_and_other_authorization_does(way: Any) -> None:
    """`curl -H "Authorization: Bearer $TOKEN"` to the traffic port: a backend had the token of the admin pages."""
    with Script(echo()) as backend:
        app = app_for(backend)
        app.edge.token = "s3cret"
        client = local_client(way(app))
        for path, said in (("/api/reload/", "Bearer s3cret"), ("/", "bearer  s3cret "), ("/metrics.txt", "BEARER s3cret")):
            answer = client.post(path, headers={"Authorization": said})
            assert (answer.status_code, answer.get_json(force=True)["title"]) == (421, "Misdirected request")
            assert "s3cret" not in answer.text
        assert backend.requests == []
        for said in ("Bearer s3cret2", "Bearer other", "Basic s3cret", "s3cret"):
            assert f"Authorization: {said}\r\n" in client.get("/", headers={"Authorization": said}).text
        app.edge.token = None
        assert "Authorization: Bearer s3cret\r\n" in client.get("/", headers={"Authorization": "Bearer s3cret"}).text
        app.edge.stop()


def test_the_token_is_found_again_and_again_on_one_connection() -> None:
    """The fields of a connection's requests are looked at once, when they are the same."""
    with Script(echo()) as backend:
        app = app_for(backend)
        app.edge.token = "s3cret"
        get = b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %b\r\n\r\n"
        last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer s3cret\r\n\r\n"
        with edge_server(app) as server:
            texts = parse_answers(talk(server, get % b"s3cret" + get % b"s3cret" + get % b"mine" + get % b"s3cret" + last))
        assert [answer.status for answer in texts] == [421, 421, 200, 421, 421]
        assert len(backend.requests) == 1
        app.edge.stop()


@WAYS
def test_what_proves_to_a_command_that_an_edge_answers_is_seen_by_no_backend(way: Any) -> None:
    with Script(echo()) as backend:
        app = app_for(backend)
        app.edge.admin_apart = True  # the traffic port forwards every path
        nonce = hello.new_nonce()
        answer = local_client(way(app)).get(hello.PATH, headers={hello.FIELD: nonce, "x_smartedge_hello": nonce})
        assert answer.status_code == 200
        assert nonce not in answer.text
        app.edge.stop()


def test_the_edge_says_hello_to_everybody_and_proves_itself_to_who_has_the_token() -> None:
    app = app_for("http://127.0.0.1:1")
    app.edge.token = "s3cret"
    nonce = hello.new_nonce()
    anybody = {"REMOTE_ADDR": "203.0.113.2"}
    said = {hello.FIELD: hello.question(nonce, "s3cret")}
    document = app.test_client().get(hello.PATH, headers=said, environ_base=anybody).get_json()
    assert hello.is_edge(document, nonce)
    assert hello.has_token(document, nonce, "s3cret")
    assert "proof" not in app.test_client().get(hello.PATH, headers={hello.FIELD: nonce}, environ_base=anybody).get_json()
    assert app.test_client().get(hello.PATH).status_code == 400
    app.edge.stop()


def test_the_admin_pages_know_whose_connection_they_are_asked_on() -> None:
    """Not with a test client, which has none: a socket of ours without a descriptor made every admin page a 500."""
    app = app_for("http://127.0.0.1:1")
    with edge_server(app) as server:
        get = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        (answer,) = parse_answers(talk(server, get))
    assert answer.status == 200
    app.edge.stop()
