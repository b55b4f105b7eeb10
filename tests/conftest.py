"""What holds for all tests."""

from __future__ import annotations

import gc
import importlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes to make says how loaded the machine is.
settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("loaded")

# Its two upper generations were looked through for nothing, again and again: a thirtieth of all time.
gc.set_threshold(5000, 10, 10)


ROOT = Path(__file__).parents[1]


def pytest_collection(session: pytest.Session) -> None:
    """On a fresh checkout each process of several compiles its part of the test modules, and finds that of the others done.

    Each imports all of them in a moment, in the same order: side by side they would compile every one of them as often.
    """
    worker = getattr(session.config, "workerinput", None)
    ignored = [ROOT / path for path in session.config.getoption("ignore") or ()]
    modules = [path for folder in session.config.args for path in sorted((ROOT / folder).rglob("test_*.py"))]
    if worker is not None:
        for path in modules[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
            if (path.parent / "__init__.py").exists() and not any(path.is_relative_to(one) for one in ignored):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def pytest_collection_finish() -> None:
    """What was imported and collected stays: the garbage collector need not look through it for every test again."""
    gc.collect()
    gc.freeze()
