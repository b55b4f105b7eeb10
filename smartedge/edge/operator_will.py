"""What the operator of a cluster has said of single backends and of nodes, as keys of the will, and put to use here.

    backends/SERVICE/ID/state      "draining"      ID: of an entry, or of one of its addresses
    backends/SERVICE/ID/weight     5
    draining                       true            all nodes
    draining-nodes/NODE            true            that one; false: it is not, though all others are

What is not said is as the configuration has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from smartedge.balancer.spec import STATES
from smartedge.cluster.keys import will_key
from smartedge.config.model import Config
from smartedge.proxy.service import Service

STATE: Final = "state"
WEIGHT: Final = "weight"
ALL_DRAIN: Final = will_key("draining")

Wishes = Mapping[str, Any]
"""The will as a View has it: values by key."""


def backend_key(service: str, backend_id: str, what: str) -> str:
    """Make the key of a backend's state or weight."""
    return will_key("backends", service, backend_id, what)


def node_key(node: str) -> str:
    """Make the key that says whether a node drains."""
    return will_key("draining-nodes", node)


def drains(wishes: Wishes, node: str) -> bool:
    """Whether those in front of this node should send it nothing more."""
    return wishes.get(node_key(node), wishes.get(ALL_DRAIN, False)) is True


def drain_wishes(wishes: Wishes, node: str | None, *, draining: bool) -> dict[str, Any]:
    """Give what is to be said so that a node drains or does not, or all of them (None); None takes back."""
    if node is None:
        each = {key: None for key in wishes if key.startswith(node_key(""))}
        return {**each, ALL_DRAIN: True if draining else None}
    if draining == (wishes.get(ALL_DRAIN) is True):
        return {node_key(node): None}
    return {node_key(node): draining}


def backend_wishes(wishes: Wishes, service: str, backend_id: str, what: str, value: Any) -> dict[str, Any]:
    """Give what is to be said of a backend; of an entry with several addresses it holds for all of them. None takes back."""
    below = backend_key(service, f"{backend_id}/", what)[: -len(what) - 1]
    each = {key: None for key in wishes if key.startswith(below) and key.endswith(f"/{what}")}
    return {**each, backend_key(service, backend_id, what): value}


def outdated_wishes(wishes: Wishes, old: Config, new: Config) -> dict[str, None]:
    """Give what is to be taken back because the configuration says another state or weight since, which is the latest word."""
    before, after = _written(old), _written(new)
    found: dict[str, None] = {}
    for key, service, backend_id, what in _of_backends(wishes):
        name = service, backend_id.partition("/")[0]
        if name in before and before[name][what] != after.get(name, {}).get(what):
            found[key] = None
    return found


class WillChange(NamedTuple):
    """What is another by the operator's will. what: STATE or WEIGHT."""

    service: str
    backend: str
    what: str
    before: Any
    after: Any


def use_wishes(wishes: Wishes, services: Mapping[str, Service]) -> list[WillChange]:
    """Have all backends be as the operator wants them; those of which nothing is said as the configuration has them.

    Return what is another by that.
    """
    changes = []
    said = {(service, backend_id, what): wishes[key] for key, service, backend_id, what in _of_backends(wishes)}
    for service in services.values():
        for backend in service.pool.backends:
            spec = backend.spec
            state, weight = (_wanted(said, spec.service, spec.id, what) for what in (STATE, WEIGHT))
            if state not in STATES:
                state = spec.state
            if type(weight) is not int or weight < 0:
                weight = None
            if (before := backend.state) != state:
                service.pool.set_state(backend.id, state)
                changes.append(WillChange(spec.service, spec.id, STATE, before, state))
            if (was := backend.full_weight) != (spec.weight if weight is None else weight):
                service.pool.set_weight(backend.id, weight)
                changes.append(WillChange(spec.service, spec.id, WEIGHT, was, backend.full_weight))
    return changes


def _wanted(said: Mapping[tuple[str, str, str], Any], service: str, backend_id: str, what: str) -> Any:
    """What is said of this backend, else of its entry."""
    found = said.get((service, backend_id, what))
    entry, is_address, _ = backend_id.partition("/")
    return said.get((service, entry, what)) if found is None and is_address else found


def _of_backends(wishes: Wishes) -> Iterator[tuple[str, str, str, str]]:
    """Give the keys that are about backends, each with the service, the id and what it says."""
    for key in wishes:
        parts = [unquote(part) for part in key.split("/")]
        if len(parts) == 4 and parts[0] == "backends" and parts[3] in (STATE, WEIGHT):
            yield key, parts[1], parts[2], parts[3]


def _written(config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    return dict(_each(config))


def _each(config: Config) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for service in config.all_services():
        for backend in service.config.backends:
            yield (service.name, backend.id), {STATE: backend.state, WEIGHT: backend.weight}
