"""What holds for all tests."""

from __future__ import annotations

import gc

from tests.examples import load_profiles

load_profiles()

# Its two upper generations were looked through for nothing, again and again: a thirtieth of all time.
gc.set_threshold(5000, 10, 10)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look through it for every test again."""
    gc.collect()
    gc.freeze()
