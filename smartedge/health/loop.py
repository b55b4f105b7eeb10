"""Health checks: a greenlet loop in which one worker of the edge probes every backend again and again.

`HealthLoop` runs what health/schedule.py says is due; health/probe.py asks one backend, and health/probe_answer.py
reads the answer. What follows from a row of answers is the domain's affair (balancer/health.py); to log it
and to tell the pool is the caller's (`on_change`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event
from gevent.pool import Group

from smartedge.balancer.breaker import BreakerChange
from smartedge.balancer.health import HealthChange, ProbeResult
from smartedge.health.schedule import Schedule, ScheduledProbe
from smartedge.http.resources import HOLDERS, OwnTrouble

if TYPE_CHECKING:
    from smartedge.balancer.backend import Backend

log = logging.getLogger(__name__)

BEGUN_AT_ONCE = 6  # of thousands that are due, 2 ms with their first answers; between two such lots requests are looked after
TURN_S = 0.001  # past the sockets that have something to read, which 0 would come before
GATHER_S = 0.05  # probes that come due meanwhile begin together: to wake up for each of hundreds costs as much as the probe
LOOK_S = 0.25  # how often we look whether we lead, and whether other workers want a probe
HEARD = 1_000  # so many backends are asked at a stretch whether a worker wants a probe, some 0.5 ms
STOPPED_S = 1.0  # a probe that ends so long after its deadline says that this process was stopped meanwhile
RESTART_S = 1.0


def _give_way() -> None:
    gevent.sleep(TURN_S)


class HealthLoop:
    """Probe all backends for as long as it runs: the first time at once, then each at its own pace.

    backends: gives the current members; asked at the start and after `wake()`.
    probe: asks one backend, within a deadline of its own.
    on_change: called with (backend, "up" or "down", result) once for each flip and for the first result, and with "closed"
    when a probe has closed its breaker; no lock is held.
    leads: says whether this worker is the one that probes; asked all the time. It goes on where another one stopped.
    leading: what it said last. give_way: lets others go on between two pieces of what takes long.
    last_run: when the loop last came round, on the clock of `now`; it does so at least every LOOK_S.
    """

    def __init__(
        self,
        backends: Callable[[], Sequence[Backend]],
        probe: Callable[[Backend], ProbeResult],
        on_change: Callable[[Backend, HealthChange | BreakerChange, ProbeResult], None],
        rng: random.Random,
        now: Callable[[], float] = time.monotonic,
        leads: Callable[[float], bool] = lambda _: True,
        give_way: Callable[[], None] = _give_way,
    ) -> None:
        self._leads = leads
        self._give_way = give_way
        self.leading = False
        self._nudges: dict[object, int] = {}
        self._looked_at = float("-inf")
        self._backends = backends
        self._probe = probe
        self._on_change = on_change
        self._now = now
        self._schedule = Schedule(rng)
        self._probes = Group()  # at most one for each backend, however long it takes: nobody waits for another's answer
        self._under_way: dict[ScheduledProbe, Any] = {}
        self._wakeup = Event()
        self._stale = True
        self._runner: Any = None
        self.last_run = float("-inf")

    def start(self) -> None:
        """Begin; all backends are probed at once."""
        if self._runner is None:
            self._stale = True
            self._spawn(0)

    def stop(self) -> None:
        """End the loop and the probes that are under way."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.kill()
            self._probes.kill()
            self._under_way.clear()

    def wake(self) -> None:
        """Say that the members have changed: new ones are probed at once, removed ones no more."""
        self._stale = True
        self._wakeup.set()

    def is_quiet(self) -> bool:
        """Say whether this worker leads, and no probe is due or under way."""
        return self.leading and not self._stale and not len(self._probes) and self._schedule.next_due() > self._now()

    def nudge(self, backend: Backend) -> None:
        """Say that traffic could not connect: whoever leads probes soon, but at most every half second."""
        if not self.leading:
            backend.learned.nudge()
        elif self._schedule.nudge(backend):
            self._wakeup.set()

    def _spawn(self, delay_s: float) -> None:
        self._runner = gevent.spawn_later(delay_s, self._run)
        self._runner.link(self._ended)

    def _ended(self, greenlet: Any) -> None:
        """Start again after a crash; nobody waits for a greenlet, so its death would go unnoticed."""
        if greenlet is self._runner:
            log.error("the health loop died and starts again", exc_info=greenlet.exception)
            self._stale = True
            self._spawn(RESTART_S)

    def _run(self) -> None:
        while True:
            self._wakeup.clear()
            self.last_run = now = self._now()
            stale = self._stale
            if not self._lead(now):
                self._wakeup.wait(LOOK_S)
                continue
            if stale:
                self._give_way()
            begun = 0
            while begun < BEGUN_AT_ONCE and (entry := self._schedule.take_due(now)):
                self._under_way[entry] = self._probes.spawn(self._check, entry)
                begun += 1
            if begun < BEGUN_AT_ONCE:
                self._wakeup.wait(min(max(self._schedule.next_due() - now, GATHER_S), LOOK_S))
            else:
                self._give_way()

    def _lead(self, now: float) -> bool:
        """Say whether we probe, and keep up with the members and with what the other workers ask for."""
        if self.leading and not self._stale and now - self._looked_at < LOOK_S:
            return True
        self._looked_at = now
        led, self.leading = self.leading, self._leads(now)
        if not self.leading:
            return False
        stale, self._stale = self._stale, False
        backends = self._backends() if stale or not led else self._schedule.backends()
        if not led:
            self._schedule.resume(backends, now)
        elif stale:
            self._schedule.sync(backends, now, self._give_way)
        self._hear_nudges(backends)
        self._put_back()
        return True

    def _hear_nudges(self, backends: Sequence[Backend]) -> None:
        """Have those probed soon that traffic of another worker could not connect to."""
        asked, nudges = self._nudges, dict[object, int]()
        for begin in range(0, len(backends), HEARD):
            some = backends[begin : begin + HEARD]
            numbers: dict[object, int] = {backend.key: backend.learned.nudged for backend in some}
            if not numbers.items() <= asked.items():
                for backend in some:
                    if numbers[backend.key] != asked.get(backend.key, numbers[backend.key]):
                        self._schedule.nudge(backend)
            nudges |= numbers
            if len(some) == HEARD:
                self._give_way()
        self._nudges = nudges

    def _check(self, entry: ScheduledProbe) -> None:
        try:
            started = self._now()
            result = self._probe(entry.backend)
            in_time = self._now() - started < entry.backend.spec.health.timeout_s + STOPPED_S
            if in_time and self._schedule.knows(entry):
                self._learn(entry.backend, result)
        except OwnTrouble as trouble:  # no evidence against the backend either
            HOLDERS.make_room(trouble.error, f"probing {entry.backend.spec.name}")
        except Exception:
            # Our own fault, no evidence against the backend: its standing stays, the next probe comes.
            log.exception("the health check of %s broke off", entry.backend.spec.name)
        finally:
            self._end(entry)

    def _end(self, entry: ScheduledProbe) -> None:
        self._under_way.pop(entry, None)
        if self._schedule.done(entry, self._now()):
            self._wakeup.set()

    def _put_back(self) -> None:
        """Give back what was to be probed by a greenlet that has ended before it began, for want of memory."""
        for entry, greenlet in list(self._under_way.items()):
            if greenlet.dead:
                self._end(entry)

    def _learn(self, backend: Backend, result: ProbeResult) -> None:
        learned = backend.learned
        now = self._now()
        learned.keep_probe(now, result)
        for change in learned.probed(now, result.ok):
            self._on_change(backend, change, result)
