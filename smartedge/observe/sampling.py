"""Sampling: how many requests pass by until one is taken, so that each of them costs no more than a subtraction."""

from __future__ import annotations

from math import log1p
from random import Random
from typing import Final

NEVER: Final = 1 << 62


def gap(ratio: float, rng: Random) -> int:
    """Draw how many pass by until the next one is taken, so that nobody can tell which. ratio: of them that are taken."""
    if ratio >= 1.0:
        return 0
    if ratio <= 0.0:
        return NEVER
    return int(log1p(-rng.random()) / log1p(-ratio))
