"""A file that lists backends: read when it changes, however that is done, and never half."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.discovery import file as module
from smartedge.discovery import file_look
from smartedge.discovery.file import FileSource
from smartedge.discovery.source import SourceError

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look all the time, and give up what does not come."""
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    monkeypatch.setattr(module, "LIVES_S", 0.01)
    with gevent.Timeout(20):
        yield


def write_old(path: Path, text: str) -> None:
    """Write a file that was last changed a while ago, as far as its own stamp says."""
    path.write_text(text)
    os.utime(path, (1_700_000_000, 1_700_000_000))


def until(snapshots: Iterator[Sequence[Any]], wanted: object) -> None:
    """Take what it yields until that is this."""
    while next(snapshots) != wanted:
        pass


@pytest.mark.parametrize("document", [[A, {"url": B, "weight": 2}], {"backends": [A, {"url": B, "weight": 2}]}])
def test_a_list_and_an_object_with_a_list_say_the_same(tmp_path: Path, document: object) -> None:
    (tmp_path / "api.json").write_text(json.dumps(document))
    snapshots = FileSource(str(tmp_path / "api.json")).snapshots()
    assert next(snapshots) == [A, {"url": B, "weight": 2}]
    assert next(snapshots) == [A, {"url": B, "weight": 2}]  # it lives


def test_a_change_is_seen_whether_the_file_is_replaced_or_written_over(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps([A]))
    snapshots = FileSource(str(path)).snapshots()
    assert next(snapshots) == [A]
    (tmp_path / "new").write_text(json.dumps([B]))
    os.replace(tmp_path / "new", path)
    until(snapshots, [B])
    path.write_text(json.dumps([A]))
    until(snapshots, [A])


def test_two_changes_in_one_tick_of_the_kernels_clock_are_both_seen(tmp_path: Path) -> None:
    """Same inode, same length, and a time of change that need not differ: only reading again tells them apart."""
    path = tmp_path / "api.json"
    path.write_text(json.dumps([A]))
    snapshots = FileSource(str(path)).snapshots()
    for wanted in [A, B] * 25:
        path.write_text(json.dumps([wanted]))
        until(snapshots, [wanted])


def test_the_symbolic_link_of_a_configmap_is_followed(tmp_path: Path) -> None:
    """Kubernetes turns `..data`, to which the file itself is a link."""
    for name, url in (("..1", A), ("..2", B)):
        (tmp_path / name).mkdir()
        write_old(tmp_path / name / "api.json", json.dumps([url]))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "api.json").symlink_to("..data/api.json")
    snapshots = FileSource(str(tmp_path / "api.json")).snapshots()
    assert next(snapshots) == [A]
    (tmp_path / "..new").symlink_to("..2")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    until(snapshots, [B])


def test_a_file_that_is_being_written_is_waited_for_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_look, "SETTLES_S", 3600.0)
    path = tmp_path / "api.json"
    path.write_text(json.dumps([A]))
    snapshots = FileSource(str(path)).snapshots()
    assert next(snapshots) == [A]
    for half in ("", "[", '["http://10.0.', f'["{B}"'):
        path.write_text(half)
        assert next(snapshots) == [A]
    path.write_text(json.dumps([B]))
    until(snapshots, [B])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", " is empty"),
        (f'["{A}",', " is not JSON at line 1, column 23: the file ends too early; ] is missing"),
        ('"http://10.0.0.1"', ' must be a list of backends, or an object with nothing but "backends"'),
        ('{"backends": {}}', ' must be a list of backends, or an object with nothing but "backends"'),
        ('{"backends": [], "strategy": "ewma"}', ' must be a list of backends, or an object with nothing but "backends"'),
        ('[{"url": "http://h", "url": "http://i"}]', " [0].url is written twice"),
    ],
)
def test_a_file_that_stays_wrong_is_an_error_that_names_it(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "api.json"
    write_old(path, text)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_look, "SETTLES_S", 0.05)
        with pytest.raises(SourceError) as caught:
            next(FileSource(str(path)).snapshots())
    assert str(caught.value).startswith(f"{path}:{said}")


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("none", "No such file or directory"), (".", "is no regular file"), ("pipe", "is no regular file")):
        path = str(tmp_path / name)
        with pytest.raises(SourceError) as caught:
            next(FileSource(path).snapshots())
        assert str(caught.value) == f"{path}: {said}"


def test_a_file_that_goes_is_an_error_and_one_that_comes_back_is_read(tmp_path: Path) -> None:
    path = tmp_path / "api.json"
    path.write_text(json.dumps([A]))
    source = FileSource(str(path))
    snapshots = source.snapshots()
    next(snapshots)
    path.unlink()
    with pytest.raises(SourceError, match="No such file"):
        for _ in snapshots:
            pass
    path.write_text(json.dumps([B]))
    assert next(source.snapshots()) == [B]
