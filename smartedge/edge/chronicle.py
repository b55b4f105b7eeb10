"""What has happened to an edge, as one of its workers keeps it for whoever asks: events, and the last 15 minutes."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from random import Random
from time import monotonic, time

from smartedge.balancer.learned import Learned
from smartedge.edge.announce import Announcer
from smartedge.observe.event_feed import EventFeed
from smartedge.observe.events import EventLog
from smartedge.observe.history import History
from smartedge.proxy.service import Service
from smartedge.workers.membership import Membership
from smartedge.workers.periodic import give_way


class Chronicle:
    """Owned by the Edge; the pages of events and of the history read it. announcer: writes events. services: see History."""

    def __init__(self, edge_row: Learned, rng: Random, services: Callable[[], Mapping[str, Service]]) -> None:
        self.events = EventLog(edge_row, rng, give_way=give_way)
        self.feed = EventFeed(self.events)
        self.announcer = Announcer(self.events)
        self.history = History(services, time, monotonic, give_way)
        self._slot: int | None = None

    def join_workers(self, membership: Membership) -> None:
        """Keep all where the other workers find it; in this process alone if there can be none."""
        directory = membership.state.path if membership.state else None
        self.events.join_workers(directory, membership.slot)
        self.history.join_workers(directory, membership.row_index)

    def begin(self, slot: int) -> None:
        """Say that this worker serves."""
        self._slot = slot
        self.announcer.worker_started(slot, os.getpid())
        atexit.register(self._tell_end)  # gunicorn tells no application that its worker ends

    def close(self) -> None:
        """Say that this worker ends, and let go of the edge's directory."""
        self._tell_end()
        self.events.close()
        self.history.close()

    def _tell_end(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self.announcer.worker_stopped(slot, os.getpid())
            atexit.unregister(self._tell_end)
