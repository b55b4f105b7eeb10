"""A worker among the others of its edge: what it follows, whether it leads, and whether they drain (docs/workers.md)."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, time
from typing import Any, NoReturn

from smartedge.balancer.cells import DRAINING, LAYOUT, ROW_CELLS
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.learned import Learned
from smartedge.config.model import Config, ConfigError
from smartedge.edge.reload import Reloader, parse_generation
from smartedge.observe import console
from smartedge.workers.generations import Alone, Generations, Heirloom, newest_in
from smartedge.workers.identity import Succession, edge_identity
from smartedge.workers.leader import Leadership
from smartedge.workers.membership import Membership, running_edge, serves_already
from smartedge.workers.overview import Standing, overview, standing
from smartedge.workers.periodic import PeriodicWork
from smartedge.workers.process import spawned_by_hup, stand_still
from smartedge.workers.state_dir import Busy, StateError

log = logging.getLogger("smartedge")

FOLLOW_S = 0.02
"""How often a worker looks whether another one has published something (a system call of 2 µs)."""

RETRY_S = 1.0
"""A configuration that could not be applied is tried again after so long."""

AGAIN_S = 1.0
"""How long a worker that can't join an edge which serves holds up the next try."""


class Follower:
    """One worker's part in its edge, owned by the `Edge`, which asks `leads` many times a second.

    Alone until it has joined the others. edge_row: the edge's own row; the part that all workers share says whether they drain.
    stopping: this worker takes no more connections. leading: whether it was the one, when it was last asked, that does what
    one does for all.

    A configuration that this worker can't apply, while the one that reloaded could (a certificate that only that one may
    read), stays unconfirmed: the reload's answer names this worker. It is tried again every RETRY_S, and logged once.
    """

    def __init__(self, edge_row: Learned, reloader: Reloader) -> None:
        self.stopping = False
        self.leading = True
        self._edge_row = edge_row
        self._reloader = reloader
        self._membership: Membership | None = None
        self._leadership: Leadership | None = None
        self._retry_at = float("-inf")
        self._logged = ""
        self._logged_lost = False
        self._following = PeriodicWork(lambda: self.follow_newest(monotonic()), FOLLOW_S)

    def start(self) -> None:
        """Begin to follow the other workers, where there can be some."""
        if self._membership is not None and self._membership.directory is not None:
            self._following.start()

    def stop(self) -> None:
        """Follow nobody any more."""
        self._following.stop()

    def join_workers(self, membership: Membership, reread: Callable[[str], object], succession: Succession | None = None) -> None:
        """Have the configuration that the other workers have; raises StateError, or ConfigError in a succession.

        reread: reads the file again, which a worker does that a SIGHUP to gunicorn has started, or that takes over from another
        program. succession: how it does.
        """
        self._membership = membership
        self._leadership = Leadership(membership)
        takes_over = succession is not None and succession.rereads
        if membership.state is None:
            self._reloader.join_workers(Alone(membership))
        elif membership.directory is None:
            self._reloader.join_workers(Heirloom(membership.state.path, membership, follows=succession is not None))
        try:
            if membership.directory is not None:
                self._reloader.join_workers(Generations(membership.directory, membership))
            if takes_over:
                reread("SIGUSR2")
            elif membership.directory is not None and spawned_by_hup():
                reread("SIGHUP")
        except (ConfigError, EdgeError) as error:
            if takes_over and isinstance(error, ConfigError):
                raise  # the program before this one serves on
            log.error("reload refused, nothing changed: %s", error)

    def retire(self) -> None:
        """Leave all to the program that has taken over, but for the requests under way."""
        self._following.stop()
        if self._membership is not None:
            self._membership.retire()

    def leads(self, now: float) -> bool:
        """Say whether this worker is the one that does what one does for all; asked often, which shows that it lives."""
        self.leading = self._leadership is None or (not self._is_lost() and self._leadership(now))
        return self.leading

    def follow_newest(self, now: float) -> None:
        """Apply what another worker has reloaded; now: seconds of a monotonic clock.

        Where the state directory has been removed nobody can be followed: the worker ends gently, as all of them do, and those
        that the arbiter starts instead meet in a new one.
        """
        if self._is_lost():
            self._end_lost()
        elif now >= self._retry_at:
            try:
                self._reloader.follow_newest()
            except (ConfigError, StateError, OSError) as error:
                self._retry_at = now + RETRY_S
                if str(error) != self._logged:
                    self._logged = str(error)
                    log.error("the newest configuration cannot be applied here and is tried again: %s", error)
            else:
                self._logged = ""

    def _end_lost(self) -> None:
        if not self._logged_lost:
            self._logged_lost = self.stopping = True
            where = self._membership.directory if self._membership is not None else None
            log.error("somebody has removed the state directory %s: the workers begin anew", where)
            os.kill(os.getpid(), signal.SIGTERM)

    def _is_lost(self) -> bool:
        return self._membership is not None and self._membership.lost

    def workers(self, now: float, *, counted: bool = True) -> Sequence[Mapping[str, Any]]:
        """Return what every live worker is and does. counted: see `workers.overview`."""
        if self._membership is None:
            alone = {"slot": 0, "pid": os.getpid(), "leader": True, "generation": 1}
            return [{**alone, "uptime_s": 0.0, "started_at": time(), "loop_lag_s": 0.0}]
        return overview(self._membership, now, counted=counted)

    def standing(self) -> Standing | None:
        """Return who the workers are; None where there can be no others."""
        membership = self._membership
        return None if membership is None or membership.directory is None or self._is_lost() else standing(membership)

    @property
    def draining(self) -> bool:
        """Whether those in front of the edge should send it nothing more: this worker stops, or the operator wants that."""
        return self.stopping or self.is_told_to_drain

    @property
    def is_told_to_drain(self) -> bool:
        """Whether the operator wants that."""
        return bool(self._edge_row.shared[DRAINING])

    def set_draining(self, draining: bool) -> None:
        """Let all workers say that they are draining, and serve on; or take it back."""
        self._edge_row.shared[DRAINING] = draining


def running_config(env: Mapping[str, str]) -> Config | None:
    """Return what the other workers of this edge have, for one that starts later; None for the first of them.

    The file may say something else by then, which nobody has asked the edge to use, or be wrong: it is not read.
    """
    try:
        directory = running_edge(edge_identity(env), ROW_CELLS, LAYOUT, env)
        newest = newest_in(directory) if directory is not None else None
        return parse_generation(newest) if newest is not None else None
    except (StateError, ConfigError):
        return None  # what is wrong is said when this worker takes its place


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
