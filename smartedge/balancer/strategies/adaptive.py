"""In turn, as long as the backends are alike; less for whoever is slower, and nothing for a moment for whoever stalls."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log, sqrt
from random import Random
from typing import Any, Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import HEARD_AT, IN_FLIGHT
from smartedge.balancer.pace import FLOOR_S, Pace
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.round_robin import RoundRobin

LOOK_S: Final = 0.02
LOOK_EACH_S: Final = 0.001
"""How often the paces are compared, and for each backend so much less often: that is work for all of them."""

ALIKE: Final = log(1.25)
"""Paces that differ by less are alike, however sure it is that they differ."""

SURE: Final = 2.5
"""And the difference must be so many standard errors: of equal backends not one in a hundred is called slow."""

STEEPNESS: Final = 3.0
"""A backend that takes so many times as long gets the share to this power: 10 times as long, a five-hundredth of the turns."""

SPREAD: Final = 2.0
"""A backend's answers are taken to vary no more than so many times as much as the quick ones'."""

LEAST_SHARE: Final = 0.01
LEAST_OF_ALL: Final = 0.003
"""But of a hundred turns it takes one, or of a thousand requests three if that is less: it must be measured again."""

LONGEST_S: Final = 5.0
"""And one at least in this time, if turns are rare."""

STALLED: Final = 2.5
"""Nothing heard for longer than all but one of a hundred answers take (standard deviations): it stalls."""

LONE_STALLED: Final = 5.0
LONE_TIMES: Final = 10.0
"""The same where one request waits, and for so many times as long as usual at least: it may be slow by nature."""

LEAST_STALL_S: Final = 0.01
"""A shorter silence is our own event loop as likely as the backend."""

ROOM: Final = 2.0
"""Its pace allows it to have twice as much open as the others have on average, for its weight, and two."""

MANY: Final = 100
"""To compare so many takes a millisecond and more: not each time that one of them comes or goes."""

ALL_UP_TO: Final = 16
SAMPLE: Final = 8
"""Of more candidates only so many, drawn by chance, are compared for the least expected completion."""

NEXT: Final = "next in turn"


class PaceStanding:
    """A candidate as it compared at the last look; one for each backend, owned by `Adaptive`.

    share: of its turns that it takes, up to 1.0; credit: what it has saved for one. room: leases that it may have open.
    stall_s: a silence that is too long, lone_stall_s: the same where one request waits. sound_until: it has not stalled before,
    by the answer that was last looked at, whatever comes. expected_s: what an answer takes, known
    by its own answers or else the quick ones' (then it is on_trial). log_mean, variance: of its
    pace; count: of the answers that it is worth.
    """

    __slots__ = (
        "backend",
        "count",
        "credit",
        "expected_s",
        "known",
        "log_mean",
        "lone_stall_s",
        "measured_at",
        "on_trial",
        "pace",
        "room",
        "share",
        "sound_until",
        "stall_s",
        "variance",
    )

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.pace: Pace = backend.learned.pace
        self.share = 1.0
        self.credit = 0.0
        self.room = ROOM
        self.stall_s = self.lone_stall_s = 1.0
        self.sound_until = 0.0
        self.expected_s = FLOOR_S
        self.log_mean = self.variance = 0.0
        self.count = 1.0
        self.known = self.on_trial = False
        self.measured_at = -1.0

    def measure(self, now: float) -> None:
        """Take over what is known of its pace."""
        self.sound_until = 0.0
        pace = self.pace
        pace.settle(now)
        self.count = pace.counted(now)
        self.variance = pace.variance
        if pace.at == self.measured_at:
            return
        self.measured_at = pace.at
        self.known = pace.known
        self.on_trial = False
        if self.known:
            self.log_mean = pace.log_mean
            self.expected_s = exp(self.log_mean)
            deviation = sqrt(pace.variance)
            self.stall_s = max(self.expected_s * exp(STALLED * deviation), LEAST_STALL_S)
            self.lone_stall_s = max(self.expected_s * max(exp(LONE_STALLED * deviation), LONE_TIMES), LEAST_STALL_S)

    def takes_turn(self, now: float) -> bool:
        """Whether it takes the turn that is its; if not, that turn is gone."""
        self.credit += self.share
        if self.credit >= 1.0 or (now - self.pace.at > LONGEST_S and not self.backend.learned.in_flight()):
            self.credit = max(self.credit - 1.0, 0.0)
            return True
        self.pace.passed += 1
        return False

    def stalled_s(self, now: float) -> float:
        """For how long it has answered nothing, if that is too long; else 0.0.

        One request that waits may be slow by nature; two that do, with no answer to any other, are a sign.
        """
        learned = self.backend.learned
        heard_at = learned.shared_reals[HEARD_AT]
        silence_s = now - heard_at
        if silence_s <= self.stall_s:
            self.sound_until = heard_at + self.stall_s
            return 0.0
        waiting = learned.waiting
        if len(waiting) > 1:
            since = iter(waiting.values())
            next(since)
            silence_s = min(silence_s, now - next(since))
            return silence_s if silence_s > self.stall_s else 0.0
        silence_s = min(silence_s, learned.waited_s(now))
        return silence_s if silence_s > self.lone_stall_s else 0.0

    def completion_s(self, now: float) -> float:
        """When one more request would be answered, for a weight of 1."""
        backend = self.backend
        return max(self.expected_s, self.stalled_s(now)) * (backend.learned.in_flight() + 1) / backend.weight


class Adaptive(Strategy):
    """Round robin in which whoever is slower lets turns pass. The default; called by the pool, under its lock.

    Turns and weights are those of `RoundRobin`, to the letter: `a b a b` while all are alike. Every LOOK_S the paces
    (`pace.Pace`) of all candidates are compared with that of the quickest quarter. Who takes longer, by a quarter at least
    and by more than chance explains, takes only a share of its turns, by the third power of the difference. That is steep, so
    that what it gets does not show in the 99th percentile of all. It mends itself: those who get more instead take longer
    when they come to their limit.

    Paces know the past only. So whose turn it is must not have stalled, and must not have more open than its pace allows;
    else the one is taken whose answer is expected first: what it takes, times what it would have open, by its weight. A new
    process, of which nothing is known, gets one request at a time until it has answered four: its caches may be cold.
    All workers share paces, open leases, and when each backend last answered.
    """

    name = "adaptive"
    reason = NEXT
    scored = False

    def __init__(self) -> None:
        self._turns = RoundRobin()
        self._whole: tuple[Backend, ...] = ()
        self._standings: dict[Backend, PaceStanding] = {}
        self._look_at = 0.0
        self._alike = True  # all take all of their turns
        self._noted: list[tuple[float, float, float, float]] = []
        self._noted_of: Sequence[Backend] = ()
        self._noted_at = 0.0

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return the next that takes its turn, or, if that one has stalled or is crowded, who is expected to answer first."""
        standings = self._standings
        if now >= self._look_at:
            self._look(now)
        if candidates is not self._whole:
            self.reason, self.scored = "least expected completion of those that are left", True
            return self._first_to_answer(candidates, now, rng)
        for _ in candidates:
            backend = self._turns.pick(candidates, now, rng)
            learned = backend.learned
            opened = learned.in_flight() if learned.others else learned.cells[IN_FLIGHT]
            if opened or not self._alike:  # else nothing more of it needs to be looked at, as with most of hundreds
                standing = standings[backend]
                if standing.share < 1.0 and not standing.takes_turn(now):
                    continue
                unfit = ""
                if opened >= standing.room:
                    unfit = "has more open than its pace allows"
                elif opened and now > standing.sound_until and standing.stalled_s(now):  # where nothing waits nothing stalls
                    unfit = "has stalled"
                if unfit:
                    self.reason, self.scored = f"least expected completion: {backend.id}, next in turn, {unfit}", True
                    standing.pace.passed += 1
                    return self._first_to_answer(candidates, now, rng)
            if self.scored:
                self.reason, self.scored = NEXT, False
            return backend
        self.reason, self.scored = "least expected completion: those next in turn let it pass", True
        return self._first_to_answer(candidates, now, rng)

    def score(self, backend: Backend, candidates: Sequence[Backend], now: float) -> float:
        """Return when one more request would be answered, in seconds, for a weight of 1."""
        return self._standing(backend).completion_s(now)

    def turns_ratio(self, backend: Backend) -> float:
        """Return the part of its turns that it takes."""
        return self._standing(backend).share

    def note_figures(self, backends: Sequence[Backend], candidates: Sequence[Backend] | None, now: float) -> Any:
        """Take down how they compared at the last look: the same list for all picks until the next one, of the same backends."""
        if backends is not self._noted_of or self._noted_at != self._look_at:
            standings = map(self._standing, backends)
            self._noted = [(one.expected_s, one.stall_s, one.lone_stall_s, one.share) for one in standings]
            self._noted_of, self._noted_at = backends, self._look_at
        return self._noted

    def figures(
        self, noted: Any, backends: Sequence[Backend], candidates: Sequence[Backend] | None, now: float
    ) -> Sequence[tuple[float | None, float | None]]:
        """Return score and turns_ratio of each as they were at the pick."""
        if candidates is None:
            return [(None, share) for *_, share in noted]
        found = []
        standing = PaceStanding(backends[0])
        for backend, one in zip(backends, noted, strict=True):
            standing.backend = backend
            standing.expected_s, standing.stall_s, standing.lone_stall_s, share = one
            found.append((standing.completion_s(now), share))
        return found

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Go on with the turns; compare at the next pick, or, where a few of many are others, when it is time anyway."""
        self._turns.prepare(candidates)
        self._whole = candidates
        self._noted_of = ()
        before = self._standings
        self._standings = {backend: before.get(backend) or PaceStanding(backend) for backend in candidates}
        fresh = [backend for backend in candidates if backend not in before]
        earned = {backend.key: standing.credit for backend, standing in before.items()} if fresh else {}
        for backend in fresh:
            self._standings[backend].credit = earned.get(backend.key, 0.0)
        self._alike = all(standing.share >= 1.0 for standing in self._standings.values())
        if len(candidates) < MANY or len(fresh) * 10 > len(candidates):
            self._look_at = 0.0

    def failed(self, backend: Backend) -> None:
        """Tell the turns."""
        self._turns.failed(backend)

    def keep(self, backends: Sequence[Backend]) -> None:
        """Tell the turns."""
        self._turns.keep(backends)

    def _look(self, now: float) -> None:
        """Compare the paces, and see how much is open."""
        standings = self._standings.values()
        self._look_at = now + LOOK_S + LOOK_EACH_S * len(standings)
        weights = 0.0
        counts, known = [], []
        for standing in standings:
            standing.measure(now)
            counts.append(standing.backend.learned.in_flight())
            weights += standing.backend.weight
            if standing.known:
                known.append(standing)
        opened = sum(counts)
        for standing, count in zip(standings, counts, strict=True):
            weight = standing.backend.weight
            others = weights - weight
            standing.room = ROOM + max(ROOM * (opened - count) * weight / others, 1.0) if others else inf
        if not known:
            return
        known.sort(key=_log_mean)
        quick = known[(len(known) - 1) // 4]
        least = min(LEAST_SHARE, LEAST_OF_ALL * (len(standings) - 1))
        for standing in standings:
            if standing.known:
                slower = standing.log_mean - quick.log_mean
                # While it turns slow its old answers and its new ones differ: that is no spread to doubt by.
                variance = min(standing.variance, SPREAD * quick.variance)
                doubt = SURE * sqrt(variance / standing.count + quick.variance / quick.count)
                standing.share = 1.0 if slower <= ALIKE + doubt else max(exp(STEEPNESS * (ALIKE - slower)), least)
            else:
                standing.on_trial = True
                standing.share = standing.room = 1.0
                standing.expected_s = quick.expected_s
                standing.stall_s = standing.lone_stall_s = max(quick.stall_s, LEAST_STALL_S)
        self._alike = all(standing.share >= 1.0 for standing in standings)

    def _first_to_answer(self, candidates: Sequence[Backend], now: float, rng: Random) -> Backend:
        """Return the candidate whose answer is expected first; chance decides between equals."""
        if len(candidates) > ALL_UP_TO:
            candidates = rng.sample(candidates, SAMPLE)
        best = candidates[0]
        least = -1.0
        equals = 0
        for backend in candidates:
            standing = self._standing(backend)
            cost = standing.completion_s(now)
            if standing.on_trial:
                cost *= 1 + backend.learned.in_flight()
            if not equals or cost < least:
                best, least, equals = backend, cost, 1
            elif cost == least:
                equals += 1
                if rng.random() * equals < 1.0:
                    best = backend
        return best

    def _standing(self, backend: Backend) -> PaceStanding:
        standing = self._standings.get(backend)
        return PaceStanding(backend) if standing is None else standing


def _log_mean(standing: PaceStanding) -> float:
    return standing.log_mean
