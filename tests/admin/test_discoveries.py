"""What sources have found, among the configurations of before."""

from __future__ import annotations

from typing import Any

from smartedge.admin.discoveries import with_discoveries


def configuration(number: int, at: float) -> dict[str, Any]:
    return {"id": number, "at": at, "origin": "api"}


def found(at: float, generation: int, text: str = "discovered web +1") -> dict[str, Any]:
    return {"at": at, "kind": "discovered", "generation": generation, "text": text}


def told(entries: Any) -> list[Any]:
    return [(one["id"] or one["note"], one["at"]) for one in entries]


def test_what_came_between_two_configurations_is_one_entry_between_them() -> None:
    events = [found(3, 2), found(4, 3, "discovered web -1"), {"at": 5, "kind": "reloaded"}, found(12, 5)]
    entries = with_discoveries([configuration(2, 10), configuration(1, 1)], events)
    assert told(entries) == [
        ("discovered web +1", 12),
        (2, 10),
        ("discovered web -1, and 1 time before", 4),
        (1, 1),
    ]
    assert [(one["origin"], one["generation"]) for one in entries if one["id"] is None] == [("discovery", 5), ("discovery", 3)]


def test_what_is_older_than_what_is_kept_is_left_out_and_without_a_source_nothing_is_added() -> None:
    kept = [configuration(9, 100)]
    assert with_discoveries(kept, [found(3, 2)]) == kept
    assert with_discoveries(kept, []) == kept
