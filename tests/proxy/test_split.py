"""Weighted splits: the shares are right, a person stays, and as few as possible move."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from smartedge.proxy.split import Split

PEOPLE = [f"192.0.2.{i % 256}/{i}".encode() for i in range(20_000)]


def test_each_request_goes_by_the_weights() -> None:
    split, rng = Split([("web", 95), ("beta", 5)]), Random(1)
    found = Counter(split.by_chance(rng) for _ in range(20_000))
    assert found["beta"] / 20_000 == pytest.approx(0.05, abs=0.006)


def test_people_are_shared_out_by_the_weights() -> None:
    split = Split([("web", 80), ("beta", 15), ("gamma", 5)])
    found = Counter(map(split.by_key, PEOPLE))
    assert found["beta"] / len(PEOPLE) == pytest.approx(0.15, abs=0.01)
    assert found["gamma"] / len(PEOPLE) == pytest.approx(0.05, abs=0.006)


def test_only_those_move_who_must_when_a_weight_grows() -> None:
    before, after = Split([("web", 95), ("beta", 5), ("gamma", 10)]), Split([("web", 95), ("beta", 20), ("gamma", 10)])
    moved = [(before.by_key(key), after.by_key(key)) for key in PEOPLE if before.by_key(key) != after.by_key(key)]
    assert {to for _, to in moved} == {"beta"}
    assert len(moved) / len(PEOPLE) == pytest.approx(20 / 125 - 5 / 110, abs=0.01)


def test_the_same_share_in_other_numbers_moves_nobody() -> None:
    one, ten = Split([("web", 95), ("beta", 5)]), Split([("web", 950), ("beta", 50)])
    assert all(one.by_key(key) == ten.by_key(key) for key in PEOPLE[:2000])


def test_a_service_without_weight_gets_nothing() -> None:
    split = Split([("off", 0), ("web", 1), ("off too", 0)])
    assert split.only == "web"
    assert {split.by_key(key) for key in PEOPLE[:100]} == {"web"}
    assert {split.by_chance(Random(i)) for i in range(100)} == {"web"}
    assert Split([("web", 1), ("beta", 1)]).only is None
    assert repr(split) == "<Split off 0, web 1, off too 0>"


def test_the_order_in_the_file_says_nothing_about_people() -> None:
    one, other = Split([("web", 3), ("beta", 1)]), Split([("beta", 1), ("web", 3)])
    assert all(one.by_key(key) == other.by_key(key) for key in PEOPLE[:2000])
