"""The backends of one worker through every setup: they count on the board, go where names lead, are let go when they are idle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from random import Random

import gevent

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import QUEUE_REFUSED, QUEUED, RATE_LIMITED, STRATEGY_FALLBACKS, private_rows
from smartedge.balancer.learned import Learned
from smartedge.config.model import Config, ConfigError, Problem
from smartedge.discovery.names import LookUp, Names, NamesFile, look_up
from smartedge.edge import collector
from smartedge.edge.backend_builder import SPARED, BackendBuilder, context_of
from smartedge.edge.files import Files
from smartedge.edge.host_names import HostNames
from smartedge.http.sockets import destination
from smartedge.proxy.session import Adapter
from smartedge.workers.membership import Membership
from smartedge.workers.periodic import give_way, in_pieces
from smartedge.workers.row_book import EDGE_KEY, RowsError

log = logging.getLogger("smartedge")


FORGOTTEN = 25
"""So many backends are forgotten at a stretch, some 1 ms."""

CLOSED = 25
"""The connections of so many backends are closed at a stretch; those of more by and by."""

CLAIMED = 50
"""Rows of the board that are claimed at a stretch, some 1.5 ms."""

LOOKED_AT = 250
"""With so many backends requests are let through while names are looked for."""

FIRST_S = 1.0
"""How long the start and a reload wait for names that nobody has looked up yet."""


class BackendRegistry:
    """All backends that one worker has to do with; owned by its `Edge`, asked by the SetupBuilder.

    What was learned of a backend, and its row on the board, are kept from one setup to the next, and after it has left until its
    last request has ended. edge_row: the edge's own row, which answers that no backend gave are counted in. look_up: asks for the
    addresses of a name. names: knows them, and has them looked up. builder: makes the backends of a configuration.
    """

    def __init__(self, edge_row: Learned, rng: Random, look_up: LookUp = look_up) -> None:
        self.names = Names(look_up, rng)
        self._edge_row = edge_row
        self._membership: Membership | None = None
        self._learned: dict[str, Learned] = {}
        self._leaving: dict[str, tuple[Backend, float]] = {}
        self._service_rows: dict[str, Learned] = {}
        self._hosts = HostNames()
        self.builder = BackendBuilder(self.names, self._hosts, self._learned)

    def row_of(self, service: str) -> Learned:
        """Return a service's own row: what concerns it as a whole is counted there, and shared by all workers."""
        return self._service_rows.setdefault(service, Learned())

    def use_row(self, service: str, row: Learned) -> None:
        """Keep the row of a service, which is about to be in use."""
        self._service_rows[service] = row
        self._attach(service, row)

    def know_names(self, config: Config) -> None:
        """Wait a moment for names of this configuration that nobody has looked up, once the edge serves."""
        if self._membership is not None:
            if len(self._learned) >= LOOKED_AT:
                for service in config.all_services():
                    for backend in in_pieces(service.config.backends):
                        destination(backend.url)  # taken apart once; below, all at a stretch
            names = self._hosts.of_all(config)
            if len(self._learned) >= LOOKED_AT:
                give_way()
            self.names.wait_for_names(names, FIRST_S)

    def join_workers(self, membership: Membership, backends: Sequence[Backend]) -> None:
        """Count on the board from here on. Raises StateError when there is no room."""
        self._membership = membership
        self.builder.serves = True
        membership.rows_for([EDGE_KEY, *self._service_rows, *(backend.key for backend in backends)])
        self._attach(EDGE_KEY, self._edge_row)
        for service, row in self._service_rows.items():
            self._attach(service, row)
        for backend in backends:
            self._attach(backend.key, backend.learned)

    def share_names(self, leads: Callable[[], bool], rebuild: Callable[[], None]) -> None:
        """Have one worker look names up for all. leads: whether it is this one.

        rebuild: builds everything anew, with what names lead to now; called when that is something else.
        """

        def moved() -> None:
            try:
                rebuild()
            except ConfigError as error:
                log.error("what names lead to cannot be used, and stays as it was: %s", error)

        self.names.changed = moved
        directory = self._membership.directory if self._membership is not None else None
        self.names.share_file(None if directory is None else NamesFile(directory / "names.json"), leads)

    def follow_names(self, config: Config) -> None:
        """Have the names of this configuration looked up from here on."""
        self.names.follow_names(self._hosts.of_all(config), config.resolve_s)
        self._hosts.keep_only(config)

    def hurry_name(self, backend: Backend) -> None:
        """Look the name of a backend that could not be connected to up soon: it may lead elsewhere by now."""
        self.names.look_up_soon(backend.transport.adapter.to.name)

    def claim_rows(self, service: str, backends: Sequence[Backend]) -> None:
        """Make sure that a service and all of these have rows on the board, and have them count there.

        They are not in use yet, and may never be: but once they are, all of it has to be done at once.
        Raises ConfigError where there are too many, StateError where the state directory has no room.
        """
        if self._membership is None:
            return
        keys = [service, *(backend.key for backend in backends)]
        for first in range(0, len(keys), CLAIMED):
            if len(keys) > CLAIMED:
                give_way()
            try:
                self._membership.rows_for(keys[first : first + CLAIMED])
            except RowsError as error:
                raise ConfigError([Problem("backends", str(error))], status=422) from error
        for backend in in_pieces(backends) if len(backends) >= CLAIMED else backends:
            self._attach(backend.key, backend.learned)
        if len(backends) >= SPARED:
            collector.spare()

    def use_backends(self, backends: Sequence[Backend], files: Files, now: float, *, leads: bool) -> None:
        """Keep what is learned of these, which are about to be in use, and go to where their names lead now, with these files.

        leads: we are the worker that does what one does for all. Where another server has taken a backend's place, nothing is
        known of that: it serves after its first good probe, unless nothing else can.
        """
        for backend in backends:
            adapter, key = backend.transport.adapter, backend.key
            leads_elsewhere = adapter.to.secure or not adapter.to.fixed  # only then it may: an address is what it was
            if leads_elsewhere and adapter.use(backend.spec.addresses, context_of(backend.spec, files)) and leads:
                backend.learned.forget(now)
            self._learned[key] = backend.learned
            self._leaving.pop(key, None)
            self._attach(key, backend.learned)

    def let_go(self, before: Sequence[Backend], backends: Sequence[Backend], deadline: float) -> None:
        """Close the connections that nobody uses now; backends that have gone have until then to end their leases."""
        still = set(map(id, backends))
        gone = [backend for backend in before if id(backend) not in still]
        kept = {backend.key for backend in backends} if gone else ()
        transports = {id(backend.transport) for backend in backends} if gone else ()
        unused = [backend.transport.adapter for backend in gone if id(backend.transport) not in transports]
        self._leaving |= {backend.key: (backend, deadline) for backend in gone if backend.key not in kept}
        if len(unused) <= CLOSED:
            _close_all(unused)
        else:
            gevent.spawn(_close_all, in_pieces(unused))  # nobody is sent there any more; hundreds would hold up requests

    def let_service_go(self, service: str) -> None:
        """Leave what a service that is in use no more has counted with the edge; its row is forgotten with its backends."""
        row = self._service_rows[service]
        for cell in (QUEUE_REFUSED, RATE_LIMITED, STRATEGY_FALLBACKS):
            self._edge_row.add(cell, row.cells[cell])
            row.cells[cell] = 0

    def forget_gone(self, now: float, services: Collection[str], end_tunnels: Callable[[str], bool]) -> bool:
        """Forget backends that left and are idle, or overdue, and then the rows of services that are none of these in use.

        end_tunnels: ends those of a backend, and says whether it still had some. Return whether to call it again, in a moment:
        so many at a stretch are enough.
        """
        gone: list[str] = []
        for key, (backend, deadline) in list(self._leaving.items()):
            if len(gone) == FORGOTTEN:
                break
            if backend.in_flight() == 0 or now > deadline:
                if end_tunnels(key):
                    continue  # They give their leases back before the row goes.
                del self._leaving[key]
                self._learned.pop(key, None)
                backend.transport.adapter.close()
                gone.append(key)
        left = {backend.spec.service for backend, _ in self._leaving.values()}
        for service in self._service_rows.keys() - left.union(services):
            if not self._service_rows[service].cells[QUEUED]:
                self._service_rows.pop(service).move_to(private_rows())  # whoever still holds it writes into no other's row
                gone.append(service)
        if gone and self._membership is not None:
            self._membership.release(gone)
        return len(gone) >= FORGOTTEN

    def free_rows(self) -> None:
        """Free what dead workers have left of backends that are gone."""
        if self._membership is not None:
            self._membership.free_dead_rows()

    def meet_workers(self, backends: Sequence[Backend]) -> None:
        """Notice the workers that have come, so that what is added up is the whole edge's."""
        if self._membership is not None and self._membership.refresh():
            for backend in backends:
                backend.learned.see_workers(self._membership.row_for(backend.key).everyone)
            for key, row in ((EDGE_KEY, self._edge_row), *self._service_rows.items()):
                row.see_workers(self._membership.row_for(key).everyone)

    def close(self, backends: Sequence[Backend]) -> None:
        """Look nothing up any more, and close all connections."""
        self.names.stop()
        for backend in backends:
            backend.transport.adapter.close()

    def _attach(self, key: str, learned: Learned) -> None:
        """Let a backend count on the board."""
        if self._membership is None:
            return
        rows = self._membership.row_for(key)
        if learned.cells is not rows.own[0]:
            learned.move_to(rows)
            if self._membership.state is not None:
                learned.breaker.try_exclusive = self._membership.try_exclusive


def _close_all(adapters: Iterable[Adapter]) -> None:
    for adapter in adapters:
        adapter.close()
