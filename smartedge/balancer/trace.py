"""One request's decisions: what each pick was made of, why it fell as it did, and what became of it.

A `Trace` exists for the few requests that are recorded; for all others nothing is kept. It is written to under
the pool's lock, where the numbers are those that the strategy saw, and read when the request has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import exp
from typing import TYPE_CHECKING, Any, Final, Literal

from smartedge.balancer.learned import LearnedNote
from smartedge.balancer.past import PastBackend, ShownCandidates

if TYPE_CHECKING:
    from smartedge.balancer.backend import Backend
    from smartedge.balancer.near_first import NearFirst
    from smartedge.balancer.strategies.base import Strategy

TryKind = Literal["first", "retry", "hedge"]

MOST_TRIES: Final = 10
"""A request that a hundred backends refuse is explained by its first tries and its last."""

MOST_SEEN: Final = 16
"""Backends that are looked at for one pick: a large pool must not be held up by its own explanation."""

FEW_SEEN: Final = 4
"""Of more than MOST_SEEN so many, where the strategy goes by no figures of theirs and nobody asks: any would do as well."""

MOST_TOLD: Final = 3
"""Backends whose reason the summary says."""

NOT_ASKED: Final = "not asked, in "
"""Begins the reason of those that could have been picked and are in another tier; where they stand follows."""

MOST_TEXT: Final = 200
"""Characters of an error that are kept."""

CANDIDATE: Final = (
    "id",
    "weight",
    "effective_weight",
    "in_flight",
    "ewma_s",
    "pace_s",
    "waiting_s",
    "latency_s",
    "cost",
    "turns_ratio",
)
"""What is noted of a candidate. pace_s: what it usually takes (`pace`). turns_ratio: of its turns, the part that it takes
(`adaptive`), None without turns. waiting_s: the age of the oldest lease without an answer. latency_s: what is expected of
the next answer. cost: the strategy's own figure, the least is best; None if it has none."""

COST: Final = CANDIDATE.index("cost")

LEFT_OUT: Final = ("id", "reason", "for_s")
"""What is noted of the others. for_s: in how many seconds the breaker lets one through; None if time alone
changes nothing."""


class TryRecord:
    """One pick and what came of it; kept by the Trace of its request, and carried and ended by the Lease that it led to.

    Times are seconds of a monotonic clock. At the pick raw numbers are taken down (noted, figures), as it is under the pool's
    lock; what they come to (candidates, cost) is worked out when it is first asked for, which of most is never.

    by: the strategy, with its reason, and whether it went by its score. seen: the candidates that have a row. count: of all
    candidates. left_out: rows of the above, and unseen: how many others have none. judged: the strategy was asked. recorded:
    False for a try that began before anybody knew that the request would be worth recording: then only its backend and its end
    are known. backend: None when there was none to pick.
    """

    kind: TryKind = "first"
    recorded: bool = True
    by: Strategy | None = None
    reason: str = ""
    where: str = ""
    scored: bool = False
    judged: bool = True
    panic: bool = False
    count: int = 0
    seen: ShownCandidates | None = None
    noted: Sequence[LearnedNote] = ()
    figures: Any = None
    left_out: Sequence[Sequence[Any]] = ()
    unseen: int = 0
    outcome: str = ""
    status: int = 0
    latency_s: float | None = None
    duration_s: float | None = None
    blame: str = ""
    error: str = ""
    _rows: list[tuple[Any, ...]] | None = None

    def __init__(self, at: float, backend: str | None) -> None:
        self.at = at
        self.backend = backend

    def end(self, now: float, outcome: str, status: int = 0, error: Any = None) -> None:
        """Note how it ended, once: "ok", "failed", "abandoned", "outrun" (a hedge was quicker) or "overdue" (it was moved).

        error: an EdgeError or None.
        """
        if self.outcome:
            return
        self.outcome, self.status, self.duration_s = outcome, status, now - self.at
        if error is not None:
            self.blame, self.error = error.blame, error.detail[:MOST_TEXT]
        elif outcome == "failed":
            self.blame = "backend"

    @property
    def strategy(self) -> str:
        """The name of the strategy."""
        return "" if self.by is None else self.by.name

    @property
    def candidates(self) -> list[tuple[Any, ...]]:
        """A row of each that was seen, its numbers unrounded."""
        rows = self._rows
        if rows is None:
            rows = self._rows = []
            if self.seen is not None and self.by is not None:
                then = self.seen.then(self.noted)
                figures = self.by.figures(self.figures, then, then if self.judged else None, self.at)
                for backend, (cost, turns_ratio) in zip(then, figures, strict=True):
                    rows.append((*_numbers(backend, self.at), cost, turns_ratio))
        return rows

    @property
    def cost(self) -> float | None:
        """The figure by which it was picked, if it was by one."""
        if not self.scored:
            return None
        costs: list[float | None] = [row[COST] for row in self.candidates if row[0] == self.backend]
        return costs[0] if costs else None


