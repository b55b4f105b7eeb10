"""Who is taken out, who has to stay, and how a backend comes back: breakers, outliers, panic, slow start."""

from __future__ import annotations

import re
import threading
import time

from tests.live.acts import Act, message, serves
from tests.live.edges import LiveEdge, request
from tests.live.peers import Call, Script, answers
from tests.live.processes import wait_until
from tests.live.wire import Request

QUICK = {"interval_s": 0.1, "timeout_s": 0.5, "fall": 1, "rise": 1}
NO_RETRIES = {"statuses": [], "attempts": 1}


def late(seconds: float, body: bytes) -> Act:
    """Answers after a while."""

    def reply(call: Call, _request: Request) -> bytes:
        call.pause(seconds)
        return message(body=body)

    return serves(reply)


def breakers(edge: LiveEdge) -> list[str]:
    """The states of the breakers, in the order of the backends."""
    return [backend["breaker"] for backend in edge.backends()]


def said_of(edge: LiveEdge, backend: Script, words: str) -> list[str]:
    """The lines of the log that say something of a backend."""
    return re.findall(rf"^.*{words}.* {re.escape(backend.url)}.*$", edge.process.output, re.MULTILINE)


def test_a_backend_that_is_much_slower_than_the_others_is_ejected_and_the_log_says_why(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as a, Script(answers(body=b"b")) as b, Script(late(0.05, b"c")) as c:
        own.configure(
            a, b, c, health=QUICK, strategy="round_robin", outliers={"latency_factor": 3, "interval_s": 1, "min_requests": 3}
        )
        wait_until(lambda: own.ask().status == 200 and breakers(own)[2] == "open", 15, "the slow one to be ejected")
        assert breakers(own) == ["closed", "closed", "open"]
        assert {own.ask().body for _ in range(6)} == {b"a", b"b"}
        said = wait_until(lambda: said_of(own, c, "backend ejected"), 5, "the log's line")
        assert len(said) == 1
        assert re.search(r"\(an outlier: median latency \d+\.\d ms, that of the others \d+\.\d ms", said[0])


def test_a_backend_that_fails_more_than_the_others_is_ejected_before_its_breaker_would_open(own: LiveEdge) -> None:
    turns = iter(range(10**9))

    def reply(_call: Call, _request: Request) -> bytes:
        return message(500 if next(turns) % 3 == 0 else 200, body=b"c")

    with Script(answers(body=b"a")) as a, Script(answers(body=b"b")) as b, Script(serves(reply)) as c:
        outliers = {"failure_ratio": 0.2, "interval_s": 1, "min_requests": 3}
        own.configure(a, b, c, health=QUICK, strategy="round_robin", outliers=outliers, retry={"statuses": [500], "attempts": 1})
        wait_until(lambda: own.ask().status and breakers(own)[2] == "open", 15, "the failing one to be ejected")
        assert breakers(own) == ["closed", "closed", "open"]


def test_outliers_that_are_only_observed_are_told_and_counted_and_serve_on(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as a, Script(answers(body=b"b")) as b, Script(late(0.05, b"c")) as c:
        outliers = {"latency_factor": 3, "interval_s": 1, "min_requests": 3, "observe": True}
        own.configure(a, b, c, health=QUICK, strategy="round_robin", outliers=outliers)
        wait_until(lambda: own.ask().status == 200 and said_of(own, c, "would be ejected"), 15, "the slow one to be seen")
        assert breakers(own) == ["closed"] * 3
        assert {own.ask().body for _ in range(6)} == {b"a", b"b", b"c"}
        label = own.backends()[2]["id"]
        assert (
            f'smartedge_backend_observed_ejections_total{{backend="{label}",service="default"}} 0'
            not in own.admin("/metrics").text
        )


def test_a_breaker_that_only_observes_lets_everything_through(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as a, Script(answers(500, body=b"b")) as b:
        own.configure(
            a,
            b,
            health=QUICK,
            strategy="round_robin",
            breaker={"failures": 3, "observe": True},
            retry={"statuses": [500], "attempts": 1},
        )
        failed = 0
        while failed < 7:  # the first is nobody else's yet; a failing one gets less of its turns, but it gets them
            failed += own.ask().status == 500
            assert breakers(own) == ["closed", "closed"]
        wait_until(lambda: len(said_of(own, b, "only observe")) > 1, 5, "the second line")
        assert len(said_of(own, b, "only observe")) == 2


def test_no_more_are_ejected_than_the_ceiling_says(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as a, Script(answers(500)) as b, Script(answers(500)) as c, Script(answers(500)) as d:
        breaker = {"failures": 2, "max_ejected_ratio": 0.5}
        own.configure(a, b, c, d, health=QUICK, strategy="round_robin", breaker=breaker, retry={"statuses": [500], "attempts": 1})
        for _ in range(40):
            own.ask()
        assert sorted(breakers(own)) == ["closed", "closed", "open", "open"]


def test_with_too_few_left_panic_decides_who_serves(own: LiveEdge) -> None:
    """Two of three fail: `all` asks them again, `fail` leaves it to the one."""
    served = {}
    for panic in ("all", "fail"):
        with Script(answers(body=b"a")) as a, Script(answers(500, body=b"b")) as b, Script(answers(500, body=b"c")) as c:
            retry = {"statuses": [500], "attempts": 1}
            own.configure(a, b, c, health=QUICK, strategy="round_robin", breaker={"failures": 2}, retry=retry, panic=panic)
            wait_until(lambda: own.ask().status and breakers(own) == ["closed", "open", "open"], 10, "both to be ejected")
            served[panic] = {own.ask().body for _ in range(9)}
    assert served == {"all": {b"a", b"b", b"c"}, "fail": {b"a"}}


def test_a_backend_that_comes_back_starts_slowly(own: LiveEdge) -> None:
    with Script(answers(body=b"a")) as a, Script(answers(body=b"b"), health=answers(503)) as b:
        own.configure(a, b, health=QUICK, strategy="round_robin", slow_start_s=300)
        b.health = answers(200)
        wait_until(lambda: own.backends()[1]["health"] == "healthy", 5, "the rise")
        first, second = own.backends()
        # a too is new since the reload: both grow at the same pace, b from a moment later
        assert 0.1 <= second["effective_weight"] <= first["effective_weight"] < 0.2
        assert (first["weight"], second["weight"]) == (1, 1)


def test_a_pause_is_no_crime_and_the_log_tells_of_both_its_ends(own: LiveEdge) -> None:
    """A collector's pause of 0.4 s cost its backend the breaker's term of 5 s."""
    paused = threading.Event()

    def reply(call: Call, asked: Request) -> bytes:
        while paused.is_set() and asked.target != b"/health":
            call.pause(0.01)
        return message(body=b"a")

    with Script(serves(reply)) as a, Script(answers(body=b"b")) as b:
        own.configure(a, b, strategy="round_robin")
        for _ in range(20):
            own.ask()
        paused.set()
        clients = [own.client() for _ in range(16)]
        for client in clients:
            client.send(request())
        assert {client.answer().status for client in clients} == {200}
        assert (own.backends()[0]["why_not"], own.backends()[0]["breaker"]) == ("silent", "closed")
        assert {own.ask().body for _ in range(4)} == {b"b"}
        paused.clear()
        wait_until(lambda: own.backends()[0]["available"], 5, "its first overdue answer")
        assert {own.ask().body for _ in range(4)} == {b"a", b"b"}
        wait_until(lambda: said_of(own, a, "is back"), 5, "the log")
        assert "requests overdue" in said_of(own, a, "fallen silent")[0]
        for client in clients:
            client.close()


def test_ten_long_polls_of_sticky_clients_beside_quick_requests_eject_nobody_and_are_not_moved(own: LiveEdge) -> None:
    """After a second a sound backend was ejected, and 20 of 20 polls were moved."""

    def reply(call: Call, asked: Request) -> bytes:
        if asked.target == b"/poll":
            call.pause(1.5)
        return message(body=asked.target)

    with Script(serves(reply)) as a, Script(serves(reply)) as b:
        own.configure(a, b, sticky={"cookie": "SRV"})
        mine = next(answer for answer in iter(own.ask, None) if a.requests)
        cookie = (mine.get(b"set-cookie") or b"").partition(b";")[0]
        pollers = [own.client() for _ in range(10)]
        for poller in pollers:
            poller.send(request(b"/poll", headers=b"Cookie: %b\r\n" % cookie))
        ended = time.monotonic() + 1.4
        while time.monotonic() < ended:
            assert own.ask(b"/quick").status == 200
            assert [backend["why_not"] for backend in own.backends()] == [None, None]
        assert {poller.answer().body for poller in pollers} == {b"/poll"}
        assert sum(b"/poll" in seen for seen in [*a.requests, *b.requests]) == 10
        for poller in pollers:
            poller.close()
