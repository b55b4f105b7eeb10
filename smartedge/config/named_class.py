"""A class of the user's own, named in the configuration: by an entry point of its package, or as `package.module:Class`.

Whoever writes the configuration may have any importable module imported: such a name is code, as its file is.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

from smartedge.config.values import escaped, shown

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)


def find_class(text: str, group: str, built_in: Iterable[str]) -> object:
    """Find what a text names, and import it; raises ValueError with what may stand there.

    group: the group of entry points in which packages offer theirs. built_in: the names that need no import.
    """
    points = {point.name: point for point in entry_points(group=group)}
    if text in points:
        point: EntryPoint = points[text]
    elif _DOTTED.fullmatch(text):
        point = EntryPoint(text, text, group)
        # As under gunicorn: modules beside backends.json are found. Last, so that they shadow nothing.
        if (here := os.getcwd()) not in sys.path:
            sys.path.append(here)
            importlib.invalidate_caches()
    else:
        names = (*built_in, *sorted(points))
        close = get_close_matches(text, names, n=1)
        meant = f'; did you mean "{close[0]}"?' if close else ""
        choices = ", ".join(f'"{name}"' for name in names)
        raise ValueError(f'must be {choices} or a class such as "package.module:Class", not {shown(text)}{meant}')
    try:
        module = importlib.import_module(point.module)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{shown(text)} cannot be imported: {described(error)}") from error
    found: object = module
    for name in point.attr.split("."):
        found = getattr(found, name, None)
        if found is None:
            raise ValueError(f'{shown(text)} cannot be found: {point.module} has no "{point.attr}"')
    return found


def described(error: BaseException) -> str:
    """Say an error in one line, with the line of the user's code that it comes from."""
    where = ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({error.filename} line {error.lineno})"
        message = error.msg
    else:
        message = str(error)
        place = error.__traceback__
        while place is not None:
            file = place.tb_frame.f_code.co_filename
            if not file.startswith((os.path.dirname(__file__), "<frozen importlib")) and not file.endswith(
                "/importlib/__init__.py"
            ):
                where = f" ({file} line {place.tb_lineno})"
            place = place.tb_next
    return escaped(" ".join(f"{type(error).__name__}: {message}".split()))[:300] + escaped(where)
