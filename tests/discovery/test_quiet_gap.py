"""A change alone goes on at once, many go on together."""

from __future__ import annotations

from math import inf

import pytest

from smartedge.discovery.quiet_gap import QuietGap


def test_a_single_change_is_due_after_a_quiet_gap() -> None:
    gap = QuietGap()
    assert (gap.due, repr(gap)) == (inf, "<QuietGap: nothing>")
    gap.note(10.0)
    assert gap.due == pytest.approx(10.03)
    gap.clear()
    assert gap.due == inf


def test_changes_that_keep_coming_are_due_half_a_second_after_the_first() -> None:
    gap = QuietGap()
    for step in range(25):
        gap.note(10.0 + step * 0.02)
        assert gap.due == pytest.approx(min(10.0 + step * 0.02 + 0.03, 10.5))
    assert repr(gap) == "<QuietGap: due at 10.5>"
