"""The configurations that were applied, as they are kept."""

from __future__ import annotations

import logging
import posix
import threading
from pathlib import Path

import gevent
import pytest

from smartedge.edge.config_history import END_BYTES, KEPT, ConfigHistory, KeptConfiguration
from smartedge.workers.state_dir import OPEN_DIRECTORY, held, try_lock


def entry(etag: str, text: str = "{}") -> KeptConfiguration:
    return KeptConfiguration(0, 1, 1.75e9, etag, "api", "10.0.0.1", "ana", "", text)


def test_it_outlives_a_restart_for_its_owner_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "backends.json")
    assert [ConfigHistory(path).add(entry(etag)) for etag in ("a", "b")] == [1, 2]
    again = ConfigHistory(path)
    assert [(one.id, one.etag, one.author) for one in again.all()] == [(1, "a", "ana"), (2, "b", "ana")]
    (file,) = tmp_path.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (".backends.json.history", 0o600)


def test_the_last_fifty_are_kept_and_numbers_go_on(tmp_path: Path) -> None:
    history = ConfigHistory(str(tmp_path / "backends.json"))
    for number in range(KEPT + 3):
        history.add(entry(str(number)))
    kept = history.all()
    assert (len(kept), kept[0].id, kept[-1].id) == (KEPT, 4, KEPT + 3)
    newest = history.newest("52")
    assert newest is not None
    assert newest.id == 53


def test_another_one_is_a_line_more_and_what_is_older_goes_in_time(tmp_path: Path) -> None:
    """The whole file was read and written by each reload: 30 MB for large configurations."""
    history = ConfigHistory(str(tmp_path / "backends.json"))
    lines = []
    for number in range(2 * KEPT + 1):
        history.add(entry(str(number)))
        (file,) = tmp_path.iterdir()
        lines.append(file.read_text().count("\n"))
    assert lines[:KEPT] == list(range(1, KEPT + 1))
    assert lines[KEPT:] == [*range(KEPT + 1, 2 * KEPT), KEPT, KEPT + 1]


def test_a_line_that_broke_off_costs_no_other(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = ConfigHistory(str(tmp_path / "backends.json"))
    for etag in "abc":
        history.add(entry(etag))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text()[:-20])
    with caplog.at_level(logging.WARNING, logger="smartedge"):
        assert [one.etag for one in ConfigHistory(str(tmp_path / "backends.json")).all()] == ["a", "b"]
    assert "1 of the configurations" in caplog.text
    assert history.add(entry("d")) == 3


def test_a_full_disk_fails_nobody_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The folder stands for it: nothing can be written there any more."""
    folder = tmp_path / "gone"
    history = ConfigHistory(str(folder / "backends.json"))
    with caplog.at_level(logging.WARNING, logger="smartedge"):
        history.add(entry("a"))
        history.add(entry("b"))
    assert [one.etag for one in history.all()] == ["a", "b"]
    assert "cannot be written" in caplog.text


def test_another_who_holds_the_lock_is_waited_for_and_not_for_ever(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The kernel was asked to wait: the whole process stood still, also while a greenlet of its own was letting go: for ever."""
    history = ConfigHistory(str(tmp_path / "backends.json"))
    lock = try_lock(tmp_path, OPEN_DIRECTORY)
    assert lock is not None
    threading.Timer(0.1, posix.close, (lock,)).start()
    assert history.add(entry("a")) == 1
    assert caplog.text == "", "it came in time"
    with held(tmp_path, OPEN_DIRECTORY):
        assert history.add(entry("b")) == 2
    assert "is written without a lock" in caplog.text


def test_many_at_once_are_all_kept(tmp_path: Path) -> None:
    history = ConfigHistory(str(tmp_path / "backends.json"))
    gevent.joinall([gevent.spawn(history.add, entry(str(number))) for number in range(20)], timeout=30, raise_error=True)
    assert [one.id for one in history.all()] == list(range(1, 21))


def test_without_a_file_it_is_kept_in_the_state_directory(tmp_path: Path) -> None:
    one, other = ConfigHistory(None), ConfigHistory(None)
    for history in (one, other):
        history.keep_in(tmp_path)
    one.add(entry("a"))
    assert [each.etag for each in other.all()] == ["a"]


def test_numbers_go_on_behind_a_line_that_is_longer_than_what_is_looked_through(tmp_path: Path) -> None:
    """To find the last number all fifty texts were searched: 9 ms in each reload of 500 backends."""
    history = ConfigHistory(str(tmp_path / "backends.json"))
    history.add(entry("a"))
    assert history.add(entry("b", "x" * 2 * END_BYTES)) == 2
    assert [history.add(entry("c")), ConfigHistory(str(tmp_path / "backends.json")).add(entry("d"))] == [3, 4]
    with open(tmp_path / ".backends.json.history", "a") as file:
        file.write('{"id": 9, "gen')
    assert history.add(entry("e")) == 5
    assert [one.etag for one in history.all()] == ["a", "b", "c", "d", "e"]


def test_beside_a_file_in_a_folder_that_cannot_be_written_it_is_kept_there_too_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each worker had a history of its own, and a warning at each start did not say what is lost. Nobody can write in /proc."""
    one, other = ConfigHistory("/proc/self/backends.json"), ConfigHistory("/proc/self/backends.json")
    for history in (one, other):
        history.keep_in(tmp_path)
    with caplog.at_level(logging.INFO, logger="smartedge"):
        one.add(entry("a"))
        one.add(entry("b"))
    assert [each.etag for each in other.all()] == ["a", "b"]
    (said,) = caplog.records
    assert (said.levelname, "cannot be written: history and rollback" in said.getMessage()) == ("INFO", True)
    beside = ConfigHistory(str(tmp_path / "backends.json"))
    beside.keep_in(tmp_path / "elsewhere")
    beside.add(entry("c"))
    assert (tmp_path / ".backends.json.history").exists()
