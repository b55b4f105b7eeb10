"""Hedged requests: late answers, hangs and failures on either side of the race, for real."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import Any

from tests.live.acts import Act
from tests.live.edges import LiveEdge, request
from tests.live.peers import (
    Call,
    Script,
    answers,
    head,
    message,
    never_answers,
)
from tests.live.processes import wait_until

HEDGED: dict[str, Any] = {"retry": {"hedge": True}, "timeouts": {"first_byte_s": 8}, "breaker": {"failures": 1000}}
"""The breaker is kept out of it: what is seen is the race's doing."""


def after(seconds: float, raw: bytes) -> Act:
    """Answer every request late."""

    def act(call: Call) -> None:
        while call.request():
            call.pause(seconds)
            call.send(raw)

    return act


def first_and_hedge(first: Callable[[Call], object], hedge: Callable[[Call], object]) -> Act:
    """Play `first` on the request that comes first, to whichever backend that plays this, and `hedge` on the next.

    Which backend is first is chance's, and when a hedge comes depends on what earlier tests asked for: an edge has room for so
    many kinds, and files others with their siblings. So each waits for what the other does, and not for a time.
    """
    came = count()

    def act(call: Call) -> None:
        if call.request():
            (hedge if next(came) else first)(call)

    return act


def race(edge: LiveEdge, *acts: Script, **settings: Any) -> None:
    """Have it forward to these."""
    edge.configure(*acts, **(HEDGED | settings))


def test_a_hang_costs_a_get_the_hedge_delay_and_no_error(own: LiveEdge) -> None:
    with Script(never_answers()) as hung, Script(answers(body=b"good")) as good:
        race(own, hung, good)
        for number in range(6):
            answer = own.ask(b"/%d" % number)
            assert (answer.status, answer.body) == (200, b"good")
        assert len(hung.requests) >= 1
        own.settled()
        wait_until(lambda: hung.open_connections == 0, 5, "the try that lost to be closed")
        a, b = own.backends()
        assert (a["failed"], b["failed"]) == (0, 0)
        line = next(own.log(path=f"/{number}") for number in range(6) if f"GET /{number} ".encode() in hung.requests[0])
        assert (line["try_count"], line["hedges"], line["backend"]) == (2, 1, b["id"])
        metrics = own.admin("/metrics").text
        assert f'smartedge_hedges_won_total{{backend="{b["id"]}",service="default"}} {float(len(hung.requests))}' in metrics


def test_a_hedge_that_is_slower_than_the_first_is_given_up(own: LiveEdge) -> None:
    both: list[Script] = []

    def answers_late(call: Call) -> None:
        wait_until(lambda: all(one.requests for one in both), 10, "the hedge")
        call.send(message(body=b"first"))

    act = first_and_hedge(answers_late, Call.stall)
    with Script(act) as one, Script(act) as two:
        both += [one, two]
        race(own, one, two)
        assert own.ask(b"/one").body == b"first"
        own.settled()
        wait_until(lambda: one.open_connections + two.open_connections == 0, 5, "the hedge to be closed")


def test_what_must_not_run_twice_is_not_hedged(own: LiveEdge) -> None:
    with Script(after(1.5, message(body=b"late"))) as one, Script(after(1.5, message(body=b"late"))) as two:
        race(own, one, two)
        assert own.ask(b"/", b"POST", body=b"order").body == b"late"
        assert len(one.requests) + len(two.requests) == 1


def test_a_small_body_goes_to_both_whole(own: LiveEdge) -> None:
    with Script(never_answers()) as hung, Script(answers(body=b"good")) as good:
        race(own, hung, good)
        for _ in range(2):
            assert own.ask(b"/", b"PUT", body=b"s" * 50_000).body == b"good"
        assert all(seen.endswith(b"\r\n\r\n" + b"s" * 50_000) for seen in hung.requests + good.requests)
        assert len(hung.requests) == 1


def test_a_body_that_is_too_large_to_keep_goes_to_one(own: LiveEdge) -> None:
    with Script(after(1.5, message(body=b"late"))) as one, Script(after(1.5, message(body=b"late"))) as two:
        race(own, one, two)
        assert own.ask(b"/", b"PUT", body=b"l" * 200_000).body == b"late"
        assert len(one.requests) + len(two.requests) == 1


def test_a_body_that_is_still_coming_is_not_hedged_before_its_end(own: LiveEdge) -> None:
    with Script(never_answers()) as hung, Script(answers(body=b"good")) as good, own.client() as client:
        race(own, hung, hung.url.replace("127.0.0.1", "localhost"), good)
        client.send(b"PUT / HTTP/1.1\r\nHost: edge.test\r\nContent-Length: 6\r\n\r\nabc")
        time.sleep(1.3)  # longer than the delay
        assert len(good.requests) == 0
        client.send(b"def")
        assert client.answer().body == b"good"
        assert good.requests[0].endswith(b"abcdef")


