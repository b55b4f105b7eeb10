"""One request's decisions: what each pick was made of, why it fell as it did, and what became of it.

A `Trace` exists for the few requests that are recorded; for all others nothing is kept. It is written to under
the pool's lock, where the numbers are those that the strategy saw, and read when the request has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import exp
from typing import TYPE_CHECKING, Any, Final, Literal

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

    Times are seconds of a monotonic clock; candidates, left_out: rows of the above.

    count: of all candidates. unseen: how many others have no row. recorded: False for a try that began before anybody
    knew that the request would be worth recording: then only its backend and its end are known. backend: None when
    there was none to pick.
    """

    __slots__ = (
        "at",
        "backend",
        "blame",
        "candidates",
        "cost",
        "count",
        "duration_s",
        "error",
        "kind",
        "latency_s",
        "left_out",
        "outcome",
        "panic",
        "reason",
        "recorded",
        "status",
        "strategy",
        "unseen",
        "where",
    )

    def __init__(self, at: float, backend: str | None) -> None:
        self.kind: TryKind = "first"
        self.at = at
        self.backend = backend
        self.recorded = False
        self.strategy = ""
        self.reason = ""
        self.where = ""
        self.cost: float | None = None
        self.panic = False
        self.count = 0
        self.candidates: list[tuple[Any, ...]] = []
        self.left_out: list[list[Any]] = []
        self.unseen = 0
        self.outcome = ""
        self.status = 0
        self.latency_s: float | None = None
        self.duration_s: float | None = None
        self.blame = ""
        self.error = ""

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

    def rows(self) -> list[list[Any]]:
        """Give its candidates as they are shown, with their numbers rounded: on the request's way there is no time for it."""
        return [
            [name, full, round(weight, 3), load, _rounded(ewma_s), _rounded(None if log_pace is None else exp(log_pace))]
            + [_rounded(number) for number in more]
            for name, full, weight, load, ewma_s, log_pace, *more in self.candidates
        ]

    def to_json(self, started: float) -> dict[str, Any]:
        """Give it as plain data; times are seconds since the request began."""
        document: dict[str, Any] = {
            "kind": self.kind,
            "after_s": _rounded(self.at - started),
            "backend": self.backend,
            "recorded": self.recorded,
            "strategy": self.strategy,
            "reason": self.reason,
            "where": self.where or None,
            "cost": _rounded(self.cost),
            "panic": self.panic,
            "candidate_count": self.count,
            "candidates": self.rows(),
            "left_out": self.left_out,
            "unseen": self.unseen,
            "outcome": self.outcome,
            "status": self.status or None,
            "latency_s": _rounded(self.latency_s),
            "duration_s": _rounded(self.duration_s),
            "blame": self.blame or None,
            "error": self.error or None,
        }
        return document


class Trace:
    """What was decided about one request. why: what made it worth recording. asked: an operator wants to be told."""

    __slots__ = ("asked", "more", "tries", "why")

    def __init__(self, why: str) -> None:
        self.why = [why]
        self.asked = why == "asked"
        self.tries: list[TryRecord] = []
        self.more = 0

    # ---- what happens ----

    def because(self, why: str) -> None:
        """Note one more reason to record it."""
        if why not in self.why:
            self.why.append(why)

    def add_missed(self, at: float, backend_id: str) -> TryRecord:
        """Note a try that began before anything was recorded."""
        return self._add(TryRecord(at, backend_id))

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
        sticky = picked.id == prefer
        pick = TryRecord(now, picked.id)
        pick.recorded = True
        pick.strategy = strategy.name
        pick.reason = why or ("its session is with it" if sticky else strategy.reason[:MOST_TEXT])
        if probe:
            pick.reason += ", as the probe of its breaker"
        most = MOST_SEEN if strategy.scored or self.asked or len(candidates) <= MOST_SEEN else FEW_SEEN
        shown = list(candidates[:most])
        if picked not in shown:
            shown.append(picked)
        seen = None if sticky or why else candidates if len(candidates) <= MOST_SEEN else shown
        pick.candidates = [_candidate(backend, seen, now, strategy) for backend in shown]
        if strategy.scored:
            pick.cost = pick.candidates[shown.index(picked)][COST]
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
        vain.recorded = True
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


def _candidate(backend: Backend, seen: Sequence[Backend] | None, now: float, strategy: Strategy) -> tuple[Any, ...]:
    """Take down the numbers of a candidate; seen: those that the strategy has to go by, None if it was not asked."""
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
        pace.log_mean if pace.known else None,
        waiting_s,
        latency_s,
        None if seen is None else strategy.score(backend, seen, now),
        strategy.turns_ratio(backend),
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
