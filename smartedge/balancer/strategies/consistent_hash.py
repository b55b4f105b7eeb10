"""The same key, the same backend: for caches and sessions that live on one."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import ceil, inf, log
from random import Random
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.strategies.base import Strategy
from smartedge.balancer.strategies.least_requests import LeastRequests

BOUNDED_LOAD_RATIO: Final = 1.25

_OWNER: Final = "owner of the key"
_NEXT: Final = "next owner of the key: those before it may not be picked, or have more than their share of the open leases"
_NONE: Final = "fewest open leases: all owners of the key have more than their share"
_NO_KEY: Final = "fewest open leases: the request has no key"

_MASK: Final = (1 << 64) - 1
_LOG_OF_ALL: Final = 64 * log(2)


class ConsistentHash(Strategy):
    """Weighted rendezvous hashing (Thaler and Ravishankar, 1998) with bounded loads.

    A key falls into one of 65,536 slots, and a slot belongs to the candidate with the largest weight / -ln(h), where h
    is the hash of slot and backend id, between 0 and 1. One that leaves takes no other's slots along, one that comes
    takes from each by its weight. Only ids, weights and keys have a part in it, so that all workers agree, after a
    restart too.

    A key whose owner was tried, or is full, goes where it would go if that one left.

    A candidate gets at most `bounded_load_ratio` times its share of all open leases, and always one; then the key goes
    on to the owner of its second slot, its third, ... (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with
    Bounded Loads", 2018). inf sets no bound. A request without a key, and one whose slots are all at their bound, goes
    to the least busy one.
    """

    name = "consistent_hash"
    reason = ""
    by_numbers = True

    SLOT_BITS: Final = 16
    STEPS: Final = 16
    """How many slots a key has."""

    EXACT_UP_TO: Final = 16
    TOTAL_FOR_S: Final = 0.01
    """With more candidates their leases are not added up for every pick, but every 10 ms."""

    def __init__(self, bounded_load_ratio: float = BOUNDED_LOAD_RATIO) -> None:
        self.bounded_load_ratio = bounded_load_ratio
        self._least = LeastRequests()
        self._whole: tuple[Backend, ...] = ()
        self._seeds: dict[Backend, int] = {}
        self._shares: dict[Backend, float] = {}
        self._even = True
        self._owners: list[Backend | None] = []
        self._total = 0
        self._total_until = -inf

    def prepare(self, candidates: tuple[Backend, ...]) -> None:
        """Forget who owns which slot: that is worked out when a slot is first asked for."""
        self._least.prepare(candidates)
        self._whole = candidates
        # A product with an odd number keeps all that tells two slots apart, and its upper bits depend on every bit of both.
        self._seeds = {backend: _hash(backend.id.encode()) | 1 for backend in candidates}
        weight = sum(backend.weight for backend in candidates)
        self._shares = {backend: backend.weight / weight for backend in candidates}
        self._even = len({backend.weight for backend in candidates}) <= 1
        self._owners = [None] * (1 << self.SLOT_BITS) if candidates else []
        self._total_until = -inf

    def pick(self, candidates: Sequence[Backend], now: float, rng: Random, key: bytes = b"") -> Backend:
        """Return the first owner of the key's slots that is a candidate and below its bound."""
        owners = self._owners
        self.reason = _OWNER
        if key and owners:
            part = candidates is not self._whole
            slots = int.from_bytes(blake2b(key, digest_size=self.STEPS * self.SLOT_BITS // 8).digest(), "little")
            mask = len(owners) - 1
            for _ in range(self.STEPS):
                slot = slots & mask
                backend = owners[slot]
                if backend is None:
                    backend = owners[slot] = self._owner(slot, self._whole)
                if part and backend not in candidates:
                    self.reason = _NEXT
                    backend = self._owner(slot, candidates)  # the one that gets this slot if the other leaves
                if self._takes(backend, now):
                    self._total += 1
                    return backend
                self.reason = _NEXT
                slots >>= self.SLOT_BITS
            self.reason = _NONE
        else:
            self.reason = _NO_KEY
        return self._least.pick(candidates, now, rng)

    def _owner(self, slot: int, candidates: Sequence[Backend]) -> Backend:
        """Find the candidate with the largest weight / -ln(h)."""
        point = _hash(slot.to_bytes(2, "little"))
        seeds = self._seeds
        hashes = [point * seeds[backend] & _MASK for backend in candidates]
        if self._even:
            return candidates[hashes.index(max(hashes))]
        scores = [(_LOG_OF_ALL - log(h + 1)) / backend.weight for h, backend in zip(hashes, candidates, strict=True)]
        return candidates[scores.index(min(scores))]

    def _takes(self, backend: Backend, now: float) -> bool:
        """Whether a backend stays within its bound with one lease more."""
        leases = backend.in_flight()
        if not leases or self.bounded_load_ratio == inf:
            return True
        if now >= self._total_until:
            self._total = sum(one.in_flight() for one in self._whole)
            if len(self._whole) > self.EXACT_UP_TO:
                self._total_until = now + self.TOTAL_FOR_S
        return leases < ceil(self.bounded_load_ratio * self._shares[backend] * (self._total + 1))


def _hash(data: bytes) -> int:
    """Hash to 64 bits, the same everywhere and for ever (Python's own hash() differs from process to process)."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")
