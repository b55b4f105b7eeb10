"""What routes do to requests on the way: under our server, under gunicorn's worker and its gevent one, one worker and three."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, start_edge
from tests.live.peers import Answer, Call, Script, echo
from tests.live.processes import wait_until
from tests.live.tunnels import ASKS, SWITCHES, echoes


def telling(name: bytes) -> Script:
    """A backend that tells its name, and the target and prefix that it was asked with; for /chat it switches protocols."""

    def act(call: Call) -> None:
        while asked := call.request():
            if asked.target == b"/chat":
                call.send(SWITCHES)
                echoes(call)
                return
            body = b" ".join((name, asked.target, asked.get(b"x-forwarded-prefix") or b"-"))
            call.send(b"HTTP/1.1 200 OK\r\nServer: secret\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return Script(act)


@pytest.fixture(scope="module", params=[(OWN, 3), (OWN, 1), (WORKER, 1), (GEVENT, 1)], ids=lambda param: f"{param[0]}-{param[1]}")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEdge]:
    """An edge with the recipes of docs/routes.md; tests/live/test_services.py has gunicorn with three workers."""
    directory = tmp_path_factory.mktemp("routes")
    server, workers = request.param
    with contextlib.ExitStack() as stack:
        web, beta = (stack.enter_context(telling(name)).url for name in (b"web", b"beta"))
        document = {
            "health": {"type": "none"},
            "access_log": str(directory / "access.log"),
            "services": {"web": {"backends": [web]}, "beta": {"backends": [beta]}},
            "routes": [
                {"id": "shop", "host": "shop.test", "to": {"web": 1, "beta": 0}},
                {"host": "www.shop.test", "redirect": {"host": "shop.test", "status": 301}},
                {"host": "noon.test", "respond": {"status": 503, "text": "at noon", "headers": {"Retry-After": "60"}}},
                {
                    "host": "app.test", "path": "/django", "to": "beta", "strip_prefix": True,
                    "set_headers": {"X-Forwarded-Prefix": "/django"}, "remove_answer_headers": ["Server"],
                    "set_answer_headers": {"X-Served-By": "{service}"},
                },
                {"host": "app.test", "to": "web"},
                {"host": "chat.test", "header": {"Upgrade": "~chat"}, "to": "beta"},
                {"host": "chat.test", "to": "web"},
            ],
        }  # fmt: skip
        (directory / "backends.json").write_text(json.dumps(document))
        arguments = ("--workers" if server == OWN else "-w", str(workers))
        edge = stack.enter_context(start_edge(directory, server=server, arguments=arguments, probed=False))
        wait_until(lambda: len(edge.status()["workers"]) == workers, 20, "all workers")
        yield edge
        edge.settled()


def ask(edge: LiveEdge, host: bytes, target: bytes = b"/") -> Answer:
    """One request on a connection of its own, so that any worker may get it."""
    with edge.client() as client:
        client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        return client.answer()


def test_the_route_decides_what_a_backend_and_a_client_see(site: LiveEdge) -> None:
    prefixed = ask(site, b"app.test", b"/django/a%2Fb?x=1")
    assert (prefixed.body, prefixed.get(b"x-served-by")) == (b"beta /a%2Fb?x=1 /django", b"beta")
    assert prefixed.get(b"server") != b"secret"
    assert ask(site, b"app.test", b"/djangos").body == b"web /djangos -"
    assert ask(site, b"APP.test.:80", b"/django/../x").body == b"web /django/../x -"
    line = site.log(path="/django/a%2Fb")
    assert (line["route"], line["service"], line["status"]) == ("app.test-django", "beta", 200)


def test_the_edge_answers_itself_where_a_route_says_so_and_where_none_fits(site: LiveEdge) -> None:
    moved = ask(site, b"www.shop.test", b"/a?b=1")
    assert (moved.status, moved.get(b"location")) == (301, b"http://shop.test/a?b=1")
    noon = ask(site, b"noon.test")
    assert (noon.status, noon.body, noon.get(b"retry-after")) == (503, b"at noon", b"60")
    unknown = ask(site, b"unknown.test")
    assert (unknown.status, json.loads(unknown.body)["title"]) == (404, "Not found")


def test_an_upgrade_goes_to_one_service_and_plain_requests_of_that_host_to_another(site: LiveEdge) -> None:
    assert ask(site, b"chat.test").body == b"web / -"
    with site.client() as client:
        client.send(b"GET /chat HTTP/1.1\r\nHost: chat.test\r\n%b\r\nhello" % ASKS)
        assert client.answer().status == 101
        client.half_close()
        assert client.rest() == b"hello and goodbye"


def test_other_weights_are_in_force_at_once_in_all_workers_and_wrong_ones_change_nothing(site: LiveEdge) -> None:
    def who() -> Counter[bytes]:
        return Counter(ask(site, b"shop.test").body.partition(b" ")[0] for _ in range(12))

    def weigh(**weights: int) -> int:
        return site.admin("/smartedge/routes/shop/weights", "POST", body=json.dumps(weights)).status

    assert who() == {b"web": 12}
    assert weigh(web=0, beta=1) == 200
    assert who() == {b"beta": 12}
    assert [weigh(web=0, beta=0), weigh(nobody=1)] == [422, 422]
    assert who() == {b"beta": 12}
    assert json.loads((site.directory / "backends.json").read_text())["routes"][0]["to"] == {"web": 0, "beta": 1}
    assert weigh(web=1, beta=0) == 200
    assert who() == {b"web": 12}


@pytest.mark.parametrize("server", [OWN, WORKER, GEVENT])
@pytest.mark.parametrize("preserve_host", [True, False])
def test_a_backend_gets_just_the_host_that_a_route_sets_whatever_the_client_speaks(
    tmp_path: Path, server: str, preserve_host: bool
) -> None:
    """Regression: a client without Host (HTTP/1.0) had the backend's own go on, and so had all with `preserve_host: false`."""
    with Script(echo()) as backend:
        document: dict[str, Any] = {
            "services": {"web": {"backends": [backend.url], "preserve_host": preserve_host}},
            "routes": [
                {"path": "/as-asked", "to": "web", "set_headers": {"Host": "{host}"}},
                {"to": "web", "set_headers": {"HOST": "app.test"}},
            ],
            "h2c": True,
        }
        (tmp_path / "backends.json").write_text(json.dumps(document))
        own = backend.url.removeprefix("http://").encode()
        with start_edge(tmp_path, server=server, probed=False) as edge:
            wait_until(lambda: ask(edge, b"a.test").status == 200, 20, "the edge")
            for version, target, host, wanted in (
                (b"1.0", b"/", b"", b"app.test"),
                (b"1.0", b"/", b"Host: a.test\r\n", b"app.test"),
                (b"1.0", b"/as-asked", b"", own),
                (b"1.1", b"/", b"Host: a.test\r\n", b"app.test"),
                (b"1.1", b"http://b.test/", b"Host: a.test\r\n", b"app.test"),
                (b"1.1", b"/as-asked", b"Host: a.test\r\n", b"a.test"),
            ):
                with edge.client() as client:
                    client.send(b"GET %b HTTP/%b\r\n%bConnection: close\r\n\r\n" % (target, version, host))
                    assert hosts_in(client.answer().body) == [wanted], (version, target, host)
            url = f"http://a.test:{edge.port}/"
            words = ["curl", "-s", "--http2-prior-knowledge", "--resolve", f"a.test:{edge.port}:127.0.0.1", url]
            assert hosts_in(subprocess.run(words, capture_output=True, check=True).stdout) == [b"app.test"]


def hosts_in(request: bytes) -> list[bytes]:
    """What the Host fields of a request say."""
    return re.findall(rb"(?mi)^host: *(.*)\r$", request.partition(b"\r\n\r\n")[0] + b"\r\n")
