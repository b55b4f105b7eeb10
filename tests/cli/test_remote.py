from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.admin import hello
from smartedge.cli.find import Target
from smartedge.cli.remote import RefusedError, UnreachableError, ask_edge
from smartedge.process.listening import listen_unix
from tests.small_balancer import SmallBalancer, serving


@pytest.fixture
def balancer() -> Iterator[SmallBalancer]:
    with serving(SmallBalancer()) as server:
        yield server


@pytest.fixture
def nobody() -> str:
    with SmallBalancer() as server:
        return server.url


def test_the_token_is_sent_and_the_answer_is_what_the_balancer_said(balancer: SmallBalancer) -> None:
    balancer.token = "t0ken"
    balancer.answer(200, {"generation": 3})

    assert ask_edge("POST", Target(balancer.url), "/api/reload", token="t0ken") == {"generation": 3}
    assert ask_edge("GET", Target(f"{balancer.url}/"), "/api/status", token=None) == {"generation": 3}
    assert ask_edge("GET", Target(balancer.url.removeprefix("http://")), "/x", token=None) == {"generation": 3}
    assert balancer.asked == [
        ("POST", "/api/reload", "Bearer t0ken"),
        ("GET", "/api/status", None),
        ("GET", "/x", None),
    ]


def test_what_is_no_balancer_is_asked_nothing_and_never_sees_the_token() -> None:
    """`reload` went to the traffic port, whose backend answered 200 to everything, and it was given the admin token."""
    for status, body in (
        (200, {"smartedge": "0.1.0", "nonce": "0" * 32, "proof": "0" * 64}),
        (404, {}),
        (200, b"hello"),
        (200, [1]),
    ):
        with serving(SmallBalancer((status, body), says_hello=False)) as backend:
            with pytest.raises(UnreachableError, match=rf"is not the admin address of a balancer \(status {status}\)"):
                ask_edge("POST", Target(backend.url), "/api/reload", token="t0ken")
            assert [path for _, path, _ in backend.asked] == [hello.PATH]
            assert "t0ken" not in backend.seen


def test_a_balancer_with_another_token_does_not_see_ours(balancer: SmallBalancer) -> None:
    balancer.token = "another"
    with pytest.raises(RefusedError, match="has another token than SMARTEDGE_ADMIN_TOKEN, which was not sent") as caught:
        ask_edge("POST", Target(balancer.url), "/api/reload", token="t0ken")
    assert caught.value.problem["status"] == 401
    assert balancer.asked == []
    assert "t0ken" not in balancer.seen


def test_a_balancer_that_needs_no_token_gets_none(balancer: SmallBalancer) -> None:
    assert ask_edge("POST", Target(balancer.url), "/api/reload", token="t0ken") == {}
    assert balancer.asked == [("POST", "/api/reload", None)]
    assert "t0ken" not in balancer.seen


def test_a_balancer_may_answer_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    with SmallBalancer((200, {"generation": 3}), token="t") as balancer:
        balancer.socket.close()
        balancer.socket = listen_unix(path)
        balancer.get_request = lambda: (balancer.socket.accept()[0], ("", 0))  # type: ignore[method-assign]
        thread = threading.Thread(target=balancer.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        assert ask_edge("GET", Target(f"unix:{path}"), "/api/status", token="t") == {"generation": 3}
        balancer.shutdown()
        thread.join()
    with pytest.raises(UnreachableError, match=f"no balancer answers at unix:{path}"):
        ask_edge("GET", Target(f"unix:{path}"), "/api/status", token="t")


def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreachableError, match=r"none.pem: No such file or directory; name another file with --cacert"):
        ask_edge("GET", Target("https://127.0.0.1:1", cacert=str(tmp_path / "none.pem")), "/", token=None)


def test_plain_http_where_tls_is_expected_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        thread.start()
        with pytest.raises(UnreachableError, match=r"no TLS with https://127\.0\.0\.1"):
            ask_edge("GET", Target(f"https://127.0.0.1:{listener.getsockname()[1]}"), "/", token=None)
        thread.join()


def test_no_proxy_is_used(balancer: SmallBalancer, nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", nobody)
    assert ask_edge("GET", Target(balancer.url), "/", token="t") == {}


def test_where_nobody_answers_the_error_says_what_to_do(nobody: str) -> None:
    with pytest.raises(UnreachableError, match=f"no balancer answers at {nobody}; start one with: smartedge run"):
        ask_edge("GET", Target(nobody), "/", token=None)


@pytest.mark.parametrize("url", ["http://", "ftp://a", "http://a:port", "http://[a", "http://127.0.0.1:99999999", "unix:"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(UnreachableError, match="is no URL"):
        ask_edge("GET", Target(url), "/", token=None)


def test_a_password_in_the_url_is_not_repeated(nobody: str) -> None:
    with pytest.raises(UnreachableError) as caught:
        ask_edge("GET", Target(nobody.replace("http://", "http://me:secret@")), "/", token=None)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("status", "body"), [(200, b"hello"), (404, b"<html>"), (200, [1]), (200, b"\xff")])
def test_an_answer_that_no_balancer_gives_is_told(balancer: SmallBalancer, status: int, body: object) -> None:
    balancer.answer(status, body)
    with pytest.raises(UnreachableError, match=rf"is no balancer \(status {status}, not JSON\)"):
        ask_edge("GET", Target(balancer.url), "/", token=None)


def test_a_redirect_is_not_followed_so_the_token_goes_nowhere_else(balancer: SmallBalancer) -> None:
    balancer.answer(302, {"title": "Found"}, Location=f"{balancer.url}/elsewhere")
    with pytest.raises(RefusedError, match="refused with status 302: Found"):
        ask_edge("GET", Target(balancer.url), "/", token="t")
    assert len(balancer.asked) == 1


def test_a_problem_is_told_in_lines(balancer: SmallBalancer) -> None:
    errors = [{"path": "backends[0].wieght", "detail": "is unknown"}, {"path": "", "detail": "is bad\x1b[2J"}, 5]
    balancer.answer(422, {"title": "Refused", "detail": "All of them again", "errors": errors})
    with pytest.raises(RefusedError) as caught:
        ask_edge("POST", Target(balancer.url), "/api/reload", token=None)
    assert str(caught.value).splitlines() == [
        "refused with status 422: Refused",
        "  backends[0].wieght: is unknown",
        "  is bad\\u001b[2J",
    ]


@pytest.mark.parametrize("status", [401, 403])
def test_who_may_not_ask_is_told_of_the_token(balancer: SmallBalancer, status: int) -> None:
    balancer.answer(status, {"title": "No"})
    with pytest.raises(RefusedError, match="set SMARTEDGE_ADMIN_TOKEN"):
        ask_edge("GET", Target(balancer.url), "/", token=None)


def test_a_problem_without_single_errors_is_told_with_its_detail(balancer: SmallBalancer) -> None:
    balancer.answer(412, {"title": "Precondition failed", "detail": "It has another ETag by now."})
    with pytest.raises(RefusedError) as caught:
        ask_edge("POST", Target(balancer.url), "/api/reload", token=None)
    assert str(caught.value) == "refused with status 412: Precondition failed: It has another ETag by now."
