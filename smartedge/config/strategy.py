"""The key `strategy`: a built-in name, a class of the user's own by dotted path, or an entry point; and what is wrong with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import inf
from typing import Any

from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash, Strategy
from smartedge.config.named_class import described, find_class
from smartedge.config.values import shown

GROUP = "smartedge.strategies"
"""The group of entry points in which packages offer strategies."""


def checked(text: str) -> str:
    """Give the text back if a strategy can be made of it now; else ValueError with what is wrong and what may stand there."""
    if text not in STRATEGIES:
        _made(text)
    return text


def make(text: str, bounded_load_ratio: float | None, clock: Callable[[], float]) -> Strategy:
    """Make the strategy that `checked` has found right; one of the user's own is guarded. Raises ValueError.

    bounded_load_ratio: of consistent hashing, None for no bound. clock: gives seconds, to time a user's picks by.
    """
    if text == ConsistentHash.name:
        return ConsistentHash(bounded_load_ratio or inf)
    if text in STRATEGIES:
        return STRATEGIES[text]()
    return Guarded(_made(text), text, clock)


def _made(text: str) -> Any:
    """Make an object of a user's class."""
    wanted: Any = find_class(text, GROUP, STRATEGIES)
    if not (inspect.isclass(wanted) and callable(getattr(wanted, "pick", None))):
        raise ValueError(f'{shown(text)} must be a class with a method "pick"')
    try:
        made: Any = wanted()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{shown(text)} cannot be made: {described(error)}") from error
    if inspect.iscoroutinefunction(made.pick):
        raise ValueError(f"{shown(text)} has an async pick; a pick waits for nothing")
    try:
        inspect.signature(made.pick).bind((), 0.0, None, b"")
    except TypeError:
        raise ValueError(f"{shown(text)} must have a method pick(self, candidates, now, rng, key)") from None
    except ValueError:
        pass  # written in C, which need not say
    return made
