"""Rate limits: a token bucket for each client, in a table whose size is fixed.

The bucket is kept as one number, the time at which it would be full again (the generic cell rate algorithm,
ITU-T I.371): a request moves it on by the time that one token takes, and is refused while it lies further
ahead than the burst allows. Seconds are those of a monotonic clock, the same one in all workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

WAYS: Final = 8
"""So many clients share a set; of those, the one whose bucket has been full for longest gives way."""

SETS: Final = 8192
"""For 65,536 clients at a time, in one megabyte."""

TABLE_CELLS: Final = SETS * WAYS * 2
"""The size of the table in 64-bit cells: a client's mark, then the time, for each place."""

ROUNDING_S: Final = 1e-7
"""A double of a million seconds is exact to a tenth of a nanosecond, and a few of those add up: no reason to refuse."""


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """What one client may ask: per_s requests a second on average, `burst` of them at once; as the operator wrote it."""

    per_s: float
    burst: int

    def share(self, nodes: int) -> RatePolicy:
        """Return what one of so many nodes admits, that all together admit about as much as this says."""
        return RatePolicy(self.per_s / nodes, max(1, self.burst // nodes))


class RateLimiter:
    """The token buckets of all clients; owned by a `ClientLimiter`.

    How many are kept is bounded; a client that was forgotten starts with a full bucket.

    ints, reals: the table's cells, as integers and as doubles; it may be the memory of several processes. They
    do not keep each other out: two requests of a client in the same microsecond may count as one. salt: what
    makes a client's place in the table a secret, or clients could choose whom they push out.
    """

    __slots__ = ("_ints", "_reals", "_salt", "policy")

    def __init__(self, policy: RatePolicy, ints: memoryview[int], reals: memoryview[float], salt: bytes) -> None:
        self.policy = policy
        self._ints = ints
        self._reals = reals
        self._salt = salt

    def take_token(self, client: bytes, now: float) -> float:
        """Take a token from a client's bucket; return 0.0, or in how many seconds there will be one."""
        token_s = 1.0 / self.policy.per_s
        ahead_s = (self.policy.burst - 1) * token_s
        at, full_at = self._find(client, now, ahead_s + token_s)
        late_s = full_at - ahead_s - now
        if late_s > ROUNDING_S:
            return late_s
        self._reals[at] = full_at + token_s
        return 0.0

    def _find(self, client: bytes, now: float, most_s: float) -> tuple[int, float]:
        """Return the cell of a client's time, made its own if need be, and the time, no earlier than now.

        most_s: how far ahead it can lie; what says more was written under another policy, or another clock.
        """
        digest = blake2b(client, digest_size=16, key=self._salt).digest()
        mark = int.from_bytes(digest[:8], "little", signed=True) or 1  # 0 is nobody's
        start = int.from_bytes(digest[8:], "little") % SETS * (WAYS * 2)
        marks = self._ints[start : start + WAYS * 2 : 2].tolist()
        if mark in marks:
            at = start + marks.index(mark) * 2 + 1
            full_at = self._reals[at]
            if full_at > now + most_s:
                full_at = self._reals[at] = now + most_s
            return at, max(full_at, now)
        times = self._reals[start + 1 : start + WAYS * 2 : 2].tolist()
        at = start + times.index(min(times)) * 2 + 1
        self._ints[at - 1] = mark
        self._reals[at] = now
        return at, now
