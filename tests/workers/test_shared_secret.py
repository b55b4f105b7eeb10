"""The secret of sticky cookies: where it comes from, and that all workers have one."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from smartedge.workers.shared_secret import Secret, shared


def test_what_the_environment_says_goes_before_the_file_and_that_before_the_edges_own(tmp_path: Path) -> None:
    one, cluster = Secret(None), (b"newest", b"before")
    assert Secret(b"given").choose(b"of the file", tmp_path) == (b"given",)
    assert one.choose(b"of the file", tmp_path) == (b"of the file",)
    assert one.choose(None, tmp_path) == (shared(tmp_path),)
    one.of_cluster = cluster
    assert one.choose(None, tmp_path) == cluster
    assert one.choose(b"of the file", tmp_path) == (b"of the file",)


def test_one_process_alone_keeps_its_own() -> None:
    one = Secret(None)
    assert one.choose(None, None) == one.choose(None, None)
    assert [len(secret) for secret in one.choose(None, None)] == [32]
    assert one.choose(None, None) != Secret(None).choose(None, None)


def test_only_its_user_can_read_the_file_and_nothing_else_is_left(tmp_path: Path) -> None:
    os.umask(0)
    secret = shared(tmp_path)
    assert len(secret) == 32
    assert [path.name for path in tmp_path.iterdir()] == ["sticky.secret"]
    assert stat.S_IMODE((tmp_path / "sticky.secret").stat().st_mode) == 0o600
    assert shared(tmp_path) == secret


def test_all_who_ask_at_once_have_one_secret(tmp_path: Path) -> None:
    """Threads stand for workers: what they do to the directory is the same."""
    for number in range(40):
        directory = tmp_path / str(number)
        directory.mkdir()
        start = threading.Barrier(8)

        def ask(directory: Path = directory, start: threading.Barrier = start) -> bytes:
            start.wait()
            return shared(directory)

        with ThreadPoolExecutor(8) as workers:
            asked = [workers.submit(ask) for _ in range(8)]
            assert len({one.result() for one in asked}) == 1
        assert [path.name for path in directory.iterdir()] == ["sticky.secret"]


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"known to others")
    state = tmp_path / "state"
    state.mkdir()
    (state / "sticky.secret").symlink_to(elsewhere)
    try:
        shared(state)
    except OSError:
        return
    raise AssertionError("a foreign secret was taken")
