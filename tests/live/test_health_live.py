"""Backends that go and come: probes, flips and their lines, and what traffic notices of it (nothing)."""

from __future__ import annotations

import contextlib
import re
import threading
import time

from tests.live.edges import LiveEdge
from tests.live.peers import Call, Script, answers, message, never_answers, refused_port
from tests.live.processes import wait_until
from tests.live.steady import SteadyLoad

QUICK = {"interval_s": 0.1, "timeout_s": 0.2, "fall": 2, "rise": 2}


def lines_about(edge: LiveEdge, backend: Script) -> list[str]:
    """What was printed about a backend since its port came into the configuration."""
    return re.findall(rf"^(. {re.escape(backend.url)} \w+)$", edge.output, re.MULTILINE)


def test_flips_are_told_once_with_the_lines_that_people_look_for(own: LiveEdge) -> None:
    with Script() as stays, Script() as flips:
        own.configure(stays, flips, health=QUICK)
        up, down = f"✅ {flips.url} OK", f"❌ {flips.url} Offline"
        wait_until(lambda: lines_about(own, flips) == [up], 5, "the lines")  # they are written by a thread of their own
        flips.refuse()
        wait_until(lambda: own.backends()[1]["health"] == "unhealthy", 5, "the fall")
        wait_until(lambda: lines_about(own, flips) == [up, down], 5, "the lines")  # they are written by a thread of their own
        probes = stays.probes
        wait_until(lambda: stays.probes > probes + 5, 5, "some more probes")
        wait_until(lambda: lines_about(own, flips) == [up, down], 5, "the lines")  # they are written by a thread of their own
        flips.accept()
        wait_until(lambda: own.backends()[1]["health"] == "healthy", 5, "the rise")
        wait_until(lambda: lines_about(own, flips) == [up, down, up], 5, "the lines")  # they are written by a thread of their own
        wait_until(
            lambda: lines_about(own, stays) == [f"✅ {stays.url} OK"], 5, "the lines"
        )  # they are written by a thread of their own


def test_a_backend_that_is_down_at_the_start_gets_no_traffic(own: LiveEdge) -> None:
    with Script(answers(body=b"up")) as up, Script(answers(body=b"down"), health=answers(500)) as down:
        own.configure(up, down, health=QUICK)
        wait_until(
            lambda: lines_about(own, down) == [f"❌ {down.url} Offline"], 5, "the lines"
        )  # they are written by a thread of their own
        assert [own.ask().body for _ in range(10)] == [b"up"] * 10
        assert down.requests == []


