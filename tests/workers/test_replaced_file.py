from __future__ import annotations

import multiprocessing
import subprocess
from pathlib import Path
from typing import Any

import pytest

from smartedge.workers.replaced_file import replace_text, version_of


def test_a_file_that_is_replaced_has_another_version(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert version_of(path) is None
    replace_text(path, "1")
    first = version_of(path)
    assert first == version_of(path)
    replace_text(path, "2")
    assert (path.read_text(), version_of(path) != first) == ("2", True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_replaced_stays_as_it_is_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.mkdir()  # nobody can give a file this name, root neither
    with pytest.raises(OSError, match="directory"):
        replace_text(path, "1")
    assert list(tmp_path.iterdir()) == [path]


def test_workers_that_start_together_may_write_the_same_file(tmp_path: Path) -> None:
    """They shared one file to write to: whoever was second to rename it had none, and its worker, so gunicorn, ended."""
    path = tmp_path / "a.json"
    processes = multiprocessing.get_context("fork")
    barrier = processes.Barrier(2)
    workers = [processes.Process(target=_replace_often, args=(path, barrier)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert (path.read_text(), list(tmp_path.iterdir())) == ("1", [path])


def _replace_often(path: Path, barrier: Any) -> None:
    for _ in range(100):
        barrier.wait(10)
        replace_text(path, "1")


def test_what_a_killed_writer_has_left_goes_and_that_of_a_live_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, live, other = (
        tmp_path / f"{name}.{pid}.new" for name, pid in (("rows.json", gone.pid), ("rows.json", 1), ("a", gone.pid))
    )
    for one in (left, live, other):
        one.write_text("half")
    replace_text(path, "{}")
    assert sorted(tmp_path.iterdir()) == sorted([path, live, other])
