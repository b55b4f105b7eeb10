"""What the operator of a cluster has said of single backends and of nodes, as keys of the will, and put to use here.

    backends/SERVICE/ID/state      "draining"      ID: of an entry, or of one of its addresses
    backends/SERVICE/ID/weight     5
    draining                       true            all nodes
    draining-nodes/NODE            true            that one; false: it is not, though all others are

What is not said is as the configuration has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

from smartedge.balancer.backend import Backend
from smartedge.balancer.spec import STATES
from smartedge.cluster.will import will_key
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
    for key in wishes:
        parts = [unquote(part) for part in key.split("/")]
        if len(parts) != 4 or parts[0] != "backends" or parts[3] not in (STATE, WEIGHT):
            continue
        name = parts[1], parts[2].partition("/")[0]
        if name in before and before[name][parts[3]] != after.get(name, {}).get(parts[3]):
            found[key] = None
    return found


def use_wishes(wishes: Wishes, services: Mapping[str, Service]) -> None:
    """Have all backends be as the operator wants them; those of which nothing is said as the configuration has them."""
    for service in services.values():
        for backend in service.pool.backends:
            state, weight = _wanted(wishes, backend, STATE), _wanted(wishes, backend, WEIGHT)
            if state not in STATES:
                state = backend.spec.state
            if type(weight) is not int or weight < 0:
                weight = None
            if backend.state != state:
                service.pool.set_state(backend.id, state)
            if backend.full_weight != (backend.spec.weight if weight is None else weight):
                service.pool.set_weight(backend.id, weight)


def _wanted(wishes: Wishes, backend: Backend, what: str) -> Any:
    """What is said of this backend, else of its entry."""
    if not wishes:
        return None
    service, id_ = backend.spec.service, backend.spec.id
    entry = id_.partition("/")[0]
    said = wishes.get(backend_key(service, id_, what))
    return wishes.get(backend_key(service, entry, what)) if said is None and entry != id_ else said


def _written(config: Config) -> dict[tuple[str, str], dict[str, Any]]:
    return dict(_each(config))


def _each(config: Config) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for service in config.all_services():
        for backend in service.config.backends:
            yield (service.name, backend.id), {STATE: backend.state, WEIGHT: backend.weight}
