"""The backends of one worker through every setup: built, counting on the board, and let go when they are idle."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import gevent

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import (
    CONNECT_SUM,
    CONNECTS,
    QUEUE_REFUSED,
    QUEUED,
    RATE_LIMITED,
    STATE,
    STRATEGY_FALLBACKS,
    WEIGHT,
    private_rows,
)
from smartedge.balancer.learned import Learned
from smartedge.balancer.spec import STATES, BackendSpec
from smartedge.config.model import Config, ConfigError, Problem, at_once
from smartedge.config.services import ServiceConfig, WrittenService
from smartedge.discovery.names import LookUp, Names, NamesFile, look_up
from smartedge.edge import collector
from smartedge.edge.files import Files
from smartedge.edge.policies import backend_limits
from smartedge.http.sockets import address_of, destination
from smartedge.proxy.adapter import Limits
from smartedge.proxy.session import Adapter, EdgeSession
from smartedge.proxy.transport import EdgeAdapter
from smartedge.workers.membership import Membership
from smartedge.workers.periodic import Pauses, give_way, in_pieces
from smartedge.workers.row_book import EDGE_KEY, RowsError

log = logging.getLogger("smartedge")


FORGOTTEN = 25
"""So many backends are forgotten at a stretch, some 1 ms."""

CLOSED = 25
"""The connections of so many backends are closed at a stretch; those of more by and by."""

SPARED = 50
"""So many new backends are worth a turn of their own: the garbage collector is spared them, candidates are worked out."""

CLAIMED = 50
"""Rows of the board that are claimed at a stretch, some 1.5 ms."""

LOOKED_AT = 250
"""With so many backends requests are let through while names are looked for."""

FIRST_S = 1.0
"""How long the start and a reload wait for names that nobody has looked up yet."""


@dataclass(frozen=True, slots=True)
class Built:
    """The backends of a service, as they were built of its configuration; part of a `ServiceSetup`.

    nodes: that share what is shared among them. made: what each entry of `config.backends` became. backends: all of them. fresh:
    those that the one before did not have.
    """

    config: ServiceConfig
    nodes: int
    made: tuple[tuple[Backend, ...], ...]
    backends: tuple[Backend, ...]
    fresh: tuple[Backend, ...]


class BackendRegistry:
    """All backends that one worker has to do with; owned by its `Edge`, asked by the SetupBuilder for those of a configuration.

    What was learned of a backend, and its row on the board, are kept from one setup to the next, and after it has left until its
    last request has ended. edge_row: the edge's own row, which answers that no backend gave are counted in. look_up: asks for the
    addresses of a name. names: knows them, and has them looked up.
    """

    def __init__(self, edge_row: Learned, rng: Random, look_up: LookUp = look_up) -> None:
        self.names = Names(look_up, rng)
        self._edge_row = edge_row
        self._membership: Membership | None = None
        self._learned: dict[str, Learned] = {}
        self._leaving: dict[str, tuple[Backend, float]] = {}
        self._service_rows: dict[str, Learned] = {}
        self._host_names: dict[int, tuple[ServiceConfig, tuple[str, ...]]] = {}

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
            names = self._all_names(config)
            if len(self._learned) >= LOOKED_AT:
                give_way()
            self.names.wait_for_names(names, FIRST_S)

    def build_backends(self, service: WrittenService, files: Files, before: Built | None = None, nodes: int = 1) -> Built:
        """Make the backends of a service: what was learned of an unchanged one, and its connections, go on.

        An entry whose name has several addresses becomes a backend for each. A backend of which nothing is another goes on as the
        same object. An entry that is the same one, as those that were found are, costs no more than a look: of a thousand, with
        fifty others each second, only those are built.
        nodes: that share what is shared among them.
        """
        limits, spec_of = backend_limits(service.config), service.config.spec_maker(service.name, nodes)
        kept: dict[int, tuple[Backend, ...]] = {}
        if before is not None and before.config.written is service.config.written and before.nodes == nodes:
            kept = dict(zip(map(id, before.config.backends), before.made, strict=True))
        old = {backend.key: backend for backend in before.backends} if before is not None else {}
        siblings: dict[tuple[str, str], list[Backend]] = {}
        for backend in old.values() if before is not None and self._names_of(before.config) else ():
            if destination(backend.url).name:
                siblings.setdefault(backend.spec.entry, []).append(backend)
        made: list[tuple[Backend, ...]] = []
        fresh: list[Backend] = []
        pause = Pauses() if self._membership is not None else at_once  # before the edge serves there is nobody to give way to
        spared = 0
        for entry in service.config.backends:
            pause()
            now = kept.get(id(entry), ())
            if not now or not self._still_fits(now, files):
                specs = self._at_addresses(spec_of(entry))
                now = tuple(self._build_backend(spec, files, limits, old, siblings) for spec in specs)
                fresh += [backend for backend in now if backend is not old.get(backend.key)]
            made.append(now)
            if len(fresh) >= spared + SPARED and self._membership is not None:
                spared = len(fresh)
                collector.spare()
        return Built(service.config, nodes, tuple(made), tuple(backend for each in made for backend in each), tuple(fresh))

    def _still_fits(self, backends: Sequence[Backend], files: Files) -> bool:
        """Whether an entry would become the same now: where its name leads, and what its files hold, is as it was."""
        spec = backends[0].spec
        to = destination(spec.url)
        if to.secure and files.context_for(spec.tls) is not backends[0].transport.adapter.context:
            return False
        ips = self.names.found.get(to.name, ()) if to.name else ()
        return tuple(ip for one in backends for ip in one.spec.addresses) == (ips if len(backends) == 1 else tuple(sorted(ips)))

    def _build_backend(
        self,
        spec: BackendSpec,
        files: Files,
        limits: Limits,
        old: Mapping[str, Backend],
        siblings: Mapping[tuple[str, str], Sequence[Backend]],
    ) -> Backend:
        previous = old.get(spec.key)
        learned = self._learned.get(spec.key) or _like_its_siblings(Learned(spec), spec, siblings.get(spec.entry, ()))
        if previous is not None and _is_spoken_to_alike(previous.spec, spec) and previous.transport.adapter.limits == limits:
            if previous.spec == spec and previous.transport.adapter.context is _context(spec, files):
                return previous
            return Backend(spec, learned, previous.transport)
        return Backend(spec, learned, EdgeSession(self._adapter(spec, files, limits, learned)))

    def ways_of(self, config: ServiceConfig) -> tuple[tuple[str, ...], ...]:
        """Return where the names of a service's backends lead to now."""
        return tuple(self.names.found.get(name, ()) for name in self._names_of(config))

    def _names_of(self, config: ServiceConfig) -> tuple[str, ...]:
        """Return the host names of a service's backends, looked for once: it is asked for at every step of a reload."""
        held = self._host_names.get(id(config))
        if held is None or held[0] is not config:
            names = tuple(filter(None, (destination(backend.url).name for backend in config.backends)))
            held = self._host_names[id(config)] = config, names
        return held[1]

    def _all_names(self, config: Config) -> list[str]:
        """Return the host names that have to be looked up."""
        return list(dict.fromkeys(name for service in config.all_services() for name in self._names_of(service.config)))

    def _at_addresses(self, spec: BackendSpec) -> tuple[BackendSpec, ...]:
        """Give an entry as it is, with the addresses of its name, or one for each of them.

        One IPv4 and one IPv6 address are two ways to one machine (`localhost`); several of a family are several servers, each
        with the weight that is written, as in nginx, HAProxy and Envoy.
        """
        name = destination(spec.url).name
        ips = self.names.found.get(name, ()) if name else ()
        if len(ips) - sum(":" in ip for ip in ips) <= 1 and sum(":" in ip for ip in ips) <= 1:
            return (replace(spec, addresses=ips),)
        return tuple(replace(spec, id=f"{spec.id}/{ip}", addresses=(ip,)) for ip in sorted(ips))

    def _adapter(self, spec: BackendSpec, files: Files, limits: Limits, learned: Learned) -> Adapter:
        make: Callable[..., Adapter] = EdgeAdapter
        if spec.protocol != "http/1.1":
            from smartedge.proxy.http2_transport import Http2Adapter  # late: its memory is for those who speak HTTP/2

            make = Http2Adapter
        adapter = make(
            spec.url,
            limits,
            spec.tls,
            _counter(learned),
            context=_context(spec, files),
            look_up=lambda name, port: [address_of(ip, port) for ip in self.names.addresses(name, limits.connect_s)],
        )
        adapter.use(spec.addresses, adapter.context)
        return adapter

    def join_workers(self, membership: Membership, backends: Sequence[Backend]) -> None:
        """Count on the board from here on. Raises StateError when there is no room."""
        self._membership = membership
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
        self.names.follow_names(self._all_names(config), config.resolve_s)
        in_use = {id(service.config) for service in config.all_services()}
        self._host_names = {key: held for key, held in self._host_names.items() if key in in_use}

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
            if leads_elsewhere and adapter.use(backend.spec.addresses, _context(backend.spec, files)) and leads:
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


def _is_spoken_to_alike(one: BackendSpec, other: BackendSpec) -> bool:
    return (one.protocol, one.tls) == (other.protocol, other.tls)


def _context(spec: BackendSpec, files: Files) -> Any:
    return files.context_for(spec.tls) if destination(spec.url).secure else None


def _like_its_siblings(learned: Learned, spec: BackendSpec, siblings: Iterable[Backend]) -> Learned:
    """Have a new address of a name be what the operator has said of all its others."""
    said = {_said(backend) for backend in siblings}
    if len(said) == 1:
        learned.shared[STATE], learned.shared[WEIGHT] = said.pop()
    elif said:  # each something else: the file's word
        learned.shared[STATE] = STATES.index(spec.state)
    return learned


def _said(backend: Backend) -> tuple[int, int]:
    return backend.learned.shared[STATE], backend.learned.shared[WEIGHT]


def _counter(learned: Learned) -> Callable[[float], None]:
    def count(took_s: float) -> None:
        learned.add(CONNECTS)
        learned.reals[CONNECT_SUM] += took_s

    return count
