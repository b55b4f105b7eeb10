"""Hedging on a request's way: when the first byte is late, another backend is asked, too, and the first answer wins.

The request's own greenlet sends the first try and waits as it always does; a hedge has a greenlet of its own, and its answer
is thrown to the one that waits, as gevent throws a timeout. So a request that is not hedged costs a place in a queue.
"""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import Any

import gevent
from gevent import get_hub, getcurrent

from smartedge.balancer.cells import HEDGES, HEDGES_WON
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.hedge_delay import TICK_S, UNKNOWN_S
from smartedge.balancer.pool import Lease
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.request import Replay
from smartedge.proxy.answer import Answer
from smartedge.proxy.attempts import Attempts
from smartedge.proxy.outbound import Outbound

SENDING_S = 0.1
"""How often a request whose body is still coming is looked at, in seconds."""


class Outrun(Exception):
    """Another try of the same request has got its answer."""


class Hedges:
    """The races of all requests that wait for a first byte, in the order in which they will be late; owned by the Forwarder.

    One timer looks at all of them. Those who wait equally long stand in one queue, so that each queue is in the order of time.
    """

    def __init__(self) -> None:
        self._waiting: dict[float, deque[Race]] = {}
        self._timer: Any = None

    def race(self, attempts: Attempts, lease: Lease, outbound: Outbound) -> Answer:
        """Send a try and, if its answer is late, others beside it; see `Race.run`. Passed to `Attempts.run`."""
        race = Race(self, attempts, lease, outbound)
        attempts.under_way = race
        try:
            return race.run()
        finally:
            attempts.under_way = race.outbound

    def watch(self, race: Race, delay_s: float) -> None:
        """Have `race.late` called when it is due, which is in `delay_s` seconds."""
        if not self._waiting:
            if self._timer is None:
                self._timer = get_hub().loop.timer(TICK_S, repeat=TICK_S, ref=False)
            self._timer.again(self._look)
        queue = self._waiting.get(delay_s)
        if queue is None:
            queue = self._waiting[delay_s] = deque()
        queue.append(race)

    def _look(self) -> None:
        """See who is late (called by the timer, in the hub, so nothing here may wait)."""
        now = monotonic()
        for delay_s, queue in list(self._waiting.items()):
            while queue and (queue[0].over or queue[0].due <= now):
                race = queue.popleft()
                if not race.over:
                    gevent.spawn(race.late)
            if not queue:
                del self._waiting[delay_s]
        if not self._waiting:
            self._timer.stop()


class Runner:
    """A hedge under way, made in its greenlet by its Race. answer: once it is there."""

    __slots__ = ("answer", "greenlet", "lease", "outbound")

    def __init__(self, lease: Lease, outbound: Outbound) -> None:
        self.lease = lease
        self.outbound = outbound
        self.greenlet = getcurrent()
        self.answer: Answer | None = None


