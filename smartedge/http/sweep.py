"""What one event loop does for all its wires together: deadlines ten times a second, and sends once a round.

A send wakes its peer at once: a client or a backend on the same machine, or the network's own thread, takes the processor between
two of ours. So what is small waits until everything that the kernel had to tell has been worked on, and then goes out in one row
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

SWEEP_S: Final = 0.1
"""How often deadlines are looked at, in seconds."""

STOOD_STILL_S = 1.0
"""A loop that has not looked at its deadlines for so long has stood still: the process was stopped, or the machine."""


BUSY_SENDS = 8
"""A loop with fewer short sends in its last round sends at once: its peer works while the round is brought to its end."""


class Swept(Protocol):
    """A `Wire` as its Sweep uses it, plain or TLS."""

    read_deadline: float
    write_deadline: float
    on_idle: Callable[[], None] | None

    def expire(self, now: float) -> None: ...  # noqa: D102
    def attend(self) -> None: ...  # noqa: D102
    def send_waiting(self, now: float) -> None: ...  # noqa: D102


class Sweep:
    """What is done for all wires of one event loop; made by the first `Wire` of its loop.

    Calls `expire` of those whose deadline has passed, `attend` of those that nobody watches, and `send_waiting` of those that
    have put themselves on the list `sending`.

    sends: short ones of this round, counted by the wires. busy: the last round had many, so they wait for the end of this one.
    polled_at: when the loop last asked the kernel (`loop.now()` is no answer: every timer that is started moves it).
    """

    def __init__(self, hub: Any) -> None:
        self.wires: set[Swept] = set()
        self.sending: list[Swept] = []
        self.sends = 0
        self.busy = False
        self._looked_at = monotonic()
        self._let_pass = 0
        loop = hub.loop
        self._timer = loop.timer(SWEEP_S, repeat=SWEEP_S, ref=False)
        self._timer.start(self._look)
        self.polled_at = 0.0
        self._check = loop.check(ref=False, priority=loop.MAXPRI)
        self._check.start(self._polled)
        # The last that a round does before it asks the kernel again: gevent starts new greenlets in a watcher before this one.
        self._prepare = loop.prepare(ref=False, priority=loop.MINPRI)
        self._prepare.start(self._send)

    def _polled(self) -> None:
        self.polled_at = monotonic()

    def _send(self) -> None:
        """Send what this round has to say."""
        self.busy = self.sends >= BUSY_SENDS
        self.sends = 0
        sending = self.sending
        if sending:
            now = monotonic()
            for wire in sending:
                wire.send_waiting(now)
            sending.clear()

    @classmethod
    def of(cls, hub: Any) -> Sweep:
        """Give the sweep of this hub's loop, made when it is first asked for; the hub keeps it, and it ends with the hub."""
        try:
            sweep: Sweep = hub.smartedge_sweep
        except AttributeError:
            sweep = hub.smartedge_sweep = cls(hub)
        return sweep

    def _look(self) -> None:
        now = monotonic()
        # After a standstill it has still to be told what came in time: the kernel is asked in this round of the loop or the next
        # (a SIGCONT interrupts the first), and timers come first in each. So two looks are let pass, then one is made whatever
        # happens, for a loop may always be slow.
        stood_still = now - self._looked_at > STOOD_STILL_S
        self._looked_at = now
        if self._let_pass < 2 and (stood_still or self._let_pass):
            self._let_pass += 1
            return
        self._let_pass = 0
        late = []
        for wire in tuple(self.wires):  # `attend` may close some of them
            if wire.read_deadline < now or wire.write_deadline < now:
                late.append(wire)
            elif wire.on_idle is not None:
                wire.attend()
        for wire in late:
            wire.expire(now)
