"""What was found, kept on disk: read at the next start if the same is asked, and never in anybody's way."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from smartedge.config.backends import BackendConfig
from smartedge.config.discover import EtcdConfig, FileConfig
from smartedge.discovery.kept_found import KeptFound, KeptSet

WEB, API = FileConfig(path="web.json"), EtcdConfig(prefix="/api/")
A = BackendConfig.model_validate({"url": "http://a:1", "id": "a", "weight": 3})


def kept_in(folder: Path) -> KeptFound:
    return KeptFound(str(folder / "backends.json"))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    sets = {("web", "file"): (WEB, KeptSet(1000.5, (A,))), ("web", "etcd"): (API, KeptSet(2.0, ()))}

    kept_in(tmp_path).write(sets)

    assert kept_in(tmp_path).read({key: source for key, (source, _) in sets.items()}) == {
        key: kept for key, (_, kept) in sets.items()
    }
    (file,) = tmp_path.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == (".backends.json.found.json", 0o600)


def test_what_another_question_was_asked_of_is_not_used(tmp_path: Path) -> None:
    kept_in(tmp_path).write({("web", "file"): (WEB, KeptSet(1.0, (A,)))})

    assert kept_in(tmp_path).read({("web", "file"): FileConfig(path="other.json"), ("api", "file"): WEB}) == {}


def test_it_is_used_although_its_answers_are_to_be_taken_in_another_way_now(tmp_path: Path) -> None:
    kept_in(tmp_path).write({("web", "file"): (WEB, KeptSet(1.0, (A,)))})
    now = FileConfig(path="web.json", allow_empty=True, defaults={"weight": 2})  # type: ignore[arg-type]

    assert kept_in(tmp_path).read({("web", "file"): now}) == {("web", "file"): KeptSet(1.0, (A,))}


def test_an_edge_without_a_file_keeps_nothing_and_neither_does_one_that_never_found_anything(tmp_path: Path) -> None:
    KeptFound(None).write({("web", "file"): (WEB, KeptSet(1.0, (A,)))})

    assert KeptFound(None).read({("web", "file"): WEB}) == {}
    assert kept_in(tmp_path).read({("web", "file"): WEB}) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"web": 3}',
        '{"web": {"file": {}}}',
        '{"web": {"file": {"asked": "?", "answered_at": 1, "backends": [{}]}}}',
    ],
)
def test_a_damaged_file_is_said_and_nothing_else_happens(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    kept = kept_in(tmp_path)
    kept.write({("web", "file"): (WEB, KeptSet(1.0, (A,)))})
    file = tmp_path / ".backends.json.found.json"
    asked = file.read_text().split('"asked": "')[1].split('"')[0]
    file.write_text(text.replace("?", asked))

    assert kept.read({("web", "file"): WEB}) == {}
    assert [record.getMessage() for record in caplog.records] == [
        f"what was discovered before cannot be read: {file} holds something else"
    ]


def test_a_folder_that_cannot_be_written_to_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    kept = KeptFound(str(tmp_path / "nowhere" / "backends.json"))

    for _ in range(3):
        kept.write({("web", "file"): (WEB, KeptSet(1.0, (A,)))})

    (record,) = caplog.records
    assert record.getMessage().startswith("what was discovered cannot be kept for the next start: ")
    assert record.getMessage().endswith(f"{os.sep}.backends.json.found.json: No such file or directory")
