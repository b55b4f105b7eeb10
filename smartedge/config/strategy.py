"""The key `strategy`: a built-in name, a class of the user's own by dotted path, or an entry point; and what is wrong with it.

Whoever writes the configuration may have any importable module imported: `strategy` is code, as its file is.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from math import inf
from typing import Any

from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash, Strategy
from smartedge.config.values import escaped, shown

GROUP = "smartedge.strategies"
"""The group of entry points in which packages offer strategies."""

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


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
    wanted: Any = _class(text)
    if not (inspect.isclass(wanted) and callable(getattr(wanted, "pick", None))):
        raise ValueError(f'{shown(text)} must be a class with a method "pick"')
    try:
        made: Any = wanted()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{shown(text)} cannot be made: {_described(error)}") from error
    if inspect.iscoroutinefunction(made.pick):
        raise ValueError(f"{shown(text)} has an async pick; a pick waits for nothing")
    try:
        inspect.signature(made.pick).bind((), 0.0, None, b"")
    except TypeError:
        raise ValueError(f"{shown(text)} must have a method pick(self, candidates, now, rng, key)") from None
    except ValueError:
        pass  # written in C, which need not say
    return made


def _class(text: str) -> object:
    """Find what a text names, and import it."""
    points = {point.name: point for point in entry_points(group=GROUP)}
    if text in points:
        point: EntryPoint = points[text]
    elif _DOTTED.fullmatch(text):
        point = EntryPoint(text, text, GROUP)
        # As under gunicorn: modules beside backends.json are found. Last, so that they shadow nothing.
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
            importlib.invalidate_caches()
    else:
        names = (*STRATEGIES, *sorted(points))
        close = get_close_matches(text, names, n=1)
        meant = f'; did you mean "{close[0]}"?' if close else ""
        choices = ", ".join(f'"{name}"' for name in names)
        raise ValueError(f'must be {choices} or a class such as "package.module:Class", not {shown(text)}{meant}')
    try:
        module = importlib.import_module(point.module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{shown(text)} cannot be imported: {_described(error)}") from error
    found: object = module
    for name in point.attr.split("."):
        found = getattr(found, name, None)
        if found is None:
            raise ValueError(f'{shown(text)} cannot be found: {point.module} has no "{point.attr}"')
    return found


def _described(error: BaseException) -> str:
    """An error in one line, with the line of the user's code that it comes from."""
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({error.filename} line {error.lineno})"
        message = error.msg
    else:
        message = str(error)
        place = error.__traceback__
        while place is not None:
            file = place.tb_frame.f_code.co_filename
            if file != __file__ and not file.startswith("<frozen importlib") and not file.endswith("/importlib/__init__.py"):
                where = f" ({file} line {place.tb_lineno})"
            place = place.tb_next
    return escaped(" ".join(f"{type(error).__name__}: {message}".split()))[:300] + escaped(where)
