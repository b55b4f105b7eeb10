"""Events as lines for people: when, what kind, and the sentence; printed by `events`, shown by `top`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from smartedge.cli.paint import Paint, unpainted
from smartedge.config.values import escaped

GOOD: Final = frozenset({"up", "readmitted", "heard", "calmed", "together", "caught_up", "source_answered", "cluster_followed"})
"""What is good news; the others are coloured by their level."""

_STYLES: Final = {"warning": "warn", "error": "bad"}


def event_line(event: Mapping[str, Any], paint: Paint = unpainted) -> str:
    """Put an event into a line: when, what, and the sentence."""
    if "missed" in event:
        return paint(f"{event['missed']} events are missing here: this terminal was too slow", "warn")
    when, what, sentence = event_parts(event)
    return f"{when}  {paint(what, style_of(event))}  {sentence}"


def event_parts(event: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return when it was, its kind, and its sentence, as a terminal may have them."""
    kind = escaped(str(event.get("kind", "?")))
    return stamp_of(event.get("at")), kind.ljust(14), escaped(str(event.get("text", "")))


def style_of(event: Mapping[str, Any]) -> str:
    """Return the style of an event: whether it is good news, or how bad."""
    return "good" if event.get("kind") in GOOD else _STYLES.get(str(event.get("level")), "plain")


def stamp_of(at: Any) -> str:
    """Write a Unix time as the log does, in UTC."""
    try:
        stamp = datetime.fromtimestamp(float(at), UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return "?".ljust(24)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")