def test_when_all_hang_the_client_hears_of_a_timeout_and_no_more_than_attempts_were_made(own: LiveEdge) -> None:
    with Script(never_answers()) as one, Script(never_answers()) as two, Script(never_answers()) as three:
        race(own, one, two, three, retry={"hedge": True, "attempts": 2}, timeouts={"first_byte_s": 1.5})
        assert own.ask(b"/hang").status == 504
        assert len(one.requests + two.requests + three.requests) == 2
        assert own.log(path="/hang")["try_count"] == 2


def test_a_first_try_that_fails_while_its_hedge_is_under_way_is_forgotten(own: LiveEdge) -> None:
    """The hedge has come before the first try fails, and is answered after that, however long either takes on this machine."""
    both: list[Script] = []

    def fails_late(_: Call) -> None:
        wait_until(lambda: all(one.requests for one in both), 10, "the hedge")

    def answers_later(call: Call) -> None:
        a_failure(own)
        call.send(message(body=b"good"))

    act = first_and_hedge(fails_late, answers_later)
    with Script(act) as one, Script(act) as two:
        both += [one, two]
        race(own, one, two)
        assert own.ask(b"/first").body == b"good"
        assert tries(own, "/first") == [("first", "failed"), ("hedge", "ok")]


def test_a_hedge_that_fails_leaves_the_first_try_alone(own: LiveEdge) -> None:
    """The first is answered once the hedge has failed: after 1.5 s it was, sometimes, before there was one."""

    def answers_late(call: Call) -> None:
        a_failure(own)
        call.send(message(body=b"slow"))

    act = first_and_hedge(answers_late, lambda _: None)
    with Script(act) as one, Script(act) as two:
        race(own, one, two)
        assert own.ask(b"/three").body == b"slow"
        assert tries(own, "/three") == [("first", "ok"), ("hedge", "failed")]


def a_failure(edge: LiveEdge) -> None:
    wait_until(lambda: any(one["failed"] for one in edge.backends()), 10, "the failure to be noted")


def tries(edge: LiveEdge, path: str) -> list[tuple[str, str]]:
    return [(one["kind"], one["outcome"]) for one in edge.log(path=path)["tries"]]


def test_a_hedge_that_answers_with_a_failure_is_used_only_when_nothing_better_comes(own: LiveEdge) -> None:
    with Script(after(1.5, message(body=b"slow"))) as slow, Script(answers(503, body=b"sorry")) as bad:
        race(own, slow, bad)
        assert own.ask().body == b"slow"
    with Script(after(1.4, message(503, body=b"first"))) as one, Script(answers(503, body=b"second")) as two:
        race(own, one, two)
        answer = own.ask()
        assert answer.status == 503
        assert answer.body in (b"first", b"second")


def test_an_interim_answer_ends_the_race(own: LiveEdge) -> None:
    def hints(call: Call) -> None:
        while call.request():
            call.send(head(103, [("Link", "</a.css>; rel=preload")]))
            call.pause(1.5)
            call.send(message(body=b"hinted"))

    with Script(hints) as one, Script(hints) as two:
        race(own, one, two)
        assert own.ask().body == b"hinted"
        if own.server != "gevent":  # gunicorn's own loop passes no 103 on, so nothing is heard of it
            assert len(one.requests) + len(two.requests) == 1


def test_a_client_that_leaves_ends_both_tries(own: LiveEdge) -> None:
    with Script(never_answers()) as one, Script(never_answers()) as two:
        race(own, one, two)
        with own.client() as client:
            client.send(request(b"/left"))
            wait_until(lambda: one.requests and two.requests, 10, "the hedge")
            client.reset()
        wait_until(lambda: one.open_connections + two.open_connections == 0, 5, "both tries to be closed")
        own.settled()
        line = own.log(path="/left")
        assert (line["status"], line["try_count"]) == (499, 2)
        assert [backend["failed"] for backend in own.backends()] == [0, 0]


def test_a_streamed_answer_of_a_hedge_comes_whole(own: LiveEdge) -> None:
    def streams(call: Call) -> None:
        while call.request():
            call.send(head(200, [("Content-Length", "300000")]))
            for _ in range(30):
                call.send(b"z" * 10_000)
                call.pause(0.01)

    with Script(never_answers()) as hung, Script(streams) as good:
        race(own, hung, good)
        assert [len(own.ask().body) for _ in range(2)] == [300_000, 300_000]
        assert len(hung.requests) == 1


def test_a_backend_that_hangs_with_every_request_is_ejected_though_nothing_is_seen_to_time_out(own: LiveEdge) -> None:
    """After five in a row, and a second: it had 14 requests, which took less where earlier tests had asked for quick ones."""
    with Script(never_answers()) as hung, Script(answers(body=b"good")) as good:
        race(own, hung, good, breaker={"failures": 5, "open_s": 60}, strategy="round_robin")
        until = time.monotonic() + 60
        while own.backends()[0]["breaker"] != "open":
            assert time.monotonic() < until, own.backends()[0]
            assert own.ask().body == b"good"
        seen = own.backends()[0]
        assert (seen["failed"], seen["outrun"] >= 5) == (0, True)
        asked = len(hung.requests)
        assert [own.ask().body for _ in range(4)] == [b"good"] * 4
        assert len(hung.requests) == asked
