"""What the configuration says of sources, and what is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from smartedge.config.model import parse
from smartedge.discovery.menu import MadeSource, Surroundings, make_sources
from smartedge.discovery.runner import SourceOptions

A = "http://10.0.0.1:80"


class Own:
    def __init__(self, urls: list[str]) -> None:
        self.urls = urls

    def snapshot(self) -> list[str]:
        return self.urls


def made(folder: Path, **discover: object) -> dict[str, MadeSource]:
    config = parse(json.dumps({"discover": discover}))
    assert config.discover is not None
    around = Surroundings(str(folder), config.resolve_s, {}, Random(1))
    return {one.kind: one for one in make_sources(config.discover, around)}


def test_a_file_is_named_from_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "api.json").write_text(json.dumps([A]))
    found = made(tmp_path, file={"path": "api.json", "allow_empty": True, "defaults": {"weight": 3}})["file"]
    assert next(found.make().snapshots()) == [A]
    assert found.options == SourceOptions(True, {"weight": 3}, 1.0)
    whole = made(Path("/nowhere"), file={"path": str(tmp_path / "api.json")})["file"]
    assert next(whole.make().snapshots()) == [A]


def test_a_class_gets_its_options_and_none_of_ours(tmp_path: Path) -> None:
    name = f"{__name__}:Own"
    found = made(tmp_path, **{name: {"urls": [A], "every_s": 9.0, "timeout_s": 2.0, "defaults": {"weight": 2}}})[name]
    assert next(found.make().snapshots()) == (A,)
    assert found.options == SourceOptions(False, {"weight": 2}, 30.0)


def test_several_kinds_are_several_sources(tmp_path: Path) -> None:
    assert list(made(tmp_path, file={"path": "api.json"}, **{f"{__name__}:Own": {"urls": []}})) == ["file", f"{__name__}:Own"]
