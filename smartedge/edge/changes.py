"""What changes without anybody saying so: panic, backends that have drained, sources, certificates, lost lines, the cluster.

It is found once a second by comparing what is with what was, in the worker that leads; the first look of one that has just begun
to lead goes by the events that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import name_backend
from smartedge.discovery.source_health import SourceHealth
from smartedge.edge.noticed import Noticed
from smartedge.edge.worker_changes import WorkerChanges
from smartedge.http.certificates import Certificate
from smartedge.observe.events import Document
from smartedge.workers.overview import Standing

CALM_LOOKS: Final = 5
"""A panic is over when so many looks in a row find none: breakers open and close."""

LOST_EVERY_LOOKS: Final = 60
"""Lost lines are told once a minute."""


class Seen(NamedTuple):
    """How the edge is at one moment; made by the Upkeep. workers: None where there can be but one.

    pools: of the services, by name. lines_lost: in all. cluster: whether it is followed, None outside of one; nodes: of it.
    """

    pools: Mapping[str, Pool]
    sources: Sequence[SourceHealth] = ()
    certificates: Sequence[Certificate] = ()
    lines_lost: int = 0
    workers: Standing | None = None
    cluster: str | None = None
    nodes: frozenset[str] = frozenset()


class ChangeWatch:
    """Notices what has changed; owned by the worker's Upkeep. events: gives all that are kept, oldest first.

    give_way: called between two pieces of what takes long.
    """

    def __init__(self, events: Callable[[], Iterable[Document]], give_way: Callable[[], None] = lambda: None) -> None:
        self._events = events
        self._give_way = give_way
        self._workers = WorkerChanges()
        self._before: Seen | None = None
        self._panics: dict[str, int] = {}
        self._draining: set[tuple[str, str]] = set()
        self._troubled: set[tuple[str, str]] = set()
        self._lost_told = self._looks = 0

    def look(self, seen: Seen, now: float, *, leading: bool) -> Iterator[Noticed]:
        """Yield what has changed since the last look. now: of the monotonic clock. leading: this worker tells it for all."""
        events = _Once(self._events)
        if seen.workers is not None:
            yield from self._workers.look(seen.workers, events, leading=leading)
        if not leading:
            self._before = None
            return
        before = self._before
        if before is None:
            self._remember(events, seen)
            before = seen
        self._before = seen
        yield from self._look_for_panic(seen, now)
        self._give_way()
        yield from self._look_for_drained(seen)
        yield from self._look_at_sources(seen)
        yield from _look_at_certificates(before, seen)
        yield from self._look_at_log(seen)
        yield from _look_at_cluster(before, seen)

    def _remember(self, events: Iterable[Document], seen: Seen) -> None:
        """Go on from what was told last."""
        self._panics, self._troubled, self._lost_told = {}, set(), seen.lines_lost
        for event in events:
            kind, service = event["kind"], event["service"]
            if kind == "panicked":
                self._panics[service] = CALM_LOOKS
            elif kind == "calmed":
                self._panics.pop(service, None)
            elif kind == "source_failed":
                self._troubled.add((service, event.get("source", "")))
            elif kind == "source_answered":
                self._troubled.discard((service, event.get("source", "")))

    def _look_for_panic(self, seen: Seen, now: float) -> Iterator[Noticed]:
        for service, pool in seen.pools.items():
            if pool.panics(now):
                if service not in self._panics:
                    total = len(pool.backends)
                    serving = sum(backend.available(now) for backend in pool.backends)
                    text = f"{service} panics: {serving} of {total} backends are available, so ejected ones are used, too"
                    yield Noticed("panicked", "error", text, service, members={"available": serving, "backends": total})
                self._panics[service] = CALM_LOOKS
            elif service in self._panics:
                self._panics[service] -= 1
                if not self._panics[service]:
                    del self._panics[service]
                    yield Noticed("calmed", "info", f"{service} panics no longer: enough backends are available", service)
        for gone in self._panics.keys() - seen.pools.keys():
            del self._panics[gone]

    def _look_for_drained(self, seen: Seen) -> Iterator[Noticed]:
        """A backend is drained when the last request that it had when it began to drain has ended."""
        draining = {
            (service, backend.id): backend
            for service, pool in seen.pools.items()
            for backend in pool.backends
            if backend.state == "draining"
        }
        for key in draining.keys() - self._draining:
            if draining[key].in_flight():
                self._draining.add(key)
        for key in sorted(self._draining):
            if key not in draining:
                self._draining.discard(key)
            elif not draining[key].in_flight():
                self._draining.discard(key)
                service, backend_id = key
                yield Noticed("drained", "info", f"{name_backend(*key)} is drained: nothing in flight", service, backend_id)

    def _look_at_sources(self, seen: Seen) -> Iterator[Noticed]:
        asked = {(one.service, one.source): one for one in seen.sources}
        for key, one in asked.items():
            members = {"source": one.source, "backends": one.backends}
            if one.problem is not None and key not in self._troubled:
                self._troubled.add(key)
                text = f"{one.service}: {one.source} does not say which backends there are: {one.problem}"
                yield Noticed("source_failed", "warning", text, one.service, members=members)
            elif one.problem is None and key in self._troubled:
                self._troubled.discard(key)
                text = f"{one.service}: {one.source} says again which backends there are"
                yield Noticed("source_answered", "info", text, one.service, members=members)
        self._troubled &= asked.keys()

    def _look_at_log(self, seen: Seen) -> Iterator[Noticed]:
        self._looks += 1
        if (lost := seen.lines_lost - self._lost_told) > 0 and self._looks >= LOST_EVERY_LOOKS:
            self._lost_told, self._looks = seen.lines_lost, 0
            yield Noticed("log_lost", "error", f"{lost} lines of the log could not be written", members={"lines": lost})


def _look_at_certificates(before: Seen, seen: Seen) -> Iterator[Noticed]:
    known = {one.digest for one in before.certificates}
    for one in seen.certificates:
        if one.digest not in known and before is not seen:
            names = list(one.names[:5])
            text = f"clients are shown a new certificate for {', '.join(names)}"
            yield Noticed("certificate_renewed", "info", text, members={"names": names, "expires_at": one.expires_at})


def _look_at_cluster(before: Seen, seen: Seen) -> Iterator[Noticed]:
    if before.cluster != seen.cluster and before.cluster is not None:
        if seen.cluster == "live":
            yield Noticed("cluster_followed", "info", "the cluster is followed again")
        else:
            yield Noticed("cluster_lost", "warning", "the cluster cannot be reached; what is known of it is used on")
    if before.nodes and seen.nodes:  # before it has heard of any it knows nothing of them
        for node in sorted(seen.nodes - before.nodes):
            yield Noticed("node_joined", "info", f"node {node} has joined the cluster", members={"node": node})
        for node in sorted(before.nodes - seen.nodes):
            yield Noticed("node_left", "warning", f"node {node} has left the cluster, or is not heard of", members={"node": node})


class _Once:
    """The events, read when they are first asked for."""

    def __init__(self, read: Callable[[], Iterable[Document]]) -> None:
        self._read = read
        self._found: list[Document] | None = None

    def __iter__(self) -> Iterator[Document]:
        if self._found is None:
            self._found = list(self._read())
        return iter(self._found)
