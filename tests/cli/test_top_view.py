from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from smartedge.cli.top_view import COLUMNS, Line, TopView, cut, rows_of


def backend(name: str, **more: Any) -> dict[str, Any]:
    service, _, id_ = name.partition("/")
    return {
        "service": service,
        "id": id_,
        "url": f"http://{id_}",
        "state": "enabled",
        "health": "healthy",
        "breaker": "closed",
        "in_flight": 0,
        "requests": 0,
        "failed": 0,
        "recent": {"requests_per_s": 1.5, "failed_per_s": 0.5, "share_ratio": 0.25},
    } | more


def status(*backends: dict[str, Any]) -> dict[str, Any]:
    services: dict[str, Any] = {}
    for one in backends:
        services.setdefault(one["service"], {"waiting": 2, "backends": []})["backends"].append(one)
    return {"version": "1.2.3", "generation": 7, "workers": [{"pid": 1}], "uptime_s": 3700.0, "services": services}


def view(*backends: dict[str, Any]) -> TopView:
    document = status(*backends)
    return TopView(rows=rows_of(document), status=document)


def text(lines: Sequence[Line]) -> list[str]:
    return ["".join(piece.text for piece in line).rstrip() for line in lines]


THREE = (backend("web/a", in_flight=3), backend("web/b", in_flight=9, health="unhealthy"), backend("api/c", in_flight=5))


def names(seen: TopView) -> list[str]:
    return [row.name for row in seen.shown()]


def test_rates_are_those_since_the_status_before_else_of_the_last_minute() -> None:
    before, after = status(backend("web/a", requests=100, failed=4)), status(backend("web/a", requests=150, failed=5))
    (row,) = rows_of(after, before, 2.0)
    assert (row.requests_per_s, row.failed_per_s) == (25.0, 0.5)
    (row,) = rows_of(after)
    assert (row.requests_per_s, row.failed_per_s) == (1.5, 0.5)


def test_an_edge_that_began_anew_has_no_negative_rates() -> None:
    (row,) = rows_of(status(backend("web/a", requests=1)), status(backend("web/a", requests=150)), 1.0)
    assert row.requests_per_s == 1.5


def test_the_head_says_what_runs_and_what_it_does() -> None:
    first, second = text(view(*THREE).lines(200, 20))[:2]
    assert first == "SmartEdge 1.2.3, generation 7, 1 worker, up 1 h 1 min"
    assert second == "4.5 requests/s  1.5 failed/s  17 in flight  4 waiting  2 of 3 up"


def test_the_head_says_what_was_refused_before_any_backend_saw_it() -> None:
    document = status(*THREE) | {"totals": {"queue_refused": 1234, "rate_limited": 0}}
    second = text(TopView(rows=rows_of(document), status=document).lines(200, 20))[1]
    assert second.endswith("4 waiting  2 of 3 up  refused 1,234 as no backend was free")


def test_rows_are_by_name_and_other_columns_with_the_largest_first() -> None:
    seen = view(*THREE)
    assert names(seen) == ["api/c", "web/a", "web/b"]
    while COLUMNS[seen.sort].title != "IN FLIGHT":
        seen.press(">")
    assert names(seen) == ["web/b", "api/c", "web/a"]
    seen.press("r")
    assert names(seen) == ["web/a", "api/c", "web/b"]
    seen.press("<")
    assert not seen.turned


def test_a_filter_is_typed_and_taken_back() -> None:
    seen = view(*THREE)
    for key in ("/", "W", "e", "x", "backspace", "enter"):
        seen.press(key)
    assert names(seen) == ["web/a", "web/b"]
    assert "only names with We" in text(seen.lines(200, 20))[-1]
    seen.press("esc")
    assert len(names(seen)) == 3


def test_letters_of_a_filter_are_no_commands() -> None:
    seen = view(*THREE)
    for key in "/qdx":
        assert seen.press(key) is None
    assert (seen.mode, seen.wanted) == ("filter", "qdx")


def test_the_bar_moves_and_stays_on_its_backend_when_the_order_changes() -> None:
    seen = view(*THREE)
    seen.press("down")
    assert seen.chosen == "web/a"
    seen.press("end")
    seen.press("down")
    assert seen.chosen == "web/b"
    seen.press(">")
    row = seen.row()
    assert row is not None
    assert row.name == "web/b"


