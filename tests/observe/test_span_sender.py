"""Spans on their way: none holds a request up, and what is lost is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gevent
import pytest
from gevent.event import Event

from smartedge.observe.span_sender import BATCH, SendFailed, SpanSender
from smartedge.observe.spans import SpanRecord
from tests.house import until


def spans(count: int = 1) -> list[SpanRecord]:
    return [SpanRecord("1" * 32, f"{number:016x}", "", "", "server", "GET", 1, 2, {}, None) for number in range(count)]


class Post:
    """What a collector makes of each batch: an exception is raised, a number is how many it refuses; the last again and again."""

    def __init__(self, *script: int | Exception) -> None:
        self.script = list(script) or [0]
        self.batches: list[int] = []
        self.goes_on = Event()
        self.goes_on.set()

    def __call__(self, batch: Sequence[SpanRecord]) -> int:
        self.batches.append(len(batch))
        self.goes_on.wait(60)
        what = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(what, Exception):
            raise what
        return what


def sender(post: Post, room: int = 1000, **more: Any) -> SpanSender:
    return SpanSender("http://c/v1/traces", post, room, **({"gather_s": 0.0, "pauses_s": (0.0, 0.0)} | more))


def test_spans_are_sent_together() -> None:
    post = Post()
    made = sender(post)
    made.put(spans(2))
    made.put(spans(3))
    until(lambda: made.sent == 5, 20)
    made.put(spans(1))
    until(lambda: made.sent == 6, 20)
    assert (post.batches, made.lost) == ([5, 1], 0)
    made.close()


def test_many_are_sent_at_once_without_waiting_for_more_and_in_pieces() -> None:
    post = Post()
    made = sender(post, gather_s=3600.0)
    made.put(spans(2 * BATCH))
    until(lambda: made.sent == 2 * BATCH, 20)
    assert post.batches == [BATCH, BATCH]
    made.close()


def test_what_there_is_no_room_for_is_lost_and_told_once() -> None:
    post = Post()
    post.goes_on.clear()
    made = sender(post, room=4)
    made.put(spans(2))
    until(lambda: post.batches, 20)  # those are under way; four more may wait
    for _ in range(5):
        made.put(spans(2))
    assert (made.lost, len(made._waiting)) == (6, 4)
    assert "faster than http://c/v1/traces takes them" in str(made.trouble())
    made.put(spans(2))
    assert made.trouble() is None  # it is known
    post.goes_on.set()
    until(lambda: made.sent == 6, 20)
    made.close()
    assert (made.sent, made.lost) == (6, 8)


@pytest.mark.parametrize("again", [True, False])
def test_what_the_collector_does_not_take_is_sent_once_more_if_that_can_be_of_use(again: bool) -> None:
    post = Post(SendFailed("it answers 503", again=again), 0)
    made = sender(post)
    made.put(spans(3))
    until(lambda: made.sent + made.lost == 3, 20)
    assert (post.batches, made.sent, made.lost) == (([3, 3], 3, 0) if again else ([3], 0, 3))
    made.close()


def test_trouble_is_told_once_for_each_kind_and_so_is_its_end() -> None:
    refused, hangs = SendFailed("connection refused"), SendFailed("no answer within 10 s")
    post = Post(refused, refused, hangs, 0)
    made = sender(post)
    told = []
    for number in range(1, 6):
        made.put(spans(1))
        until(lambda number=number: made.sent + made.lost == number, 20)
        told.append(made.trouble())
        assert made.trouble() is None
    assert told == [
        "spans cannot be sent to http://c/v1/traces: connection refused; they are lost, and counted",
        None,
        "spans cannot be sent to http://c/v1/traces: no answer within 10 s; they are lost, and counted",
        "spans are sent to http://c/v1/traces again (3 were lost)",
        None,
    ]
    made.close()


def test_what_the_collector_refuses_is_lost() -> None:
    made = sender(Post(2))
    made.put(spans(5))
    until(lambda: made.sent, 20)
    assert (made.sent, made.lost) == (3, 2)
    assert "refuses" in str(made.trouble())
    made.close()


def test_a_bug_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    made = sender(Post(ZeroDivisionError("bug"), 0))
    made.put(spans(1))
    until(lambda: made.lost == 1, 20)
    assert "ZeroDivisionError" in caplog.text
    made.put(spans(1))
    until(lambda: made.sent == 1, 20)
    made.close()


def test_the_end_waits_for_what_is_still_to_be_sent_but_not_for_ever() -> None:
    post = Post()
    made = sender(post, gather_s=3600.0)
    made.put(spans(3))
    made.close(20)
    assert (made.sent, made.lost) == (3, 0)
    made.put(spans(1))
    assert made.lost == 1  # nobody sends any more

    hanging = Post()
    hanging.goes_on.clear()
    late = sender(hanging)
    late.put(spans(3))
    until(lambda: hanging.batches, 20)
    late.put(spans(4))
    with gevent.Timeout(20):
        late.close(0.01)
    assert (late.sent, late.lost) == (0, 7)
    assert repr(late) == "<SpanSender 0 of 1000 wait, 0 sent, 7 lost>"


def test_a_sender_that_was_never_used_ends_at_once() -> None:
    made = sender(Post())
    made.close(3600)
    assert made._greenlet is None
