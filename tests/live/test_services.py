"""Two services behind one edge, which have a server in common: under our server, under gunicorn's worker and its gevent one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, start_edge
from tests.live.peers import Answer, Script, answers
from tests.live.processes import ROOT, wait_until


@pytest.fixture(scope="module", params=[OWN, WORKER, GEVENT])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEdge]:
    """Three workers; `web` and `api` have a server in common, `both`, and one of their own each."""
    directory = tmp_path_factory.mktemp("site")
    with contextlib.ExitStack() as stack:
        both, web, api = (stack.enter_context(Script(answers(body=name))).url for name in (b"both", b"web", b"api"))
        document = {
            "health": {"interval_s": 0.5},
            "access_log": str(directory / "access.log"),
            "services": {
                "web": {"backends": [{"url": both, "id": "both"}, {"url": web, "id": "own"}], "sticky": {"cookie": "stay"}},
                "api": {
                    "backends": [{"url": both, "id": "both"}, {"url": api, "id": "other"}],
                    "strategy": "consistent_hash",
                    "hash": {"by": "header:X-User"},
                },
            },
            "routes": [{"id": "shop", "host": "shop.test", "to": "web"}, {"id": "api", "path": "/api", "to": "api"}],
        }
        (directory / "backends.json").write_text(json.dumps(document))
        workers = ("--workers", "3") if request.param == OWN else ("-w", "3")
        edge = stack.enter_context(start_edge(directory, server=request.param, arguments=workers))
        wait_until(lambda: len(edge.status()["workers"]) == 3, 20, "all workers")
        yield edge
        edge.settled()


def asked(target: bytes = b"/", host: bytes = b"shop.test", fields: bytes = b"") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (target, host, fields)


def ask(edge: LiveEdge, data: bytes) -> Answer:
    """One request on a connection of its own, so that any worker may get it."""
    with edge.client() as client:
        client.send(data)
        return client.answer()


def who(edge: LiveEdge, data: bytes, count: int = 12) -> Counter[bytes]:
    return Counter(ask(edge, data).body for _ in range(count))


def counted(edge: LiveEdge) -> dict[str, int]:
    """The requests of each backend, by its name."""
    return {f"{one['service']}/{one['id']}": one["requests"] for one in edge.backends()}


def smartedge(edge: LiveEdge, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smartedge", *words, "--url", edge.url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)


WEB, API = asked(), asked(b"/api/orders", b"any.test", b"X-User: ann\r\n")


def test_two_requests_on_one_connection_go_to_different_services_each_of_which_counts_its_own(site: LiveEdge) -> None:
    before = counted(site)
    with site.client() as client:
        for number in range(20):
            client.send(asked(b"/%d" % number))
            assert client.answer().body in (b"both", b"web")
            client.send(asked(b"/api/%d" % number, b"any.test", b"X-User: %d\r\n" % number))
            assert client.answer().body in (b"both", b"api")
        client.send(asked(b"/", b"any.test"))
        assert client.answer().status == 404
    gained = {name: count - before[name] for name, count in counted(site).items()}
    assert gained["web/both"] + gained["web/own"] == gained["api/both"] + gained["api/other"] == 20
    assert 0 < gained["web/both"] < 20
    assert 0 < gained["api/both"] < 20
    metrics = site.admin("/metrics").text
    for service in ("web", "api"):
        assert f'smartedge_backend_up{{backend="both",service="{service}"}} 1.0' in metrics
    line = site.log(path="/api/7")
    assert (line["route"], line["service"], line["backend"] in ("both", "other")) == ("api", "api", True)


def test_a_session_sticks_and_a_key_hashes_within_its_own_service(site: LiveEdge) -> None:
    first = ask(site, WEB)
    cookie = (first.get(b"set-cookie") or b"").partition(b";")[0]
    assert cookie.startswith(b"stay=")
    assert who(site, asked(fields=b"Cookie: %b\r\n" % cookie)) == {first.body: 12}
    assert len(who(site, API)) == 1
    assert ask(site, API).get(b"set-cookie") is None


@pytest.mark.parametrize("site", [OWN], indirect=True)
def test_a_server_is_drained_in_one_service_by_the_command_and_a_reload_of_the_other_leaves_it_so(site: LiveEdge) -> None:
    refused = smartedge(site, "drain", "both")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == 'smartedge: Several services have a backend "both": say api/both, web/both.\n'

    done = smartedge(site, "drain", "web/both")
    assert (done.returncode, done.stdout.partition(":")[0]) == (0, "web/both is draining")
    assert who(site, WEB) == {b"web": 12}
    users = {ask(site, asked(b"/api", b"any.test", b"X-User: %d\r\n" % number)).body for number in range(20)}
    assert users == {b"both", b"api"}

    before, (text, document) = counted(site), read(site)
    document["services"]["api"]["strategy"] = "round_robin"
    answer: dict[str, Any] = site.admin("/api/reload", "POST", body=json.dumps(document)).json()
    assert (answer["settings_changed"], answer["added"], answer["workers"]) == (
        ["services.api.strategy"],
        [],
        {"applied": 3, "live": 3},
    )
    assert before["web/own"] > 0
    assert before["api/both"] > 0
    assert all(count >= before[name] for name, count in counted(site).items())  # what was learned outlives it
    assert len(who(site, API)) == 2
    assert who(site, WEB) == {b"web": 12}

    assert smartedge(site, "weight", "own", "7").stdout == "web/own has weight 7; 0 in flight\n"
    tables = smartedge(site, "status").stdout
    assert "web: strategy adaptive, 2 of 2 up" in tables
    assert "web/both gets nothing: draining" in tables
    assert site.admin("/smartedge/services/web/backends/both/enable", "POST").status == 200
    assert site.admin("/api/reload", "POST", body=text).status == 200


def read(site: LiveEdge) -> tuple[str, dict[str, Any]]:
    text = (site.directory / "backends.json").read_text()
    return text, json.loads(text)
