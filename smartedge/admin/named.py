"""Which backend an operator means: by service and id, or by the id alone where only one service has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import EdgeError
from smartedge.balancer.pool import Pool
from smartedge.balancer.spec import name_backend
from smartedge.edge.edge import Edge

MOST_NAMED: Final = 20
"""An error names so many of what there is."""


class UnknownBackend(EdgeError):
    """There is no backend of that id."""

    status = 404
    title = "Unknown backend"
    blame = "client"


class UnknownService(EdgeError):
    """There is no service of that name."""

    status = 404
    title = "Unknown service"
    blame = "client"


class AmbiguousBackend(EdgeError):
    """Several services have a backend of that id; the command line takes it for a wrong argument (cli/operate.py)."""

    status = 409
    title = "Ambiguous backend"
    blame = "client"


class NamedBackend(NamedTuple):
    """What `find_backend` found. id: of a backend, or of an entry whose name has several addresses: then it is all of them."""

    service: str
    id: str
    pool: Pool

    @property
    def name(self) -> str:
        """What people call it."""
        return name_backend(self.service, self.id)

    @property
    def backends(self) -> Sequence[Backend]:
        """The backend, or one for each address; raises UnknownBackend once it has gone."""
        if found := self.pool.backends_of(self.id):
            return found
        raise UnknownBackend(f'There is no backend "{self.name}" any more.')


def find_backend(edge: Edge, backend_id: str, service: str | None = None) -> NamedBackend:
    """Return the backend of an id; service: None looks in all of them.

    Raises UnknownService, UnknownBackend and AmbiguousBackend, each of which names what there is.
    """
    if service is not None:
        check_service(edge, service)
    found = named(edge, backend_id, service)
    if len(found) > 1:
        raise _ambiguous(backend_id, found)
    if not found:
        where = "" if service is None else f' in the service "{service}"'
        there = _some(backend.spec.name for backend in edge.backends() if service in (None, backend.spec.service))
        raise UnknownBackend(f'There is no backend "{backend_id[:100]}"{where}. There are: {there}.')
    return found[0]


def refuse_ambiguous(edge: Edge, backend_id: str) -> None:
    """Raise AmbiguousBackend for an id that several services have; one that none has may have been there before."""
    if len(found := named(edge, backend_id)) > 1:
        raise _ambiguous(backend_id, found)


def _ambiguous(backend_id: str, found: Iterable[NamedBackend]) -> AmbiguousBackend:
    names = _some(f"{one.service}/{one.id}" for one in found)
    return AmbiguousBackend(f'Several services have a backend "{backend_id[:100]}": say {names}.')


def named(edge: Edge, backend_id: str, service: str | None = None) -> list[NamedBackend]:
    """Return all that an id may mean: the backend of it in each service, and `web/b2`, which one service has."""
    places = [(name, backend_id) for name in edge.services if service in (None, name)]
    first, _, rest = backend_id.partition("/")
    if service is None and rest and first in edge.services:
        places.append((first, rest))
    found = [NamedBackend(name, id_, edge.services[name].pool) for name, id_ in places]
    return [one for one in found if one.pool.backends_of(one.id)]


def check_service(edge: Edge, name: str) -> None:
    """Raise UnknownService, which names those that there are, unless this is one of them."""
    if name not in edge.services:
        raise UnknownService(f'There is no service "{name[:100]}". There are: {_some(edge.services)}.')


def _some(names: Iterable[str]) -> str:
    """List the first of many."""
    all_names = list(names)
    more = f" and {len(all_names) - MOST_NAMED} more" if len(all_names) > MOST_NAMED else ""
    return ", ".join(all_names[:MOST_NAMED]) + more