@pytest.mark.parametrize(("key", "action"), [("d", "drain"), ("e", "enable"), ("x", "disable")])
def test_an_operation_is_asked_for_once_more(key: str, action: str) -> None:
    seen = view(backend("web/10.0.0.1 a"))
    assert seen.press(key) is None
    assert text(seen.lines(200, 20))[-1] == f"{action} web/10.0.0.1 a? y/n"
    asked = seen.press("y")
    assert asked is not None
    assert asked.path == f"/smartedge/services/web/backends/10.0.0.1%20a/{action}"
    assert seen.mode == "table"


def test_whatever_is_not_yes_changes_nothing() -> None:
    seen = view(*THREE)
    seen.press("d")
    assert seen.press("q") is None
    assert (seen.mode, seen.said) == ("table", "nothing was changed")


def test_what_is_bad_is_in_colour() -> None:
    lines = view(*THREE).lines(300, 20)
    styles = {piece.text.strip(): piece.style for line in lines[4:] for piece in line}
    assert styles["unhealthy"] == "bad"
    assert {piece.style for piece in lines[4]} == {"selected"}


def test_the_details_have_every_field_and_the_last_requests() -> None:
    seen = view(backend("web/a", why_not="breaker_open", labels={"rack": "7"}))
    seen.decisions = [{"outcome": "failed", "method": "GET", "path": "/x", "status": 502, "summary": "a refused"}]
    seen.events = [
        {"at": 1750000000.25, "kind": "ejected", "level": "warning", "text": "web/a was ejected: \x1b[2J"},
        {"at": 1750000001.5, "kind": "readmitted", "level": "info", "text": "web/a was readmitted"},
    ]
    seen.press("enter")
    lines = seen.lines(200, 30)
    shown = text(lines)
    told = [line for line in shown if "15:06:4" in line]
    assert told == [
        " 15:06:41  readmitted      web/a was readmitted",
        " 15:06:40  ejected         web/a was ejected: \\u001b[2J",
    ]
    assert {piece.style for line in lines for piece in line if piece.text.startswith(("readmitted", "ejected"))} == {
        "good",
        "warn",
    }
    assert "gets nothing: breaker open" in shown
    assert "          labels  rack: 7" in shown
    assert "   failed  GET /x 502  a refused" in shown
    seen.press("esc")
    assert seen.mode == "table"


@pytest.mark.parametrize(("width", "height"), [(200, 50), (80, 24), (20, 5), (1, 1), (5, 4)])
@pytest.mark.parametrize("mode", ["table", "detail", "help", "filter"])
def test_it_fits_into_any_terminal(width: int, height: int, mode: str) -> None:
    seen = view(*(backend(f"web/b{number:03}") for number in range(500)))
    seen.mode, seen.chosen = mode, "web/b400"
    lines = seen.lines(width, height)
    assert len(lines) <= height
    assert all(sum(len(piece.text) for piece in line) <= width for line in lines)


def test_the_bar_is_in_sight_wherever_it_is() -> None:
    seen = view(*(backend(f"web/b{number:03}") for number in range(500)))
    for chosen in ("web/b000", "web/b250", "web/b499"):
        seen.chosen = chosen
        assert any(piece.style == "selected" and chosen in piece.text for line in seen.lines(200, 24) for piece in line)


def test_an_edge_without_backends_is_shown_and_keys_do_nothing() -> None:
    seen = view()
    for key in ("down", "enter", "d", "end"):
        assert seen.press(key) is None
    assert text(seen.lines(80, 10))[1].endswith("0 of 0 up")


def test_trouble_is_shown_beside_what_was_known_last() -> None:
    seen = view(*THREE)
    seen.trouble = "no balancer answers"
    lines = text(seen.lines(200, 20))
    assert lines[0].endswith("no balancer answers")
    assert any("web/a" in line for line in lines)


def test_a_line_is_cut_in_the_middle_of_a_piece() -> None:
    (piece,) = cut(view(*THREE).lines(200, 3)[0], 5)
    assert piece.text == "Smart"
