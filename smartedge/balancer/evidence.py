"""Evidence: what the requests of a pool tell of their kinds, taken in after they have been served.

A lease that is answered leaves a note, and no more: that is all that is on a request's way. Here the notes are read, some
twenty times a second and before a failure is judged: how long each kind takes, who has answered it, whose a failure is. Of a
busy backend's answers only the first few between two looks are noted, and of very many backends' so many in all, which is a
sample. Called under the pool's lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.blame import Cause
from smartedge.balancer.hedge_delay import HedgeDelay
from smartedge.balancer.kinds import Holder, Kind, Kinds, kind_of
from smartedge.balancer.learned import Learned

NOTES: Final = 64
"""So many answers are looked at in one round, of all backends together; and one of each at which others wait meanwhile."""

MOST_OF_ONE: Final = 16

Note = tuple[Learned, tuple[bytes, bytes], float, float, int]
"""An answer: who gave it, the kind of its request (`Holder.kind`), when it began, after how many seconds, its status."""

OUTRUN_CODE: Final = -1
"""Stands for the code of a try that ended without an answer, because another was quicker."""

CLIENTS_FAULT: Final = 400
SERVERS_FAULT: Final = 500


class Evidence:
    """The kinds of one pool, and what is filed under them. hedging: learn how long is late, too."""

    def __init__(self) -> None:
        self.kinds = Kinds()
        self.hedging = False
        self._notes: list[Note] = []
        self._room = NOTES
        self._room_of_each = 1

    def follow_backends(self, backends: Sequence[Backend]) -> None:
        """Go on with these backends: share the sample out among them, and forget what others did."""
        self.read_notes()
        self.kinds.keep({backend.learned for backend in backends})
        self._room_of_each = max(1, min(MOST_OF_ONE, NOTES // max(1, len(backends))))
        for backend in backends:
            backend.learned.notes_room = self._room_of_each

    def forget(self, learned: Learned) -> None:
        """Forget how a backend's requests ended so far."""
        self.kinds.forget(learned)

    def kind_of(self, holder: Holder | None, *, make: bool = False) -> Kind:
        """Return the kind of the request that holds a lease; holder: whose lease it is."""
        return self.kinds.find(*kind_of(holder), make=make)

    def note(self, learned: Learned, holder: Holder | None, at: float, took_s: float, code: int) -> None:
        """Note an answer, if there is room; its backend has `notes_room`, or this is not called.

        What a backend answers while others wait there is noted in any case: it says that the backend is not silent.
        """
        if self._room <= 0 and not learned.waiting:
            return
        self._room -= 1
        learned.notes_room -= 1
        self._notes.append((learned, kind_of(holder), at, took_s, code))

    def read_notes(self) -> None:
        """Read the notes that answers have left."""
        notes, self._notes, self._room = self._notes, [], NOTES
        for learned, (method, target), at, took_s, code in notes:
            learned.notes_room = self._room_of_each
            kind = self.kinds.find(method, target, make=code < CLIENTS_FAULT)
            self._file(learned, kind, at, took_s, code)

    def _file(self, learned: Learned, kind: Kind, at: float, took_s: float, code: int) -> None:
        """File one answer. code: 0 if it is not known, which is no failure."""
        kind.used_at = at
        if code >= SERVERS_FAULT:
            kind.heard[learned] = at
            return
        if code < CLIENTS_FAULT:
            if code == OUTRUN_CODE:
                self._learn_late(kind, took_s, answered=False)
                return
            kind.learn(at, took_s)
            self._learn_late(kind, took_s, answered=True)
            if took_s <= max(4.0 * kind.usual_s, 0.02):
                kind.well.append((at - took_s, learned))
        kind.heard[learned] = at
        kind.results.note(learned, at, failed=False)

    def _learn_late(self, kind: Kind, took_s: float, *, answered: bool) -> None:
        if self.hedging:
            if kind.hedge is None:
                kind.hedge = HedgeDelay()
            kind.hedge.observe(took_s, answered=answered)

    def failed(self, learned: Learned, holder: Holder | None, now: float) -> Cause:
        """Take in that a backend has failed a request; return whose fault it is, by comparison with the others."""
        self.read_notes()
        kind = self.kind_of(holder, make=True)
        kind.used_at = now
        kind.results.note(learned, now, failed=True)
        blame = kind.results.blame(learned, now)
        if blame == "shared":  # what was held against the first to fail, before that was known
            for other in kind.results.sharers():
                other.ewma.forgive(now)
        return blame

    def is_hopeless(self, learned: Learned, holder: Holder | None, now: float) -> bool:
        """Whether the other backends fail at this kind of request, too."""
        self.read_notes()
        return self.kind_of(holder).results.is_hopeless(learned, now)
