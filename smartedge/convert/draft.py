"""What becomes of another program's configuration: a document for backends.json, and notes on what was not taken over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """A line that was not taken over. line: its number, from 1. text: what stands there. why: what it means for SmartEdge."""

    line: int
    text: str
    why: str


@dataclass(slots=True)
class Draft:
    """Filled by the reader of one kind of file, printed by `smartedge convert`.

    top: keys of the top level. services, routes: as in backends.json; a service that nobody uses is left out, with a note.
    """

    top: Document = field(default_factory=dict)
    services: dict[str, Document] = field(default_factory=dict)
    routes: list[Document] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    def leave_out(self, line: int, text: str, why: str) -> None:
        """Note a line that is not taken over."""
        if (note := Note(line, text, why)) not in self.notes:  # a line may be inherited by several blocks
            self.notes.append(note)

    def add_service(self, name: str, service: Document) -> str:
        """Take a service, and return the name that it has here: lower case letters, digits and dashes."""
        plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63] or "service"
        same = self.services.setdefault(plain, service)
        if same is not service and same != service:
            number = 2
            while f"{plain[:60]}-{number}" in self.services:
                number += 1
            plain = f"{plain[:60]}-{number}"
            self.services[plain] = service
        return plain

    def document(self) -> Document:
        """Return the whole as backends.json has it: the short form where there is one service and nothing to route by."""
        used = {name for route in self.routes for name in _services_of(route)} or set(self.services)
        services = {name: service for name, service in self.services.items() if name in used}
        plain = [route for route in self.routes if route.keys() != {"to"}]
        if len(services) == 1 and not plain:
            (only,) = services.values()
            return self.top | only
        document = self.top | ({"services": services} if services else {})
        return document | ({"routes": self.routes} if self.routes else {})


def _services_of(route: Mapping[str, Any]) -> list[str]:
    to = route.get("to")
    return [to] if isinstance(to, str) else list(to or ())


def backend_of(url: str, **keys: Any) -> str | Document:
    """Write a backend: as its URL alone, where nothing else is said."""
    said = {key: value for key, value in keys.items() if value is not None}
    return {"url": url} | said if said else url


def seconds_of(text: str, unit: float = 1.0) -> float:
    """Read a time such as `30`, `500ms`, `2m`, `1h`; without a unit it is in `unit` seconds. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|)", text.strip())
    if found is None:
        raise ValueError(f"{text} is no time")
    sizes = {"us": 1e-6, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": unit}
    value = float(found[1]) * sizes[found[2]]
    return int(value) if value == int(value) else value


def bytes_of(text: str) -> int:
    """Read a size such as `10m`, `1k`, `0`. Raises ValueError."""
    found = re.fullmatch(r"(?i)(\d+)([kmg]?)b?", text.strip())
    if found is None:
        raise ValueError(f"{text} is no size")
    return int(found[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[found[2].lower()]


def bind_of(text: str) -> str:
    """Write an address to listen on: `80` and `*:80` are all addresses."""
    if text.isdigit():
        return f"0.0.0.0:{text}"
    host, colon, port = text.rpartition(":")
    if not colon:
        return f"{text}:80"
    return f"{'0.0.0.0' if host in ('', '*') else host}:{port}"
