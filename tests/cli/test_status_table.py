"""The answers of a running balancer, as people read them."""

from __future__ import annotations

import pytest

from smartedge.cli.status_table import reload_text, status_text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ({"generation": 2, "message": "generation 2: added c"}, "generation 2: added c"),
        ({"message": "\x1b[2J"}, "\\u001b[2J"),
        ({"generation": 2}, '{"generation": 2}'),
    ],
)
def test_a_reload_is_told_in_one_line(answer: dict[str, object], text: str) -> None:
    assert reload_text(answer) == text


STATUS = {
    "strategy": "ewma",
    "generation": 4,
    "uptime_s": 7384.2,
    "workers": [{"pid": 4711, "leader": True, "generation": 4}, {"pid": 4712, "leader": False, "generation": 3}],
    "recent": {"window_s": 60.2, "requests_per_s": 12.34, "failed_per_s": 0.1},
    "backends": [
        {
            "id": "a",
            "url": "http://a:1",
            "weight": 2,
            "effective_weight": 0.5,
            "state": "enabled",
            "health": "healthy",
            "breaker": "closed",
            "in_flight": 3,
            "requests": 12345,
            "share_ratio": 0.99,
            "failed": 0,
            "ewma_s": 0.0123,
            "p50_s": 0.01,
            "p99_s": 1.5,
            "recent": {"requests_per_s": 9.255, "failed_per_s": 0.1, "share_ratio": 0.75},
        },
        {
            "id": "longer", "url": "http://b:2", "weight": 1, "state": "draining", "health": "unknown", "breaker": "open",
            "ewma_s": 0.0, "p50_s": None, "why_not": "breaker_open", "ejected_s": 3.04,
        },
        "not a backend",
    ],
}  # fmt: skip


def test_the_status_is_a_table_with_words_to_the_left_and_numbers_to_the_right() -> None:
    assert status_text(STATUS).splitlines() == [
        "strategy ewma, generation 4, 2 workers (4711 leads, 4712 still has generation 3), up 2 h 3 min",
        "in the last 60 s: 12.3 requests/s, 0.1 failed/s",
        "BACKEND  URL              WEIGHT  STATE     HEALTH   BREAKER  IN FLIGHT  REQ/S  SHARE  FAILED/S"
        "     EWMA      P50         P99  REQUESTS  FAILED",
        "a        http://a:1  2 (0.5 now)  enabled   healthy  closed           3    9.3  75.0%       0.1"
        "  12.3 ms  10.0 ms  1,500.0 ms    12,345       0",
        "longer   http://b:2            1  draining  unknown  open             -      -      -         -"
        "        -        -           -         -       -",
        "longer gets nothing: breaker open for 3.0 s more",
    ]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ({"why_not": "draining"}, "draining"),
        ({"why_not": "unprobed", "last_check": None}, "unprobed"),
        ({"why_not": "unhealthy", "last_check": {"ok": False, "detail": "Connection refused"}}, "unhealthy: Connection refused"),
        (
            {"why_not": "unhealthy", "last_check": {"asked": "GET /health", "ok": False, "detail": "connection refused"}},
            "unhealthy: GET /health: connection refused",
        ),
        ({"why_not": "unhealthy", "last_check": {"ok": True, "detail": "status 200"}}, "unhealthy"),
        ({"why_not": "zero_weight"}, "zero weight"),
        ({"why_not": "full", "in_flight": 8, "max_in_flight": 8}, "full: 8 of 8 in flight"),
    ],
)
def test_it_is_told_why_a_backend_gets_nothing(entry: dict[str, object], why: str) -> None:
    assert status_text({"backends": [{"id": "a\x1b"} | entry]}).splitlines()[-1] == f"a\\u001b gets nothing: {why}"


def test_a_lame_duck_says_so() -> None:
    assert "draining: /health answers 503" in status_text({"draining": True})
    assert "draining" not in status_text({"draining": False})


@pytest.mark.parametrize(
    ("seconds", "told"), [(5.9, "5 s"), (65, "1 min 5 s"), (3600, "1 h 0 min"), (7384, "2 h 3 min"), (90061, "1 d 1 h")]
)
def test_how_long_it_is_up_is_told_in_two_units(seconds: float, told: str) -> None:
    assert status_text({"uptime_s": seconds}).splitlines()[0].endswith(f"up {told}")


def test_a_status_without_backends_has_only_its_head() -> None:
    assert len(status_text({}).splitlines()) == 2


def test_several_services_have_a_table_each_of_the_same_widths() -> None:
    web, api = ({**one, "service": name} for one, name in zip(STATUS["backends"][:2], ("web", "api"), strict=True))
    services = {
        "web": {"strategy": "ewma", "status": "ok", "up": 1, "total": 1, "recent": STATUS["recent"], "backends": [web]},
        "api": {"strategy": "random", "status": "no_backend", "up": 0, "total": 1, "backends": [api]},
    }
    lines = status_text({**STATUS, "services": services, "backends": []}).splitlines()
    assert lines[0].startswith("generation 4, 2 workers")
    assert [line for line in lines[2:] if "BACKEND" not in line and "http" not in line] == [
        "",
        "web: strategy ewma, 1 of 1 up, 12.3 requests/s, 0.1 failed/s",
        "",
        "api: strategy random, 0 of 1 up, no backend can serve",
        "api/longer gets nothing: breaker open for 3.0 s more",
    ]
    titles = [line for line in lines if line.startswith("BACKEND")]
    assert titles == [titles[0]] * 2
    assert [line.split()[0] for line in lines if "http" in line] == ["web/a", "api/longer"]


def test_a_single_service_of_another_name_has_a_table_under_its_own_name() -> None:
    backend = {**STATUS["backends"][0], "service": "web"}
    text = status_text({**STATUS, "backends": [], "services": {"web": {"strategy": "ewma", "backends": [backend]}}})
    assert text.splitlines()[3].startswith("web: strategy ewma")


def test_it_is_told_how_the_sources_of_discovery_are() -> None:
    stale = {"source": "dns", "state": "stale", "age_s": 192.4, "errors": 3, "problem": "no\x1b such name", "backends": 2}
    never = {"source": "etcd", "state": "never", "age_s": None, "errors": 1, "problem": None, "backends": 0}

    lines = status_text({"services": {"default": {"discovery": [stale, never, 3]}}}).splitlines()

    assert lines[1:3] == [
        "discovery dns: 2 found, stale, 3 min 12 s old: no\\u001b such name",
        "discovery etcd: 0 found, never",
    ]


def test_a_node_of_a_cluster_says_how_that_stands() -> None:
    cluster = {"prefix": "/prod", "generation": 5, "state": "stale", "age_s": 7.0, "nodes": 3}
    line = "cluster /prod, generation 5, 3 nodes, stale: etcd has not been heard of for 7 s"
    assert line in status_text(STATUS | {"cluster": cluster}).splitlines()
    assert "cluster" not in status_text(STATUS | {"cluster": None})


def test_what_was_refused_before_any_backend_saw_it_is_told() -> None:
    """The rates of the backends know nothing of it: 5 requests a second were shown while 2,000 were refused."""
    refused = {"totals": {"queue_refused": 8777, "rate_limited": 3}}
    assert status_text(STATUS | refused).splitlines()[2] == (
        "refused since the start: 8,777 as no backend was free, 3 beyond the rate limit"
    )
    assert "refused" not in status_text(STATUS | {"totals": {"queue_refused": 0, "rate_limited": 0}})
