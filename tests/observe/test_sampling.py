"""Which of many are taken."""

from __future__ import annotations

from random import Random

import pytest

from smartedge.observe.sampling import NEVER, gap


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, 0), (0.0, NEVER)])
def test_all_and_none(ratio: float, expected: int) -> None:
    assert gap(ratio, Random(1)) == expected


def test_the_share_is_the_ratio() -> None:
    rng = Random(7)
    gaps = [gap(0.1, rng) for _ in range(2000)]
    assert 0.09 < len(gaps) / sum(one + 1 for one in gaps) < 0.11
