"""Events are kept in each worker's ring, outlive it, and are one stream for whoever asks any worker."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from smartedge.balancer.learned import Learned
from smartedge.observe.events import RECORDS, ROOM_BYTES, Cursor, EventLog, fitted


class Edge:
    """Workers of one edge that write events, and a clock."""

    def __init__(self, directory: Path, workers: int = 2) -> None:
        self.directory = directory
        self.now = 1.75e9
        self.row = Learned()
        self.logs = [self.worker(slot) for slot in range(workers)]

    def worker(self, slot: int) -> EventLog:
        log = EventLog(self.row, Random(slot), wall=lambda: self.now)
        log.join_workers(self.directory, slot)
        return log

    def tell(self, slot: int, text: str, **more: Any) -> None:
        self.now += 0.001
        self.logs[slot].write("up", "info", text, **more)


@pytest.fixture
def edge(tmp_path: Path) -> Edge:
    return Edge(tmp_path)


def texts(log: EventLog, after: str = "0-0", newest: int = RECORDS) -> list[str]:
    return [document["text"] for document, _ in log.after(Cursor.parse(after), newest)]


def test_any_worker_tells_of_all_in_the_order_in_which_it_happened(edge: Edge) -> None:
    for number in range(6):
        edge.tell(number % 2, f"e{number}", service="web", backend="b2", url="http://b")
    assert [texts(log) for log in edge.logs] == [[f"e{number}" for number in range(6)]] * 2
    document, _ = next(iter(edge.logs[1].after({})))
    assert document == {
        "at": 1750000000.001,
        "slot": 0,
        "kind": "up",
        "level": "info",
        "service": "web",
        "backend": "b2",
        "text": "e0",
        "url": "http://b",
    }


def test_after_the_cursor_of_an_event_come_those_behind_it_and_no_other(edge: Edge) -> None:
    for number in range(6):
        edge.tell(number % 2, f"e{number}")
    cursors = [str(cursor) for _, cursor in edge.logs[0].after({})]
    assert [texts(edge.logs[1], cursor) for cursor in cursors] == [[f"e{n}" for n in range(first, 6)] for first in range(1, 7)]
    edge.tell(1, "new")
    assert texts(edge.logs[0], cursors[-1]) == ["new"]


def test_what_a_worker_with_a_slow_clock_tells_is_not_passed_over(edge: Edge) -> None:
    """A cursor that was a time would be ahead of it."""
    edge.tell(0, "first")
    ((_, cursor),) = edge.logs[0].after({})
    edge.now -= 3600
    edge.tell(1, "late")
    edge.tell(0, "later")
    assert sorted(texts(edge.logs[0], str(cursor))) == ["late", "later"]


def test_events_outlive_the_worker_and_the_next_one_of_its_slot_goes_on(edge: Edge) -> None:
    edge.tell(1, "before")
    ((_, cursor),) = edge.logs[0].after({})
    edge.logs[1] = edge.worker(1)  # the one before is gone without a word
    edge.tell(1, "after")
    assert texts(edge.logs[0]) == ["before", "after"]
    assert texts(edge.logs[0], str(cursor)) == ["after"]


def test_what_a_restarted_edge_tells_is_new_to_the_clients_of_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old = Edge(tmp_path / "old")
    for number in range(20):
        old.tell(number % 2, f"e{number}")
    *_, (_, cursor) = old.logs[0].after({})
    new = Edge(tmp_path / "new", 1)
    new.now = old.now + 2.0
    new.logs = [new.worker(0)]
    new.tell(0, "serves again")
    assert texts(new.logs[0], str(cursor)) == ["serves again"]


def test_a_cursor_of_an_edge_whose_clock_was_ahead_hides_nothing(edge: Edge) -> None:
    edge.tell(0, "here")
    assert texts(edge.logs[0], "0-ffffffffffffff") == ["here"]


def test_a_worker_keeps_its_last_thousand_and_a_cursor_from_before_gives_what_is_left(tmp_path: Path) -> None:
    edge = Edge(tmp_path, 1)
    edge.tell(0, "first")
    ((_, cursor),) = edge.logs[0].after({})
    for number in range(RECORDS + 5):
        edge.tell(0, f"e{number}")
    assert texts(edge.logs[0], str(cursor)) == [f"e{number}" for number in range(5, RECORDS + 5)]
    assert texts(edge.logs[0], newest=2) == [f"e{number}" for number in range(RECORDS + 3, RECORDS + 5)]


def test_the_places_behind_the_newest_are_those_behind_all(edge: Edge) -> None:
    for number in range(9):
        edge.tell(number % 2, f"e{number}")
    *_, (_, cursor) = edge.logs[0].after({}, newest=1)
    assert texts(edge.logs[0], str(cursor)) == []


def test_all_workers_see_that_there_is_something_new() -> None:
    row = Learned()
    one = EventLog(row, Random(1))
    mark = one.mark
    one.write("up", "info", "x")
    assert one.mark != mark


def test_who_asks_again_when_nothing_has_happened_has_nothing_read(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty pages that ask every two seconds would read megabytes each time."""
    edge.tell(0, "one")
    log = edge.logs[0]
    ((_, cursor),) = log.after({})
    reads = 0
    rings = log._rings

    def counted() -> Any:
        nonlocal reads
        reads += 1
        return rings()

    monkeypatch.setattr(log, "_rings", counted)
    assert (list(log.after(cursor)), list(log.after(cursor)), reads) == ([], [], 0)
    edge.tell(0, "two")
    assert (texts(log, str(cursor)), reads) == (["two"], 1)


