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
from smartedge.discovery.consul import ConsulSource
from smartedge.discovery.dns import DnsSource
from smartedge.discovery.etcd import EtcdSource
from smartedge.discovery.file import FileSource
from smartedge.discovery.own import OwnSource
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
    if isinstance(said, OwnSourceConfig):
        return OwnSource(kind, said.options, said.every_s, said.timeout_s)
    return _KINDS[kind](said, around)


_KINDS: Final[Mapping[str, Callable[[Any, Surroundings], Source]]] = {
    "consul": lambda said, around: ConsulSource(said, around.env),
    "dns": lambda said, around: DnsSource(said, around.resolve_s, around.rng),
    "etcd": lambda said, around: EtcdSource(said, around.env),
    "file": lambda said, around: FileSource(os.path.join(around.folder, said.path)),
}

_MOST_WAIT_S: Final = {"file": 1.0}
"""How long at most a source that fails is left alone, where it costs next to nothing to ask again."""
