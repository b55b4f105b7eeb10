"""What nearness costs a pick: a pool of 3 zones with 20 backends each, with and without `locality`, for every strategy.

Time is that of `Pool.lease` and `Lease.finish` together, in microseconds, the least of many short runs by turns. "one of 60" is
a pool without locality; "one tier" has locality and all is well, so that the strategy has but 20 to pick from; "spilling" has
half of the near tier down; "client" has the request's own place, one of 1,000; "60 capped" and "near full" are with and without
locality while the caps of the near tier are reached.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from random import Random
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))

from smartedge.balancer.backend import Backend
from smartedge.balancer.learned import Learned
from smartedge.balancer.near_first import Locality, NearFirst
from smartedge.balancer.places import Place
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.config.model import parse

ZONES = {
    "a": Place("a", "south", (-23.5, -46.6)),
    "b": Place("b", "south", (-23.4, -46.5)),
    "c": Place("c", "north", (50.1, 8.7)),
}
RNG = Random(1)
CLIENTS = [Place(location=(RNG.uniform(-60, 70), RNG.uniform(-180, 180))) for _ in range(1000)]


def make_pool(strategy: str, *, near: bool, down: int = 0, cap: int | None = None) -> Pool:
    """Make a pool of 3 zones with 20 backends each. down: so many of the near ones. cap: the near ones are full at it."""
    written = [
        {"url": f"http://{zone}{number}", "id": f"{zone}{number}", "zone": zone, "max_in_flight": cap}
        for zone in ZONES
        for number in range(20)
    ]
    backends = []
    for number, spec in enumerate(parse(json.dumps({"backends": written})).specs()):
        learned = Learned(spec)
        for _ in range(5):
            learned.health.probed(number >= down)
        backends.append(Backend(spec, learned))
        if cap is not None and spec.zone == "a":
            learned.cells[0] = cap
    make = STRATEGIES[strategy]
    return Pool(backends, make(), Random(1), near=NearFirst(Locality(ZONES["a"], ZONES), make) if near else None)


def run(pool: Pool, places: list[Place] | None = None, count: int = 500) -> float:
    """Take and end so many leases; return microseconds for each."""
    origins = [None] * count if places is None else (places * (count // len(places) + 1))[:count]
    started = perf_counter()
    for number, origin in enumerate(origins):
        now = 1.0 + number / 1000
        pool.lease(now, (), b"key %d" % (number % 50), None, None, True, origin).finish(now, 200)
    return (perf_counter() - started) / count * 1e6


def main() -> None:
    """Print a line for each strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--strategy", choices=STRATEGIES)
    args = parser.parse_args()
    print(
        f"{'':18}" + "".join(f"{name:>12}" for name in ("one of 60", "one tier", "spilling", "client", "60 capped", "near full"))
    )
    for strategy in [args.strategy] if args.strategy else STRATEGIES:
        pools = {
            "one of 60": make_pool(strategy, near=False),
            "one tier": make_pool(strategy, near=True),
            "spilling": make_pool(strategy, near=True, down=10),
            "client": make_pool(strategy, near=True),
            "60 capped": make_pool(strategy, near=False, cap=5),
            "near full": make_pool(strategy, near=True, cap=5),
        }
        least = dict.fromkeys(pools, 1e9)
        for _ in range(args.rounds):
            for name, pool in pools.items():
                least[name] = min(least[name], run(pool, CLIENTS if name == "client" else None))
        print(f"{strategy:18}" + "".join(f"{us:>12.2f}" for us in least.values()), flush=True)


if __name__ == "__main__":
    main()
