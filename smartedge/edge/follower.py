"""Following the other workers: what they started from, and whatever one of them has reloaded, is applied here too."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from smartedge.balancer.cells import LAYOUT, ROW_CELLS
from smartedge.config.model import Config, ConfigError, parse
from smartedge.workers.generations import newest_in
from smartedge.workers.identity import edge_identity
from smartedge.workers.membership import running_edge
from smartedge.workers.state_dir import StateError

log = logging.getLogger(__name__)

RETRY_S = 1.0


def running_config(env: Mapping[str, str]) -> Config | None:
    """Return what the other workers of this edge have, for one that starts later; None for the first of them.

    The file may say something else by then, which nobody has asked the edge to use, or be wrong: it is not read.
    """
    try:
        directory = running_edge(edge_identity(env), ROW_CELLS, LAYOUT, env)
        newest = newest_in(directory) if directory is not None else None
        return parse_exact(newest.config) if newest is not None else None
    except (StateError, ConfigError):
        return None  # what is wrong is said when this worker takes its place


def parse_exact(text: str) -> Config:
    """Make a Config of a generation's text, over which nothing is laid any more. Raises ConfigError."""
    return parse(text, origin="the newest generation")


class Follower:
    """Calls `follow`, which applies what is new, as often as it is called itself; after a failure only every RETRY_S.

    A configuration that this worker can't apply, while the one that reloaded could (a certificate that only that one may
    read), stays unconfirmed: the reload's answer names this worker.
    """

    def __init__(self, follow: Callable[[], object]) -> None:
        self._follow = follow
        self._retry_at = float("-inf")
        self._said = ""

    def __call__(self, now: float) -> None:
        """Look for news, in seconds of a monotonic clock."""
        if now < self._retry_at:
            return
        try:
            self._follow()
        except (ConfigError, StateError, OSError) as error:
            self._retry_at = now + RETRY_S
            if str(error) != self._said:
                self._said = str(error)
                log.error("the newest configuration cannot be applied here and is tried again: %s", error)
        else:
            self._said = ""
