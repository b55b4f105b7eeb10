"""The backends of one worker through every configuration: built, counting on the board, and let go when they are idle."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from typing import Any

from smartedge import settings
from smartedge.balancer.backend import Backend, Cell, Learned
from smartedge.config import Config, ConfigError, Problem
from smartedge.control.place import Place
from smartedge.control.rows import EDGE_KEY
from smartedge.control.workers import StateError
from smartedge.proxy.transport import EdgeAdapter, EdgeSession

_CONNECTS = int(Cell.CONNECTS)


class Members:
    """Makes backends of a configuration, and keeps what was learned of them for as long as they are asked for.

    own: the edge's own row, which answers that no backend gave are counted in.
    """

    def __init__(self, own: Learned) -> None:
        self._own = own
        self._place: Place | None = None
        self._learned: dict[str, Learned] = {}
        self._leaving: dict[str, tuple[Backend, float]] = {}

    def build(self, config: Config, before: Sequence[Backend] = ()) -> tuple[Backend, ...]:
        """Make the members: what was learned of an unchanged one, and its connections, go on. Raises ConfigError."""
        limits = settings.backend_limits(config)
        old = {backend.key: backend for backend in before}
        backends = []
        for index, spec in enumerate(config.specs()):
            previous = old.get(spec.key)
            learned = self._learned.get(spec.key) or Learned(spec.health, spec.breaker)
            if previous is not None and previous.spec.tls == spec.tls and previous.transport.adapter.limits == limits:
                transport = previous.transport
            else:
                try:
                    transport = EdgeSession(EdgeAdapter(spec.url, limits, spec.tls, _counter(learned)))
                except (OSError, ssl.SSLError, ValueError) as error:
                    raise ConfigError([Problem(f"backends[{index}].tls", f"cannot be used: {error}")], status=422) from error
            backends.append(Backend(spec, learned, transport))
        if not before:
            self._learned = {backend.key: backend.learned for backend in backends}
        return tuple(backends)

    def claim(self, backends: Sequence[Backend]) -> None:
        """Make sure that there are rows on the board for all of them; raises ConfigError."""
        if self._place is None:
            return
        try:
            self._place.rows_for(backend.key for backend in backends)
        except StateError as error:
            raise ConfigError([Problem("backends", str(error))], status=422) from error

    def join(self, place: Place, backends: Sequence[Backend]) -> None:
        """Count on the board from here on. Raises StateError when there is no room."""
        self._place = place
        self._attach(EDGE_KEY, self._own)
        for backend in backends:
            self._attach(backend.key, backend.learned)

    def enter(self, backends: Sequence[Backend]) -> None:
        """Keep what is learned of these, which are about to be the members."""
        for backend in backends:
            self._learned[backend.key] = backend.learned
            self._leaving.pop(backend.key, None)
            self._attach(backend.key, backend.learned)

    def leave(self, before: Sequence[Backend], backends: Sequence[Backend], deadline: float) -> None:
        """Close the connections that nobody uses now; those who are members no more have until then to end their leases."""
        kept = {backend.key for backend in backends}
        transports = {id(backend.transport) for backend in backends}
        for backend in before:
            if id(backend.transport) not in transports:
                backend.transport.adapter.close()
            if backend.key not in kept:
                self._leaving[backend.key] = (backend, deadline)

    def tidy(self, now: float, end_tunnels: Callable[[str], bool]) -> None:
        """Let those go that left and are idle, or overdue; end_tunnels says whether one still had some."""
        for key, (backend, deadline) in list(self._leaving.items()):
            if backend.in_flight() == 0 or now > deadline:
                if end_tunnels(key):
                    continue  # They give their leases back before the row goes.
                del self._leaving[key]
                self._learned.pop(key, None)
                backend.transport.adapter.close()
                if self._place is not None:
                    self._place.release(key)

    def prune(self) -> None:
        """Free what dead workers have left of backends that are gone."""
        if self._place is not None:
            self._place.prune()

    def meet(self, backends: Sequence[Backend]) -> None:
        """Notice the workers that have come, so that what is added up is the whole edge's."""
        if self._place is not None and self._place.refresh():
            for backend in backends:
                backend.learned.meet(self._place.row_for(backend.key).all_rows)
            self._own.meet(self._place.row_for(EDGE_KEY).all_rows)

    def close(self, backends: Sequence[Backend]) -> None:
        """Close all connections."""
        for backend in backends:
            backend.transport.adapter.close()

    def _attach(self, key: str, learned: Learned) -> None:
        """Let a backend count on the board."""
        if self._place is None:
            return
        rows = self._place.row_for(key)
        if learned.cells is not rows.ints:
            learned.attach(rows.ints, rows.reals, rows.all_rows, rows.shared)
            if self._place.state is not None:
                learned.breaker.alone = self._place.alone


def _counter(learned: Learned) -> Any:
    return lambda: learned.add(_CONNECTS)
