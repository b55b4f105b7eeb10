from __future__ import annotations

import random

import pytest

from smartedge.balancer.kinds import KEPT_S, MOST_KINDS, Kind, Kinds

NOW = 1000.0


def key(kinds: Kinds, target: bytes, method: bytes = b"GET") -> bytes:
    kind = kinds.find(method, target, make=True)
    kind.used_at = NOW
    return kind.key


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/", b"GET /"),
        (b"/users/123", b"GET /users/*"),
        (b"/users/456?page=2", b"GET /users/*"),
        (b"/users/7f3a9c02-1111-4222-8333-944445555666/orders", b"GET /users/*/orders"),
        (b"/api/v1/orders/99/lines", b"GET /api/v1/orders"),
        (b"/static/app.3f2a91.js", b"GET /static/*"),
        (b"/reports/2026-11-26", b"GET /reports/*"),
        (b"/blog/a-title-that-is-longer-than-a-name", b"GET /blog/*"),
        (b"*", b"GET "),
    ],
)
def test_a_kind_is_a_method_and_a_path_without_its_ids(target: bytes, expected: bytes) -> None:
    assert key(Kinds(), target) == expected


def test_methods_are_kinds_of_their_own_and_those_that_somebody_makes_up_are_one() -> None:
    kinds = Kinds()
    assert key(kinds, b"/a", b"POST") == b"POST /a"
    assert key(kinds, b"/a", b"BREW") == key(kinds, b"/a", b"STEEP") == b"* /a"


def test_paths_that_somebody_makes_up_use_no_memory_and_push_nobody_out() -> None:
    """Were the oldest kinds to make room for the newest, one client with random paths would have the edge forget all it knows."""
    rng = random.Random(3)
    kinds = Kinds()
    sound = {target: key(kinds, target) for target in (b"/", b"/cart", b"/api/v1/orders")}
    for _ in range(20_000):
        key(kinds, b"/" + b"/".join(bytes(rng.choices(b"abcdefgh", k=6)) for _ in range(4)))
    assert len(kinds) <= 2 * MOST_KINDS + 10
    assert {target: key(kinds, target) for target in sound} == sound
    assert key(kinds, b"/never-seen") == b"GET /*"


def test_what_has_no_place_is_filed_with_its_siblings_and_a_look_makes_none() -> None:
    kinds = Kinds()
    assert kinds.find(b"GET", b"/a/b").key == b"GET "
    assert len(kinds) == 1
    for name in range(16):
        key(kinds, b"/blog/" + bytes([97 + name]))
    assert key(kinds, b"/blog/z") == b"GET /blog/*"


def test_a_kind_that_nobody_asks_for_gives_its_place_away() -> None:
    kinds = Kinds()
    for name in range(16):
        key(kinds, b"/x" + bytes([97 + name]))
    assert key(kinds, b"/new") == b"GET /*"
    kept = kinds.find(b"GET", b"/xa/b", make=True)
    kept.used_at = NOW + KEPT_S
    kinds.tick(NOW + KEPT_S)
    assert kinds.find(b"GET", b"/xa/b") is kept
    assert key(kinds, b"/new") == b"GET /new"


def test_what_is_usual_is_a_mean_that_a_pause_does_not_move() -> None:
    kind = Kind()
    for _ in range(100):
        kind.learn(NOW, 0.01)
    for _ in range(5):
        kind.learn(NOW, 0.4)
    assert 0.01 < kind.usual_s < 0.02
    assert kind.peak(NOW) == 0.4
    assert kind.peak(NOW + 60.0) == pytest.approx(0.2)


def test_what_becomes_slower_for_good_is_known_to_be_slow_soon() -> None:
    kind = Kind()
    for _ in range(100):
        kind.learn(NOW, 0.01)
    for _ in range(100):
        kind.learn(NOW, 0.3)
    assert kind.usual_s == pytest.approx(0.3, rel=0.2)
