"""server1.py and server2.py, run by an interpreter that sees no installed package."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.processes import ROOT, Running, ask, free_port, listens, running, wait_until

# The system's own Python where there is one; -S hides installed packages, -E and -s the user's settings.
PYTHON = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else shutil.which("python3") or "python3"
BARE = (PYTHON, "-S", "-E", "-s")


@contextmanager
def example(*options: str, script: str = "server1.py") -> Iterator[tuple[Running, str]]:
    with running([*BARE, script, "--port", "0", *options], ready=r"^server\d on http://localhost:\d+$") as server:
        yield server, server.lines[0].partition(" on ")[2]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with example() as (_, where):
        yield where


def raw(url: str, request: bytes) -> bytes:
    """All that comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_it_says_which_server_it_is_and_what_was_asked(url: str) -> None:
    answer = ask(f"{url}/some/path?q=1")
    assert answer.status == 200
    assert answer.header("Content-Type") == "text/plain; charset=utf-8"
    assert answer.text.startswith("server1: request ")
    assert answer.text.endswith("GET /some/path?q=1\n")


def test_the_second_server_is_the_same_under_its_own_name() -> None:
    with example(script="server2.py") as (_, where):
        assert ask(where).text.startswith("server2: ")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/json, */*;q=0.5", "application/json"),
        ("application/json;q=0.2, text/plain", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/plain; charset=utf-8"),
        ("application/json;q=0", "text/plain; charset=utf-8"),
    ],
)
def test_it_answers_in_the_form_that_is_accepted(url: str, accept: str, kind: str) -> None:
    assert ask(url, headers={"Accept": accept}).header("Content-Type") == kind


def test_json_tells_server_method_path_and_a_count_that_rises(url: str) -> None:
    first, second = (ask(f"{url}/x", "PUT", body="hey", headers={"Accept": "application/json"}) for _ in "12")
    count = first.json().pop("requests")
    assert second.json() == {
        "server": "server1", "method": "PUT", "path": "/x", "body_bytes": 3, "requests": count + 1
    }  # fmt: skip


def test_answers_have_one_length_so_that_ab_counts_none_as_failed(url: str) -> None:
    assert len({len(ask(url).body) for _ in range(20)}) == 1


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"])
def test_every_method_is_answered(url: str, method: str) -> None:
    assert f" {method} /m" in ask(f"{url}/m", method).text


def test_head_has_the_headers_of_get_and_no_body(url: str) -> None:
    answer = raw(url, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert f"Content-Length: {len(ask(url).body)}".encode() in head
    assert body == b""


def test_echo_sends_the_body_back_with_its_type(url: str) -> None:
    body = os.urandom(3_000_000)
    answer = ask(f"{url}/echo", "POST", body=body, headers={"Content-Type": "image/x-noise"})
    assert answer.body == body
    assert answer.header("Content-Type") == "image/x-noise"


def test_echo_understands_chunks_extensions_and_trailers(url: str) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    answer = raw(url, head + b"3;ext=1\r\nabc\r\n0002\r\nde\r\n0\r\nTrailer: x\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nabcde")


def test_a_body_that_nobody_wants_is_read_and_the_connection_goes_on(url: str) -> None:
    first = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /"
    second = b"GET /second HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = raw(url, first + second)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b"GET /second" in answer


def test_expect_is_answered_before_the_body_comes(url: str) -> None:
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5) as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ok")
        assert connection.recv(1000).endswith(b"\r\n\r\nok")


def test_headers_arrive_as_they_were_sent(url: str) -> None:
    answer = ask(f"{url}/headers", headers={"X-One": "1", "Accept": "application/json"}).json()
    assert ["x-one", "1"] in answer["headers"]


def test_connections_are_kept_alive_for_http_1_1_and_for_1_0_on_request(url: str) -> None:
    assert b"Connection: keep-alive" in raw(url, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Connection: keep-alive" in raw(url, b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
    assert b"Connection: close" in raw(url, b"GET / HTTP/1.0\r\n\r\n")
    assert b"Connection: close" in raw(url, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nName : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\nhello", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_malformed_request_is_refused_and_its_connection_closed(url: str, request_bytes: bytes, status: int) -> None:
    head = raw(url, request_bytes).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head


def test_both_loopback_addresses_are_listened_on(url: str) -> None:
    port = url.rpartition(":")[2]
    assert ask(f"http://127.0.0.1:{port}/").status == 200
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return  # a machine without IPv6
    assert ask(f"http://[::1]:{port}/").status == 200


def test_health_is_200_and_503_when_unhealthy() -> None:
    with example("--unhealthy", script="server2.py") as (_, where):
        assert ask(f"{where}/health").status == 503
        assert ask(where).status == 200
        ask(f"{where}/__control", "POST", body='{"healthy": true}')
        answer = ask(f"{where}/health")
        assert (answer.status, answer.text) == (200, "server2: ok\n")


def test_health_is_not_counted_as_a_request(url: str) -> None:
    def count() -> int:
        return int(ask(url, headers={"Accept": "application/json"}).json()["requests"])

    before = count()
    ask(f"{url}/health")
    assert count() == before + 1


def test_behaviour_is_set_on_the_command_line_and_shown() -> None:
    with example("--delay", "0.3", "--fail-rate", "1") as (_, where):
        shown = {"delay_s": 0.3, "fail_ratio": 1.0, "healthy": True, "running": True}
        assert ask(f"{where}/__control").json() == shown
        started = time.monotonic()
        assert ask(where).status == 500
        assert time.monotonic() - started >= 0.3


def test_behaviour_changes_while_it_runs_and_what_is_not_named_stays() -> None:
    with example() as (_, where):
        changed = ask(f"{where}/__control", "POST", body='{"fail_ratio": 1}')
        assert changed.json() == {"delay_s": 0.0, "fail_ratio": 1, "healthy": True, "running": True}
        assert ask(where).status == 500
        assert ask(f"{where}/__control", "POST", body='{"delay_s": 0.01}').json()["fail_ratio"] == 1
        assert ask(f"{where}/__control", "DELETE").status == 405


@pytest.mark.parametrize(
    ("body", "complaints"),
    [
        ('{"delay_s": -1, "fail_ratio": 2, "healthy": 1}', ["delay_s", "fail_ratio", "healthy"]),
        ('{"healthy": false, "speed": 1}', ["speed: no such setting"]),
        ('{"delay_s": true}', ["delay_s"]),
        ('{"running": 0}', ["running"]),
        ('{"delay_s": NaN}', ["delay_s"]),
        ('{"delay_s": 1e999}', ["delay_s"]),
        ('{"fail_ratio": null, "healthy": false}', ["fail_ratio"]),
        ("[1]", ["object"]),
        ("delay", ["JSON"]),
        ("[" * 100_000, ["JSON"]),
        ("", ["JSON"]),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_with_every_complaint_and_changes_nothing(url: str, body: str, complaints: list[str]) -> None:
    before = ask(f"{url}/__control").json()
    answer = ask(f"{url}/__control", "POST", body=body)
    assert answer.status == 400
    assert all(complaint in answer.json()["error"] for complaint in complaints)
    assert ask(f"{url}/__control").json() == before


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Via", "Forwarded", "Origin"])
def test_control_is_for_those_who_ask_directly(url: str, header: str) -> None:
    answer = ask(f"{url}/__control", "POST", body='{"healthy": false}', headers={header: "http://elsewhere"})
    assert answer.status == 403
    assert ask(f"{url}/health").status == 200


def test_control_is_for_this_machine_only() -> None:
    outside = outside_address()
    if outside is None:
        pytest.skip("this machine has no address but loopback")
    with running([*BARE, "server1.py", "--port", "0", "--host", outside], ready=r"on http://") as server:
        where = server.lines[0].partition(" on ")[2]
        assert ask(where).status == 200
        assert ask(f"{where}/__control").status == 403


def outside_address() -> str | None:
    """An address of this machine that is not loopback; asking the kernel for a route sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


def test_slow_answers_do_not_hold_up_other_clients() -> None:
    with example("--delay", "1") as (_, where):
        answers: list[int] = []
        clients = [threading.Thread(target=lambda: answers.append(ask(where).status)) for _ in range(50)]
        started = time.monotonic()
        for client in clients:
            client.start()
        assert ask(f"{where}/health", timeout_s=0.9).status == 200
        for client in clients:
            client.join()
        assert answers == [200] * 50
        assert time.monotonic() - started < 10  # one after the other they would take 50 s


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly_and_at_once_despite_idle_clients(how: signal.Signals) -> None:
    with example() as (server, where), socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2]))):
        assert server.stop(how, timeout_s=2) == 0
        assert server.lines == [f"server1 on {where}"]


def test_it_can_be_told_to_stop_by_whoever_asks_its_port() -> None:
    """`kill $(pgrep -f server1.py)` in the README's tour ended everybody's."""
    with example() as (server, where):
        told = ask(f"{where}/__control", "POST", body='{"running": false}')
        assert (told.status, told.json()["running"]) == (200, False)
        assert server.wait(2) == 0
        assert server.lines == [f"server1 on {where}"]


def test_an_answer_under_way_is_finished_before_it_ends() -> None:
    with example("--delay", "0.5") as (server, where):
        with socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n")
            assert b"100 Continue" in connection.recv(100)
            server.process.send_signal(signal.SIGTERM)
            assert b" 200 OK" in connection.recv(1000)
        assert server.wait(2) == 0


def test_a_busy_port_is_one_clear_line_and_status_2() -> None:
    with example() as (_, where):
        port = where.rpartition(":")[2]
        second = subprocess.run([*BARE, "server2.py", "--port", port], cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 2
        assert second.stderr == f"server2: localhost:{port} is busy: stop what uses it, or choose another --port\n"


@pytest.mark.parametrize(
    "options",
    [["--delay", "-1"], ["--fail-rate", "1.5"], ["--port", "x"], ["--port", "70000"], ["--name", "a b"]],
)
def test_a_bad_option_is_refused_with_status_2_and_no_traceback(options: list[str]) -> None:
    refused = subprocess.run([*BARE, "server1.py", *options], cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert refused.returncode == 2
    assert refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_port_can_be_chosen() -> None:
    port = free_port()
    with running([*BARE, "server1.py", "--port", str(port)], ready=port):
        assert json.loads(ask(f"http://localhost:{port}/__control").body)["healthy"] is True
    assert wait_until(lambda: not listens(port))
