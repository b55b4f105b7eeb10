from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from smartedge.remote import RefusedError, UnreachableError, ask, reload_text, status_text


class Balancer(HTTPServer):
    """Answers whatever the test has put down, and notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.body = 200, b"{}"
        self.headers: dict[str, str] = {}
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, status: int, body: object, **headers: str) -> None:
        self.status, self.headers = status, headers
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class Handler(BaseHTTPRequestHandler):
    server: Balancer

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        for name, value in {**self.server.headers, "Content-Length": str(len(self.server.body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def balancer() -> Iterator[Balancer]:
    with Balancer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def nobody() -> str:
    with Balancer() as server:
        return server.url


def test_the_token_is_sent_and_the_answer_is_what_the_balancer_said(balancer: Balancer) -> None:
    balancer.answer(200, {"generation": 3})

    assert ask("POST", balancer.url, "/api/reload", token="t0ken") == {"generation": 3}
    assert ask("GET", f"{balancer.url}/", "/api/status", token=None) == {"generation": 3}
    assert ask("GET", balancer.url.removeprefix("http://"), "/x", token=None) == {"generation": 3}
    assert balancer.asked == [
        ("POST", "/api/reload", "Bearer t0ken"),
        ("GET", "/api/status", None),
        ("GET", "/x", None),
    ]


def test_no_proxy_is_used(balancer: Balancer, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", nobody)
    assert ask("GET", balancer.url, "/", token="t") == {}


def test_where_nobody_answers_the_error_says_what_to_do(nobody: str) -> None:
    with pytest.raises(UnreachableError, match=f"no balancer answers at {nobody}; start one with: make run"):
        ask("GET", nobody, "/", token=None)


@pytest.mark.parametrize("url", ["http://", "ftp://a", "http://a:port", "http://[a", "http://127.0.0.1:99999999"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(UnreachableError, match="is no URL"):
        ask("GET", url, "/", token=None)


def test_a_password_in_the_url_is_not_repeated(nobody: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        ask("GET", nobody.replace("http://", "http://me:secret@"), "/", token=None)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "body"), [(200, b"hello"), (404, b"<html>"), (200, [1]), (200, b"\xff")])
def test_an_answer_that_no_balancer_gives_is_told(balancer: Balancer, status: int, body: object) -> None:
    balancer.answer(status, body)
    with pytest.raises(UnreachableError, match=rf"is no balancer \(status {status}, not JSON\)"):
        ask("GET", balancer.url, "/", token=None)


def test_a_redirect_is_not_followed_so_the_token_goes_nowhere_else(balancer: Balancer) -> None:
    balancer.answer(302, {"title": "Found"}, Location=f"{balancer.url}/elsewhere")
    with pytest.raises(RefusedError, match="refused with status 302: Found"):
        ask("GET", balancer.url, "/", token="t")
    assert len(balancer.asked) == 1


def test_a_problem_is_told_in_lines(balancer: Balancer) -> None:
    errors = [{"path": "backends[0].wieght", "detail": "is unknown"}, {"path": "", "detail": "is bad\x1b[2J"}, 5]
    balancer.answer(422, {"title": "Refused", "detail": "All of them again", "errors": errors})
    with pytest.raises(RefusedError) as caught:
        ask("POST", balancer.url, "/api/reload", token=None)
    assert str(caught.value).splitlines() == [
        "refused with status 422: Refused",
        "  backends[0].wieght: is unknown",
        "  is bad\\u001b[2J",
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_ask_is_told_of_the_token(balancer: Balancer, status: int) -> None:
    balancer.answer(status, {"title": "No"})
    with pytest.raises(RefusedError, match="set SMARTEDGE_ADMIN_TOKEN"):
        ask("GET", balancer.url, "/", token=None)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"generation": 2, "message": "generation 2: added c"}, "generation 2: added c"),
        ({"message": "\x1b[2J"}, "\\u001b[2J"),
        ({"generation": 2}, '{"generation": 2}'),
    ],
)
def test_a_reload_is_told_in_one_line(answer: dict[str, object], text: str) -> None:
    assert reload_text(answer) == text


def test_a_problem_without_single_errors_is_told_with_its_detail(balancer: Balancer) -> None:
    balancer.answer(412, {"title": "Precondition failed", "detail": "It has another ETag by now."})
    with pytest.raises(RefusedError) as caught:
        ask("POST", balancer.url, "/api/reload", token=None)
    assert str(caught.value) == "refused with status 412: Precondition failed: It has another ETag by now."


STATUS = {
    "strategy": "ewma",
    "generation": 4,
    "backends": [
        {
            "id": "a",
            "url": "http://a:1",
            "health": "healthy",
            "breaker": "closed",
            "in_flight": 3,
            "requests": 12345,
            "share_ratio": 0.75,
            "failed": 0,
            "ewma_s": 0.0123,
            "p50_s": 0.01,
            "p99_s": 1.5,
        },
        {"id": "longer", "url": "http://b:2", "health": "unknown", "breaker": "open", "ewma_s": 0.0, "p50_s": None},
        "not a backend",
    ],
}


def test_the_status_is_a_table_with_words_to_the_left_and_numbers_to_the_right() -> None:
    assert status_text(STATUS).splitlines() == [
        "strategy ewma, generation 4",
        "BACKEND  URL         HEALTH   BREAKER  IN FLIGHT  REQUESTS  SHARE  FAILED     EWMA      P50         P99",
        "a        http://a:1  healthy  closed           3    12,345  75.0%       0  12.3 ms  10.0 ms  1,500.0 ms",
        "longer   http://b:2  unknown  open             -         -      -       -        -        -           -",
    ]


@pytest.mark.parametrize(
    ("will", "shown"), [("enabled", "healthy"), ("draining", "healthy, draining"), ("disabled", "healthy, disabled")]
)
def test_a_backend_that_the_operator_took_out_is_shown_so(will: str, shown: str) -> None:
    text = status_text({"backends": [{"id": "a", "url": "http://a:1", "health": "healthy", "will": will, "breaker": "closed"}]})
    assert re.split(" {2,}", text.splitlines()[2])[2] == shown


def test_a_status_without_backends_has_only_its_head() -> None:
    assert len(status_text({}).splitlines()) == 2


def test_the_status_as_json_is_the_whole_answer() -> None:
    assert json.loads(status_text(STATUS, as_json=True)) == STATUS
