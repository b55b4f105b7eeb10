"""More than the backends can do, or than a client may ask: caps, the queue, rate limits, deadlines, Retry-After."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.live.edges import LiveEdge, request, start_edge
from tests.live.peers import Answer, Call, Script, answers, closes_without_answer, garbage, message, never_answers
from tests.live.processes import wait_until


def slowly(call: Call) -> None:
    """Take 0.3 s for each request."""
    while call.request():
        call.pause(0.3)
        call.send(message(body=b"done"))


def together(edge: LiveEdge, count: int) -> list[Answer]:
    """So many requests at once, each on a connection of its own."""
    found: list[Answer] = []
    threads = [threading.Thread(target=lambda: found.append(edge.ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return found


class Counting:
    """An act that knows how many requests it had at once."""

    def __init__(self) -> None:
        self.most = self.now = 0
        self._lock = threading.Lock()

    def __call__(self, call: Call) -> None:
        while call.request():
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            call.pause(0.2)
            with self._lock:
                self.now -= 1
            call.send(message(body=b"done"))


# The cap and the queue.


def test_a_backend_gets_no_more_than_it_may_and_the_others_wait(own: LiveEdge) -> None:
    act = Counting()
    with Script(act) as backend:
        own.configure(backend, limits={"in_flight_per_backend": 2, "queue_s": 10})
        assert [answer.status for answer in together(own, 8)] == [200] * 8
        assert act.most == 2
        metrics = own.admin("/metrics").text
        assert 'smartedge_queued_requests{service="default"} 0.0' in metrics


def test_a_full_queue_answers_503_and_says_when_to_come_back(own: LiveEdge) -> None:
    with Script(slowly) as backend:
        own.configure(backend, limits={"in_flight_per_backend": 1, "queue": 2, "queue_s": 10})
        found = together(own, 6)
        assert sorted(answer.status for answer in found) == [200] * 3 + [503] * 3
        assert {answer.get(b"retry-after") for answer in found if answer.status == 503} == {b"1"}


def test_who_has_waited_long_enough_gets_503(own: LiveEdge) -> None:
    with Script(never_answers()) as backend:
        own.configure(backend, limits={"in_flight_per_backend": 1, "queue_s": 0.2}, timeouts={"first_byte_s": 1.5})
        found = together(own, 3)
        assert sorted(answer.status for answer in found) == [503, 503, 504]


def test_the_time_in_the_queue_is_part_of_the_time_for_all_tries(own: LiveEdge) -> None:
    """Each had waited for the one before it to time out, and then as long again."""
    with Script(never_answers()) as backend:
        limits, retry = {"in_flight_per_backend": 1, "queue_s": 20}, {"deadline_s": 1}
        own.configure(backend, limits=limits, retry=retry, timeouts={"first_byte_s": 1.5})
        started = time.monotonic()
        found = together(own, 3)
        assert time.monotonic() - started < 2.5  # and not 3 s, or 4.5
        # One that began a moment after the first one is sent in the last moment of its own time, and gets a 504, too.
        statuses = [answer.status for answer in found]
        assert statuses.count(504) >= 1
        assert set(statuses) <= {503, 504}


def test_a_backends_own_number_goes_before_the_common_one(own: LiveEdge) -> None:
    acts = [Counting(), Counting()]
    with Script(acts[0]) as one, Script(acts[1]) as two:
        own.configure({"url": one, "max_in_flight": 3}, two, limits={"in_flight_per_backend": 1, "queue_s": 10})
        assert [answer.status for answer in together(own, 12)] == [200] * 12
        assert (acts[0].most, acts[1].most) == (3, 1)


def test_a_client_that_leaves_the_queue_is_never_forwarded(own: LiveEdge) -> None:
    with Script(slowly) as backend:
        own.configure(backend, limits={"in_flight_per_backend": 1, "queue_s": 10})
        with own.client() as first, own.client() as gone:
            first.send(request(b"/first"))
            wait_until(lambda: backend.requests, 5, "the first")
            gone.send(request(b"/gone"))
            wait_until(lambda: 'smartedge_queued_requests{service="default"} 1.0' in own.admin("/metrics").text, 5, "it to wait")
            gone.reset()
            assert first.answer().status == 200
        assert own.log(path="/gone")["status"] == 499
        own.settled()
        assert len(backend.requests) == 1


def test_an_adaptive_cap_lets_through_what_a_backend_can_do(own: LiveEdge) -> None:
    with Script(answers(body=b"quick")) as backend:
        own.configure(backend, limits={"in_flight_per_backend": "adaptive"})
        assert [answer.status for answer in together(own, 30)] == [200] * 30


def test_two_workers_keep_to_one_cap_and_one_rate(tmp_path: Path) -> None:
    act = Counting()
    with (
        Script(act) as backend,
        start_edge(
            tmp_path,
            backend,
            arguments=("--workers", "2"),
            limits={"in_flight_per_backend": 2, "queue_s": 20},
            rate_limit={"per_s": 0.01, "burst": 20},
        ) as edge,
    ):
        found = list(itertools.chain(*(together(edge, 15) for _ in range(2))))
        statuses = Counter(answer.status for answer in found)
        assert statuses.keys() == {200, 429}
        assert 20 <= statuses[200] <= 22  # no lock is held for it: two workers may let one through in the same moment
        # Each worker sees the other's leases a moment after they are taken.
        assert act.most <= 3


# Rate limits.


def test_a_client_that_asks_too_often_is_told_when_to_come_back(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend, rate_limit={"per_s": 0.5, "burst": 3, "by": "header:X-Api-Key"})
        key = b"X-Api-Key: %x\r\n" % time.monotonic_ns()
        assert [own.ask(headers=key).status for _ in range(3)] == [200] * 3
        refused = own.ask(b"/once-more", headers=key)
        assert refused.status == 429
        assert refused.get(b"content-type") == b"application/problem+json"
        assert 1 <= int(refused.get(b"retry-after") or b"0") <= 2
        assert own.ask(headers=b"X-Api-Key: another %x\r\n" % time.monotonic_ns()).status == 200
        assert len(backend.requests) == 4
        assert own.log(path="/once-more")["status"] == 429
        metrics = own.admin("/metrics").text
        assert 'smartedge_rate_limited_total{service="default"} 0.0' not in metrics
        wait_until(lambda: own.ask(headers=key).status == 200, 5, "a token")


def test_the_client_is_who_trusted_proxies_say_it_is(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend, rate_limit={"per_s": 0.01, "burst": 1}, trusted_proxies=["127.0.0.0/8"])
        stamp = time.monotonic_ns() % 250
        for last in (1, 2):
            line = b"X-Forwarded-For: 6.6.6.6, 198.51.%d.%d\r\n" % (stamp, last)
            assert [own.ask(headers=line).status for _ in range(2)] == [200, 429]


def test_the_edges_own_pages_are_not_limited(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend, rate_limit={"per_s": 0.001, "burst": 1})
        assert {own.admin("/health").status for _ in range(5)} == {200}


def test_a_reload_to_a_wider_limit_holds_at_once(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend, rate_limit={"per_s": 0.001, "burst": 1})
        own.ask()
        assert own.ask().status == 429
        own.configure(backend, rate_limit={"per_s": 1000})
        wait_until(lambda: own.ask().status == 200, 5, "the wider limit")
        own.configure(backend)
        assert {own.ask().status for _ in range(20)} == {200}


# Deadlines.


def test_all_tries_together_end_with_the_deadline(own: LiveEdge) -> None:
    def fails_late(call: Call) -> None:
        call.request()
        call.pause(0.6)

    with Script(fails_late) as bad, Script(never_answers()) as hung:
        own.configure(bad, hung, retry={"deadline_s": 1.2}, timeouts={"first_byte_s": 8})
        started = time.monotonic()
        answers_ = [own.ask() for _ in range(2)]
        assert [answer.status for answer in answers_] == [504, 504]
        assert time.monotonic() - started < 6
        own.settled()
        # The second try had less than a backend's time, so nothing is said against it.
        assert sum(backend["failed"] for backend in own.backends()) <= 3


def test_a_deadline_below_the_first_byte_time_is_the_time_for_one_try(own: LiveEdge) -> None:
    with Script(never_answers()) as hung:
        own.configure(hung, retry={"deadline_s": 0.5}, timeouts={"first_byte_s": 8})
        started = time.monotonic()
        assert own.ask().status == 504
        assert time.monotonic() - started < 3


# What backends say.


@pytest.mark.parametrize("said", ["60", "-1", "1e9", "soon", "99999999999999999999"])
def test_what_one_answer_asks_for_is_no_law_for_other_requests(own: LiveEdge, said: str) -> None:
    with Script(answers(503, [("Retry-After", said)], b"later")) as odd, Script(answers(body=b"good")) as good:
        own.configure(odd, good, strategy="round_robin", breaker={"failures": 1000, "min_requests": 1000})
        assert {own.ask().body for _ in range(10)} == {b"good"}
        assert len(odd.requests) >= 4


def test_a_body_that_was_promised_and_never_came_cuts_that_client_and_nobody_else(own: LiveEdge) -> None:
    lie = garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nnot much")
    with Script(lie) as liar, Script(answers(body=b"good")) as good:
        own.configure(liar, good)
        for _ in range(4):
            answer = own.raw(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert answer.endswith((b"good", b"not much"))
        memory = own.memory_bytes()
        assert memory < 1 << 30


def test_what_waits_on_a_backend_that_falls_silent_is_tried_elsewhere_long_before_it_times_out(own: LiveEdge) -> None:
    with Script(never_answers()) as hung, Script(answers(body=b"good")) as good:
        own.configure(hung, good, timeouts={"first_byte_s": 20}, breaker={"open_s": 60})
        clients = [own.client() for _ in range(14)]
        started = time.monotonic()
        for client in clients:
            client.send(request())
        assert {client.answer().body for client in clients} == {b"good"}
        assert time.monotonic() - started < 3
        assert (own.backends()[0]["why_not"], own.backends()[0]["breaker"]) == ("silent", "closed")
        stuck = len(hung.requests)
        assert {own.ask().body for _ in range(10)} == {b"good"}
        assert len(hung.requests) == stuck
        for client in clients:
            client.close()


def test_what_must_not_run_twice_stays_with_a_backend_that_falls_silent(own: LiveEdge) -> None:
    with Script(never_answers()) as hung, Script(answers(body=b"good")) as good:
        own.configure(hung, good, timeouts={"first_byte_s": 3}, breaker={"open_s": 60})
        clients = [own.client() for _ in range(12)]
        for client in clients:
            client.send(request(method=b"POST", body=b"order"))
        found = sorted(client.answer().status for client in clients)
        assert len(hung.requests) + len(good.requests) == 12
        assert found == [200] * len(good.requests) + [504] * len(hung.requests)
        for client in clients:
            client.close()


def test_refused_connections_are_tried_elsewhere_whatever_the_budget(own: LiveEdge) -> None:
    with Script(closes_without_answer()) as bad, Script(answers(body=b"good")) as good:
        own.configure(bad, good, retry={"budget_ratio": 0, "budget_per_s": 0}, breaker={"failures": 1000})
        wait_until(lambda: own.ask().status == 502, 15, "what earlier requests have paid in to be used up")
        bad.refuse()
        assert {own.ask().status for _ in range(4)} == {200}
