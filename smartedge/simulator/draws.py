"""Chance: when requests come, what each is like, and how long a machine works on it.

Whatever belongs to a request is drawn with it, before anybody decides anything: every strategy sees the same
requests, with the same work in them (common random numbers), so that what differs is the strategy's doing.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator
from itertools import accumulate
from math import cos, exp, log, pi
from random import Random
from statistics import NormalDist
from typing import NamedTuple

from smartedge.balancer.strategies.draw import place_of
from smartedge.simulator.scenario import ArrivalsConfig, ServiceTimeConfig

DEEPEST_NIGHT_H = 4.0

Work = Callable[[float], float]
"""Seconds of work, from a number between 0 and 1 that says how much of it is in the request."""


class Arrival(NamedTuple):
    """One request: when it comes, and what is in it.

    key: number of its client or path. work, luck: between 0 and 1; how much work it is, and whether a machine
    that fails some requests fails this one. path, slowness: of its kind.
    """

    at: float
    idempotent: bool
    key: int
    work: float
    luck: float
    path: bytes = b"/"
    slowness: float = 1.0

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """Its method and target."""
        return b"GET" if self.idempotent else b"POST", self.path


def arrivals(config: ArrivalsConfig, duration_s: float, rng: Random) -> Iterator[Arrival]:
    """Give the requests in the order of time, from 0 to `duration_s`."""
    chance = rng.random
    gap = rate_of(config)
    poisson = config.kind == "poisson"
    weights = list(accumulate(rank**-config.skew for rank in range(1, config.keys + 1)))
    even, keys, share = not config.skew, config.keys, config.idempotent_ratio
    kinds = [(kind.path.encode(), kind.slowness) for kind in config.kinds]
    kinds_upto = list(accumulate(kind.ratio for kind in config.kinds))
    at = 0.0
    while True:
        at += (-log(1.0 - chance()) if poisson else 1.0) / gap(at)
        if at >= duration_s:
            return
        spot = chance()
        key = int(spot * keys) if even else place_of(weights, spot)
        if not kinds:
            yield Arrival(at, chance() < share, key, chance(), chance())
            continue
        kind = bisect(kinds_upto, chance())
        path, slowness = kinds[kind] if kind < len(kinds) else (b"/", 1.0)
        yield Arrival(at, chance() < share, key, chance(), chance(), path, slowness)


def rate_of(config: ArrivalsConfig) -> Callable[[float], float]:
    """Give requests a second by time: a cosine over the day around the mean, lowest at four in the morning."""
    mean, low = config.per_s, config.night_ratio
    if low == 1.0:
        return lambda _: mean
    swing = (1.0 - low) / (1.0 + low)
    day_s = config.day_s
    return lambda at: mean * (1.0 - swing * cos(2 * pi * (at / day_s - DEEPEST_NIGHT_H / 24)))


def work_of(service: ServiceTimeConfig) -> Work:
    """Give the inverse of the distribution function, so that more work in a request is more on any machine."""
    work = _KINDS[service.kind](service)
    ratio, factor = service.slow_ratio, service.slow_factor
    if not ratio:
        return work
    rest = 1.0 - ratio

    def mixed(spot: float) -> float:
        return work(spot / rest) if spot < rest else factor * work((spot - rest) / ratio)

    return mixed


def _fixed(service: ServiceTimeConfig) -> Work:
    mean_s = service.mean_s
    return lambda _: mean_s


def _exponential(service: ServiceTimeConfig) -> Work:
    mean_s = service.mean_s
    return lambda spot: -mean_s * log(1.0 - spot)


def _lognormal(service: ServiceTimeConfig) -> Work:
    middle = log(service.mean_s) - service.sigma**2 / 2
    inverse = NormalDist(middle, service.sigma).inv_cdf
    return lambda spot: exp(inverse(spot or 0.5))


_KINDS: dict[str, Callable[[ServiceTimeConfig], Work]] = {
    "fixed": _fixed,
    "exponential": _exponential,
    "lognormal": _lognormal,
}
