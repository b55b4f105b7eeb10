"""What becomes of found backends in one worker: the sources are asked, a generation is made of what they find, and said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random
from time import monotonic

from smartedge.config.found import Sets
from smartedge.discovery.discovery import Discovery
from smartedge.discovery.kept_found import KeptFound
from smartedge.discovery.menu import Surroundings
from smartedge.discovery.source_health import HealthFile
from smartedge.edge import announce
from smartedge.edge.follower import Follower
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload import Reloader
from smartedge.proxy.service import Service
from smartedge.workers.membership import Membership


def make_discovery(reloader: Reloader, origin: ConfigOrigin, env: Mapping[str, str], rng: Random) -> Discovery:
    """Make the discovery of a worker's edge, whose reloader puts to use what is found."""

    def use_found(sets: Sets) -> None:
        if (discovered := reloader.use_found(sets)) is not None:
            announce.discovered(discovered)

    folder = os.path.dirname(os.path.abspath(origin.path)) if origin.path is not None else os.getcwd()
    around = Surroundings(folder, reloader.setup.config.resolve_s, env, rng)
    return Discovery(use_found, lambda: reloader.found, KeptFound(origin.path), around)


def begin_discovery(discovery: Discovery, membership: Membership, follower: Follower, services: Mapping[str, Service]) -> None:
    """Begin when the worker has its place: ask the sources if it leads, else wait a moment for backends if it has none."""
    file = HealthFile(None if membership.directory is None else membership.directory / "discovery.json")
    discovery.begin(
        file,
        leads=follower.leading,
        is_waiting=lambda: any(not service.pool.backends for service in services.values()),
        follow=lambda: follower.follow_newest(monotonic()),
    )
