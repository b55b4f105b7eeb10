"""What was decided about requests, as text."""

from __future__ import annotations

from typing import Any

from smartedge.cli.explain_table import explained_text, list_text

RECORD: dict[str, Any] = {
    "request_id": "r/1",
    "at": 0.0,
    "client": "192.0.2.1",
    "why": ["retry"],
    "method": "GET",
    "path": "/shop",
    "status": 200,
    "outcome": "ok",
    "blame": None,
    "error": None,
    "latency_s": 0.0123,
    "duration_s": 0.02,
    "summary": "b1 was picked (not recorded), and failed; then b2 was picked for the retry: least cost 0.012 of 9 candidates",
    "tries_left_out": 3,
    "tries": [
        {"number": 1, "kind": "first", "after_s": 0.0, "backend": "b1", "recorded": False, "outcome": "failed",
         "error": "It closed."},
        {
            "number": 2,
            "kind": "retry",
            "after_s": 0.0051,
            "backend": "b2",
            "recorded": True,
            "outcome": "ok",
            "status": 200,
            "latency_s": 0.0072,
            "candidate_count": 9,
            "candidates": [
                {"id": "b2", "weight": 2, "effective_weight": 1.5, "in_flight": 3, "ewma_s": 0.01, "pace_s": 0.008,
                 "waiting_s": 0.0, "latency_s": 0.01, "cost": 0.0123456, "turns_ratio": 1.0, "picked": True},
                {"id": "b4", "weight": 1, "effective_weight": 1, "in_flight": 0, "ewma_s": 1.5, "pace_s": None,
                 "waiting_s": 2.0, "latency_s": 2.0, "cost": None, "turns_ratio": 0.009, "picked": False},
            ],
            "left_out": [{"id": "b1", "reason": "tried", "for_s": None}, {"id": "b3", "reason": "breaker_open", "for_s": 3.1}],
            "unseen": 2,
        },
        {"number": 3, "kind": "retry", "after_s": None, "backend": None, "recorded": True, "outcome": "no backend"},
    ],
}  # fmt: skip


def test_a_request_is_explained_as_a_sentence_and_tables() -> None:
    lines = explained_text(RECORD).splitlines()
    assert lines[0] == "GET /shop: status 200, ok, latency 12.3 ms, duration 20.0 ms"
    assert lines[1].endswith(" from 192.0.2.1; recorded because: retry")
    assert lines[2] == f"{RECORD['summary']}."
    assert lines[3:] == [
        "",
        "try 1 (first), after 0.0 ms: b1: failed, It closed.",
        "  what it was picked from was not recorded",
        "",
        "try 2 (retry), after 5.1 ms: b2: ok, status 200, latency 7.2 ms",
        "     CANDIDATE  WEIGHT  EFFECTIVE  IN FLIGHT  EWMA        PACE    WAITING     EXPECTED    COST     TURNS",
        "  *  b2         2       1.5        3          10.0 ms     8.0 ms  0.0 ms      10.0 ms     0.01235  100%",
        "     b4         1       1          0          1,500.0 ms  -       2,000.0 ms  2,000.0 ms  -        0.9%",
        "  and 7 more candidates",
        "  left out: b1  tried",
        "  left out: b3  breaker open for 3.1 s, until -",
        "  and 2 more left out",
        "",
        "try 3 (retry), after -: no backend: no backend",
        "",
        "3 more tries between these",
    ]


def test_an_error_is_told_with_who_is_to_blame() -> None:
    assert (
        explained_text({"error": "2 unhealthy\x07", "blame": "edge"}).splitlines()[-1]
        == "error: 2 unhealthy\\u0007 (blame: edge)"
    )


def test_many_requests_are_a_line_each() -> None:
    head, line = list_text({"decisions": [RECORD | {"summary": "b2 was picked"}, "not one"]}).splitlines()
    assert head.split() == ["REQUEST", "AT", "STATUS", "OUTCOME", "DURATION", "BECAUSE", "DECISION"]
    assert line.startswith("r/1 ")
    assert line.endswith("20.0 ms   retry    b2 was picked")


def test_a_request_that_met_no_backend_has_its_error_in_the_list() -> None:
    error = "2 full (2 of 2 in flight); the queue is full"
    assert list_text({"decisions": [RECORD | {"summary": "", "error": error}]}).endswith(error)


def test_where_nothing_is_kept_it_is_said_what_would_be() -> None:
    assert list_text({"decisions": []}).startswith("No request is kept that fits")


def test_where_there_are_routes_they_and_the_service_are_told() -> None:
    lines = explained_text({**RECORD, "route": "shop", "service": "web"}).splitlines()
    assert lines[1].endswith(" from 192.0.2.1, by route shop to web; recorded because: retry")
    lines = explained_text({**RECORD, "route": "moved", "service": None}).splitlines()
    assert lines[1].endswith(" from 192.0.2.1, by route moved; recorded because: retry")
    title, one, other = list_text({"decisions": [{**RECORD, "route": "shop", "service": "web"}, RECORD]}).splitlines()
    assert title.split()[6:] == ["ROUTE", "SERVICE", "DECISION"]
    assert " retry    shop   web      b1 was picked" in one
    assert " retry    -      -        b1 was picked" in other
    assert "ROUTE" not in list_text({"decisions": [RECORD]})
