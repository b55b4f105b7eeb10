"""Colours of what commands print: on a terminal, and as the variables say that users expect to be minded."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final

import click

Paint = Callable[[str, str], str]
"""Gives a text the colour of a style: good, warn, bad, title, or plain for none."""

_COLOURS: Final = {"good": "green", "warn": "yellow", "bad": "red"}

STYLES: Final = {
    "enabled": "good",
    "healthy": "good",
    "closed": "good",
    "draining": "warn",
    "unknown": "warn",
    "half_open": "warn",
    "disabled": "bad",
    "unhealthy": "bad",
    "open": "bad",
    "ok": "good",
    "taken": "good",
    "abandoned": "warn",
    "failed": "bad",
    "refuses": "bad",
}
"""How the words of states are painted."""


def unpainted(text: str, _style: str) -> str:
    """Leave a text as it is."""
    return text


def painted(text: str, style: str) -> str:
    """Paint a text; click takes the colour away again where it prints to no terminal, unless that is wanted all the same."""
    if wants_colour(os.environ) is False:
        return text
    if style == "title":
        return click.style(text, bold=True)
    return click.style(text, fg=_COLOURS[style]) if style in _COLOURS else text


def wants_colour(env: Mapping[str, str]) -> bool | None:
    """Say whether the environment wants colour: never, always, or None for on a terminal only.

    NO_COLOR (https://no-color.org) comes before FORCE_COLOR (https://force-color.org), as in Python's own programs, and these
    before CLICOLOR_FORCE and CLICOLOR (https://bixense.com/clicolors); "0" means no for all but the first.
    """
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR", "0") not in ("", "0") or env.get("CLICOLOR_FORCE", "0") not in ("", "0"):
        return True
    return False if env.get("CLICOLOR") == "0" or env.get("TERM") == "dumb" else None
