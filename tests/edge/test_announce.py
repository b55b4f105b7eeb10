"""What people read when something happens: the console's four lines, and those of the log."""

from __future__ import annotations

import logging

import pytest

from smartedge.balancer.silence import Fallen
from smartedge.config.found import Change
from smartedge.edge import announce
from smartedge.edge.reload import Discovered
from smartedge.edge.reload_report import Applied
from tests.house import backend as make_backend


def applied(**fields: object) -> Applied:
    plain: dict[str, object] = {
        "generation": 2, "changed": True, "etag": "x", "added": (), "removed": (), "changed_backends": (), "settings_changed": (),
        "restart_needed": (), "took_s": 0.0, "persisted": True,
    }  # fmt: skip
    return Applied(**plain | fields)  # type: ignore[arg-type]


def test_a_reload_says_what_changed_on_the_line_after_its_own(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        announce.reloaded(applied(added=("b",), removed=("a",)))
        announce.reloaded(applied(changed=False))
        announce.reloaded(applied(changed=False, certificate_renewed=True))
    assert capsys.readouterr().out == "🔄 Backends atualizados via /api/reload\n"
    assert [record.getMessage() for record in caplog.records] == [
        "reload: generation 2 applied by 1/1 workers in 0 ms; added b; removed a",
        "reload: generation 2 applied by 1/1 workers in 0 ms; certificate renewed",
    ]


def test_an_ejection_has_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    backend = make_backend("b")
    backend.learned.breaker.why = "5 failures in a row"
    announce.breaker_changed(backend, "opened")
    announce.breaker_changed(backend, "closed")
    assert [record.getMessage() for record in caplog.records] == [
        f"backend ejected: b {backend.url} (5 failures in a row)",
        f"backend readmitted: b {backend.url}",
    ]


def test_the_four_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    backend = make_backend("b")
    announce.started(8080)
    announce.health_changed(backend, "up")
    announce.health_changed(backend, "down")
    assert capsys.readouterr().out == f"🚀 SmartEdge iniciado na porta 8080\n✅ {backend.url} OK\n❌ {backend.url} Offline\n"


def test_a_backend_of_a_named_service_is_called_by_both_names(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    backend = make_backend("b", service="web")
    announce.health_changed(backend, "down")
    announce.breaker_changed(backend, "opened")
    assert capsys.readouterr().out == f"❌ {backend.url} (web/b) Offline\n"
    assert [record.getMessage().partition(": ")[2] for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"web/b {backend.url}"
    ]
    assert str(Fallen(backend, "heard")) == f"web/b {backend.url} answers again"


def test_what_is_discovered_is_counted_and_a_few_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smartedge")

    announce.discovered(Discovered(18, [Change("web", ("b3", "b4"), ("b1",), ()), Change("api", tuple("abcdef"), (), ("x",))]))

    assert [record.getMessage() for record in caplog.records] == [
        "generation 18: discovered web +2 -1 (new b3, b4; gone b1); api +6 ~1 (new a, b, c, d and 2 more; changed x)"
    ]