class Trace:
    """What was decided about one request. why: what made it worth recording. asked: an operator wants to be told."""

    more: int = 0

    def __init__(self, why: str) -> None:
        self.why = [why]
        self.asked = why == "asked"
        self.tries: list[TryRecord] = []

    # ---- what happens ----

    def because(self, why: str) -> None:
        """Note one more reason to record it."""
        if why not in self.why:
            self.why.append(why)

    def add_missed(self, at: float, backend_id: str) -> TryRecord:
        """Note a try that began before anything was recorded."""
        missed = TryRecord(at, backend_id)
        missed.recorded = False
        return self._add(missed)

    def add_usual_pick(self, seen: ShownCandidates, strategy: Strategy, picked: Backend, now: float) -> TryRecord:
        """Note a pick as `add_pick` would that the strategy made from all there are (`shown_always`), as nearly all are."""
        pick = _take_down(picked, seen, seen.backends, strategy, now)
        pick.count = len(seen.backends)
        return self._add(pick)

    def add_pick(
        self,
        backends: Sequence[Backend],
        candidates: Sequence[Backend],
        tried: Collection[Backend],
        strategy: Strategy,
        picked: Backend,
        now: float,
        prefer: str | None,
        *,
        probe: bool,
        why: str = "",
        near: NearFirst | None = None,
        asked: bool = False,
    ) -> TryRecord:
        """Note a pick: after it was made, so that what the strategy has learned by it counts, and before its lease does.

        What is returned belongs to the lease (`Lease.record`).

        prefer: the id of the backend that its session is with; if that was picked the strategy was not asked. probe:
        it is the one that an open breaker lets through. why: it was picked for, if that was not the strategy's doing. near:
        chose its tier, and if asked had the strategy of that tier pick. Called under the pool's lock.
        """
        if near is not None and asked:
            candidates, strategy = near.asked, near.strategy
        why = why or ("its session is with it" if picked.id == prefer else "")
        most = MOST_SEEN if strategy.scored or self.asked or len(candidates) <= MOST_SEEN else FEW_SEEN
        shown = candidates if len(candidates) <= most else candidates[:most]
        if picked not in shown:
            shown = [*shown, picked]
        judged_from = None if why else candidates if len(candidates) <= MOST_SEEN else shown
        pick = _take_down(picked, ShownCandidates(shown), judged_from, strategy, now)
        pick.reason = why or pick.reason
        if probe:
            pick.reason += ", as the probe of its breaker"
        if len(candidates) == len(backends):
            pick.count = len(candidates)
        else:
            keys = {backend.key for backend in candidates}
            pick.count = len(keys | {picked.key})
            others = [backend for backend in backends if backend.key not in keys and backend is not picked]
            pick.left_out, pick.unseen = _left_out(others, tried, now, near)
        if near is not None:
            pick.where = near.explain()
        for backend in shown:
            if backend is not picked and backend.why_not(now) in ("breaker_open", "unprobed"):
                pick.panic = True
                break
        return self._add(pick)

    def add_none(self, backends: Sequence[Backend], tried: Collection[Backend], now: float) -> None:
        """Note that no backend could be picked, and why each could not."""
        vain = TryRecord(now, None)
        vain.kind = "retry" if tried else "first"
        vain.outcome = "no backend"
        vain.left_out, vain.unseen = _left_out(backends, tried, now)
        if self.tries and self.tries[-1].backend is None:
            self.tries.pop()  # one that waits in the queue for a place asks again and again
        self._add(vain)

    @property
    def failed(self) -> bool:
        """Whether the last backend that was picked has failed, which may have been with an answer that was passed on."""
        picked = [one for one in self.tries if one.backend is not None]
        return bool(picked) and picked[-1].outcome == "failed"

    def close(self, now: float, outcome: str, status: int, error: Any = None) -> None:
        """End it, with the request: a try that nobody has ended shares its fate if it is the last, else it was left behind."""
        last = True
        for one in reversed(self.tries):
            if not one.outcome:
                one.end(now, outcome if last else "abandoned", status if last else 0, error if last else None)
                last = False

    def end_well(self, now: float, status: int) -> str:
        """End it with a request that no error of ours has ended; return how that ended: "ok", or "failed" as its last try."""
        if len(self.tries) == 1:  # what is said below comes to this
            one = self.tries[0]
            if not one.outcome:
                one.outcome, one.status, one.duration_s = "ok", status, now - one.at
            return "failed" if one.outcome == "failed" else "ok"
        outcome = "failed" if self.failed else "ok"
        self.close(now, outcome, status)
        return outcome

    def _add(self, one: TryRecord) -> TryRecord:
        if len(self.tries) >= MOST_TRIES:
            del self.tries[MOST_TRIES // 2]
            self.more += 1
        self.tries.append(one)
        return one

    # ---- what it comes to ----

    def summary(self) -> str:
        """Say in one sentence who was picked, why, and who was left out."""
        parts = []
        for number, one in enumerate(self.tries):
            if one.backend is None:
                parts.append("no backend was left" if number else "no backend could be picked")
                continue
            what = f"{one.backend} was picked"
            if not one.recorded:
                what += " (not recorded)"
            else:
                what += f"{_KINDS[one.kind]}: {one.reason}"
                if one.cost is not None:
                    what += f" {one.cost:.3g}"
                if one.count == 1:
                    what += ", the only candidate"
                else:
                    what += f"{', one' if one.cost is None else ''} of {one.count} candidates"
                if one.panic:
                    what += ", in panic"
                if one.where:
                    what += f" ({'; '.join((one.where, *_not_asked(one)))})"
            if one.outcome and one.outcome != "ok":
                what += f", and {_failure(one)}"
            parts.append(what)
        text = "; then ".join(parts)
        if self.tries:
            tried = {one.backend for one in self.tries}
            out = [
                (who, why, for_s)
                for who, why, for_s in self.tries[-1].left_out
                if (who not in tried or why != "tried") and not why.startswith(NOT_ASKED)
            ]
            text += "".join(f"; {who} left out: {_why(why, for_s)}" for who, why, for_s in out[:MOST_TOLD])
            more = len(out[MOST_TOLD:]) + self.tries[-1].unseen
            if more:
                text += f"; and {more} more"
        return text


_KINDS: Final = {"first": "", "retry": " for the retry", "hedge": " for the hedge"}


def _take_down(
    picked: Backend, seen: ShownCandidates, judged_from: Sequence[Backend] | None, strategy: Strategy, now: float
) -> TryRecord:
    """Begin the record of a pick with what there is to go by. judged_from: what the strategy was asked of, None if it was not."""
    pick = TryRecord(now, picked.id)
    pick.by = strategy
    pick.reason = strategy.reason[:MOST_TEXT]
    pick.scored = strategy.scored
    pick.judged = judged_from is not None
    pick.seen = seen
    pick.noted = seen.note()
    pick.figures = strategy.note_figures(seen.backends, judged_from, now)
    return pick


def shown_always(candidates: Sequence[Backend], backends: Sequence[Backend]) -> ShownCandidates | None:
    """Return what `add_usual_pick` can show of every pick from these candidates; None if there is more to say of each pick.

    That is the case where others are left out, some are too many to be shown, or none is known to be healthy. Their breakers are
    closed.
    """
    if len(candidates) != len(backends) or len(candidates) > MOST_SEEN:
        return None
    return ShownCandidates(candidates) if all(one.learned.health.state == "healthy" for one in candidates) else None


def _numbers(backend: PastBackend, now: float) -> tuple[Any, ...]:
    """Return the numbers of a candidate that its strategy does not give."""
    learned = backend.learned
    pace = learned.pace
    latency_s = ewma_s = learned.ewma.read(now)
    waiting_s = learned.waited_s(now)
    if waiting_s > ewma_s:  # it is what is expected (`Learned.latency_s`), also where another worker has told of it
        latency_s = waiting_s
    elif waiting_s:
        waiting_s = now - next(iter(learned.waiting.values()), now)
    return (
        backend.id,
        backend.full_weight,
        backend.weight,
        learned.in_flight(),
        ewma_s,
        exp(pace.log_mean) if pace.known else None,
        waiting_s,
        latency_s,
    )


def _left_out(
    others: Sequence[Backend], tried: Collection[Backend], now: float, near: NearFirst | None = None
) -> tuple[list[list[Any]], int]:
    """Give a row for each of those that were no candidates, and how many more there are."""
    keys = {backend.key for backend in tried}
    rows: list[list[Any]] = []
    for backend in others[:MOST_SEEN]:
        reason: str = "tried" if backend.key in keys else backend.why_not(now) or "passed over"
        if near is not None and reason == "passed over":
            reason = f"{NOT_ASKED}{near.place_of(backend)}"
        for_s = backend.learned.breaker.next_change_at(now) - now if reason == "breaker_open" else None
        rows.append([backend.id, reason, _rounded(for_s)])
    return rows, len(others) - len(rows)


def _not_asked(one: TryRecord) -> list[str]:
    """Say who is in another tier, with where that is."""
    places: dict[str, list[str]] = {}
    for who, why, _ in one.left_out:
        if why.startswith(NOT_ASKED):
            places.setdefault(why.removeprefix(NOT_ASKED), []).append(who)
    texts = []
    for place, ids in list(places.items())[:MOST_TOLD]:
        more = f" and {len(ids) - MOST_TOLD} more" if len(ids) > MOST_TOLD else ""
        texts.append(f"{', '.join(ids[:MOST_TOLD])}{more} in {place} not asked")
    return texts


def _failure(one: TryRecord) -> str:
    if one.outcome == "failed":
        return f"failed: {one.error.rstrip('.')}" if one.error else f"failed with status {one.status}" if one.status else "failed"
    if one.outcome == "outrun":
        return "was outrun"
    if one.outcome == "overdue":
        return "left it unanswered for longer than others take"
    return f"ended {one.outcome}"


def _why(reason: str, for_s: float | None) -> str:
    words = reason.replace("_", " ")
    return words if for_s is None else f"{words} for {for_s:.1f} s"


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 7)
