from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.workers.row_book import RowBook, RowsError
from smartedge.workers.state_dir import held

KEYS = st.sampled_from(["a", "b", "c,\n d", '}"'])


class Workers:
    """Several workers' row books over one directory, with what they cleared and which of them live."""

    def __init__(self, directory: Path | None, rows: int = 5) -> None:
        self.directory = directory
        self.rows = rows
        self.live: Collection[int] = {0, 1}
        self.cleared: list[int] = []

    def __call__(self, slot: int) -> RowBook:
        lock = {} if self.directory is None else {"lock": partial(held, self.directory / "rows.lock")}
        return RowBook(self.directory, self.rows, slot, lambda: self.live, self.cleared.extend, **lock)


@pytest.fixture
def workers(tmp_path: Path) -> Workers:
    return Workers(tmp_path)


@pytest.mark.parametrize("in_memory", [False, True])
def test_a_backend_keeps_its_row_and_row_0_is_the_edges(tmp_path: Path, in_memory: bool) -> None:
    rows = Workers(None if in_memory else tmp_path)(0)
    assert rows.claim(["", "a", "b", "a"]) == {"": 0, "a": 1, "b": 2}
    assert rows.claim(["c", "b"]) == {"": 0, "c": 3, "b": 2}
    assert rows.indexes() == [0, 1, 2, 3]
    rows.release(["a", "nobody", ""])
    assert rows.indexes() == [0, 2, 3]
    assert rows.claim(["d"])["d"] == 1


def test_all_workers_agree(workers: Workers) -> None:
    assert workers(0).claim(["a", "b"]) == {"": 0, "a": 1, "b": 2}
    assert workers(1).claim(["c", "b", "a"]) == {"": 0, "c": 3, "b": 2, "a": 1}


def test_a_row_is_cleared_when_it_is_given_and_not_when_it_is_joined(workers: Workers) -> None:
    workers(0).claim(["a", "b"])
    workers(1).claim(["b", "a"])
    assert workers.cleared == [1, 2]
    workers(0).release(["a"])
    workers(1).release(["a"])
    workers(0).claim(["new"])
    assert workers.cleared == [1, 2, 1]


def test_a_row_is_free_only_when_the_last_live_worker_has_released_it(workers: Workers) -> None:
    first, second = workers(0), workers(1)
    first.claim(["a"])
    second.claim(["a"])
    first.release(["a"])
    assert first.claim(["b"])["b"] == 2
    second.release(["a"])
    assert first.claim(["c"])["c"] == 1


def test_a_dead_worker_holds_nothing_back(workers: Workers) -> None:
    workers(0).claim(["a"])
    workers(1).claim(["a"])
    workers.live = {0}
    workers(0).release(["a"])
    assert workers(0).indexes() == [0]


def test_a_new_worker_in_a_slot_does_not_answer_for_the_one_before(workers: Workers) -> None:
    workers(0).claim(["a"])
    workers(1).claim(["a"])
    assert workers(1).take_over_slot() == [0, 1]
    workers(0).release(["a"])
    assert workers(0).indexes() == [0]


def test_counts_outlive_the_death_of_all_workers(workers: Workers) -> None:
    workers(0).claim(["a", "b"])
    rows = workers(0)
    assert rows.take_over_slot() == [0, 1, 2]
    assert rows.claim(["c", "b"]) == {"": 0, "c": 3, "b": 2}
    assert workers.cleared == [1, 2, 3]


def test_rows_of_the_dead_are_used_when_rows_run_short(workers: Workers) -> None:
    workers(1).claim(["a", "b", "c"])
    workers.live = {0}
    assert workers(0).claim(["c", "d", "e"]) == {"": 0, "c": 3, "d": 1, "e": 2}


def test_more_backends_than_rows_is_an_error_that_gives_none(workers: Workers) -> None:
    workers(0).claim(["a", "b"])
    with pytest.raises(RowsError, match="more backends than the 4 that one edge can have"):
        workers(0).claim(["c", "d", "e"])
    assert workers(0).indexes() == [0, 1, 2]


