"""Turns of the event loop, for what goes on beside requests: between two looks at the sockets only so much of it is done.

Everything that gives way waits here in one row, whatever it is: a reload, a scrape, the work of each second, probes and their
answers. Else the pieces of all of them, each short, would be done in one round, and a request that comes meanwhile waits for
their sum.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from time import thread_time
from typing import Any, Final

from gevent.hub import Waiter

ROUND_S: Final = 0.001
"""So much processor time does a round of the loop give to those who wait here; whoever has begun ends its piece."""

SHARE: Final = 0.25
"""And of long rounds this part, so that under any load of requests probes are made, and reloads come to their end."""


class Turns:
    """Those who have given way in one event loop, in the order in which they came; made by the first of them, in `of`.

    After each look at the sockets, and when what these had to tell has been worked on, as many go on as there is time for, one at
    least. While somebody waits the loop does not sleep. clock: gives seconds.
    """

    def __init__(self, hub: Any, clock: Callable[[], float] = thread_time) -> None:
        self._clock = clock
        self._waiting: deque[Waiter[None]] = deque()
        self._ended_at = 0.0
        loop = hub.loop
        self._after_polling = loop.check(priority=loop.MINPRI)
        self._awake = loop.idle(priority=loop.MINPRI)

    def __repr__(self) -> str:
        return f"<Turns: {len(self._waiting)} wait>"

    @classmethod
    def of(cls, hub: Any) -> Turns:
        """Return those of a hub, which keeps them, as it does its wires' `Sweep`."""
        try:
            turns: Turns = hub.smartedge_turns
        except AttributeError:
            turns = hub.smartedge_turns = cls(hub)
        return turns

    def wait(self) -> None:
        """Let requests go on, and come back when it is our turn."""
        waiter: Waiter[None] = Waiter()
        if not self._waiting:
            self._ended_at = self._clock()
            self._after_polling.start(self._let_go_on)
            self._awake.start(_do_nothing)
        self._waiting.append(waiter)
        try:
            waiter.get()
        except BaseException:  # killed, or out of time
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)
            raise

    def _let_go_on(self) -> None:
        began = now = self._clock()
        until = began + max(ROUND_S, SHARE * (began - self._ended_at))
        for _ in range(len(self._waiting)):  # who comes back here has the next round
            if not self._waiting:
                break
            self._waiting.popleft().switch(None)
            if (now := self._clock()) >= until:
                break
        self._ended_at = now
        if not self._waiting:
            self._after_polling.stop()
            self._awake.stop()


def _do_nothing() -> None:
    """Be what keeps the loop from sleeping."""
