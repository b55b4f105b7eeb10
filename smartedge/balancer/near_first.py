"""Near first over any strategy: candidates are narrowed to one tier, and a strategy of that tier's own picks.

From where a request comes (the edge, or its client) the backends are seen as tiers, nearest first (`places`). What each tier
carries goes by how much of it is available (`locality`), and perhaps by what was measured (`blend`); that is worked out when it
changes, not when a request comes. A request draws its tier by these shares, by chance or by its key, so that the same key finds
the same tier. Where nobody in it may be picked (all are full, or were tried) it goes on to the nearest who may be: a request
fails only if no tier can serve it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from random import Random
from typing import Final
from zlib import crc32

from smartedge.balancer.backend import Backend, WhyNot
from smartedge.balancer.blend import with_trials
from smartedge.balancer.candidates import SERVING
from smartedge.balancer.locality import SpillPolicy, panics, shares_of
from smartedge.balancer.places import NOWHERE, Group, Place, Tier, tiers_of
from smartedge.balancer.spec import BackendSpec
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.tier_views import TierRun, TierView, count_of, latency_of

MOST_TRIED: Final = 2
"""So many backends of a tier may fail a request before it prefers another tier: what is wrong may be the place."""

MOST_PLACES: Final = 16_384
MOST_VIEWS: Final = 256
"""Places of clients, and different orders of tiers, that are remembered."""


@dataclass(frozen=True, slots=True)
class Locality:
    """Where the edge and its zones are, and when requests leave a tier; made by the edge at reload, followed by a `NearFirst`.

    origin: the edge's place. zones: by name. by_client: requests say themselves where they come from.
    """

    origin: Place = NOWHERE
    zones: Mapping[str, Place] | None = None
    spill: SpillPolicy = field(default_factory=SpillPolicy)
    blend_rtt: bool = False
    by_client: bool = False

    def place_of(self, spec: BackendSpec) -> Place:
        """Return where a backend stands: what it says itself, and of the rest what its zone says."""
        zone = (self.zones or {}).get(spec.zone or "", NOWHERE)
        return Place(spec.zone, spec.region or zone.region, spec.location or zone.location)


class NearFirst:
    """Narrows the candidates of one `Pool`, which owns it and calls it under its lock, to a tier, and has them picked from.

    make_strategy: makes one for each tier, for a strategy is told what it picks from. Of the latest pick: strategy, asked (whom
    it picked from), view and tier.
    """

    def __init__(self, locality: Locality, make_strategy: Callable[[], Strategy]) -> None:
        self.locality = locality
        self._make_strategy = make_strategy
        self._runs: dict[frozenset[Group], TierRun] = {}
        self._groups: dict[str, Group] = {}
        self._members: dict[Group, list[Backend]] = {}
        self._picked_from: dict[Group, list[Backend]] = {}
        self._whole: tuple[Backend, ...] = ()
        self._available: set[Backend] = set()
        self._backends: tuple[Backend, ...] = ()
        self._version = 0
        self._places: dict[Place, TierView] = {}
        self._views: dict[tuple[Tier, ...], TierView] = {}
        self.own_view = TierView((), [])
        self.view = self.own_view
        self._origin: Place | None = None
        self.tier = 0
        self.asked: Sequence[Backend] = ()
        self.strategy: Strategy

    # ---- what the pool tells ----

    def follow(self, other: NearFirst, backends: tuple[Backend, ...]) -> None:
        """Go on with these backends, by the places and settings of another that was made of a newer configuration.

        Strategies of tiers that stay are kept, with their cursors.
        """
        self.locality, self._make_strategy = other.locality, other._make_strategy
        self._backends = backends
        self._groups = {one.key: Group(one.spec.priority, self.locality.place_of(one.spec)) for one in backends}
        self._members = {}
        for one in backends:
            self._members.setdefault(self._groups[one.key], []).append(one)
        self._runs = {groups: run for groups, run in self._runs.items() if groups <= self._members.keys()}
        for run in self._runs.values():
            run.strategy.keep(self.members(run))
        before = self.own_view
        self._places, self._views = {}, {}
        self.own_view = self._view_from(self.locality.origin)
        if before.nearest == self.own_view.nearest:
            self.own_view.measured = before.measured
        self._whole = ()
        self._version += 1

    def prepare(self, candidates: tuple[Backend, ...], now: float) -> None:
        """Take in who may be picked from now on; shares are worked out when somebody needs them.

        While nobody is available those who have to do instead (nobody has probed them yet) count as if they were.
        """
        self._whole = candidates
        self._version += 1
        self._picked_from = {}
        for backend in candidates:
            self._picked_from.setdefault(self._groups[backend.key], []).append(backend)
        self._available = {backend for backend in self._backends if backend.why_not(now) in SERVING}
        if not self._available:
            self._available = {backend for backend in candidates if backend.why_not(now) == "unprobed"}

    def in_panic(self, wanted: Sequence[Backend], reasons: Sequence[WhyNot | None]) -> set[Backend]:
        """Return the backends that have to help although they are ejected (see `candidates_of`)."""
        parts = [tier.groups for tier in self.own_view.nearest]
        if self.locality.by_client:
            parts = [frozenset({group}) for group in self._members]
        serving = {backend for backend, reason in zip(wanted, reasons, strict=True) if reason in SERVING}
        here = set(wanted)
        members = [[one for group in part for one in self._members[group] if one in here] for part in parts]
        counts = [count_of(part, serving) for part in members]
        found = zip(members, panics(counts, self.locality.spill), strict=True)
        return {backend for part, panic in found if panic for backend in part}

    def tell_failed(self, backend: Backend) -> None:
        """Tell the strategies of its tiers that a lease of this backend failed."""
        group = self._groups.get(backend.key)
        for run in self._runs.values():
            if group in run.groups:
                run.strategy.failed(backend)

    def strategies(self) -> list[Strategy]:
        """Return those of all tiers."""
        return [run.strategy for run in self._runs.values()]

    def measure(self, now: float) -> None:
        """Look at what each tier takes, and sort them by it if that is wanted; called about once a second."""
        for backend in self._whole:
            backend.learned.pace.settle(now)
        if not self.locality.blend_rtt:
            return
        view = self.own_view
        nearest = [self._runs[tier.groups] for tier in view.nearest]
        priorities = [tier.priority for tier in view.nearest]
        if view.measured.look([latency_of(run) for run in nearest], priorities):
            self._version += 1

    # ---- a pick ----

    def pick(
        self,
        candidates: Sequence[Backend],
        now: float,
        rng: Random,
        key: bytes,
        tried: Collection[Backend],
        origin: Place | None,
        hedge: bool,
    ) -> Backend:
        """Return a candidate of the tier that this request goes to.

        candidates: those that were prepared, or a part of them. origin: where it comes from, None for the edge. hedge: it is for
        a try beside another one, and better goes to another zone.
        """
        if origin is None and self.own_view.version == self._version:
            view, self._origin = self.own_view, None
        else:
            view = self._seen_from(origin)
        self.view = view
        if candidates is self._whole and not tried:
            number = view.sole
            if number < 0:
                number = _draw(view, key, rng)
            run = view.runs[number]
            part: Sequence[Backend] = run.candidates
        else:
            number, part = self._narrow(view, candidates, rng, key, tried, hedge)
            run = view.runs[number]
        self.tier, self.asked = number, part
        strategy = self.strategy = run.strategy
        return strategy.pick(part, now, rng, key)

    def tier_of(self, backend: Backend, origin: Place | None) -> int:
        """Return the number of a backend's tier, which was picked without asking, by its session or as the last resort."""
        self.view = self._seen_from(origin)
        self.tier = self.view.tier_of(self._groups.get(backend.key))
        return self.tier

    def tier_number(self, backend: Backend) -> int:
        """Return the number of the tier that a backend is in, as the edge sees it; asking changes nothing."""
        return self.own_view.tier_of(self._groups.get(backend.key))

    def place_of(self, backend: Backend) -> Place:
        """Return where a backend stands."""
        group = self._groups.get(backend.key)
        return NOWHERE if group is None else group.place

    def explain(self) -> str:
        """Say in words why the tier of the latest pick has what it has."""
        view, number = self.view, self.tier
        if not view.runs:
            return ""
        tier, share = view.tiers[number], view.shares[number]
        words = [f"priority {tier.priority}"] if len({one.priority for one in view.tiers}) > 1 else []
        origin = self.locality.origin if self._origin is None else self._origin
        if tier.nearness == "farther":
            words.append(f"{tier.distance_km(origin):,.0f} km away")
        elif origin != NOWHERE:
            words.append(tier.nearness)
        carries = f"{share:.0%}" if share in (0.0, 1.0) else f"{min(max(share, 0.01), 0.99):.0%}"
        return ", ".join([*words, f"tier {number} of {len(view.runs)} carries {carries}"])

    # ---- views ----

    def refreshed_view(self) -> TierView:
        """Return the tiers as seen from the edge, with their shares now."""
        return self._seen_from(None)

    def _seen_from(self, origin: Place | None) -> TierView:
        if origin is None:
            view, self._origin = self.own_view, None
        else:
            self._origin = origin
            found = self._places.get(origin)
            view = self._view_from(origin) if found is None else found
        if view.version != self._version:
            self._refresh(view)
        return view

    def _view_from(self, origin: Place) -> TierView:
        """Find or make the view from a place."""
        tiers = tiers_of(origin, self._groups.values())
        view = self._views.get(tiers)
        if view is None:
            if len(self._views) >= MOST_VIEWS:
                self._views.clear()
                self._places.clear()
            for tier in tiers:
                if tier.groups not in self._runs:
                    self._runs[tier.groups] = TierRun(tier.groups, self._make_strategy())
            view = self._views[tiers] = TierView(tiers, [self._runs[tier.groups] for tier in tiers])
        if len(self._places) >= MOST_PLACES:
            self._places.clear()
        self._places[origin] = view
        return view

    def _refresh(self, view: TierView) -> None:
        """Work out what each tier carries now, and let its strategy know from whom it picks."""
        view.version = self._version
        order = view.measured.order
        view.tiers = tuple(view.nearest[number] for number in order)
        view.runs = [self._runs[tier.groups] for tier in view.tiers]
        for run in view.runs:
            if run.version != self._version:
                self._prepare_run(run)
        shares = shares_of([run.count for run in view.runs], self.locality.spill)
        if self.locality.blend_rtt and view is self.own_view:
            first = next((tier.priority for tier, share in zip(view.tiers, shares, strict=True) if share), 0)
            shares = with_trials(
                shares,
                [bool(run.count.available) and tier.priority == first for run, tier in zip(view.runs, view.tiers, strict=True)],
            )
        view.shares = shares
        view.sums = list(accumulate(shares))
        view.sole = next((number for number, share in enumerate(shares) if share >= 1.0), -1)

    def _prepare_run(self, run: TierRun) -> None:
        run.version = self._version
        found = self._picked_from
        candidates = tuple(backend for group in run.order for backend in found.get(group, ()))
        # Where nobody is available, who has to do instead is shared out by their numbers (`shares_of`).
        run.count = count_of(self.members(run) if self._available else candidates, self._available)
        weights = [backend.weight for backend in candidates]
        if candidates != run.candidates or weights != run.weights:
            run.candidates, run.weights = candidates, weights
            run.strategy.prepare(candidates)

    def members(self, run: TierRun) -> list[Backend]:
        """Return all backends of a tier."""
        return [backend for group in run.order for backend in self._members.get(group, ())]

    # ---- when some of the candidates are out of the question ----

    def _narrow(
        self, view: TierView, candidates: Sequence[Backend], rng: Random, key: bytes, tried: Collection[Backend], hedge: bool
    ) -> tuple[int, Sequence[Backend]]:
        """Return a tier in which somebody is left, and who: the one drawn, else the nearest.

        One that has failed this request twice is asked last, and for a hedge the zones that were tried.
        """
        left = set(candidates)
        order = list(range(len(view.runs)))
        groups = [self._groups.get(backend.key) for backend in tried]
        if hedge:
            left = {one for one in left if not _same_zone(self._groups.get(one.key), groups)} or left
        else:
            drawn = _draw(view, key, rng)
            order.sort(key=lambda number: number != drawn)
            if len(groups) >= MOST_TRIED:
                order.sort(key=lambda number: sum(group in view.runs[number].groups for group in groups) >= MOST_TRIED)
        for number in order:
            whole = view.runs[number].candidates
            part = [backend for backend in whole if backend in left]
            if part:
                return number, whole if len(part) == len(whole) else part
        return 0, candidates


def _draw(view: TierView, key: bytes, rng: Random) -> int:
    """Draw a tier by the shares, the same for the same key."""
    point = crc32(key) * 2.0**-32 if key else rng.random()
    return min(bisect_right(view.sums, point * view.sums[-1]), len(view.sums) - 1)


def _same_zone(group: Group | None, tried: Collection[Group | None]) -> bool:
    """Whether a backend stands where one of those tried does: in a zone of the same name, or in the same place."""
    if group is None:
        return False
    return any(
        other is not None
        and (other.place == group.place or (other.place.zone is not None and other.place.zone == group.place.zone))
        for other in tried
    )
