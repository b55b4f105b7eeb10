"""Where each effective value of a configuration comes from: a flag, a variable, the file, or the default; secrets are masked.

What a service does not say is as it is at the top (config/services.py): such a value comes from the file, at its place there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from smartedge.config.model import Config
from smartedge.config.problems import Step, decode, path_text
from smartedge.config.sources import Overlay

MASK = "***"
_SECRET = re.compile(r"(?i)(authorization|cookie|token|secret|passw|api[-_]?key|credential|private)")
_PLACE = re.compile(r"(?i)(_file|_dir|_name|_s|_bytes)$")
"""Such a key names where a secret is, or how long something may take; it holds none."""

DEFAULT = "default"


class OriginValue(NamedTuple):
    """One value. path: as errors write it. origin: `--flag`, `SMARTEDGE_X`, the file with the place in it, or `default`."""

    path: str
    value: object
    origin: str


def masked(document: Any, key: str = "", within: str = "") -> Any:
    """Return a copy of JSON data in which the values of secrets are `***`: those whose key says so.

    key: that the data is the value of; within: that of the object around it.
    """
    if isinstance(document, Mapping):
        return {name: masked(value, str(name), key) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [masked(value, key, within) for value in document]
    if isinstance(document, str) and document and _is_secret(key, within):
        return MASK
    return document


def _is_secret(key: str, within: str) -> bool:
    if key == "cookie" and "header" not in within:
        return False  # the name of one
    return bool(_SECRET.search(key)) and not _PLACE.search(key)


def effective(config: Config) -> dict[str, Any]:
    """Return every key of a configuration with its value, secrets masked."""
    document: dict[str, Any] = masked(json.loads(config.to_json()))
    return document


def origins(config: Config, text: bytes | None, overlay: Overlay, file: str) -> Iterator[OriginValue]:
    """Give every effective value with its origin, in the order of their paths.

    text: of the file, None for none. overlay: variables and flags. file: what the file is called.
    """
    written, _ = decode(text, file) if text is not None else ({}, [])
    for steps, value in _leaves(effective(config), ()):
        yield OriginValue(path_text(steps), value, _origin(steps, written, overlay, file))


def _leaves(document: object, steps: tuple[Step, ...]) -> Iterator[tuple[tuple[Step, ...], object]]:
    if isinstance(document, Mapping) and document:
        for key in sorted(document):
            yield from _leaves(document[key], (*steps, key))
    elif isinstance(document, list) and document:
        for index, value in enumerate(document):
            yield from _leaves(value, (*steps, index))
    else:
        yield steps, document


def _origin(steps: tuple[Step, ...], written: object, overlay: Overlay, file: str) -> str:
    if overlay.hides(steps[0]):
        return overlay.where(steps[:1])
    if _is_said(written, steps):
        return file
    if steps[0] == "services" and len(steps) > 2 and _is_said(written, steps[2:]):
        return f"{file} ({path_text(steps[2:])})"
    return DEFAULT


def _is_said(written: object, steps: tuple[Step, ...]) -> bool:
    """Whether a text says a value: itself, or something short that it was made of."""
    at = written
    for step in steps:
        if isinstance(at, Mapping):
            if step not in at:
                return False
            at = at[step]
        elif isinstance(at, list):
            if not isinstance(step, int) or step >= len(at):
                return False
            at = at[step]
        else:
            return at is not None
    return True