def test_a_process_without_a_directory_keeps_them_in_memory() -> None:
    log = EventLog(Learned(), Random(1))
    log.join_workers(None, 0)
    log.write("up", "info", "x")
    assert texts(log) == ["x"]


def test_what_was_told_before_the_worker_had_its_place_is_told_there(tmp_path: Path) -> None:
    log = EventLog(Learned(), Random(1))
    log.write("up", "info", "early")
    log.join_workers(tmp_path, 3)
    assert [(document["text"], document["slot"]) for document, _ in log.after({})] == [("early", 3)]


@pytest.mark.parametrize("text", ["", "x", "0", "0-", "-1", "0-1.", "0-1.1", "0-xyz", "0-1 ", "٣-1", "0-" + "f" * 17, "0-1\n"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="none that an answer has given"):
        Cursor.parse(text)


def test_names_are_kept_as_they_are(edge: Edge) -> None:
    name = '"quoted" <script>alert(1)</script> \u202egnp.exe 🚀\n\x1b[31mred\x00'
    edge.tell(0, name, service=name, backend=name)
    ((document, _),) = edge.logs[1].after({})
    assert (document["text"], document["service"], document["backend"]) == (name, name, name)


def test_half_a_surrogate_pair_does_not_keep_an_event_out(edge: Edge) -> None:
    edge.tell(0, "half \ud83d")
    assert texts(edge.logs[1]) == ["half ?"]


def test_an_event_that_is_too_long_loses_its_own_members_first_and_then_its_words() -> None:
    plain: dict[str, Any] = {"at": 1.0, "slot": 0, "kind": "reloaded", "level": "info", "service": "web", "backend": "b"}
    many = plain | {"text": "short", "by": "10.1.1.1", "added": [f"b{number}" for number in range(1000)]}
    assert json.loads(fitted(many)) == plain | {"text": "short", "by": "10.1.1.1"}
    long = plain | {"text": "é" * 5000, "by": "x"}
    assert json.loads(fitted(long)) == plain | {"text": "é" * 600, "by": "x"}
    vast = plain | {"text": "x" * 5000, "service": "s" * 5000, "backend": "\x00" * 5000}
    assert len(fitted(vast)) <= ROOM_BYTES
    assert json.loads(fitted(vast))["service"] == "s" * 200
