"""How many examples Hypothesis tries: a quarter with the fast tests, all with the long ones.

Each run tries others, so four runs of the fast tests see as many as one of the long ones: `make test-long`, which loads the
profile named `all`. A test that is marked `examples` asks here too, without Hypothesis.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

ALL = 100


def load_profiles() -> None:
    """Called once, by `tests/conftest.py`; `--hypothesis-profile all` then takes the other one."""
    # How long an example takes to make says how loaded the machine is.
    loaded = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("all", loaded, max_examples=ALL)
    settings.register_profile("quarter", loaded, max_examples=ALL // 4)
    settings.load_profile("quarter")


def examples(count: int) -> int:
    """Of this many examples, those that are tried. For `max_examples` where 100 is not the number."""
    return max(5, count * settings().max_examples // ALL)
