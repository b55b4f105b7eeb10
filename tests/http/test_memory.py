"""A bounded memory."""

from __future__ import annotations

from smartedge.http.memory import remember


def test_what_is_remembered_is_there_until_so_many_others_have_come() -> None:
    known: dict[str, int] = {}
    for number, name in enumerate("abc"):
        remember(known, name, number, 3)
    assert known == {"a": 0, "b": 1, "c": 2}
    remember(known, "d", 3, 3)
    assert known == {"d": 3}
