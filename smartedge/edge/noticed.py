"""What has been noticed by looking, for the Announcer to tell."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from smartedge.observe.events import Level

_NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Noticed(NamedTuple):
    """An event to be; made by who looks, told by `Announcer.tell`. members: what the event says besides."""

    kind: str
    level: Level
    text: str
    service: str | None = None
    backend: str | None = None
    members: Mapping[str, Any] = _NONE
