"""A worker among the others of its edge: what it keeps up with, and what it does for all of them (docs/workers.md)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from smartedge.balancer.cells import DRAINING, LAYOUT, ROW_CELLS
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.config.model import ConfigError
from smartedge.edge.follower import Follower
from smartedge.edge.reload import Reloader
from smartedge.observe import console
from smartedge.workers.generations import Alone, Generations
from smartedge.workers.identity import edge_identity
from smartedge.workers.leader import Leadership
from smartedge.workers.membership import Membership, serves_already
from smartedge.workers.overview import overview
from smartedge.workers.process import spawned_by_hup, stand_still
from smartedge.workers.state_dir import Busy

log = logging.getLogger("smartedge")

AGAIN_S = 1.0
"""How long a worker that can't join an edge which serves holds up the next try."""


class Team:
    """Alone until it has joined. own: the edge's own row; what all workers share of it is theirs after that.

    stopping: this worker takes no more connections. leading: whether it was the one, when it was last asked, that does what
    one does for all.
    """

    def __init__(self, own: Learned, reloader: Reloader) -> None:
        self.stopping = False
        self.leading = True
        self._own = own
        self._reloader = reloader
        self._follower = Follower(reloader.follow)
        self._place: Membership | None = None
        self._leadership: Leadership | None = None
        self._said_lost = False

    def join(self, place: Membership, reread: Callable[[], object]) -> None:
        """Have the configuration that the other workers have; raises StateError.

        reread: reads the file again, which a worker does that a SIGHUP to gunicorn has started.
        """
        self._place = place
        self._leadership = Leadership(place)
        if place.directory is None:
            self._reloader.join(Alone(place.confirm))
            return
        try:
            self._reloader.join(Generations(place.directory, place.confirm, place.confirmed, place.live))
            if spawned_by_hup():
                reread()
        except (ConfigError, EdgeError) as error:
            log.error("reload refused, nothing changed: %s", error)

    def leads(self, now: float) -> bool:
        """Say whether this worker is the one that does what one does for all; asked often, which shows that it lives."""
        self.leading = self._leadership is None or (not self._is_lost() and self._leadership(now))
        return self.leading

    def keep_up(self, now: float) -> None:
        """Apply what another worker has reloaded; asked often.

        Where the state directory has been removed nobody can be kept up with: the worker ends gently, as all of them do,
        and those that the arbiter starts instead meet in a new one.
        """
        if not self._is_lost():
            self._follower(now)
        elif not self._said_lost:
            self._said_lost = self.stopping = True
            where = self._place.directory if self._place is not None else None
            log.error("somebody has removed the state directory %s: the workers begin anew", where)
            os.kill(os.getpid(), signal.SIGTERM)

    def _is_lost(self) -> bool:
        return self._place is not None and self._place.lost

    def workers(self, now: float) -> Sequence[Mapping[str, Any]]:
        """Return what every live worker is and does."""
        return [{"slot": 0, "pid": os.getpid()}] if self._place is None else overview(self._place, now)

    @property
    def draining(self) -> bool:
        """Whether those in front of the edge should send it nothing more: this worker stops, or the operator wants that."""
        return self.stopping or bool(self._own.shared[DRAINING])

    def drain(self, draining: bool) -> None:
        """Let all workers say that they are draining, and serve on; or take it back."""
        self._own.shared[DRAINING] = draining


def give_up(error: Exception, env: Mapping[str, str]) -> NoReturn:
    """End this worker, which cannot begin: to serve on would tell half truths. (A greenlet's exception ends nothing.)

    3 tells gunicorn that its workers can't boot, and to end. Where others serve, or it is a matter of time, another worker
    tries again, but not in a hurry; nothing is accepted meanwhile.
    """
    print(f"smartedge: {error}", file=sys.stderr, flush=True)
    console.flush()
    if isinstance(error, Busy):
        os._exit(1)
    if serves_already(edge_identity(env), ROW_CELLS, LAYOUT, env):
        stand_still(AGAIN_S)
        os._exit(1)
    os._exit(3)
