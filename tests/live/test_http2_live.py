"""HTTP/2 as clients in use speak it: curl, h2load, httpx, node and Chromium, against every server that speaks it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.http2.client import GET, Client, client, having, headers, window
from tests.live.acts import message
from tests.live.browser import running_browser
from tests.live.edges import OWN, WORKER, LiveEdge, start_edge
from tests.live.peers import CERTS, Call, Script, answers, echo, flood
from tests.live.processes import wait_until

CA = str(CERTS / "ca.pem")
SAYS = "%{http_version} %{http_code}"
SERVERS = {"run": (OWN, ()), "run with 3 workers": (OWN, ("--workers", "3")), "EdgeWorker": (WORKER, ())}


@contextmanager
def http2_edge(directory: Path, name: str, *backends: Script, tls: bool = True, **settings: Any) -> Iterator[LiveEdge]:
    """An edge that speaks HTTP/2: over TLS, or without it."""
    server, arguments = SERVERS[name]
    speaks: dict[str, Any] = {"certificates": [{"certfile": str(CERTS / "localhost.pem")}]} if tls else {"h2c": True}
    with start_edge(directory, *backends, server=server, arguments=arguments, probed=False, **speaks, **settings) as edge:
        edge.url = f"{'https' if tls else 'http'}://localhost:{edge.port}"
        code = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"{edge.url}/health")
        wait_until(lambda: run(*code) == "200", 20, "backends that serve")
        yield edge
        assert "Traceback" not in edge.process.output, edge.process


def run(*command: str, timeout_s: float = 60.0) -> str:
    """What a program says."""
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False).stdout


@pytest.fixture(scope="module", params=SERVERS)
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEdge]:
    """One over TLS whose backend answers with the request that it got."""
    with Script(echo()) as backend, http2_edge(tmp_path_factory.mktemp("h2"), request.param, backend) as found:
        yield found


# ---- clients ----


def test_curl_downloads_and_uploads(edge: LiveEdge, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(os.urandom(5_000_000))
    got = tmp_path / "got"
    said = run(
        "curl", "-s", "--cacert", CA, "-T", str(body), "-o", str(got), "-w", "%{http_version} %{http_code}", f"{edge.url}/up"
    )
    assert said == "2 200"
    head, _, came = got.read_bytes().partition(b"\r\n\r\n")
    assert came == body.read_bytes()
    assert head.startswith(b"PUT /up HTTP/1.1\r\n")
    assert b"\r\nVia: 2 smartedge" in head


def test_curl_speaks_it_at_once_without_tls(tmp_path: Path) -> None:
    """By prior knowledge; and HTTP/1.1 on the same port, with an upgrade that nobody takes."""
    with Script(answers()) as backend, http2_edge(tmp_path, "run", backend, tls=False) as edge:
        for option, version in (("--http2-prior-knowledge", "2"), ("--http1.1", "1.1"), ("--http2", "1.1")):
            assert run("curl", "-s", option, "-o", "/dev/null", "-w", SAYS, edge.url) == f"{version} 200"


def test_h2load_has_every_request_answered(edge: LiveEdge) -> None:
    said = run("h2load", "-n", "4000", "-c", "8", "-m", "30", f"{edge.url}/")
    assert "Application protocol: h2" in said, said
    assert "4000 total, 4000 started, 4000 done, 4000 succeeded, 0 failed, 0 errored, 0 timeout" in said, said


def test_httpx_asks_side_by_side(edge: LiveEdge) -> None:
    with httpx.Client(http2=True, verify=ssl.create_default_context(cafile=CA)) as one:
        for at in range(30):
            answer = one.post(f"{edge.url}/{at}", content=b"x" * at * 1000, headers={"Cookie": "a=1"})
            assert (answer.http_version, answer.status_code) == ("HTTP/2", 200)
            assert answer.content.endswith(b"\r\n\r\n" + b"x" * at * 1000)


NODE = """
const http2 = require('node:http2'), fs = require('node:fs');
const session = http2.connect(process.argv[2], {ca: fs.readFileSync(process.argv[3])});
const ask = (at) => new Promise((done, fail) => {
  const stream = session.request({':method': 'POST', ':path': '/' + at});
  let size = 0, status = 0;
  stream.on('response', (fields) => { status = fields[':status']; });
  stream.on('data', (piece) => { size += piece.length; });
  stream.on('end', () => done([status, size > 100000]));
  stream.on('error', fail);
  stream.end(Buffer.alloc(100000, 'x'));
});
Promise.all([...Array(50).keys()].map(ask)).then((all) => { console.log(JSON.stringify(all)); session.close(); });
"""


def test_node_uploads_side_by_side(edge: LiveEdge, tmp_path: Path) -> None:
    (tmp_path / "client.js").write_text(NODE)
    assert json.loads(run("node", str(tmp_path / "client.js"), edge.url, CA)) == [[200, True]] * 50


def test_chromium_loads_the_page_by_it(tmp_path: Path) -> None:
    with (
        Script(answers()) as backend,
        http2_edge(tmp_path, "run with 3 workers", backend) as edge,
        running_browser(tmp_path / "profile", trusts_all=True) as browser,
    ):
        browser.open(f"{edge.url}/smartedge/")
        wait_until(lambda: browser.rows(), 15, "the page's rows")
        assert browser.run("return performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        protocols = browser.run("return [...new Set(performance.getEntriesByType('resource').map((one) => one.nextHopProtocol))]")
        assert set(protocols) == {"h2"}


# ---- fair turns, bounded memory ----


def latencies_ms(one: Client, first: int, count: int) -> list[float]:
    """How long small answers take, one after the other."""
    found = []
    for stream in range(first, first + 2 * count, 2):
        began = time.perf_counter()
        assert one.ask(stream, having(GET, path=b"/small")).status == 200
        found.append(1000 * (time.perf_counter() - began))
    return sorted(found)


LARGE = 400 << 20
PIECE = bytes(1 << 16)


def small_or_large(call: Call) -> None:
    """A backend that has a large answer for `/large`, a small one for everything else."""
    while (asked := call.request()) is not None:
        if asked.target != b"/large":
            call.send(message(body=b"small"))
            continue
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE)
        for _ in range(LARGE // len(PIECE)):
            call.send(PIECE)


def test_a_download_does_not_hold_up_small_answers_beside_it(tmp_path: Path) -> None:
    """On one connection: of hundreds of megabytes one stream sends a turn at a time."""
    with (
        Script(small_or_large) as backend,
        http2_edge(tmp_path, "run", backend, tls=False) as edge,
        client(edge.port, (4, 1 << 20)) as one,
    ):
        one.send(window(0, 1 << 24))
        alone = latencies_ms(one, 1, 100)
        one.send(headers(1001, having(GET, path=b"/large")))
        one.until(lambda: len(one.of(1001).body) > 1 << 20)
        before = len(one.of(1001).body)
        beside = latencies_ms(one, 1003, 200)
        came = (len(one.of(1001).body) - before) >> 20
        assert not one.of(1001).ended, "it was over before"
    p99 = beside[-2]
    figures = f"median {statistics.median(alone):.1f} -> {statistics.median(beside):.1f} ms, p99 {p99:.1f} ms beside {came} MiB"
    print(figures)
    assert came > 10, figures
    assert p99 < 250, figures  # 50 ms and less where nobody else works


def test_a_hundred_streams_that_nobody_takes_hold_little_and_end(tmp_path: Path) -> None:
    with (
        Script(flood(64 << 20)) as backend,
        http2_edge(tmp_path, "run", backend, tls=False, timeouts={"idle_s": 3}) as edge,
        client(edge.port, (4, 0), opens=False) as one,
    ):
        before = edge.memory_bytes()
        one.send(*[headers(at, GET) for at in range(1, 201, 2)])
        one.until(lambda: sum(got.status == 200 for got in one.streams.values()) == 100, 30)
        held = edge.memory_bytes() - before
        print(f"{held / 1e6:.1f} MB for 100 streams")
        assert held < 60e6
        one.until(lambda: all(got.reset for got in one.streams.values()), 30)
        assert {got.reset for got in one.streams.values()} == {"INTERNAL_ERROR"}
        wait_until(lambda: backend.open_connections <= 2, 10, "the backend's connections to end")


# ---- the end ----


@pytest.mark.parametrize("name", ["run with 3 workers", "EdgeWorker"])
def test_a_stop_answers_what_it_has_taken_and_no_request_is_lost(name: str, tmp_path: Path) -> None:
    """Every stream is answered, or it is said that nobody has looked at it."""
    with Script(answers()) as backend, http2_edge(tmp_path, name, backend, tls=False) as edge, client(edge.port) as one:
        stream, asked = 1, 0
        while not one.closed:
            if len(one.goaways) < 2:
                one.send(*[headers(at, GET) for at in range(stream, stream + 20, 2)])
                stream, asked = stream + 20, asked + 1
            if asked == 20:
                os.kill(edge.process.pid, signal.SIGTERM)
                asked += 1
            one.read()
        assert edge.process.wait(15) == 0
        assert {code for _, code in one.goaways} == {"NO_ERROR"}
        last = one.goaways[-1][0]
        got = {at: (one.of(at).status, one.of(at).ended, one.of(at).reset) for at in range(1, stream, 2)}
        print(f"{len(got)} requests, {sum(at <= last for at in got)} of them answered")
        assert {of for at, of in got.items() if at <= last} <= {
            (200, True, ""),
            (0, False, "REFUSED_STREAM"),
        }  # of a hundred and more
        assert sum(of == (200, True, "") for of in got.values()) > len(got) / 2
        assert {of for at, of in got.items() if at > last} <= {(0, False, "REFUSED_STREAM"), (0, False, "")}


def ask_until_told_to_go(port: int, then: Callable[[], None]) -> int:
    """Keep ten requests under way on one connection until GOAWAY comes; how many were sent, all of which were answered.

    then: called when the first ten have been answered. A worker that is told to stop before may say GOAWAY before it is asked.
    """
    with client(port) as one:
        stream = 1
        while not one.goaways:
            one.send(*[headers(at, GET) for at in range(stream, stream + 20, 2)])
            stream += 20
            one.until(lambda last=stream - 2: one.goaways or one.of(last).ended, 20)
            if stream == 21:
                then()
        one.until(lambda: all(one.of(at).ended for at in range(1, stream, 2)), 20)
        assert {one.of(at).status for at in range(1, stream, 2)} <= {200}
        return stream // 2


def test_workers_that_are_exchanged_under_load_lose_nothing(tmp_path: Path) -> None:
    """gunicorn's HUP: the old worker ends its streams, and the new one takes new connections."""
    with Script(answers()) as backend, http2_edge(tmp_path, "EdgeWorker", backend, tls=False) as edge:
        booted = edge.process.output.count("Booting worker")
        answered = []
        for times in (1, 2, 3):
            answered.append(ask_until_told_to_go(edge.port, lambda: os.kill(edge.process.pid, signal.SIGHUP)))
            wait_until(lambda times=times: edge.process.output.count("Booting worker") == booted + times, 10, "the new worker")
            wait_until(lambda: edge.admin("/health").status == 200, 10, "it to serve: it has yet to load all that it needs")
        print(answered)
        assert min(answered) >= 20, "the first ten of each worker were all that it was asked for"


def test_every_client_of_these_is_here() -> None:
    """None is left out silently: .ci/run installs them."""
    assert [name for name in ("curl", "h2load", "node", "chromium") if shutil.which(name) is None] == []
