"""Where a configuration comes from: the file, flags over it, and by which name a value is called."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from smartedge.config.model import ConfigError
from smartedge.edge.origin import ConfigOrigin

TEXT = b'{"backends": ["http://a"], "strategy": "random"}'


def test_the_file_is_read_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    path.write_bytes(TEXT)
    origin = ConfigOrigin(path, {})
    assert origin.read_text() == TEXT
    path.write_bytes(b"{}")
    assert origin.read_text() == b"{}"
    assert ConfigOrigin(None, {}).read_text() is None


def test_flags_and_variables_are_laid_over_every_text() -> None:
    origin = ConfigOrigin(None, {"SMARTEDGE_STRATEGY": "ewma"}, {"bind": "127.0.0.1:9"})
    config = origin.parse_text(TEXT)
    assert (config.strategy, config.bind) == ("ewma", "127.0.0.1:9")


@pytest.mark.parametrize(
    ("env", "overrides", "name"),
    [
        ({}, {}, "access_log"),
        ({"SMARTEDGE_ACCESS_LOG": "x"}, {}, "SMARTEDGE_ACCESS_LOG"),
        ({}, {"access_log": "x"}, "--access-log"),
    ],
)
def test_what_cannot_be_used_is_called_by_the_name_that_it_was_given_by(
    env: dict[str, str], overrides: dict[str, str], name: str
) -> None:
    error = ConfigOrigin(None, env, overrides).unusable(("access_log",), "cannot be written")
    assert isinstance(error, ConfigError)
    assert [(problem.path, problem.message) for problem in error.problems] == [(name, "cannot be written")]


def test_a_file_may_be_lacking_only_where_there_was_none_and_flags_name_the_backends(tmp_path: Path) -> None:
    path = tmp_path / "backends.json"
    flags = {"backends": ["http://a"]}
    assert ConfigOrigin(path, {}, flags).may_lack
    assert not ConfigOrigin(path, {}).may_lack
    path.write_text(json.dumps({}))
    assert not ConfigOrigin(path, {}, flags).may_lack


def test_what_was_read_of_a_pipe_is_a_text_without_flags_and_variables(tmp_path: Path) -> None:
    """A cluster gets it of its first node."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    origin = ConfigOrigin(path, {"SMARTEDGE_STRATEGY": "ewma"}, {"bind": "127.0.0.1:9"})
    text = json.loads(origin.text_of(origin.parse_text(b'{"backends": ["http://a"], "strategy": "random", "drain_s": 7}')))
    assert (text["backends"][0]["url"], text["drain_s"]) == ("http://a", 7)
    assert not text.keys() & {"strategy", "bind"}
    with pytest.raises(OSError, match="cannot be read again"):
        origin.read_text()
