from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from smartedge.edge import collector


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    yield
    gc.set_threshold(*before)


def _full_collections_while_making(count: int) -> int:
    """Make so many objects that stay, and count the full collections meanwhile."""
    before = gc.get_stats()[2]["collections"]
    kept: list[Any] = []
    for _ in range(count):
        kept.append([kept])
    return int(gc.get_stats()[2]["collections"]) - before


def test_full_collections_are_put_off_while_something_of_all_backends_is_made_and_no_longer() -> None:
    gc.freeze()
    gc.collect()  # a full one waits until there is a quarter more than the last one found, which is nothing now
    try:
        assert _full_collections_while_making(200_000) > 0
        with collector.put_off():
            assert _full_collections_while_making(200_000) == 0
        assert gc.get_threshold() == (50, 2, 2)
        assert _full_collections_while_making(200_000) > 0
    finally:
        gc.unfreeze()


def test_they_are_put_off_until_the_last_of_several_pieces_of_work_has_ended() -> None:
    def break_off() -> None:
        with collector.put_off():
            first.close()
            assert gc.get_threshold()[2] > 1_000_000
            raise ValueError("broke off")

    with contextlib.ExitStack() as first:
        first.enter_context(collector.put_off())
        with pytest.raises(ValueError, match="broke off"):
            break_off()
    assert gc.get_threshold() == (50, 2, 2)
