"""The ids that requests are known by, in logs, answers and towards backends."""

from __future__ import annotations

import itertools
import secrets
from typing import Final

from smartedge.http.request import Request

ENDINGS: Final = tuple(f"{number:02x}" for number in reversed(range(256)))
"""The last two digits of a block of ids, the last first: to join strings takes a third of what formatting a number does."""


class RequestIds:
    """Makes ids that are unique over workers and restarts; owned by the Edge."""

    def __init__(self) -> None:
        self._blocks = itertools.count(1)
        self.draw_prefix()

    def draw_prefix(self) -> None:
        """Begin ids of another kind: whoever was forked must not go on with those of its parent."""
        self._prefix = f"{secrets.token_hex(6)}-"
        self._left: list[str] = []

    def next(self) -> str:
        """Make one."""
        return self._left.pop() if self._left else self._begin_block()

    def of(self, request: Request) -> str:
        """Return the id that a request brought along, or a new one."""
        said = request.said.request_id
        return said.decode("latin-1") if said is not None else self.next()

    def _begin_block(self) -> str:
        """Go on with the next number before the last two digits; return the first of its ids."""
        begin = f"{self._prefix}{next(self._blocks):x}"
        self._left = [begin + ending for ending in ENDINGS]
        return self._left.pop()
