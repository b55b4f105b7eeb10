"""Stand-ins for what the domain is given from outside."""

from __future__ import annotations


class FakeClock:
    """A monotonic clock that stands still until it is moved; call it, or read `now`, for seconds."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on, never back; return the new time."""
        assert seconds >= 0
        self.now += seconds
        return self.now
