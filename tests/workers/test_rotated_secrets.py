"""Secrets of all workers: one file, a new one each day, and the one before still good."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from smartedge.workers.rotated_secrets import DAY_S, RotatedSecrets
from smartedge.workers.state_dir import StateError


def two(folder: Path) -> tuple[RotatedSecrets, RotatedSecrets]:
    one, other = RotatedSecrets(folder / "tickets.secret"), RotatedSecrets(folder / "tickets.secret")
    assert one.look(0.0)
    assert other.look(1.0)
    return one, other


def test_whoever_looks_first_makes_it_and_all_have_the_same(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    assert one.newest_first == other.newest_first
    assert [len(secret) for secret in one.newest_first] == [32]
    assert (one.look(2.0), other.look(2.0)) == (False, False)


def test_after_a_day_there_is_a_new_one_and_the_one_before_is_good_for_another(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    (first,) = one.newest_first
    assert not one.rotate(DAY_S - 1)
    assert one.rotate(DAY_S)
    assert not one.rotate(DAY_S + 1)
    assert other.look(DAY_S)
    assert other.newest_first == one.newest_first
    assert (len(other.newest_first), other.newest_first[1]) == (2, first)
    assert not other.rotate(DAY_S + 1), "whoever leads next knows when the newest was made"
    assert one.rotate(2 * DAY_S)
    assert len(one.newest_first) == 2
    assert first not in one.newest_first


def test_a_clock_that_was_set_back_makes_no_secret_stay_for_ever(tmp_path: Path) -> None:
    one = RotatedSecrets(tmp_path / "tickets.secret")
    one.look(10 * DAY_S)
    assert one.rotate(0.0)


def test_others_may_say_which_ones_are_used(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    assert one.replace([b"b" * 32, b"a" * 32], 5.0)
    assert not one.replace([b"b" * 32, b"a" * 32], 6.0)
    assert other.look(6.0)
    assert other.newest_first == (b"b" * 32, b"a" * 32)


def test_a_process_alone_keeps_them_to_itself() -> None:
    one, other = RotatedSecrets(None), RotatedSecrets(None)
    assert one.look(0.0)
    assert other.look(0.0)
    assert not one.look(1.0)
    assert one.newest_first != other.newest_first


def test_what_is_no_file_of_ours_is_replaced_and_no_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "tickets.secret"
    path.write_text("rubbish")
    one = RotatedSecrets(path)
    assert one.look(0.0)
    assert RotatedSecrets(path).look(0.0)
    with pytest.raises(StateError):
        RotatedSecrets(tmp_path / "nowhere" / "tickets.secret").look(0.0)


def test_nobody_else_reads_it(tmp_path: Path) -> None:
    one, _ = two(tmp_path)
    one.rotate(DAY_S)
    assert stat.S_IMODE((tmp_path / "tickets.secret").stat().st_mode) == 0o600
