"""What a section asks of its own keys together; each key by itself is in test_refused.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from smartedge.config.section import Section, existing_file
from smartedge.config.sections import BreakerConfig, FailureConfig, RateLimitConfig, RetryConfig, StickyConfig


@pytest.mark.parametrize(
    ("section", "keys", "said"),
    [
        (RetryConfig, {"hedge": True, "attempts": 1}, "needs attempts to be at least 2, not 1"),
        (RetryConfig, {"hedge": True, "budget_ratio": 0.0, "budget_per_s": 0.0}, "needs a budget"),
        (BreakerConfig, {"open_s": 9.0, "max_open_s": 5.0}, "must be at least open_s \\(9\\), not 5"),
        (BreakerConfig, {"open_s": 400.0}, "must be at least open_s \\(400\\), not 300"),
        (FailureConfig, {"statuses": (399,)}, "must hold only statuses from 400 to 599"),
        (StickyConfig, {"max_age_s": 5}, "needs a cookie beside it"),
        (StickyConfig, {"cookie": "__Host-s", "domain": "a.example"}, "must not be set for a cookie whose name begins"),
        (StickyConfig, {"cookie": "s", "same_site": "none", "secure": False}, "browsers refuse that"),
        (RateLimitConfig, {"burst": 5}, "needs a per_s beside it"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(section: type[Section], keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        section(**keys)


def test_statuses_to_try_again_are_in_order_and_once() -> None:
    assert RetryConfig(statuses=(503, 500, 503)).statuses == (500, 503)


def test_a_section_does_not_change_and_converts_nothing() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RetryConfig().attempts = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        RetryConfig(attempts="5")  # type: ignore[arg-type]


def test_a_file_has_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.touch()
    assert existing_file(str(file)) == str(file)
    with pytest.raises(ValueError, match="is no file here"):
        existing_file(str(tmp_path))
