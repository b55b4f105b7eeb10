"""What a node begins with: the cluster's key, its own file, or the copy that it has kept."""

from __future__ import annotations

import contextlib
import json
import logging
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from smartedge.cluster.cached_copy import CachedCopy
from smartedge.cluster.stored import Stored
from smartedge.cluster.view import View
from smartedge.config.model import Config, ConfigError
from smartedge.edge.cluster_start import ClusterStart, join_running, load_for_start
from tests.discovery.scripted_etcd import header, scripted_etcd

FILE = '{"backends": ["http://localhost:8081"]}'
KEY = '{"backends": ["http://localhost:8082"]}'
FOREIGN = "another program's"


def holding(text: str | None) -> Callable[[object], tuple[int, object]]:
    """An etcd whose key holds this; None for no key, FOREIGN for what another program has written there."""
    if text is None:
        return lambda _: (200, {"header": header(), "count": "0"})
    value = text.encode() if text is FOREIGN else Stored(5, text, "another", 1.0, "n", "id").to_value()
    pair = {"key": b64encode(b"/prod/config").decode(), "value": b64encode(value).decode()}
    pair |= {"mod_revision": "7", "create_revision": "1", "version": "5"}
    return lambda _: (200, {"header": header(), "kvs": [pair], "count": "1"})


@contextlib.contextmanager
def begun(
    path: Path,
    text: str | None,
    file: str | None = FILE,
    *,
    away: bool = False,
    copy: str | None = None,
    kept: int = 4,
    **overrides: str,
) -> Iterator[tuple[Config, ClusterStart]]:
    """What a node with this file begins with, where the key holds this text.

    away: etcd does not answer. copy, kept: text and generation of what was kept.
    """
    if file is not None:
        path.write_text(file)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(scripted_etcd(kv_range=holding(text)))
        if copy is not None:
            CachedCopy(path, "/prod", [server.url]).write(View(stored=Stored(kept, copy, "another", 1.0, "n", "id")))
        if away:
            stack.close()
        config, start = load_for_start(str(path), {}, {"cluster": f"etcd{server.url.removeprefix('http')}/prod", **overrides})
        assert start is not None
        yield config, start


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backends.json"


def urls(config: Config) -> list[str]:
    return [backend.url for backend in config.backends]


def said(start: ClusterStart, path: Path, caplog: pytest.LogCaptureFixture) -> str:
    """The line of the log."""
    with caplog.at_level(logging.INFO, "smartedge"):
        start.say(str(path))
    return caplog.records[-1].getMessage()


def test_the_key_wins_over_the_file_with_the_nodes_flags_over_it(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with begun(path, KEY, bind="127.0.0.1:8099") as (config, start):
        assert (urls(config), config.bind, start.generation) == (["http://localhost:8082"], "127.0.0.1:8099", 5)
        assert "the cluster's configuration is used (generation 5), not" in said(start, path, caplog)
        path.write_text(KEY)
        assert said(start, path, caplog) == "the cluster's configuration is used (generation 5)"


def test_without_a_key_the_file_is_used_which_is_none_of_the_clusters_yet(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with begun(path, None) as (config, start):
        assert (urls(config), start.generation, start.problem) == (["http://localhost:8081"], 0, None)
        assert "it gets that of" in said(start, path, caplog)


def test_a_node_needs_no_file_where_there_is_a_key(path: Path) -> None:
    with begun(path, KEY, None) as (config, _):
        assert urls(config) == ["http://localhost:8082"]
    with pytest.raises(ConfigError, match="there is no such file"), begun(path, None, None):
        pass


def test_without_etcd_the_copy_is_used_and_without_a_copy_the_file_and_both_are_said_to_be_stale(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begun(path, None, away=True) as (config, start):
        assert (urls(config), start.generation) == (["http://localhost:8081"], 0)
        assert said(start, path, caplog).startswith("stale: the configuration cannot be read from etcd")
        assert "there is no copy of its configuration" in said(start, path, caplog)
    with begun(path, None, away=True, copy=KEY) as (config, start):
        assert (urls(config), start.generation) == (["http://localhost:8082"], 4)
        assert "the copy of the cluster's configuration is used (generation 4)" in said(start, path, caplog)


def test_the_copy_is_used_where_the_key_holds_what_is_none_of_ours_and_without_one_the_node_does_not_start(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with begun(path, FOREIGN, copy=KEY) as (config, start):
        assert (urls(config), start.generation) == (["http://localhost:8082"], 4)
        assert said(start, path, caplog).startswith("stale: the key /prod/config in etcd holds no configuration of SmartEdge's")
    CachedCopy(path, "/prod").path.unlink()
    with pytest.raises(ConfigError, match="holds no configuration of SmartEdge's"), begun(path, FOREIGN):
        pass


@pytest.mark.parametrize("text", [None, FILE])
def test_the_copy_is_used_where_etcd_has_lost_what_it_holds(path: Path, text: str | None) -> None:
    """It has an older generation, from a backup, or none."""
    with begun(path, text, copy=KEY, kept=6) as (config, start):
        assert (urls(config), start.generation, start.problem) == (["http://localhost:8082"], 6, None)


def test_with_nothing_at_all_a_node_does_not_start_and_says_what_is_missing(path: Path) -> None:
    with pytest.raises(ConfigError, match="there is neither a copy of it nor a file"), begun(path, None, None, away=True):
        pass


def test_a_damaged_copy_is_said_and_not_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CachedCopy(path, "/prod").path.write_text("rubbish")
    with begun(path, None, away=True) as (config, _):
        assert urls(config) == ["http://localhost:8081"]
    assert any("is damaged" in record.getMessage() for record in caplog.records)


def test_what_the_cluster_has_and_this_node_cannot_read_is_named(path: Path) -> None:
    with pytest.raises(ConfigError, match="the configuration of the cluster /prod, generation 5"), begun(path, '{"bakends": []}'):
        pass


def test_the_cluster_is_named_by_flag_variable_or_file_and_outside_of_one_the_file_is_all(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(FILE), "cluster": "etcd://10.0.0.5/of-the-file"}))
    env = {"SMARTEDGE_CLUSTER": "etcds://10.0.0.5/of-the-variable"}

    def prefix(env: dict[str, str], **flags: str) -> str:
        start = join_running(str(path), env, flags)
        assert start is not None
        assert not start.is_first
        return start.settings.prefix

    assert prefix({}) == "/of-the-file"
    assert prefix(env) == "/of-the-variable"
    assert prefix(env, cluster="etcd://10.0.0.5/of-the-flag") == "/of-the-flag"
    path.write_text(FILE)
    assert join_running(str(path), {}, {}) is None
    config, start = load_for_start(str(path), {}, {})
    assert (urls(config), start) == (["http://localhost:8081"], None)


@pytest.mark.parametrize(
    ("said", "message"),
    [("consul://a", r"--cluster: must be like \"etcd://"), ("etcd://u:p@a/x", r"--cluster: must not hold a password")],
)
def test_a_wrong_cluster_is_an_error_that_names_it(path: Path, said: str, message: str) -> None:
    path.write_text(FILE)
    with pytest.raises(ConfigError, match=message):
        load_for_start(str(path), {}, {"cluster": said})
