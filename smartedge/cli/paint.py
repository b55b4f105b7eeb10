"""Colours of what commands print: on a terminal only, and not where NO_COLOR says so (https://no-color.org)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

import click

Paint = Callable[[str, str], str]
"""Gives a text the colour of a style: good, warn, bad, or plain for none."""

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
}
"""How the words of states are painted."""


def unpainted(text: str, _style: str) -> str:
    """Leave a text as it is."""
    return text


def painted(text: str, style: str) -> str:
    """Paint a text; click takes the colour away again where it prints to no terminal."""
    if style not in _COLOURS or os.environ.get("NO_COLOR"):
        return text
    return click.style(text, fg=_COLOURS[style])
