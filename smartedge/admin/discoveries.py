"""What sources have found, as the history of configurations tells it: another generation, but nobody's to go back to."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]


def with_discoveries(configurations: Sequence[Document], events: Iterable[Document]) -> list[Document]:
    """Put what was discovered between two configurations among them, the newest first, as one entry without an id.

    configurations: as `Rollouts.documents` gives them. events: all that are kept, oldest first. What came before the oldest
    configuration that is kept is left out.
    """
    times = sorted(one["at"] for one in configurations)
    runs: dict[int, list[Document]] = {}
    for event in events:
        if event["kind"] == "discovered" and (place := bisect(times, event["at"])):
            runs.setdefault(place, []).append(event)
    return sorted([*configurations, *map(_entry, runs.values())], key=lambda one: one["at"], reverse=True)


def _entry(run: Sequence[Document]) -> Document:
    last, more = run[-1], len(run) - 1
    return {
        "id": None,
        "generation": last["generation"],
        "at": round(last["at"], 3),
        "etag": None,
        "origin": "discovery",
        "by": None,
        "author": None,
        "note": last["text"] + (f", and {more} {'time' if more == 1 else 'times'} before" if more else ""),
        "in_use": False,
        "changes": [],
    }
