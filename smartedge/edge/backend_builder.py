"""The backends of a service, made of its configuration and of what its names lead to; what has not changed goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import CONNECT_SUM, CONNECTS, STATE, WEIGHT
from smartedge.balancer.learned import Learned
from smartedge.balancer.spec import STATES, BackendSpec
from smartedge.config.model import at_once
from smartedge.config.services import ServiceConfig, WrittenService
from smartedge.discovery.names import Names
from smartedge.edge import collector
from smartedge.edge.files import Files
from smartedge.edge.host_names import HostNames
from smartedge.edge.policies import backend_limits
from smartedge.http.sockets import address_of, destination
from smartedge.proxy.adapter import Limits
from smartedge.proxy.session import Adapter, EdgeSession
from smartedge.proxy.transport import EdgeAdapter
from smartedge.workers.periodic import Pauses

SPARED: Final = 50
"""So many new backends are worth a turn of their own: the garbage collector is spared them, candidates are worked out."""


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


class BackendBuilder:
    """Makes the backends of a configuration; owned by the `BackendRegistry`, asked by the SetupBuilder.

    names: what they lead to. hosts: which names there are. learned: of each backend that is known, by its key. serves: the
    edge does, so that there are requests to give way to.
    """

    def __init__(self, names: Names, hosts: HostNames, learned: Mapping[str, Learned]) -> None:
        self.serves = False
        self._names = names
        self._hosts = hosts
        self._learned = learned

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
        for backend in old.values() if before is not None and self._hosts.of_service(before.config) else ():
            if destination(backend.url).name:
                siblings.setdefault(backend.spec.entry, []).append(backend)
        made: list[tuple[Backend, ...]] = []
        fresh: list[Backend] = []
        pause = Pauses() if self.serves else at_once
        spared = 0
        for entry in service.config.backends:
            pause()
            now = kept.get(id(entry), ())
            if not now or not self._still_fits(now, files):
                specs = self._at_addresses(spec_of(entry))
                now = tuple(self._build_backend(spec, files, limits, old, siblings) for spec in specs)
                fresh += [backend for backend in now if backend is not old.get(backend.key)]
            made.append(now)
            if len(fresh) >= spared + SPARED and self.serves:
                spared = len(fresh)
                collector.spare()
        return Built(service.config, nodes, tuple(made), tuple(backend for each in made for backend in each), tuple(fresh))

    def _still_fits(self, backends: Sequence[Backend], files: Files) -> bool:
        """Whether an entry would become the same now: where its name leads, and what its files hold, is as it was."""
        spec = backends[0].spec
        to = destination(spec.url)
        if to.secure and files.context_for(spec.tls) is not backends[0].transport.adapter.context:
            return False
        ips = self._names.found.get(to.name, ()) if to.name else ()
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
            if previous.spec == spec and previous.transport.adapter.context is context_of(spec, files):
                return previous
            return Backend(spec, learned, previous.transport)
        return Backend(spec, learned, EdgeSession(self._adapter(spec, files, limits, learned)))

    def ways_of(self, config: ServiceConfig) -> tuple[tuple[str, ...], ...]:
        """Return where the names of a service's backends lead to now."""
        return tuple(self._names.found.get(name, ()) for name in self._hosts.of_service(config))

    def _at_addresses(self, spec: BackendSpec) -> tuple[BackendSpec, ...]:
        """Give an entry as it is, with the addresses of its name, or one for each of them.

        One IPv4 and one IPv6 address are two ways to one machine (`localhost`); several of a family are several servers, each
        with the weight that is written, as in nginx, HAProxy and Envoy.
        """
        name = destination(spec.url).name
        ips = self._names.found.get(name, ()) if name else ()
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
            context=context_of(spec, files),
            look_up=lambda name, port: [address_of(ip, port) for ip in self._names.addresses(name, limits.connect_s)],
        )
        adapter.use(spec.addresses, adapter.context)
        return adapter


def _is_spoken_to_alike(one: BackendSpec, other: BackendSpec) -> bool:
    return (one.protocol, one.tls) == (other.protocol, other.tls)


def context_of(spec: BackendSpec, files: Files) -> Any:
    """Give what connections to a backend are made with, None where they have no TLS."""
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
