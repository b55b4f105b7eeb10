"""Whether a file has changed: by what tells it apart, and where that may lie by what it holds."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from smartedge.discovery import file_look as module
from smartedge.discovery.file_look import FileLook


def age(path: Path) -> None:
    """Let a file be of another time than now; when its inode was changed last cannot be set."""
    os.utime(path, (1_700_000_000, 1_700_000_000))


def test_what_it_holds_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    look = FileLook(str(path))
    assert [look.read_changed() for _ in range(3)] == [b"one", None, None]
    path.write_bytes(b"two")
    assert [look.read_changed() for _ in range(3)] == [b"two", None, None]


def test_a_file_that_is_touched_or_replaced_by_the_same_has_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    look = FileLook(str(path))
    look.read_changed()
    age(path)
    assert look.read_changed() is None
    (tmp_path / "new").write_bytes(b"one")
    os.replace(tmp_path / "new", path)
    assert look.read_changed() is None


@pytest.mark.parametrize(("age_s", "seen"), [(0.0, b"two"), (60.0, None)])
def test_a_file_that_has_just_been_written_is_read_again_though_it_looks_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: float, seen: bytes | None
) -> None:
    """Two changes of one length in one tick of the kernel's clock leave inode, length and times as they are."""
    path = tmp_path / "f"
    path.write_bytes(b"one")
    found = os.stat(path)
    now = found.st_mtime + age_s
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: now, monotonic=lambda: 0.0))
    monkeypatch.setattr(module, "os", SimpleNamespace(stat=lambda _: found))
    look = FileLook(str(path))
    assert look.read_changed() == b"one"
    path.write_bytes(b"two")
    assert look.read_changed() == seen


def test_it_has_settled_a_second_after_its_last_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"one")
    look = FileLook(str(path))
    look.read_changed()
    changed_at = os.stat(path).st_mtime
    for after_s, settled in ((0.5, False), (1.5, True)):
        monkeypatch.setattr(
            module, "time", SimpleNamespace(time=lambda after_s=after_s: changed_at + after_s, monotonic=lambda: 0.0)
        )
        assert look.is_settled is settled


def test_a_file_of_the_future_has_settled_a_second_after_it_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the clock was put back, or the file's times are another machine's, it never had: what is wrong in it was not said."""
    path = tmp_path / "f"
    path.write_bytes(b"one")
    ahead = os.stat(path).st_mtime + 3600
    os.utime(path, (ahead, ahead))
    now = 100.0
    monkeypatch.setattr(module, "time", SimpleNamespace(time=time.time, monotonic=lambda: now))
    look = FileLook(str(path))
    look.read_changed()
    now = 100.5
    assert not look.is_settled
    path.write_bytes(b"two")
    os.utime(path, (ahead, ahead))
    assert look.read_changed() == b"two"
    now = 101.4
    assert not look.is_settled
    now = 101.6
    assert look.is_settled


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is no regular file"):
        FileLook(str(tmp_path / "pipe")).read_changed()
    with pytest.raises(FileNotFoundError):
        FileLook(str(tmp_path / "none")).read_changed()
