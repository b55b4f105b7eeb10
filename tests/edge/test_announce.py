"""What people read when something happens: the console's four lines, and those of the log."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from smartedge.balancer.health import ProbeResult
from smartedge.balancer.silence import Fallen
from smartedge.config.found import Change
from smartedge.edge import announce
from smartedge.edge.noticed import Noticed
from smartedge.edge.operator_will import WillChange
from smartedge.edge.reload import Discovered
from smartedge.edge.reload_report import Applied
from tests.house import Told
from tests.house import backend as make_backend


def applied(**fields: object) -> Applied:
    plain: dict[str, object] = {
        "config": None, "generation": 2, "changed": True, "etag": "x",
        "added": (), "removed": (), "changed_backends": (), "settings_changed": (),
        "restart_needed": (), "took_s": 0.0, "persisted": True,
    }  # fmt: skip
    return Applied(**plain | fields)  # type: ignore[arg-type]


def test_a_reload_says_what_changed_on_the_line_after_its_own(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    with caplog.at_level(logging.INFO):
        told.announcer.reloaded(applied(added=("b",), removed=("a",)))
        told.announcer.reloaded(applied(changed=False))
        told.announcer.reloaded(applied(changed=False, certificate_renewed=True))
    assert capsys.readouterr().out == "🔄 Backends atualizados via /api/reload\n"
    assert [record.getMessage() for record in caplog.records] == [
        "reload: generation 2 applied by 1/1 workers in 0 ms; added b; removed a",
        "reload: generation 2 applied by 1/1 workers in 0 ms; certificate renewed",
    ]


def test_an_ejection_has_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    backend = make_backend("b")
    backend.learned.breaker.why = "5 failures in a row"
    Told().announcer.breaker_changed(backend, "opened")
    Told().announcer.breaker_changed(backend, "closed")
    assert [record.getMessage() for record in caplog.records] == [
        f"backend ejected: b {backend.url} (5 failures in a row)",
        f"backend readmitted: b {backend.url}",
    ]


def test_the_four_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    backend = make_backend("b")
    announce.started(8080)
    Told().announcer.health_changed(backend, "up")
    Told().announcer.health_changed(backend, "down")
    assert capsys.readouterr().out == f"🚀 SmartEdge iniciado na porta 8080\n✅ {backend.url} OK\n❌ {backend.url} Offline\n"


def test_a_backend_of_a_named_service_is_called_by_both_names(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    backend = make_backend("b", service="web")
    Told().announcer.health_changed(backend, "down")
    Told().announcer.breaker_changed(backend, "opened")
    assert capsys.readouterr().out == f"❌ {backend.url} (web/b) Offline\n"
    assert [record.getMessage().partition(": ")[2] for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"web/b {backend.url}"
    ]
    assert str(Fallen(backend, "heard")) == f"web/b {backend.url} answers again"


def test_what_is_discovered_is_counted_and_a_few_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smartedge")
    told = Told()

    told.announcer.discovered(
        Discovered(18, [Change("web", ("b3", "b4"), ("b1",), ()), Change("api", tuple("abcdef"), (), ("x",))])
    )

    assert [record.getMessage() for record in caplog.records] == [
        "generation 18: discovered web +2 -1 (new b3, b4; gone b1); api +6 ~1 (new a, b, c, d and 2 more; changed x)"
    ]


def test_the_documentation_has_every_kind_of_event() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
    assert [f"| `{kind}` | {says} |" for kind, says in announce.KINDS.items() if f"| `{kind}` | {says} |" not in text] == []


def test_what_happens_to_a_backend_is_an_event_with_its_reason() -> None:
    told, backend = Told(), make_backend("b", service="web", url="http://b:80")
    told.announcer.health_changed(backend, "up")
    backend.learned.keep_probe(1000.0, ProbeResult(False, 500, "status 500", 0.002))
    told.announcer.health_changed(backend, "down")
    backend.learned.breaker.why = "5 failures in a row"
    told.announcer.breaker_changed(backend, "opened")
    told.announcer.breaker_changed(backend, "closed")
    told.announcer.breaker_changed(backend, "observed")
    told.announcer.silence(Fallen(backend, "silent", 3, 1.5))
    told.announcer.silence(Fallen(backend, "heard"))
    told.announcer.silence(Fallen(backend, "observed", 3, 1.5))
    told.announcer.outlier(backend, "latency 0.5 s, 10 times that of the others")
    told.announcer.state_changed("web", "b", "enabled", "draining", "10.1.1.1")
    told.announcer.weight_changed("web", "b", 1, 5, "10.1.1.1")
    assert {(event["service"], event["backend"]) for event in told.all()} == {("web", "b")}
    assert [(event["kind"], event["level"], event["text"]) for event in told.all()] == [
        ("up", "info", "web/b answers its probes"),
        ("down", "warning", "web/b does not answer its probes as it should: GET /health: status 500"),
        ("ejected", "warning", "web/b was ejected: 5 failures in a row"),
        ("readmitted", "info", "web/b was readmitted"),
        ("observed", "warning", "web/b was not ejected, for breakers only observe: 5 failures in a row"),
        ("silent", "warning", "web/b has fallen silent: 3 requests overdue, the oldest for 1.50 s"),
        ("heard", "info", "web/b answers again"),
        ("observed", "warning", "web/b would be called silent: 3 requests overdue, the oldest for 1.50 s"),
        ("outlier", "warning", "web/b would be ejected as an outlier: latency 0.5 s, 10 times that of the others"),
        ("state_changed", "info", "web/b was drained by 10.1.1.1"),
        ("weight_changed", "info", "web/b was given weight 5 by 10.1.1.1, after 1"),
    ]
    assert set(told.kinds()) <= announce.KINDS.keys()


def test_a_reload_is_an_event_that_says_who_asked_which_workers_have_it_and_which_differ() -> None:
    told = Told()
    told.announcer.reloaded(applied(added=("b",), live=2, applied=1, late=((1, 4711),)), by="10.1.1.1")
    told.announcer.reloaded(applied(changed=False))
    told.announcer.reload_refused(ValueError("backends[0].wieght: unknown"), by="SIGHUP")
    reloaded, refused = told.all()
    assert reloaded == {
        "at": 1.75e9,
        "slot": 0,
        "kind": "reloaded",
        "level": "warning",
        "service": None,
        "backend": None,
        "text": "reloaded: generation 2 applied by 1/2 workers in 0 ms; added b; late: slot 1 (process 4711)",
        "by": "10.1.1.1",
        "generation": 2,
        "workers": {"applied": 1, "live": 2, "late": [{"slot": 1, "pid": 4711}]},
        "added": ["b"],
        "removed": [],
        "changed": [],
        "settings": [],
    }
    assert (refused["kind"], refused["level"], refused["by"]) == ("reload_refused", "error", "SIGHUP")
    assert refused["text"] == "reload refused, nothing changed: backends[0].wieght: unknown"


def test_what_the_operator_of_a_cluster_wants_is_told_on_nodes_where_nobody_has_asked_for_it() -> None:
    told = Told()
    told.announcer.state_changed("web", "b", "enabled", "draining", "10.1.1.1")
    told.announcer.edge_drained(True, "10.1.1.1")
    told.wall += 1.0
    told.announcer.will_changed(WillChange("web", "b", "state", "enabled", "draining"))
    told.announcer.drain_will_changed(True)
    assert [event["by"] for event in told.all()] == ["10.1.1.1", "10.1.1.1"]
    told.announcer.will_changed(WillChange("web", "c", "state", "enabled", "draining"))
    told.announcer.will_changed(WillChange("web", "b", "weight", 1, 7))
    told.announcer.drain_will_changed(False)
    told.wall += 60.0
    told.announcer.will_changed(WillChange("web", "b", "state", "enabled", "draining"))
    assert [event["text"] for event in told.all()[2:]] == [
        "web/c was drained by the operator of the cluster",
        "web/b was given weight 7 by the operator of the cluster, after 1",
        "the edge enabled by the operator of the cluster",
        "web/b was drained by the operator of the cluster",
    ]


def test_nodes_that_do_not_have_what_was_reloaded_are_named() -> None:
    told = Told()
    told.announcer.nodes_differ({"generation": 7, "nodes": {"applied": 3, "live": 3}}, "10.1.1.1")
    assert told.all() == []
    nodes = {"applied": 1, "live": 3, "late": ["two"], "refused": [{"node": "three", "reason": "no such file"}]}
    told.announcer.nodes_differ({"generation": 7, "nodes": nodes}, "10.1.1.1")
    (event,) = told.all()
    assert (event["kind"], event["level"], event["nodes"]) == ("nodes_differ", "warning", nodes)
    assert event["text"] == "generation 7 is not in use on all nodes: late: two; cannot use it: three"


def test_what_somebody_has_noticed_is_logged_unless_it_was_already(caplog: pytest.LogCaptureFixture) -> None:
    """A source that failed was told twice, a second apart: discovery/runner.py says it, with what stays in use."""
    told = Told()
    with caplog.at_level(logging.INFO, logger="smartedge"):
        told.announcer.tell(Noticed("panicked", "error", "web panics", "web"))
        told.announcer.tell(Noticed("source_failed", "warning", "web: dns does not say", "web"))
        told.announcer.tell(Noticed("calmed", "info", "web panics no longer", "web"))
    assert [record.getMessage() for record in caplog.records] == ["web panics"]
    assert [event["kind"] for event in told.all()] == ["panicked", "source_failed", "calmed"]
