"""When changes are handed on: at once where they come alone, together where many come at a time."""

from __future__ import annotations

from math import inf
from typing import Final

GAP_S: Final = 0.03
"""Changes are handed on when so long none has come ..."""

MOST_S: Final = 0.5
"""... and so long after the first of them at the latest."""


class QuietGap:
    """Says when changes that keep coming are to be handed on; owned by a `SourceRunner`. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._first = self._last = inf

    def __repr__(self) -> str:
        return "<QuietGap: nothing>" if self._first == inf else f"<QuietGap: due at {self.due:g}>"

    def note(self, now: float) -> None:
        """Hear that there is a change."""
        self._first, self._last = min(self._first, now), now

    @property
    def due(self) -> float:
        """When what was noted is to be handed on; infinity where there is nothing."""
        return min(self._last + GAP_S, self._first + MOST_S)

    def clear(self) -> None:
        """Hear that it is being handed on."""
        self._first = self._last = inf
