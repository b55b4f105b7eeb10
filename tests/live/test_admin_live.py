"""Status, metrics, health and log of a running edge, and who may see them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.live.edges import LiveEdge, request, start_edge
from tests.live.peers import Script, answers, early_hints
from tests.live.processes import ask, free_port, listens, wait_until

ADMIN = ["/api/status", "/metrics"]


def test_the_distribution_in_the_status_is_exact(own: LiveEdge) -> None:
    with Script(answers(body=b"12345")) as one, Script(answers(404)) as two:
        own.configure({"url": one, "weight": 3}, {"url": two}, strategy="round_robin")
        for _ in range(40):
            own.ask(b"/", b"POST", body=b"123")
        own.settled()
        first, second = own.backends()
        assert (first["requests"], second["requests"]) == (30, 10)
        assert (first["share_ratio"], second["share_ratio"]) == (0.75, 0.25)
        assert (first["received_bytes"], first["sent_bytes"]) == (90, 150)
        assert (first["ok"], first["failed"], first["in_flight"]) == (30, 0, 0)
        assert first["p50_s"] > 0
        assert first["last_check"]["ok"] is True


def test_in_flight_counts_open_requests(own: LiveEdge) -> None:
    def act(call: object) -> None:
        call.request()  # type: ignore[attr-defined]
        call.stall()  # type: ignore[attr-defined]

    with Script(act) as backend:
        own.configure(backend, timeouts={"first_byte_s": 1}, retry={"attempts": 1})
        clients = [own.client() for _ in range(3)]
        for client in clients:
            client.send(request())
        wait_until(lambda: own.backends()[0]["in_flight"] == 3, 5, "three in flight")
        for client in clients:
            assert client.answer().status == 504
            client.close()
        assert own.backends()[0]["in_flight"] == 0


def test_metrics_pass_promtool_and_count_what_was_answered(own: LiveEdge) -> None:
    with Script(answers()) as one, Script(answers(404)) as two:
        own.configure({"id": "m-one", "url": one}, {"id": "m-two", "url": two})
        before = own.admin("/metrics").text
        assert 'smartedge_backend_up{backend="m-one",service="default"} 1' in before
        for _ in range(10):
            own.ask()
        own.settled()
        text = own.admin("/metrics").text
        assert re.search(
            r'^smartedge_requests_total\{backend="m-one",code="200",service="default"\} 5(\.0)?$', text, re.MULTILINE
        )
        assert re.search(
            r'^smartedge_requests_total\{backend="m-two",code="404",service="default"\} 5(\.0)?$', text, re.MULTILINE
        )
        promtool = shutil.which("promtool")
        if promtool is None:
            pytest.skip("promtool is missing: sudo apt install prometheus")
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_health_says_how_many_are_up(own: LiveEdge) -> None:
    with Script() as up, Script(health=answers(500)) as down:
        own.configure(up, down)
        answer = own.admin("/health")
        assert answer.status == 200
        assert (answer.json()["up"], answer.json()["total"]) == (1, 2)


def test_the_reserved_paths_are_not_forwarded_and_their_lookalikes_are(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        for path in (b"/health", b"/health?x", b"/api/status", b"/metrics", b"/smartedge/", b"/smartedge/x"):
            own.ask(path, headers=b"")
            assert backend.requests == []
        for path in (b"/Health", b"/health/", b"//health", b"/api/reload/", b"/api", b"/smartedge", b"/x/../health"):
            own.ask(path)
        assert len(backend.requests) == 7


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "PROPFIND"])
def test_the_wrong_method_on_an_admin_page_is_405_and_not_forwarded(own: LiveEdge, method: str) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        answer = own.admin("/health", method)
        assert (answer.status, answer.header("allow")) == (405, "GET, HEAD")
        assert backend.requests == []


# The log.


def test_the_access_log_has_all_its_fields_and_the_backends_request_id(edge: LiveEdge) -> None:
    with Script(answers(body=b"hello")) as backend:
        edge.configure({"id": "logged", "url": backend})
        edge.ask(b"/path?secret=1", b"POST", b"X-Request-Id: my-id\r\n", b"four")
        line = edge.log(path="/path")
        assert {key: line[key] for key in ("request_id", "client", "method", "status", "backend", "try_count")} == {
            "request_id": "my-id",
            "client": "127.0.0.1",
            "method": "POST",
            "status": 200,
            "backend": "logged",
            "try_count": 1,
        }
        assert (line["bytes_in"], line["bytes_out"]) == (4, 5)
        assert 0 < line["latency_s"] <= line["duration_s"] < 5
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert b"X-Request-Id: my-id\r\n" in backend.requests[0]


def test_interim_answers_do_not_count_as_the_answer(own: LiveEdge) -> None:
    with Script(early_hints()) as backend:
        own.configure(backend)
        own.ask(b"/hints")
        assert own.log(path="/hints")["status"] == 200
        assert own.backends()[0]["requests"] == 1


def test_there_is_no_access_log_unless_it_is_asked_for(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend, access_log=False)
        before = own.log_text()
        own.ask(b"/quiet")
        own.configure(backend)
        assert "/quiet" not in own.log_text()[len(before) :]
        assert "/quiet" not in own.process.output


def test_the_access_log_can_go_to_standard_output(tmp_path: Path) -> None:
    with Script(answers()) as backend, start_edge(tmp_path, backend, access_log=True) as edge:
        edge.ask(b"/shown")
        edge.process.wait_for(r'^\{.*"path": "/shown".*\}$')


# Who may touch it.


def asked_from(edge: LiveEdge, raw: bytes) -> int:
    with edge.client() as client:
        client.send(raw)
        return client.answer(raw.split(b" ")[0]).status


STRANGE = {
    "a foreign Host": b"Host: evil.test\r\n",
    "a foreign Origin": b"Host: localhost\r\nOrigin: http://evil.test\r\n",
    "a null Origin": b"Host: localhost\r\nOrigin: null\r\n",
    "another site": b"Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
    "X-Forwarded-For": b"Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n",
    "an empty X-Forwarded-For": b"Host: localhost\r\nX-Forwarded-For: \r\n",
    "Forwarded": b"Host: localhost\r\nForwarded: for=127.0.0.1\r\n",
    "Via": b"Host: localhost\r\nVia: 1.1 proxy\r\n",
}


@pytest.mark.parametrize("fields", STRANGE.values(), ids=STRANGE.keys())
@pytest.mark.parametrize("path", [b"GET /api/status", b"GET /metrics", b"POST /api/reload"])
def test_what_is_not_from_here_is_refused_although_its_peer_is(edge: LiveEdge, path: bytes, fields: bytes) -> None:
    assert asked_from(edge, path + b" HTTP/1.1\r\n" + fields + b"Content-Length: 0\r\n\r\n") == 403


def asked_by(uid: int, edge: LiveEdge, raw: bytes) -> int:
    """The status that a process of another user gets; a fork, for such a user may not be able to read our Python."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 0
        with contextlib.suppress(BaseException):
            os.setuid(uid)
            status = asked_from(edge, raw)
        os.write(writing, str(status).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as told:
        status = int(told.read() or 0)
    os.waitpid(child, 0)
    return status


@pytest.mark.parametrize("path", [b"GET /api/status", b"POST /api/reload", b"POST /smartedge/drain"])
def test_a_process_of_another_user_here_may_not_though_its_request_is_as_ours(edge: LiveEdge, path: bytes) -> None:
    """An nginx with a bare `proxy_pass` sends no X-Forwarded-For and our own address as Host: its client could reload."""
    raw = b"%b HTTP/1.0\r\nHost: 127.0.0.1:%d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" % (path, edge.port)
    if os.geteuid() == 0:
        assert asked_by(65534, edge, raw) == 403
        assert asked_by(65534, edge, raw.replace(path, b"GET /health")) in (200, 503)
    if path != b"POST /smartedge/drain":
        assert asked_by(os.geteuid(), edge, raw) == 200


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1: nothing is sent
            return str(sock.getsockname()[0])
        except OSError:
            return socket.gethostbyname(socket.gethostname())


def test_peers_from_elsewhere_need_admin_allow(tmp_path: Path) -> None:
    address = own_address()
    if address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    port = free_port()
    with Script(answers()) as backend, start_edge(tmp_path, backend, bind=f"0.0.0.0:{port}") as edge:
        url = f"http://{address}:{port}"
        assert ask(f"{url}/").status == 200
        assert ask(f"{url}/health").status == 200
        assert [ask(url + path).status for path in ADMIN] == [403, 403]
        assert ask(f"{url}/api/reload", "POST").status == 403
        edge.configure(backend, admin_allow=[f"{address}/32"])
        assert [ask(url + path).status for path in ADMIN] == [200, 200]


def test_with_a_token_even_loopback_needs_it(tmp_path: Path) -> None:
    environment = {"SMARTEDGE_ADMIN_TOKEN": "s3cret-token"}
    with Script(answers()) as backend, start_edge(tmp_path, backend, env=environment, probed=False) as edge:
        for path in ADMIN:
            assert edge.admin(path).status == 401
            assert edge.admin(path, headers={"Authorization": "Bearer wrong"}).status == 401
            assert edge.admin(path, headers={"Authorization": "Bearer s3cret-token"}).status == 200
            # The token counts for itself: also through a proxy, and under any name.
            foreign = {"Authorization": "Bearer s3cret-token", "Host": "edge.example", "X-Forwarded-For": "1.2.3.4"}
            assert edge.admin(path, headers=foreign).status == 200
        assert edge.admin("/api/reload", "POST").status == 401
        assert edge.admin("/health").status in (200, 503)
        assert "s3cret" not in edge.process.output
        assert "s3cret" not in edge.log_text()
        assert "s3cret" not in edge.admin("/api/status", headers={"Authorization": "Bearer s3cret-token"}).text
        forwarded = edge.ask(headers=b"Authorization: Bearer s3cret-token\r\n")
        assert forwarded.status == 421
        assert backend.requests == []


def test_an_admin_listener_takes_the_pages_off_the_traffic_port(tmp_path: Path) -> None:
    admin_port = free_port()
    with (
        Script(answers()) as backend,
        start_edge(tmp_path, backend, probed=False, arguments=("--admin-bind", f"127.0.0.1:{admin_port}")) as edge,
    ):
        wait_until(lambda: listens(admin_port), 5, "the admin listener")
        admin = f"http://127.0.0.1:{admin_port}"
        assert ask(f"{admin}/api/status").json()["backends"][0]["url"] == backend.url
        for path in (b"/api/status", b"/metrics", b"/smartedge/x"):
            assert edge.ask(path).body == b"hello\n"
        assert [raw.split(b" ")[1] for raw in backend.requests] == [b"/api/status", b"/metrics", b"/smartedge/x"]
        assert ask(f"{admin}/anything").status == 404
        assert len(backend.requests) == 3


# Costs.


def test_idle_memory_stays_below_66_mib(tmp_path: Path) -> None:
    """60 before services, 64 before the page, events, history, traces and trials: their code is what it is."""
    with Script(answers()) as one, Script(answers()) as two, start_edge(tmp_path, one, two) as edge:
        assert edge.memory_bytes() < 66 * 1024 * 1024
        cpu = cpu_s(edge)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 1, 3)
        assert cpu_s(edge) - cpu < 0.2  # idle is idle


def cpu_s(edge: LiveEdge) -> float:
    fields = Path(f"/proc/{edge.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_document_of_the_status_is_json_that_people_can_read(own: LiveEdge) -> None:
    answer = own.admin("/api/status")
    assert answer.header("content-type") == "application/json"
    assert json.loads(answer.body)["workers"][0]["slot"] == 0
    assert answer.text.count("\n") > 10
