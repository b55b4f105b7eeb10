"""What lies in etcd, as one node sees it: frozen values, made of keys that were read and of events that came since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from smartedge.cluster.errors import Foreign
from smartedge.cluster.keys import Keys, unquoted
from smartedge.cluster.secret_keys import SecretKeys, secrets_of
from smartedge.cluster.stored import Stored, stored_of
from smartedge.cluster.will import will_value
from smartedge.discovery.etcd_client import Event, KeyValue

Part = Literal["config", "nodes", "will", "secrets"]

LONGEST_PROBLEM: Final = 200


@dataclass(frozen=True, slots=True)
class Proposal:
    """A configuration that all nodes are asked about. lease: the proposal's, which the answers take, too, and go with it."""

    text: str
    by: str
    lease: int


@dataclass(frozen=True, slots=True)
class View:
    """What a node knows of its cluster; made by ClusterWatch, kept by CachedCopy, read by anybody.

    revision: etcd's, up to which this is complete. stored: the configuration; None where there is none. cards: of the nodes
    that live, by name. will: what the operator has said, by key. secrets: None where there are none. problems: keys of ours
    that hold what is none of ours, with a sentence; what stood there before is kept.
    """

    revision: int = 0
    stored: Stored | None = None
    cards: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    will: Mapping[str, Any] = field(default_factory=dict)
    secrets: SecretKeys | None = None
    proposals: Mapping[str, Proposal] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        generation = self.stored.generation if self.stored else None
        return f"<View at {self.revision}: generation {generation}, nodes {' '.join(sorted(self.cards)) or 'none'}>"

    def changed_from(self, before: View) -> frozenset[Part]:
        """Which parts of it are others than before."""
        parts: dict[Part, bool] = {
            "config": not (self.stored is before.stored or (self.stored is not None and self.stored.is_same(before.stored))),
            "nodes": self.cards != before.cards,
            "will": self.will != before.will,
            "secrets": _material(self.secrets) != _material(before.secrets),
        }
        return frozenset(part for part, is_other in parts.items() if is_other)


def _material(secrets: SecretKeys | None) -> object:
    return secrets and (secrets.sticky, secrets.tickets)


def view_of(keys: Keys, revision: int, found: Iterable[KeyValue], before: View) -> View:
    """Make a view of all keys as they stand. before: what a damaged key is taken for."""
    empty = View(revision, before.stored, {}, {}, before.secrets)
    pairs = list(found)
    there = {pair.key for pair in pairs}
    gone = [Event("delete", key, b"", revision) for key in (keys.config, keys.secrets) if key not in there]
    events = [Event("put", pair.key, pair.value, pair.mod_revision) for pair in pairs]
    view = view_after(keys, empty, revision, [*gone, *events])
    # What the operator has said of a thing whose key is damaged now is kept, too.
    kept = {key: before.will[key] for key in before.will if keys.will + key in view.problems}
    return replace(view, will={**kept, **view.will}) if kept else view


def view_after(keys: Keys, view: View, revision: int, events: Iterable[Event]) -> View:
    """Make the view of which these events were the last."""
    stored, secrets = view.stored, view.secrets
    cards, will, proposals, problems = dict(view.cards), dict(view.will), dict(view.proposals), dict(view.problems)
    for event in events:
        key, is_put = event.key, event.kind == "put"
        problems.pop(key, None)
        try:
            if key == keys.config:
                stored = stored_of(event.value, key, event.mod_revision) if is_put else None
            elif key == keys.secrets:
                secrets = secrets_of(event.value, key, event.mod_revision) if is_put else None
            elif key.startswith(keys.nodes):
                name = unquoted(key.removeprefix(keys.nodes))
                _put(cards, name, _card(event, name) if is_put else None)
            elif key.startswith(keys.will):
                _put(will, key.removeprefix(keys.will), _will(event) if is_put else None)
            elif key.startswith(keys.proposals):
                _put(proposals, key.removeprefix(keys.proposals), _proposal(event) if is_put else None)
        except Foreign as error:
            problems[key] = str(error)
    return View(revision, stored, cards, will, secrets, proposals, problems)


def _put(into: dict[str, Any], name: str, value: Any) -> None:
    if value is None:
        into.pop(name, None)
    else:
        into[name] = value


def _card(event: Event, name: str) -> dict[str, Any]:
    """Read a card; a key below ours that another cluster or program has made is no node that could be waited for."""
    found = will_value(event.value)
    if not isinstance(found, dict) or found.get("node") != name:
        raise _foreign(event)
    return found


def _will(event: Event) -> Any:
    if (found := will_value(event.value)) is None:
        raise _foreign(event)
    return found


def _proposal(event: Event) -> Proposal:
    try:
        found = json.loads(event.value)
        return Proposal(str(found["text"]), str(found["by"]), int(found["lease"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _foreign(event) from None


def _foreign(event: Event) -> Foreign:
    said = event.value[:40].decode("utf-8", "replace")
    return Foreign(f"the key {event.key} in etcd holds what is none of SmartEdge's: {said!r}"[:LONGEST_PROBLEM])
