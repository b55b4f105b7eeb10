from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartedge.observe.accesslog import AccessLog


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_request_is_one_line_of_json_with_the_time_first(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "access.log"))
    log.write(request_id="a", path="/ä")
    log.write(request_id="b", path='/"\n')
    assert log.flush(5)
    log.close()
    first, second = lines(tmp_path / "access.log")
    assert (list(first), first["path"], second["path"]) == (["time", "request_id", "path"], "/ä", '/"\n')
    assert str(first["time"]).endswith("Z")


def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    """Regression: after logrotate the old file went on growing."""
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    log.write(request_id="a")
    log.write(request_id="b")
    assert log.flush(5)
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    assert log.flush(5)
    log.write(request_id="c")
    assert log.flush(5)
    log.close()
    assert [line["request_id"] for line in lines(tmp_path / "access.log.1")] == ["a", "b"]
    assert [line["request_id"] for line in lines(path)] == ["c"]


def test_true_means_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    log = AccessLog(True)
    log.write(request_id="a")
    log.reopen()
    log.close()
    assert json.loads(capsys.readouterr().out)["request_id"] == "a"


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        AccessLog(str(tmp_path / "missing" / "access.log"))
