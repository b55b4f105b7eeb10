"""Who has applied a generation, by the cards."""

from __future__ import annotations

from typing import Any

from smartedge.cluster.applied import AppliedByNodes, applied_in
from smartedge.cluster.view import View


def card(generation: object, applied: object = 2, live: object = 2, refused: object = None) -> dict[str, Any]:
    return {"generation": generation, "workers": {"applied": applied, "live": live}, "refused": refused}


def test_nodes_and_their_workers_are_counted() -> None:
    cards = {
        "a": card(5),
        "b": card(6),
        "half": card(5, applied=1),
        "late": card(4),
        "refuses": card(4, refused={"generation": 5, "reason": "no such file"}),
        "refused before": card(4, refused={"generation": 4, "reason": "old"}),
        "mended": card(5, refused={"generation": 5, "reason": "for a moment"}),
    }
    assert applied_in(View(cards=cards), 5) == AppliedByNodes(
        live=7,
        applied=3,
        late=("half", "late", "refused before"),
        refused={"refuses": "no such file"},
        workers_live=14,
        workers_applied=7,
    )


def test_nobody_has_applied_anything_where_nobody_is() -> None:
    assert applied_in(View(), 1) == AppliedByNodes(0, 0, (), {}, 0, 0)


def test_a_card_that_says_nonsense_is_late() -> None:
    cards: dict[str, dict[str, Any]] = {
        "a": {},
        "b": card("5"),
        "c": card(True),
        "d": {"generation": 4, "workers": 3, "refused": "x"},
    }
    assert applied_in(View(cards=cards), 5).late == ("a", "b", "c", "d")