class Race:
    """One request's tries beside each other; made by Hedges for each try of an Attempts that may be hedged.

    The first try is sent by the request's own greenlet, in `run`. When it is late, Hedges has `late` called in a greenlet of
    its own: it takes a lease, sends the same request through it (a Runner), and is late again in its turn. The first answer
    that is no failure wins. It is thrown, as Outrun, at the request's greenlet, which ends what was begun before the winner
    as outrun, for that was too slow, and cancels what was begun after it, against which nothing speaks. An answer that is a
    failure is the fallback: it is used if all others fail. Every lease that was taken is closed by whoever takes its Runner off
    the list, and the winner's is left to the Attempts.

    outbound: of the try that counts. due: when the next hedge is. over: none may begin any more.
    """

    __slots__ = (
        "_after_s",
        "_attempts",
        "_error",
        "_fallback",
        "_greenlet",
        "_hedges",
        "_lease",
        "_parked",
        "_runners",
        "_sending",
        "_winner",
        "due",
        "outbound",
        "over",
    )

    def __init__(self, hedges: Hedges, attempts: Attempts, lease: Lease, outbound: Outbound) -> None:
        self._hedges = hedges
        self._attempts = attempts
        self._lease = lease
        self.outbound = outbound
        self._greenlet = getcurrent()
        self._runners: list[Runner] = []
        self._winner: Runner | None = None
        self._fallback: tuple[Lease, Outbound, Answer] | None = None  # an answer that counts as a failure, if there is no other
        self._error: EdgeError | None = None
        self._sending = True
        self._parked = False
        self.over = False
        hedge = attempts.service.pool.evidence.kind_of(attempts).hedge
        self._after_s = after_s = UNKNOWN_S if hedge is None else hedge.after_s
        self.due = lease.opened_at + after_s
        if outbound.told is not None:
            outbound.told = self
        hedges.watch(self, after_s)

    # ---- in the request's own greenlet ----

    def run(self) -> Answer:
        """Give the answer that came first; `Attempts.lease` is then its lease, and all the others have been closed.

        Raises the EdgeError of the last try to fail when all have.
        """
        attempts, lease = self._attempts, self._lease
        try:
            try:
                answer: Answer = lease.backend.transport.send(self.outbound)
            except Outrun:
                attempts.end_lease(lease, "outrun")
            except EdgeError as error:
                self._sending = False
                if error.blame != "backend" or self._is_alone():
                    raise
                attempts.lease_failed(lease, error)
                self._error = error
            else:
                self._sending = False
                if self._is_alone() or not attempts.is_failure(answer):
                    return answer
                lease.answered(monotonic(), answer.counts_as)
                self._fall_back(lease, self.outbound, answer)
            return self._answer_of_a_hedge()
        finally:
            self._sending = False
            self.over = True
            self._cancel()

    def _is_alone(self) -> bool:
        return not self._runners and self._winner is None and self._fallback is None

    def _answer_of_a_hedge(self) -> Answer:
        """Give the answer that a hedge has, or will have: our own try has none that will do."""
        while self._winner is None and self._runners:
            self._parked = True
            try:
                get_hub().switch()
            except Outrun:
                pass
            finally:
                self._parked = False
        attempts = self._attempts
        winner, self._winner = self._winner, None
        if winner is None:
            fallback, self._fallback = self._fallback, None
            if fallback is None:
                assert self._error is not None
                raise self._error
            attempts.lease, self.outbound, answer = fallback
            return answer
        attempts.lease, self.outbound = winner.lease, winner.outbound
        winner.lease.backend.learned.add(HEDGES_WON)
        for runner in [runner for runner in self._runners if runner.lease.opened_at < winner.lease.opened_at]:
            self._runners.remove(runner)
            runner.greenlet.kill(block=False)
            attempts.end_lease(runner.lease, "outrun")
        assert winner.answer is not None
        return winner.answer

    def _cancel(self) -> None:
        """End what is still under way: it was begun after the one that won, so nothing speaks against it."""
        runners, self._runners = self._runners, []
        for runner in runners:
            runner.greenlet.kill(block=False)
            self._attempts.end_lease(runner.lease, "abandoned")
        winner, self._winner = self._winner, None
        if winner is not None and winner.answer is not None:  # It came in the same moment as the one that is used.
            winner.answer.close()
            self._attempts.end_lease(winner.lease, "ok", winner.answer)
        self._fall_back(None, None, None)

    def _fall_back(self, lease: Lease | None, outbound: Outbound | None, answer: Answer | None) -> None:
        """Keep an answer that is better than none, instead of an earlier one of the kind."""
        before = self._fallback
        self._fallback = None
        if lease is not None and outbound is not None and answer is not None:
            self._fallback = lease, outbound, answer
        if before is not None:
            before[2].close()
            self._attempts.end_lease(before[0], "failed", before[2])

    def pass_interim(self, status: int, status_line: bytes, fields: AnswerFields) -> None:
        """Pass a 1xx on. It says that the backend is at work, so the race is over: from here on the answer is its."""
        self.over = True
        self._cancel()
        self._attempts.pass_interim(status, status_line, fields)

    # ---- in the hub ----

    def cancel(self, error: EdgeError) -> None:
        """Have `run` end with this error: the client left."""
        get_hub().loop.run_callback(self._throw, error)

    def _throw(self, error: Exception) -> None:
        """Throw an exception at the request's own greenlet, if that still waits for an answer.

        Between two of the hub's callbacks that greenlet stands still; what it stands at is in its flags.
        """
        if self._sending or self._parked:
            self._sending = False
            self._greenlet.throw(error)

    def _wake(self) -> None:
        if self._winner is not None or self._parked:
            self._throw(Outrun())

    # ---- in the greenlet of a hedge ----

    def late(self) -> None:
        """Ask another backend, too, if the request and the budget allow it, and see it through."""
        if self.over:
            return
        now = monotonic()
        attempts, after_s = self._attempts, self._after_s
        body: Replay | None = None
        if attempts.replay is not None:
            waited_s = now - self._lease.sent_at
            body = attempts.replay.twin()
            if body is None:
                if not attempts.replay.spent:  # The client still sends.
                    self._watch(now, max(after_s, SENDING_S))
                return
            if waited_s < after_s:
                self._watch(now, after_s - waited_s)  # It has only just sent all of it.
                return
        if not attempts.more_tries.hedge(now):
            return
        lease = attempts.take_another(now, "hedge", HEDGES, must=False)
        if lease is None:
            return
        attempts.tries += 1
        attempts.hedges += 1
        self._watch(now, after_s)  # It may be as slow as the first.
        outbound = attempts.make_outbound(lease)
        outbound.body, outbound.told, outbound.on_sent = body, None, None
        self._follow(Runner(lease, outbound))

    def _watch(self, now: float, delay_s: float) -> None:
        self.due = now + delay_s
        self._hedges.watch(self, delay_s)

    def _follow(self, runner: Runner) -> None:
        """Send the hedge and see it through: its answer is the winner, the fallback, or too late; then the request is woken."""
        attempts, lease = self._attempts, runner.lease
        self._runners.append(runner)
        try:
            answer = runner.answer = lease.backend.transport.send(runner.outbound)
        except EdgeError as error:
            if not self._leaves(runner):
                return
            attempts.lease_failed(lease, error)
            self._error = error
        except BaseException:
            if self._leaves(runner):
                attempts.end_lease(lease, "abandoned")
            raise
        else:
            if not self._leaves(runner):
                answer.close()
                return
            lease.answered(monotonic(), answer.counts_as)
            if attempts.is_failure(answer):
                self._fall_back(lease, runner.outbound, answer)
            elif self._winner is None:
                self._winner = runner
            else:
                answer.close()
                attempts.end_lease(lease, "ok", answer)
        get_hub().loop.run_callback(self._wake)

    def _leaves(self, runner: Runner) -> bool:
        """Take a hedge that has ended off the list; False when it was cancelled, and its lease has been closed."""
        if runner not in self._runners:
            return False
        self._runners.remove(runner)
        return True
