"""What Consul's health endpoint says, as entries of `backends[]`. No socket.

Source: https://developer.hashicorp.com/consul/api-docs/health#list-service-instances-for-service
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from smartedge.discovery.label import label_of
from smartedge.discovery.source import Entry

MOST_LABELS = 16
LONGEST_LABEL = 256
HEAVIEST = 1000
"""What a backend may have (config/backends.py)."""

Json = Mapping[str, Any]

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")


def entries_of(instances: Iterable[object], scheme: str, tags: Sequence[str] = ()) -> tuple[Entry, ...]:
    """Make entries of the instances of a service. scheme: of their URLs. tags: only of those that have all of them.

    What is no instance is an entry all the same, for whoever checks entries to tell.
    """
    wanted = set(tags)
    made = [_entry_of(one, scheme) for one in instances if wanted <= set(_tags(_part(one, "Service")))]
    return tuple(_with_smaller_weights(made))


def instances_of(text: str) -> Iterator[object]:
    """Yield the items of a JSON list one by one, as a thousand instances take tens of milliseconds; raises ValueError."""
    at = _skip_space(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError("no list")
    at = _skip_space(text, at + 1)
    is_over = text[at : at + 1] == "]"
    while not is_over:
        item, at = _DECODER.raw_decode(text, at)
        yield item
        at = _skip_space(text, at)
        is_over = text[at : at + 1] == "]"
        if not is_over:
            if text[at : at + 1] != ",":
                raise ValueError("no list")
            at = _skip_space(text, at + 1)
    if _skip_space(text, at + 1) != len(text):
        raise ValueError("more than a list")


def next_index(before: int, said: int) -> int:
    """The index to wait from, after an answer that had another: 0 asks without waiting.

    One that is not above 0 would not wait at all and counts as 1; one that goes backwards belongs to another history, as after
    a restart from a snapshot, so that it is begun anew (https://developer.hashicorp.com/consul/api-docs/features/blocking).
    """
    said = max(said, 1)
    return 0 if said < before else said


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _entry_of(instance: object, scheme: str) -> Any:
    service, node = _part(instance, "Service"), _part(instance, "Node")
    if not service:
        return instance
    host = str(service.get("Address") or node.get("Address") or "")
    entry: dict[str, Any] = {
        # An id of a service is its agent's own: two machines may have the same.
        "id": label_of(
            "-".join(filter(None, (_text(node.get("Node")), _text(service.get("ID")) or _text(service.get("Service")))))
        ),
        "url": f"{scheme}://{f'[{host}]' if ':' in host else host}:{service.get('Port', 0)}",
        "labels": _labels(service),
    }
    weight = _part(service, "Weights").get("Warning" if _is_warned(instance) else "Passing")
    if weight is not None:
        entry["weight"] = weight
    for key, name in (("zone", "Zone"), ("region", "Region")):
        if place := _place(key, name, service, node):
            entry[key] = label_of(place)
    return entry


def _place(key: str, name: str, service: Json, node: Json) -> str:
    """Where an instance stands, as its meta says, or its machine's; `Locality` is Consul's own word for it, since 1.17."""
    return next(
        filter(
            None,
            (_text(_part(of, part).get(field)) for of in (service, node) for part, field in (("Meta", key), ("Locality", name))),
        ),
        "",
    )


def _labels(service: Json) -> dict[str, str]:
    """The tags, joined, and the meta as texts by name: as many as a backend may have, in the order of their names."""
    found = {"tags": ",".join(_tags(service))} if _tags(service) else {}
    for name, text in sorted(_part(service, "Meta").items()):
        if isinstance(text, str) and len(found) < MOST_LABELS:
            found.setdefault(label_of(name), text)
    return {name: _line(text) for name, text in found.items()}


def _is_warned(instance: object) -> bool:
    """Whether an instance has the weight of one with a warning: no check of it is critical, and one warns."""
    checks = instance.get("Checks") if isinstance(instance, dict) else None
    found = {check.get("Status") for check in checks or () if isinstance(check, dict)} if isinstance(checks, list) else set()
    return "warning" in found and "critical" not in found


def _with_smaller_weights(entries: list[Any]) -> list[Any]:
    """Consul's weights go to 65535, ours to 1000: where one is heavier, all are made lighter in the same measure."""
    weights = [entry["weight"] for entry in entries if isinstance(entry, dict) and type(entry.get("weight")) is int]
    heaviest = max(weights, default=0)
    if heaviest > HEAVIEST:
        for entry in entries:
            if isinstance(entry, dict) and type(entry.get("weight")) is int and entry["weight"] > 0:
                entry["weight"] = max(1, round(entry["weight"] * HEAVIEST / heaviest))
    return entries


def _tags(service: Json) -> list[str]:
    tags = service.get("Tags")
    return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []


def _part(of: object, name: str) -> Json:
    """An object in an object; an empty one where there is none, as Consul writes null for that."""
    found = of.get(name) if isinstance(of, dict) else None
    return found if isinstance(found, dict) else {}


def _line(text: str) -> str:
    plain = text if text.isprintable() else "".join(filter(str.isprintable, text))
    return plain[:LONGEST_LABEL]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
