"""Events as they come, for many clients of one worker: read once, bounded, whoever listens and however slowly."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest

from smartedge.balancer.learned import Learned
from smartedge.observe import event_feed
from smartedge.observe.event_feed import AT_ONCE, MOST_STREAMS, EventFeed, EventStream
from smartedge.observe.events import RECORDS, Cursor, EventLog


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "POLL_S", 0.002)
    monkeypatch.setattr(event_feed, "REST_S", 0.002)


@pytest.fixture
def log() -> EventLog:
    return EventLog(Learned(), Random(1))


def tell(log: EventLog, *texts: str, **more: Any) -> None:
    for text in texts:
        log.write("up", "info", text, **more)


def open_stream(feed: EventFeed, after: Cursor | None = None, backend: str | None = None) -> EventStream:
    """A stream behind its first piece."""
    stream = feed.open_stream(after, lambda document: backend in (None, document["backend"]))
    assert next(stream) == b"retry: 1000\n\n"
    return stream


def read(stream: EventStream, count: int) -> list[str]:
    """The texts of so many events, as a client finds them; what was missed is a number."""
    found: list[str] = []
    with gevent.Timeout(20):
        while len(found) < count:
            for block in next(stream).decode().split("\n\n")[:-1]:
                assert block != ":", "a comment, where there should have been events"
                data = json.loads(block.partition("data: ")[2])
                found.append(data["text"] if "text" in data else f"missed {data['missed']}")
    return found


def test_what_happens_comes_to_all_who_listen(log: EventLog) -> None:
    tell(log, "before")
    feed = EventFeed(log)
    streams = [open_stream(feed) for _ in range(3)]
    tell(log, "one", "two")
    assert [read(stream, 2) for stream in streams] == [["one", "two"]] * 3


def test_an_event_is_written_as_the_standard_has_it(log: EventLog) -> None:
    stream = open_stream(EventFeed(log))
    tell(log, "two\nlines", service="web", backend="<b>")
    piece = next(stream).decode()
    lines = piece.split("\n")
    assert [line.partition(":")[0] for line in lines] == ["id", "event", "data", "", ""]
    assert lines[1] == "event: up"
    assert json.loads(lines[2].removeprefix("data: "))["text"] == "two\nlines"
    cursor = Cursor.parse(lines[0].removeprefix("id: "))
    assert list(log.after(cursor)) == []


def test_who_comes_back_gets_what_has_come_meanwhile_once(log: EventLog) -> None:
    feed = EventFeed(log)
    other = open_stream(feed)
    tell(log, "seen")
    read(other, 1)
    ((_, cursor),) = log.after({})
    tell(log, "missed")
    assert read(other, 1) == ["missed"]
    back = open_stream(feed, cursor)
    tell(log, "new")
    assert read(back, 2) == ["missed", "new"]


def test_what_other_workers_tell_comes_too(tmp_path: Path) -> None:
    row = Learned()
    workers = [EventLog(row, Random(slot)) for slot in range(2)]
    for slot, worker in enumerate(workers):
        worker.join_workers(tmp_path, slot)
    stream = open_stream(EventFeed(workers[0]))
    tell(workers[1], "elsewhere")
    assert read(stream, 1) == ["elsewhere"]


def test_only_what_is_wanted_comes(log: EventLog) -> None:
    feed = EventFeed(log)
    stream = open_stream(feed, Cursor(), backend="b2")
    tell(log, "b1", backend="b1")
    tell(log, "b2", backend="b2")
    assert read(stream, 1) == ["b2"]


def test_one_that_reads_slowly_is_told_how_many_it_has_missed_and_keeps_nobody(log: EventLog) -> None:
    feed = EventFeed(log)
    slow, quick = open_stream(feed), open_stream(feed)
    seen = []
    for lot in range(15):
        tell(log, *(f"e{lot * AT_ONCE + number}" for number in range(AT_ONCE)))
        feed.look()
        seen += read(quick, AT_ONCE)
    assert seen == [f"e{number}" for number in range(RECORDS + 500)]
    assert read(slow, 3)[:3] == ["missed 500", "e500", "e501"]


def test_a_stream_without_events_shows_that_it_lives(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_feed, "COMMENT_S", 0.01)
    stream = open_stream(EventFeed(log))
    assert [next(stream), next(stream)] == [b":\n\n", b":\n\n"]


def test_nobody_looks_for_events_when_nobody_listens(log: EventLog) -> None:
    feed = EventFeed(log)
    stream = open_stream(feed)
    poller = feed._poller
    stream.close()
    with gevent.Timeout(20):
        poller.join()
    assert (feed._poller, feed._streams) == (None, set())
    again = open_stream(feed)
    tell(log, "new")
    assert read(again, 1) == ["new"]


def test_there_are_at_most_a_hundred_streams(log: EventLog) -> None:
    feed = EventFeed(log)
    streams = [open_stream(feed) for _ in range(MOST_STREAMS)]
    assert feed.is_full
    streams[0].close()
    assert not feed.is_full


def test_all_streams_end_when_the_worker_stops(log: EventLog) -> None:
    feed = EventFeed(log)
    streams = [open_stream(feed) for _ in range(2)]
    ended = [gevent.spawn(list, stream) for stream in streams]
    gevent.sleep(0)
    feed.close()
    gevent.joinall(ended, timeout=20)
    assert [greenlet.value for greenlet in ended] == [[], []]


def test_many_events_go_out_in_few_pieces(log: EventLog) -> None:
    feed = EventFeed(log)
    stream = open_stream(feed)
    tell(log, *(f"e{number}" for number in range(250)))
    feed.look()
    assert [next(stream).count(b"\nevent: ") for _ in range(3)] == [AT_ONCE, AT_ONCE, 50]


def test_a_worker_that_stops_begins_no_stream(log: EventLog) -> None:
    """It would be waited for."""
    feed = EventFeed(log)
    feed.close()
    assert list(open_stream(feed)) == []


def test_a_stream_that_is_open_for_long_holds_no_more_than_one_of_a_moment(log: EventLog) -> None:
    """Beside a client that reads what comes, and one that has stopped reading."""
    feed = EventFeed(log)
    reading, stuck = open_stream(feed), open_stream(feed)
    sizes = []
    for lot in range(20):
        tell(log, *(f"lot {lot:02}, event {number:02}" for number in range(AT_ONCE)))
        feed.look()
        assert len(read(reading, AT_ONCE)) == AT_ONCE
        sizes.append(sum(sys.getsizeof(one.text) for one in feed._tail))
    assert (len(feed._tail), reading._held, stuck._held) == (RECORDS, [], [])
    assert max(sizes[10:]) < 1.01 * min(sizes[10:])
