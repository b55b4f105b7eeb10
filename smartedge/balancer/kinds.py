"""Kinds of requests: which are alike, how long each kind takes, and who has answered it.

A report takes seconds and a picture milliseconds, so what is late, or fails, is only to be compared with its like.
A kind is a method and the first segments of a path, with what looks like an id left open: `GET /users/123/orders`
and `GET /users/456/orders` are one kind, `GET /users/*/orders`. Paths come from clients, so there is room for so
many kinds and no more: what finds none is filed with its siblings, and what has a place keeps it for as long as it
is asked for. Each worker learns for itself. Seconds are those of a monotonic clock.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection
from typing import Final, Protocol

from smartedge.balancer.blame import Results
from smartedge.balancer.hedge_delay import HedgeDelay
from smartedge.balancer.learned import Learned

SEGMENTS: Final = 3
"""So many segments of a path tell kinds apart: `/api/v1/orders` does, what comes behind is detail."""

MOST_KINDS: Final = 256
"""Named ones; beside each of them there may be one for all its siblings without a name."""

MOST_BELOW: Final = 16
"""Names below one path: the pages of a blog, or what somebody makes up, must not use up the room of all others."""

MOST_REMEMBERED: Final = 1024
"""Targets whose kind is known without looking at them."""

KEPT_S: Final = 600.0
"""A kind that nobody has asked for in so long gives its place away."""

LEAST_ANSWERS: Final = 5
"""So many answers make a kind known."""

RECENT: Final = 32
"""What a kind usually takes is the mean of about so many answers."""

CLIPPED: Final = 4.0
"""An answer counts as so many times the mean at most: one that came after a pause says little of the kind."""

PEAK_HALVES_S: Final = 60.0
"""The longest time that an answer took is forgotten by half in this time."""

WIDE: Final = 0.1
"""A kind of whose answers a larger share took ten times as long as usual is one whose times differ by nature."""

METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"})

_ID: Final = re.compile(rb"[^/]*[0-9][^/]*[0-9][^/]*|[0-9]|[^/]{25,}")
"""A segment that looks like an id, a date or a version of a file: two digits, or long. `v1` is a name."""


class Holder(Protocol):
    """The request that a lease is for: an `Attempts` of proxy/, a `Try` of the simulator; asked by `Evidence` and `silence`."""

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """Its method and target, by which it is compared with its like."""

    @property
    def is_due(self) -> bool:
        """Whether the backend owes it an answer: it has the whole request."""


def kind_of(holder: Holder | None) -> tuple[bytes, bytes]:
    """Return the kind of the request that holds a lease; of one without, a kind of its own."""
    return holder.kind if holder is not None else (b"", b"")


class Kind:
    """What is known of one kind; owned by `Kinds`, written by `Evidence`, read when something is late or has failed.

    usual_s, peak_s: what its answers take on average, and the longest of late. heard: by backend, when it last began to
    answer one. well: who answered one in the usual time, and when that request had begun, the last few. results: how
    requests ended, by backend, while it is looked into why some fail (`blame`). hedge: how long is late, if anybody asks.
    """

    __slots__ = (
        "below",
        "count",
        "heard",
        "hedge",
        "key",
        "parent",
        "peak_at",
        "peak_s",
        "results",
        "used_at",
        "usual_s",
        "well",
        "wide",
    )

    def __init__(self, key: bytes = b"", parent: Kind | None = None) -> None:
        self.key = key
        self.parent = parent
        self.below = 0
        self.count = 0
        self.usual_s = self.peak_s = self.peak_at = self.wide = self.used_at = 0.0
        self.heard: dict[Learned, float] = {}
        self.well: deque[tuple[float, Learned]] = deque(maxlen=8)
        self.results = Results()
        self.hedge: HedgeDelay | None = None

    def __repr__(self) -> str:
        return (
            f"<Kind {self.key.decode('latin-1')} {self.count} answers, usually {self.usual_s:.3f} s, at most {self.peak_s:.3f} s>"
        )

    def learn(self, now: float, took_s: float) -> None:
        """Take in how long an answer took."""
        if self.count < RECENT:
            self.count += 1
        usual_s = self.usual_s
        if self.count > LEAST_ANSWERS:
            late = took_s > 10.0 * usual_s
            self.wide += (late - self.wide) / 64
            self.usual_s += (min(took_s, CLIPPED * usual_s) - usual_s) / self.count
        else:
            self.usual_s += (took_s - usual_s) / self.count
        if took_s >= self.peak(now):
            self.peak_s, self.peak_at = took_s, now

    def peak(self, now: float) -> float:
        """Return the longest time that an answer took, less the longer ago that is."""
        halves: float = 0.5 ** (max(0.0, now - self.peak_at) / PEAK_HALVES_S)
        return self.peak_s * halves


class Kinds:
    """All kinds of one service, found by method and target; owned by the pool's `Evidence`."""

    def __init__(self) -> None:
        self._kinds: dict[bytes, Kind] = {}
        self._named = 0
        self._remembered: dict[tuple[bytes, bytes], Kind] = {}
        self._pruned_at = 0.0

    def __len__(self) -> int:
        return len(self._kinds)

    def find(self, method: bytes, target: bytes, *, make: bool = False) -> Kind:
        """Return a request's kind. make: give it a place of its own, if there is room; else it is filed with its like."""
        kind = self._remembered.get((method, target))
        if kind is not None:
            return kind
        kind = self._walk(method, target, make)
        if make:
            if len(self._remembered) >= MOST_REMEMBERED:
                self._remembered.clear()
            if len(target) <= 256:
                self._remembered[method, target] = kind
        return kind

    def _walk(self, method: bytes, target: bytes, make: bool) -> Kind:
        """Go down the segments of a path, by name or else among the unnamed, as far as there are kinds, or room for new ones."""
        kind = self._root(method if method in METHODS else b"*")
        for segment in target.partition(b"?")[0].split(b"/", SEGMENTS + 1)[1 : SEGMENTS + 1]:
            named = not _ID.fullmatch(segment)
            found = self._kinds.get(b"%b/%b" % (kind.key, segment)) if named else None
            if found is None and named and make and kind.below < MOST_BELOW and self._named < MOST_KINDS:
                kind.below += 1
                self._named += 1
                found = self._add(b"%b/%b" % (kind.key, segment), kind)
            if found is None:
                others = b"%b/*" % kind.key
                found = self._kinds.get(others)
                if found is None and make:
                    found = self._add(others, kind)
                if found is None:
                    return kind
            kind = found
        return kind

    def _root(self, method: bytes) -> Kind:
        key = method + b" "
        kind = self._kinds.get(key)
        return self._add(key, None) if kind is None else kind

    def _add(self, key: bytes, parent: Kind | None) -> Kind:
        if len(self._kinds) >= 2 * MOST_KINDS and parent is not None:
            return parent
        kind = self._kinds[key] = Kind(key, parent)
        return kind

    def keep(self, members: Collection[Learned]) -> None:
        """Forget who did what of those that are no members any more."""
        for kind in self._kinds.values():
            kind.results.keep(members)
            kind.heard = {who: at for who, at in kind.heard.items() if who in members}
            kind.well = deque(((begun, who) for begun, who in kind.well if who in members), maxlen=kind.well.maxlen)

    def forget(self, who: Learned) -> None:
        """Forget how one's requests ended so far."""
        for kind in self._kinds.values():
            kind.results.forget(who)

    def tick(self, now: float, percentile: float | None = None) -> None:
        """Let kinds go that nobody asks for, and have it worked out what is late. Called once a second.

        percentile: of the answers that are not late, for hedging; None when nobody hedges.
        """
        if percentile is not None:
            for kind in self._kinds.values():
                if kind.hedge is not None:
                    kind.hedge.tick(percentile)
        if now - self._pruned_at < KEPT_S / 10:
            return
        self._pruned_at = now
        kept: dict[bytes, Kind] = {}
        for kind in self._kinds.values():
            if now - kind.used_at < KEPT_S:
                above: Kind | None = kind
                while above is not None and above.key not in kept:
                    kept[above.key] = above
                    above = above.parent
        if len(kept) == len(self._kinds):
            return
        self._kinds = kept
        self._remembered.clear()
        for kind in kept.values():
            kind.below = 0
        self._named = 0
        for kind in kept.values():
            if kind.parent is not None and not kind.key.endswith(b"/*"):
                kind.parent.below += 1
                self._named += 1
