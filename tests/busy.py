"""A loop that takes itself for busy, so that short sends wait for the end of their round (http/sweep.py)."""

from __future__ import annotations

import pytest
from gevent import get_hub

from smartedge.http import sweep
from smartedge.http.sweep import Sweep


def make_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """For this test, every round of the loop is one of many sends."""
    monkeypatch.setattr(sweep, "BUSY_SENDS", 0)
    monkeypatch.setattr(Sweep.of(get_hub()), "busy", True)