def test_the_book_is_replaced_whole_and_only_when_it_has_changed(workers: Workers, tmp_path: Path) -> None:
    workers(0).claim(["a"])
    book = tmp_path / "rows.json"
    assert json.loads(book.read_text()) == {"a": {"row": 1, "slots": [0]}}
    before = book.stat().st_ino
    workers(0).claim(["a"])
    assert book.stat().st_ino == before
    workers(1).claim(["a"])
    assert book.stat().st_ino != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.json", "rows.lock"]


def test_what_only_dead_workers_used_is_freed_but_for_backends_that_are_still_there(tmp_path: Path) -> None:
    live = {0, 1}
    first, second = (RowBook(tmp_path, 8, slot, lambda: live, lambda _: None) for slot in (0, 1))
    first.claim(["a", "b"])
    second.claim(["b", "gone", "kept"])
    live.discard(1)
    before = first.version()
    first.free_rows(["a", "b", "kept"])
    assert first.version() != before
    assert first.indexes() == [0, 1, 2, 4]
    assert first.claim(["new"]) == {"": 0, "new": 3}


def test_what_is_in_use_can_be_read_while_somebody_holds_the_lock(workers: Workers, tmp_path: Path) -> None:
    """A worker may be stopped there, and the others still say what they count."""
    rows = workers(0)
    rows.claim(["b1"])
    with held(tmp_path / "rows.lock"):
        assert rows.indexes() == [0, 1]


def test_the_book_is_written_as_json_whatever_backends_are_called(workers: Workers, tmp_path: Path) -> None:
    keys = ['default "b"', "default \\", "default \u00e4\u2028\n", "default b http://127.0.0.1:1"]
    workers(0).claim(keys)
    workers(1).claim(keys[1:3])
    text = (tmp_path / "rows.json").read_text()
    slots = [[0], [0, 1], [0, 1], [0]]
    assert json.loads(text) == {key: {"row": row, "slots": slots[row - 1]} for row, key in enumerate(keys, 1)}
    assert len(text.splitlines()) == len(keys) + 2
    (tmp_path / "rows.json").write_text(json.dumps(json.loads(text)))  # by another version
    workers(1).claim(keys[:1])
    assert json.loads((tmp_path / "rows.json").read_text())[keys[0]] == {"row": 1, "slots": [0, 1]}


def test_where_nothing_is_to_be_freed_the_book_stays_as_it_is(workers: Workers, tmp_path: Path) -> None:
    rows, path = workers(0), tmp_path / "rows.json"
    rows.claim(["a", "b"])
    written = path.stat().st_ino
    rows.free_rows([])
    assert path.stat().st_ino == written
    workers(1).claim(["c"])
    workers.live = {0}
    rows.free_rows([])
    assert list(json.loads(path.read_text())) == ["a", "b"]
    assert rows.claim(["d"])["d"] == 3


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.sampled_from(["claim", "release", "free", "begin"]), st.sets(KEYS))))
def test_what_is_written_is_the_book_whoever_has_changed_it_how_often(acts: list[tuple[int, str, set[str]]]) -> None:
    """Lines of which nothing changed are not written anew: those that did are, also where another worker did so."""
    with TemporaryDirectory() as directory:
        workers = Workers(Path(directory), rows=20)
        books = [workers(0), workers(1)]
        wanted: dict[str, set[int]] = {}
        for slot, act, keys in acts:
            if act == "claim":
                books[slot].claim(sorted(keys))
                wanted |= {key: wanted.get(key, set()) | {slot} for key in keys}
            elif act == "release":
                books[slot].release(keys)
                wanted = {key: slots - {slot} if key in keys else slots for key, slots in wanted.items()}
                wanted = {key: slots for key, slots in wanted.items() if slots or key not in keys}
            elif act == "free":
                books[slot].free_rows(keys)
                wanted = {key: slots for key, slots in wanted.items() if slots or key in keys}
            else:
                books[slot].take_over_slot()
                wanted = {key: slots - {slot} for key, slots in wanted.items()}
            path = Path(directory) / "rows.json"
            written = json.loads(path.read_text()) if path.exists() else {}
            assert {key: set(entry["slots"]) for key, entry in written.items()} == wanted
            assert len({entry["row"] for entry in written.values()}) == len(written)
