"""The kinds of sources there are, and how one is made of what the configuration says."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Any, Final, NamedTuple

from smartedge.config.discover import DiscoverConfig, OwnSourceConfig, SourceConfig
from smartedge.discovery.backoff import MOST_S
from smartedge.discovery.runner import SourceOptions
from smartedge.discovery.source import Source


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What sources are given from outside; made by the edge, and by the command `discover`.

    folder: of the configuration file, which other files are named from. resolve_s: how often the system's resolver is asked.
    env: the variables, for tokens and passwords. rng: where chance comes from.
    """

    folder: str
    resolve_s: float
    env: Mapping[str, str]
    rng: Random


class MadeSource(NamedTuple):
    """One source of a service, for a `SourceRunner`. make: gives it, always the same one: it remembers. said: its section."""

    kind: str
    make: Callable[[], Source]
    options: SourceOptions
    said: SourceConfig


def make_sources(discover: DiscoverConfig, around: Surroundings) -> Iterator[MadeSource]:
    """Give the sources that a service's `discover` names; nothing is asked, read or imported yet."""
    for kind, said in discover.sources.items():
        options = SourceOptions(said.allow_empty, said.entry_defaults, _MOST_WAIT_S.get(kind, MOST_S))
        yield MadeSource(kind, cache(partial(_make, kind, said, around)), options, said)


def _make(kind: str, said: Any, around: Surroundings) -> Source:
    """Make a source. Its module is imported now: an edge without discovery does without their memory."""
    if isinstance(said, OwnSourceConfig):
        from smartedge.discovery.own import OwnSource

        return OwnSource(kind, said.options, said.every_s, said.timeout_s)
    return _KINDS[kind](said, around)


def _consul(said: Any, around: Surroundings) -> Source:
    from smartedge.discovery.consul import ConsulSource

    return ConsulSource(said, around.env)


def _dns(said: Any, around: Surroundings) -> Source:
    from smartedge.discovery.dns import DnsSource

    return DnsSource(said, around.resolve_s, around.rng)


def _etcd(said: Any, around: Surroundings) -> Source:
    from smartedge.discovery.etcd import EtcdSource

    return EtcdSource(said, around.env)


def _file(said: Any, around: Surroundings) -> Source:
    from smartedge.discovery.file import FileSource

    return FileSource(os.path.join(around.folder, said.path))


_KINDS: Final[Mapping[str, Callable[[Any, Surroundings], Source]]] = {
    "consul": _consul,
    "dns": _dns,
    "etcd": _etcd,
    "file": _file,
}

_MOST_WAIT_S: Final = {"file": 1.0}
"""How long at most a source that fails is left alone, where it costs next to nothing to ask again."""
