from __future__ import annotations

from pathlib import Path

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
