"""The waiting line: who waits for a lease because all backends are full, or because none is there and one may soon be back.

All of one pool's waiters stand in one line, in the order of arrival. Here it is decided who is served next, who is passed by
and who is sent away; `proxy/queue.py` has greenlets wait accordingly, and `simulator/queue.py` requests in virtual time. They
call `admit` for who finds no backend, `serve` when a lease has ended, and `look` every LOOK_S, for what nobody tells of: room
that other workers' leases left, backends that are back, waiters whose time is over. So the order holds within a worker only.

A session waits for its own backend while that is full; the others pass it by. A backend that refuses connections is probably
being restarted. Of all who wait for it one asks again, every LOOK_S, and as soon as it is connected, or any backend answers,
the rest follow: a hundred clients are no storm of connections.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import RETRY_AFTER_S, may_return
from smartedge.balancer.cells import CONNECTS
from smartedge.balancer.errors import AllFull, ConnectFailed, EdgeError, NoBackend, SessionFull
from smartedge.balancer.lease import Lease
from smartedge.balancer.pool import Pool

LOOK_S: Final = 0.02
"""How often whoever owns a line looks at it while somebody waits."""

PROBE_S: Final = 0.25
"""How often a probe is asked for of those who are waited for; the schedule has them no nearer to each other than it likes."""

Take = Callable[[float, Sequence[Backend], str | None], Lease]
"""Takes a lease for a waiter, or raises NoBackend: (now, the backends to leave out, id of the backend of its session)."""


class WaitPolicy(NamedTuple):
    """How a line is kept. size: how many may wait. room_s: how long for room. back_s: how long for who may come back."""

    size: int
    room_s: float
    back_s: float


class Waiter:
    """One request that waits for a lease; made by the line's owner, who is given it back with a lease or an error.

    settle: the owner's, for what the line has decided. tried: the backends that are left out. session: id of the backend that
    its session is with, which alone it waits for, until its time is over. failed: what became of the latest try, if it was
    refused and nobody was left after it. room_until, back_until: when it has waited long enough, for room or, `away`, for
    somebody to come back. over: it waits no more, and is taken off the line by whoever looks next. heard: how much had been
    heard of all backends when it came.
    """

    __slots__ = ("away", "back_until", "failed", "heard", "over", "room_until", "session", "settle", "take", "tried")

    def __init__(
        self,
        take: Take,
        settle: Callable[[float, Lease | NoBackend], None],
        tried: Sequence[Backend],
        session: str | None,
        failed: EdgeError | None,
        room_until: float,
        back_until: float,
    ) -> None:
        self.take = take
        self.settle = settle
        self.tried = tried
        self.session = session
        # Who accepts a connection and breaks it off, or is slow, is there: it would be the same again.
        self.failed = failed if isinstance(failed, ConnectFailed) else None
        self.room_until = room_until
        self.back_until = back_until
        self.away = False
        self.over = False
        self.heard = 0.0

    @property
    def until(self) -> float:
        """When it has waited long enough."""
        return self.back_until if self.away else self.room_until

    def take_lease(self, now: float) -> Lease:
        """Take a lease, if there is one for it; raises NoBackend."""
        return self.take(now, self.tried, self.session)


Settled = list[tuple[Waiter, Lease | NoBackend]]
"""What waits have come to; the waiters are off the line."""


class WaitingLine:
    """Who waits for a lease of one pool, in the order in which they are served. policy: replaced by a reload."""

    def __init__(self, pool: Pool, policy: WaitPolicy) -> None:
        self.policy = policy
        self.waiters: deque[Waiter] = deque()
        self._pool = pool
        self._refused: float | None = None  # how much had been heard of all backends when the last connection was refused
        self._next_scout = 0.0
        self._probed_at = -PROBE_S
        self._wanted = False

    def __repr__(self) -> str:
        waiting = [waiter for waiter in self.waiters if not waiter.over]
        return f"<WaitingLine {len(waiting)} of {self.policy.size}, {sum(waiter.away for waiter in waiting)} for a restart>"

    def admit(self, waiter: Waiter, why: NoBackend | None, waiting: int, now: float) -> Lease | None:
        """Let one wait, after all that came before. Raises NoBackend when that is in vain, AllFull when there is no place.

        A session that could only wait where there is no place moves on instead, to the backend whose lease is returned.

        why: what there is none for now; None when nobody has looked, because others wait already. waiting: how many do, in all
        workers.
        """
        is_full = why is None or isinstance(why, AllFull)
        if why is not None and not is_full and not self._may_return(waiter, now):
            raise why
        if waiting >= self.policy.size:
            return self._without_a_place(waiter, why, waiting, now)
        if waiter.failed is None:
            self.waiters.append(waiter)
        else:
            self.waiters.appendleft(waiter)  # it has waited before
            waiter.heard = self._heard()
        if not is_full:
            self._want_back(waiter, now)
        return None

    def serve(self, now: float) -> Settled:
        """Give a lease to the first who can have one, and send away who waits in vain before him."""
        settled: Settled = []
        waiters = self.waiters
        scouting = self._refused is not None and self._is_still_refused()
        if scouting and now < self._next_scout:
            return settled
        full: set[str] = set()  # backends of sessions
        index = 0
        while index < len(waiters):
            waiter = waiters[index]
            if waiter.over:
                del waiters[index]
                continue
            session = waiter.session
            if session in full:
                index += 1
                continue
            try:
                lease = waiter.take_lease(now)
            except SessionFull:
                assert session is not None
                full.add(session)
                index += 1
            except AllFull:
                if not waiter.tried:
                    break
                index += 1  # What is free has been tried by this one; the next may have it.
            except NoBackend as error:
                if not self._may_return(waiter, now):
                    del waiters[index]
                    settled.append((waiter, self._refusal(waiter, error, now)))
                    continue
                left_out = waiter.tried
                self._want_back(waiter, now)
                if not left_out:
                    break  # There is nobody for anybody.
                if waiter.tried:
                    index += 1
            else:
                del waiters[index]
                settled.append((waiter, lease))
                if scouting:
                    self._next_scout = now + LOOK_S
                break
        return settled

    def look(self, now: float) -> Settled:
        """Serve whom there is a backend for, and send away who has waited long enough, after a last chance."""
        settled: Settled = []
        while served := self.serve(now):
            settled += served
        for waiter in [waiter for waiter in self.waiters if waiter.over or waiter.until <= now]:
            got = None if waiter.over else self._last_chance(waiter, now)
            if waiter.over or got is not None:
                self.waiters.remove(waiter)
            if got is not None:
                settled.append((waiter, got))
        if not self.waiters:
            self._refused = None
        return settled

    def to_probe(self, now: float) -> list[Backend]:
        """Return the backends that somebody waits for to come back, to be probed soon; none when that was said just now."""
        if not self._wanted or now < self._probed_at + PROBE_S:
            return []
        self._wanted, self._probed_at = False, now
        backends = self._pool.backends
        return [one for one in backends if one.learned.health.state == "unhealthy" and one.state == "enabled"]

    def _may_return(self, waiter: Waiter, now: float) -> bool:
        """Whether somebody who could serve this may soon be there, and there is time left."""
        left_s = waiter.back_until - now
        return left_s > 0.0 and (waiter.failed is not None or may_return(self._pool.backends, now, left_s))

    def _want_back(self, waiter: Waiter, now: float) -> None:
        """Have all who were tried asked again, one client at a time, and probed soon."""
        waiter.away = self._wanted = True
        if waiter.tried and waiter.failed is not None:
            waiter.tried = ()
            if waiter.heard == self._heard():  # else somebody has got through since, and this one says nothing new
                self._refused = waiter.heard
                self._next_scout = now + LOOK_S

    def _is_still_refused(self) -> bool:
        if self._heard() == self._refused:
            return True
        self._refused = None
        return False

    def _heard(self) -> float:
        """Return a number that changes with every connection that is made and every answer that begins, in all workers."""
        heard = 0.0
        for backend in self._pool.backends:
            learned = backend.learned
            heard += learned.heard_at + sum(row[CONNECTS] for row in learned.rows)
        return heard

    def _without_a_place(self, waiter: Waiter, why: NoBackend | None, waiting: int, now: float) -> Lease:
        """Do without: a session that cannot be waited for moves on, all others are refused."""
        if waiter.session is not None and (why is None or isinstance(why, SessionFull)):
            waiter.session = None
            try:
                return waiter.take_lease(now)
            except AllFull as full:
                why = full
        if why is not None and not isinstance(why, AllFull):
            raise why
        detail = f"All backends are full, and {waiting} requests wait for them." if waiting else "All backends are full."
        raise AllFull(detail, retry_after_s=RETRY_AFTER_S)

    def _last_chance(self, waiter: Waiter, now: float) -> Lease | NoBackend | None:
        """Give one who has waited long enough a lease or an error; None when it is for something else that it waits now."""
        if not waiter.away:
            waiter.session = None  # Its backend was full for all that time: any other one is better than none.
        try:
            return waiter.take_lease(now)
        except AllFull as full:
            waiter.away = False
            error: NoBackend = full
            error.detail = f"No backend had room within {self.policy.room_s:g} s."
        except NoBackend as none:
            waiter.away = True
            error = none
        return None if waiter.until > now else self._refusal(waiter, error, now)

    def _refusal(self, waiter: Waiter, error: NoBackend, now: float) -> NoBackend:
        if waiter.away and waiter.until <= now:
            error.detail += f"; waited for {self.policy.back_s:g} s"
        return error
