"""What holds for all tests."""

from __future__ import annotations

import gc


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look through it for every test again."""
    gc.collect()
    gc.freeze()
