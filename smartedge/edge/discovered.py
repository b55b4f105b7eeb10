"""What becomes of found backends in one worker: the sources are asked, a generation is made of what they find, and said."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from random import Random
from time import monotonic

from smartedge.config.backends import BackendConfig
from smartedge.config.found import Sets
from smartedge.discovery.discovery import Discovery
from smartedge.discovery.kept_found import KeptFound
from smartedge.discovery.menu import Surroundings
from smartedge.discovery.source_health import HealthFile
from smartedge.edge.announce import Announcer
from smartedge.edge.follower import Follower
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload import Reloader
from smartedge.http.tls import backend_context
from smartedge.proxy.service import Service
from smartedge.workers.membership import Membership

log = logging.getLogger("smartedge")


def make_discovery(
    reloader: Reloader, origin: ConfigOrigin, env: Mapping[str, str], rng: Random, announcer: Announcer
) -> Discovery:
    """Make the discovery of a worker's edge, whose reloader puts to use what is found."""

    said: set[str] = set()
    doubles: set[tuple[str, str, str]] = set()

    def use_found(sets: Sets) -> None:
        fit = {key: _with_fit_files(backends, reloader, key, said) for key, backends in sets.items()}
        if (discovered := reloader.use_found(fit)) is not None:
            announcer.discovered(discovered)
            _tell_doubles(reloader, doubles)

    folder = os.path.dirname(os.path.abspath(origin.path)) if origin.path is not None else os.getcwd()
    around = Surroundings(folder, reloader.setup.config.resolve_s, env, rng)
    return Discovery(use_found, lambda: reloader.found, KeptFound(origin.path), around)


def _tell_doubles(reloader: Reloader, told: set[tuple[str, str, str]]) -> None:
    """Say once which found backends are not in use, since one that is written, or another source's, has their id or address."""
    in_use = {id(backend) for service in reloader.setup.config.all_services() for backend in service.config.backends}
    doubles = {
        (*source, backend.id) for source, found in reloader.found.sets.items() for backend in found if id(backend) not in in_use
    }
    for service, kind, name in sorted(doubles - told):
        words = "discovery %s (%s): %s has the id or address of one that is written, or of another source's, which counts"
        log.warning(words, service, kind, name)
    told.clear()
    told.update(doubles)


def _with_fit_files(
    backends: tuple[BackendConfig, ...], reloader: Reloader, source: tuple[str, str], said: set[str]
) -> tuple[BackendConfig, ...]:
    """Leave out what names TLS files that cannot be used, or take what it was before; so that it keeps no other out."""
    held, before = reloader.setup.files.held, {backend.id: backend for backend in reloader.found.sets.get(source, ())}
    unfit = {}
    for backend in backends:
        if backend.tls is not None and backend.tls_spec not in held:
            try:
                backend_context(backend.tls_spec)
            except (OSError, ValueError) as error:
                unfit[backend.id] = before.get(backend.id)
                text = f"{backend.id}: its TLS files cannot be used: {error}"
                if text not in said:
                    said.add(text)
                    log.warning("discovery %s (%s): %s", *source, text)
    if not unfit:
        return backends
    fit = (unfit.get(backend.id, backend) for backend in backends)
    return tuple(backend for backend in fit if backend is not None)


def begin_discovery(discovery: Discovery, membership: Membership, follower: Follower, services: Mapping[str, Service]) -> None:
    """Begin when the worker has its place: ask the sources if it leads, else wait a moment for backends if it has none."""
    file = HealthFile(None if membership.directory is None else membership.directory / "discovery.json")
    discovery.begin(
        file,
        leads=follower.leading,
        is_waiting=lambda: any(not service.pool.backends for service in services.values()),
        follow=lambda: follower.follow_newest(monotonic()),
    )
