"""Near first, far when needed: how much each tier carries, by how much of it is available. Numbers in, shares out.

The rule is Envoy's for priority levels (its manual, "Priority levels" and "Overprovisioning factor"): a tier can carry
`spill_ratio` times the share of it that is available, and the first tiers get what they can carry. So with 1.4 a tier carries
everything until less than 72% of it is available; with half of it, 70%, and 30% spill to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

PANIC_RATIO: Final = 0.5
"""Where all tiers together can't carry everything, the ejected ones of a tier help of which less is available."""


@dataclass(frozen=True, slots=True)
class SpillPolicy:
    """When requests leave a tier, as the operator wrote it.

    spill_ratio: so many times its available share can a tier carry. failover_only: it carries all or nothing. min_available:
    with fewer available backends it carries nothing, unless it has no more, or nobody else can.
    """

    spill_ratio: float = 1.4
    failover_only: bool = False
    min_available: int = 1


class TierCount(NamedTuple):
    """A tier in numbers. weight, available_weight: of all its backends, and of those that are available, less while these start
    slowly. backends, available: how many these are.
    """

    weight: float
    available_weight: float
    backends: int
    available: int


def shares_of(tiers: Sequence[TierCount], policy: SpillPolicy) -> list[float]:
    """Return each tier's share of the requests, nearest first; together 1.0, unless nobody has a backend.

    Where all of them together can't carry everything each gets more than it can, in proportion. Where nothing is available
    they share by their numbers of backends, for nothing is known of any.
    """
    abilities = [_ability(tier, policy, policy.min_available) for tier in tiers]
    if not any(abilities):
        abilities = [_ability(tier, policy, 1) for tier in tiers]
    together = min(1.0, sum(abilities))
    if not together:
        count = sum(tier.backends for tier in tiers)
        return [tier.backends / count if count else 0.0 for tier in tiers]
    shares = []
    left = 1.0
    for ability in abilities:
        share = min(ability / together, left)
        left -= share
        shares.append(share)
    return shares


def panics(tiers: Sequence[TierCount], policy: SpillPolicy) -> list[bool]:
    """Say of each tier whether its ejected backends have to help: not while all tiers together can carry everything."""
    available = [tier.available_weight / tier.weight if tier.weight else 0.0 for tier in tiers]
    if sum(min(1.0, policy.spill_ratio * ratio) for ratio in available) >= 1.0 - 1e-9:  # 0.2 and 0.8 may fall short of 1
        return [False] * len(tiers)
    return [ratio < PANIC_RATIO for ratio in available]


def _ability(tier: TierCount, policy: SpillPolicy, min_available: int) -> float:
    """Return the share of all requests that a tier can carry."""
    if tier.available < max(1, min(min_available, tier.backends)):
        return 0.0
    if policy.failover_only:
        return 1.0
    return min(1.0, policy.spill_ratio * tier.available_weight / tier.weight)
