"""Where edges, backends and clients are, how long the ways between them take, and who asks from where at what hour."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from math import cos, pi
from random import Random
from typing import NamedTuple

from smartedge.balancer.places import Place
from smartedge.balancer.strategies.draw import place_of
from smartedge.config.model import Config
from smartedge.config.zones import place_of_zone, places_of
from smartedge.simulator.scenario import ClientsConfig, SimulateConfig


class Client(NamedTuple):
    """Who sends a request. node: number of its edge. origin: where it is, if that counts. farther_s: more on the way there."""

    node: int = 0
    origin: Place | None = None
    farther_s: float = 0.0


class Geography:
    """The map of one run; owned by Run. edges: the zone of each, or None.

    Ways within a zone, and those that nobody has written, take what `network` says; others take so much more.
    """

    def __init__(self, world: SimulateConfig, config: Config) -> None:
        self._world = world
        self._ways = {frozenset(way.between): way.farther_s for way in world.network.ways}
        self._places = places_of(config.zones)
        self._by_client = config.locality.prefer == "client"
        self.edges = world.edges or (config.zone,) * world.nodes

    def farther_s(self, one: str | None, other: str | None) -> float:
        """Return how much longer the way between two zones takes, there and back, than one within a zone."""
        return 0.0 if one is None or other is None or one == other else self._ways.get(frozenset((one, other)), 0.0)

    def farther_of(self, edge: str | None, config: Config) -> Mapping[str, float]:
        """Return the same for the ways from an edge to each backend, by its id."""
        return {backend.id: self.farther_s(edge, backend.zone) for backend in config.backends}

    def client_drawer(self, rng: Random) -> Callable[[float], Client]:
        """Return what draws the client of a request that comes at a time of the scenario."""
        groups, nodes = self._world.clients, len(self.edges)
        if not groups:
            alone = Client()
            return (lambda _: alone) if nodes == 1 else lambda _: Client(rng.choice(range(nodes)))
        clients = [self._client(group) for group in groups]
        day_s, chance = self._world.arrivals.day_s, rng.random
        if len(clients) == 1:
            return lambda _: clients[0]
        rates = [rate_of(group, day_s) for group in groups]
        return lambda at: clients[place_of(list(accumulate(rate(at) for rate in rates)), chance())]

    def _client(self, group: ClientsConfig) -> Client:
        wanted = group.edge or group.zone
        node = self.edges.index(wanted) if wanted in self.edges else 0
        origin = place_of_zone(group.zone, self._places) if self._by_client else None
        return Client(node, origin, self.farther_s(group.zone, self.edges[node]))


def rate_of(group: ClientsConfig, day_s: float) -> Callable[[float], float]:
    """Return how many ask at a time, beside other groups: a cosine over the day around the mean, most at the peak."""
    swing = (1.0 - group.night_ratio) / (1.0 + group.night_ratio)
    return lambda at: group.ratio * (1.0 + swing * cos(2 * pi * (at / day_s - group.peak_h / 24)))
