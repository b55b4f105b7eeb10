"""A file for its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from smartedge.config.private_file import write_private


def test_it_is_replaced_whole_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(b"older")
    path.chmod(0o644)
    write_private(path, b"1")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"1", 0o600)
    assert os.listdir(tmp_path) == ["a.pem"]


def test_what_can_not_be_written_leaves_what_there_was(tmp_path: Path) -> None:
    (tmp_path / "a.pem").mkdir()
    with pytest.raises(OSError):
        write_private(tmp_path / "a.pem", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a.pem"]