def test_a_backend_serves_when_its_probes_say_so_and_gets_its_share(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as one, Script(answers(body=b"b"), health=answers(503)) as other:
        own.configure(one, other, health=QUICK)
        assert own.ask().body == b"a"
        other.health = answers(200)
        wait_until(lambda: own.backends()[1]["health"] == "healthy", 5, "the rise")
        served = b"".join(own.ask().body for _ in range(20))
        assert min(served.count(b"a"), served.count(b"b")) >= 5, "its share, while the strategy learns what each of them takes"


def test_when_every_backend_is_down_it_is_503_until_one_is_back(own: LiveEdge) -> None:
    with Script(health=answers(500)) as one, Script(health=answers(500)) as other:
        own.configure(one, other, health=QUICK)
        answer = own.ask()
        assert (answer.status, answer.get(b"content-type")) == (503, b"application/problem+json")
        assert int(answer.get(b"retry-after") or b"0") >= 1
        health = own.admin("/health")
        assert (health.status, health.json()["up"], health.json()["total"]) == (503, 0, 2)
        one.health = answers(200)
        wait_until(lambda: own.ask().status == 200, 5, "the way back")
        wait_until(lambda: own.admin("/health").status == 200, 5, "the second good probe")


def test_path_and_statuses_of_probes_are_the_operators(own: LiveEdge) -> None:
    asked: list[bytes] = []

    def act(call: Call) -> None:
        while request := call.request():
            asked.append(request.target)
            call.send(b"HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n")

    with Script(act, health=None) as odd, Script() as plain:
        own.configure({"url": odd, "health": {"path": "/alive?deep", "statuses": [418]}}, plain, health=QUICK)
        assert [backend["health"] for backend in own.backends()] == ["healthy", "healthy"]
        assert set(asked) == {b"/alive?deep"}
        assert plain.probes > 0


def test_a_silent_probe_fails_after_its_timeout(own: LiveEdge) -> None:
    with Script() as up, Script(health=never_answers()) as silent:
        own.configure(up, silent, health=QUICK)
        told = own.backends()[1]
        assert told["health"] == "unhealthy"
        assert told["last_check"]["ok"] is False


def test_a_killed_backend_costs_no_request(own: LiveEdge) -> None:
    with Script(answers()) as stays, Script(answers()) as dies:
        own.configure(stays, dies, health=QUICK)
        statuses: list[int] = []
        done = threading.Event()

        def client() -> None:
            while not done.is_set():
                statuses.append(own.ask().status)

        clients = [threading.Thread(target=client) for _ in range(3)]
        for thread in clients:
            thread.start()
        try:
            wait_until(lambda: len(statuses) > 50, 5, "traffic")
            dies.refuse()
            wait_until(lambda: own.backends()[1]["health"] == "unhealthy", 5, "the fall")
            dies.accept()
            wait_until(lambda: own.backends()[1]["health"] == "healthy", 5, "the rise")
            served = len(dies.requests)
            wait_until(lambda: len(dies.requests) > served + 20, 5, "its share")
        finally:
            done.set()
            for thread in clients:
                thread.join(5)
        assert set(statuses) == {200}


def test_traffic_that_cannot_connect_has_the_backend_probed_soon(own: LiveEdge) -> None:
    """With probes 60 s apart, the refusals that requests meet bring the next one forward."""
    with Script(answers()) as stays, Script(answers()) as dies:
        own.configure(stays, dies, health={"interval_s": 60, "fall": 1})
        dies.refuse()
        statuses = {own.ask().status for _ in range(4)}
        wait_until(lambda: own.backends()[1]["health"] == "unhealthy", 5, "a probe long before its time")
        assert statuses == {200}


def test_an_address_that_refuses_is_told_offline_at_once(own: LiveEdge) -> None:
    with refused_port() as nowhere, Script() as up:
        own.configure(up, f"http://127.0.0.1:{nowhere}", health=QUICK)
        own.process.wait_for(f"❌ http://127.0.0.1:{nowhere} Offline")


def test_an_application_without_a_health_page_is_served_from(own: LiveEdge) -> None:
    """Every request was 503, and the log said only Offline."""

    def act(call: Call) -> None:
        while request := call.request():
            call.send(message(404 if request.target == b"/health" else 200, body=b"hello"))

    with Script(act, health=None) as app:
        own.configure(app)
        wait_until(
            lambda: lines_about(own, app) == [f"✅ {app.url} OK"], 5, "the lines"
        )  # they are written by a thread of their own
        assert (own.ask().status, own.ask().body) == (200, b"hello")


def test_the_reason_is_told_below_the_line_in_the_status_and_in_the_503(own: LiveEdge) -> None:
    with refused_port() as nowhere:
        own.configure(f"http://127.0.0.1:{nowhere}", health={"interval_s": 0.1}, retry={"wait_s": 0.1})
        told = f"❌ http://127.0.0.1:{nowhere} Offline\n   GET /health: connection refused\n"
        own.process.wait_for(re.escape(told))
        answer = own.ask()
        assert answer.status == 503
        assert b"1 unhealthy (GET /health: connection refused)" in answer.body
        assert own.process.output.count(told) == 1


def test_a_backend_that_refuses_the_probes_host_serves_from_the_first_clients_on(own: LiveEdge) -> None:
    """As Django does with ALLOWED_HOSTS: no probe was ever good, and what is wrong was written nowhere."""

    def act(call: Call) -> None:
        while request := call.request():
            known = request.get(b"host") == b"shop.example"
            call.send(message(200, body=b"shop") if known else message(400, body=b"<title>Bad Request (400)</title>"))

    with Script(act, health=None) as app:
        own.configure(app, health={"path": "/ready", "interval_s": 0.2})
        own.process.wait_for("Django's ALLOWED_HOSTS refuses the Host")
        with contextlib.closing(own.client()) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
            answer = client.answer()
        assert (answer.status, answer.body) == (200, b"shop")
        wait_until(lambda: own.backends()[0]["health"] == "healthy", 5, "the rise")


def test_a_rolling_restart_of_two_costs_no_request_and_a_lone_backend_is_waited_for(own: LiveEdge) -> None:
    """On the defaults 96 of 432 requests got 503 although one backend was up at every moment."""
    with Script(answers()) as one, Script(answers()) as two:
        own.configure(one, two)
        with SteadyLoad(own.port, clients=4) as load:
            for backend in (one, two):
                backend.refuse()
                time.sleep(1.0)  # so long is it away; nothing else tells the edge
                backend.accept()
                time.sleep(0.5)
        assert load.answered > 100
        assert load.failures == []
        own.configure(one)
        one.refuse()
        threading.Timer(0.3, one.accept).start()
        assert own.ask().status == 200
