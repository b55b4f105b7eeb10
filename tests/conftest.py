"""What holds for all tests."""

from __future__ import annotations

import gc

from hypothesis import HealthCheck, settings

# How long an example takes to make says how loaded the machine is.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look through it for every test again."""
    gc.collect()
    gc.freeze()
