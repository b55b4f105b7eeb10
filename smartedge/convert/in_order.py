"""Rules of which the first that fits counts, as in HAProxy, made into routes, of which the narrowest does.

Where a later rule would win here over an earlier one, a route is added for the requests that both take, which does what the
earlier rule says. So a rule that refuses is not walked around by a route that is narrower.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smartedge.convert.conditions import Where, covers, goes_first, meet, written
from smartedge.convert.draft import Document
from smartedge.convert.words import NotReadable

Rules = list[tuple[Where, Document]]
"""Conditions, and what is done with a request that fits: the other keys of a route. The first that fits counts."""

Term = tuple[list[Where], list[Where]]
"""A request fits if one of the first holds, and none of the second."""

MOST: Final = 5000
"""Routes of one front; beyond it a file is refused, for nobody could read the result."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rule:
    place: int
    where: Where
    what: Document


class _ByHost:
    """Rules by the hosts that they ask for, so that of a thousand hosts not each is compared with each."""

    def __init__(self) -> None:
        self._exact: dict[str, list[_Rule]] = {}
        self._others: list[_Rule] = []

    def add(self, rule: _Rule) -> None:
        for place in self._places(rule.where):
            place.append(rule)

    def remove(self, rule: _Rule) -> None:
        for place in self._places(rule.where):
            place.remove(rule)

    def near(self, where: Where) -> list[_Rule]:
        """Give the rules that may take a request that fits a condition, and others."""
        hosts = _exact_hosts(where)
        found = [self._exact.get(host, ()) for host in hosts] if hosts else self._exact.values()
        return list(dict.fromkeys([*self._others, *(rule for rules in found for rule in rules)]))

    def _places(self, where: Where) -> list[list[_Rule]]:
        return [self._exact.setdefault(host, []) for host in _exact_hosts(where)] or [self._others]


def _exact_hosts(where: Where) -> list[str]:
    hosts: list[str] = where.get("host", [])
    return [] if any(host.startswith("*.") for host in hosts) else hosts


def narrowed(where: Where, rules: Rules) -> Rules:
    """Give the rules for those requests alone that fit a condition, too."""
    return [(both, what) for asked, what in rules if (both := meet(where, asked)) is not None]


def tidy(rules: Rules) -> Rules:
    """Leave out the rules that no request comes to. Raises NotReadable for too many."""
    kept: Rules = []
    seen = _ByHost()
    for asked, what in rules:
        where = meet(asked, asked)  # without what says nothing
        if where is not None and not any(covers(before.where, where) for before in seen.near(where)):
            kept.append((where, what))
            seen.add(_Rule(0, where, what))
    if len(kept) > MOST:
        raise _too_many()
    return kept


def _too_many() -> NotReadable:
    return NotReadable(f"its rules have more combinations than can be written as routes ({MOST})")


def branch(found: list[Term], then: Rules, otherwise: Rules) -> Rules:
    """Do one thing with what fits, and another with the rest; both for whatever comes."""
    for holds, never in reversed(found):
        head: Rules = []
        for where in holds:
            for not_ in never:
                if (both := meet(where, not_)) is not None:
                    head += narrowed(both, otherwise)
            head += narrowed(where, then)
        otherwise = tidy(head + otherwise) if never or len(then) > 1 else head + otherwise
    return otherwise


def in_order(rules: Rules) -> list[Document]:
    """Write rules as routes. Raises NotReadable for too many."""
    known: dict[str, _Rule] = {}
    near = _ByHost()
    todo: deque[_Rule] = deque()
    for place, (where, what) in enumerate(tidy(rules)):
        one = known[_key(where)] = _Rule(place, where, what)
        near.add(one)
        todo.append(one)
    while todo:
        one = todo.popleft()
        for other in near.near(one.where):
            first, second = (one, other) if one.place < other.place else (other, one)
            if first.place == second.place or first.what == second.what or not goes_first(second.where, first.where):
                continue
            both = meet(first.where, second.where)
            if both is None:
                continue
            same = known.get(_key(both))
            if same is not None and same.place <= first.place:
                continue
            if same is not None:
                near.remove(same)
            more = known[_key(both)] = _Rule(first.place, both, first.what)
            near.add(more)
            todo.append(more)
            if len(known) > MOST:
                raise _too_many()
    found = sorted(known.values(), key=lambda one: one.place)
    for one in [each for each in found if _is_hidden(each, near.near(each.where))]:
        near.remove(one)
        found.remove(one)
    for one in reversed(found[:-1]):  # what was added for the sake of others that went themselves
        if _does_nothing(one, near.near(one.where)):
            near.remove(one)
            found.remove(one)
    return [written(one.where) | one.what for one in found]


def _is_hidden(one: _Rule, rules: Sequence[_Rule]) -> bool:
    return any(other.place < one.place and covers(other.where, one.where) for other in rules)


def _does_nothing(one: _Rule, rules: Sequence[_Rule]) -> bool:
    """Whether its requests go the same way without it: to a wider rule that does the same, which no other wins over there."""
    rivals = [
        other
        for other in rules
        if other.what != one.what
        and meet(one.where, other.where) is not None
        and (other.place > one.place or goes_first(one.where, other.where))
    ]
    return any(
        wider is not one
        and wider.what == one.what
        and wider.place >= one.place
        and covers(wider.where, one.where)
        and not any(_wins(rival, wider) for rival in rivals)
        for wider in rules
    )


def _wins(one: _Rule, other: _Rule) -> bool:
    """Whether a request that both take may go to the first, by what it asks, or else by its place in the file."""
    return goes_first(one.where, other.where) or (one.place < other.place and not goes_first(other.where, one.where))


def _key(where: Where) -> str:
    return json.dumps(where, sort_keys=True)
