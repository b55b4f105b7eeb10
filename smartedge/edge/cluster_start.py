"""What a node begins with: the configuration that its cluster has, or what it can have while etcd is away.

1. The cluster's key, where etcd answers and there is one. The node's own file does not count then, which is said.
2. The node's file, where etcd answers and there is no key: the node writes it there when it serves.
3. The copy that this node has kept of the cluster's, where etcd does not answer, has lost it, or has something in its place
   that is none of ours.
4. The node's file, where there is no copy either: a node that serves what it was given is better than none. Nothing of it is
   written anywhere before etcd is back, and then the key wins.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from smartedge.config.cluster import ClusterConfig
from smartedge.config.cluster_settings import cluster_settings
from smartedge.config.model import Config, ConfigError, Problem, config_path, load, parse
from smartedge.config.sources import is_read_once, read_file

if TYPE_CHECKING:
    from smartedge.cluster.stored import Stored

log = logging.getLogger("smartedge")

FIRST_TIMEOUT_S = 3.0
"""How long each member of etcd has to answer before a node begins without it."""


@dataclass(frozen=True, slots=True)
class ClusterStart:
    """How a worker of a node begins; made before there is an Edge, kept by its ClusterNode.

    settings: where etcd is. is_first: it begins the node, for it follows no worker that was there before. stored: what the
    configuration was made of; None for the node's own file. problem: why etcd could not be asked; None where it has answered.
    """

    settings: ClusterConfig
    is_first: bool = True
    stored: Stored | None = None
    problem: str | None = None

    @property
    def generation(self) -> int:
        """The number of what the node begins with; 0 for what is none of the cluster's."""
        return 0 if self.stored is None else self.stored.generation

    def say(self, path: str) -> None:
        """Log what the node begins with; where it is not simply the cluster's, that is a warning. path: of its file."""
        if not self.is_first:
            return
        of = f"generation {self.stored.generation}" if self.stored is not None else None
        if self.problem is None:
            if of is None:
                log.info("the cluster has no configuration yet: it gets that of %s", path)
            elif _says_other(path, self.stored):
                log.warning(
                    "the cluster's configuration is used (%s), not %s, which says something else; to have the cluster use the"
                    " file, send it as the body of POST /api/reload",
                    of,
                    path,
                )
            else:
                log.info("the cluster's configuration is used (%s)", of)
        elif of is not None:
            log.warning("stale: %s; the copy of the cluster's configuration is used (%s)", self.problem, of)
        else:
            log.warning("stale: %s, and there is no copy of its configuration; %s is used until then", self.problem, path)


def join_running(path: str | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None) -> ClusterStart | None:
    """Say how a worker begins that comes to a node which runs; None outside of a cluster. Raises ConfigError."""
    settings = cluster_settings(config_path(path, env), env, overrides)
    return None if settings is None else ClusterStart(settings, is_first=False)


def load_for_start(
    path: str | None, env: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> tuple[Config, ClusterStart | None]:
    """Load the configuration that this process begins with, and how it begins in its cluster, None outside of one.

    Raises ConfigError.
    """
    file, read = config_path(path, env), cache(read_file)  # once: it may be a pipe
    settings = cluster_settings(file, env, overrides, read)
    if settings is None:
        return load(file, env, overrides, read), None
    # Late: an edge that is no node does without the memory of it.
    from smartedge.cluster.errors import ClusterError, Foreign
    from smartedge.cluster.store import Store
    from smartedge.discovery.etcd_connect import connect

    where = f"the cluster {settings.prefix}"
    client = connect(settings, env, FIRST_TIMEOUT_S)
    kept = _held(file, settings)
    problem = None
    try:
        stored = Store(client, settings.prefix).read()
    except ClusterError as error:
        if error.status != 503 and not (isinstance(error, Foreign) and kept is not None):
            raise ConfigError([Problem(where, str(error))], status=422) from error
        stored, problem = kept, str(error)
    if kept is not None and kept.is_lost_in(stored):
        stored = kept  # which this node will put back
    start = ClusterStart(settings, True, stored, problem)
    if stored is not None:
        origin = f"the configuration of {where}, generation {stored.generation}"
        return parse(stored.text, origin=origin, env=env, overrides=overrides), start
    try:
        return load(file, env, overrides, read), start
    except ConfigError as error:
        if problem is None or error.status != 400:
            raise
        raise ConfigError([Problem(where, f"{problem}; and there is neither a copy of it nor a file")], status=400) from error


def _held(path: str, settings: ClusterConfig) -> Stored | None:
    """Return the configuration that the node has kept a copy of."""
    from smartedge.cluster.cached_copy import CachedCopy, CopyDamaged

    try:
        copy = CachedCopy(path, settings.prefix, settings.endpoints).read()
    except CopyDamaged as error:
        log.warning("%s", error)
        return None
    return None if copy is None else copy.stored


def _says_other(path: str, stored: Stored | None) -> bool:
    """Whether there is a file that says something else than the cluster."""
    try:
        text = None if is_read_once(path) else read_file(path)
    except ConfigError:
        return False
    return text is not None and stored is not None and text != stored.text.encode("utf-8", "surrogatepass")
