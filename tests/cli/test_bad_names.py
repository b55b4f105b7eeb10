"""Names that are meant to break something: what a configuration accepts, and what becomes of them wherever names are written.

A configuration takes none of them as an id; but a command may talk to an edge of another version, or to one that lies, and
clients choose paths, hosts and user agents.
"""

from __future__ import annotations

import json
import unicodedata

import pytest
from prometheus_client.parser import text_string_to_metric_families

from smartedge.admin.exposition import exposition
from smartedge.admin.readings import BackendReading, Snapshot, WorkerReading, backend_labels
from smartedge.balancer.learned import Learned
from smartedge.cli.cluster_table import cluster_text
from smartedge.cli.events import event_line
from smartedge.cli.explain_table import explained_text, list_text
from smartedge.cli.status_table import status_text
from smartedge.cli.table import table_lines, width_of
from smartedge.cli.top_view import TopView, rows_of
from smartedge.config.model import ConfigError, parse
from smartedge.http import problem

NAMES = {
    "quotes": 'b"1"\'',
    "markup": "<script>alert(1)</script>",
    "right to left": "b\u202egnp.1\u202c",
    "isolates": "b\u2066x\u2069",
    "emoji": "b🚀1",
    "line break": "b\n1",
    "carriage return": "b\rgone",
    "backslash": "b\\n1",
    "terminal's orders": "b\x1b[2J\x1b]0;title\x07",
    "C1 controls": "b\x9b2J",
    "zero": "b\x001",
    "percent and braces": "100%s {0}",
    "too long": "b" * 1000,
}
each_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def assert_a_terminal_obeys_nothing(text: str) -> None:
    """No control characters but line breaks, and none that turn the direction of writing."""
    wrong = {c for c in text if c != "\n" and (unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp"))}
    assert not wrong


@each_name
def test_no_configuration_has_such_an_id_or_service_and_the_refusal_is_harmless(name: str) -> None:
    for document in (
        {"backends": [{"url": "http://localhost:8081", "id": name}]},
        {"services": {name: {"backends": ["http://localhost:8081"]}}, "routes": [{"to": name}]},
        {"backends": [{"url": "http://localhost:8081", "zone": name}]},
    ):
        with pytest.raises(ConfigError) as raised:
            parse(json.dumps(document))
        assert_a_terminal_obeys_nothing(str(raised.value))


@each_name
def test_metrics_escape_it_so_that_it_is_read_back_as_it_was(name: str) -> None:
    backend = BackendReading(backend_labels(name, name), name, 1, 0.0, True, "enabled", "closed", None, Learned().totals(), ())
    snapshot = Snapshot([backend], [], Learned().totals(), 1, [WorkerReading(0, True, 1, 1.0, 0.0)], "0.1.0")
    text = b"".join(exposition(snapshot)[0]).decode()
    if "\r" in name:  # the parser takes it for a line end, Prometheus does not
        assert f'backend="{name}"' in text
        return
    shown = name.replace("\0", "\ufffd")
    families = text_string_to_metric_families(text)
    labels = [sample.labels for one in families for sample in one.samples]
    assert {one["backend"] for one in labels if "backend" in one} == {shown, "none"}
    assert {one["service"] for one in labels if "service" in one} == {shown, "none"}


@each_name
def test_tables_show_it_and_stay_tables(name: str) -> None:
    entry = {
        "service": name,
        "id": name,
        "url": name,
        "state": name,
        "health": name,
        "breaker": name,
        "why_not": name,
        "requests": 1,
        "in_flight": 0,
        "share_ratio": 1.0,
        "last_check": {"detail": name, "ok": False},
    }
    status = {"strategy": name, "services": {name: {"strategy": name, "backends": [entry]}, "b": {"backends": [entry]}}}
    decision = {"request_id": name, "path": name, "method": name, "summary": name, "error": name, "client": name, "why": [name]}
    node = {"node": name, "address": name, "refused": {"generation": 1, "reason": name}}
    event = {"at": 1.75e9, "kind": name, "level": name, "service": name, "backend": name, "text": name}
    view = TopView(rows=rows_of(status), status=status)
    for text in (
        status_text(status),
        explained_text({**decision, "tries": [{"backend": name, "error": name, "outcome": name}]}),
        list_text({"decisions": [decision]}),
        cluster_text({"prefix": name, "nodes": [node], "problem": name}),
        event_line(event),
        "\n".join("".join(piece.text for piece in line) for line in view.lines(4000, 20)),
    ):
        assert_a_terminal_obeys_nothing(text)


@each_name
def test_a_column_behind_it_begins_where_its_title_does(name: str) -> None:
    title, row = table_lines([["NAME", "NEXT"], [name, "x"]])
    assert width_of(title.partition("NEXT")[0]) == width_of(row[: row.rindex("x")])


def test_widths_are_those_of_a_terminal() -> None:
    assert [width_of(text) for text in ("abc", "🚀", "日本", "é", "e\u0301", "")] == [3, 2, 4, 1, 1, 0]


@each_name
def test_a_problem_is_json_of_one_line_whatever_it_names(name: str) -> None:
    body = problem.body(404, "Not found", name, name)
    assert json.loads(body)["detail"] == name
    assert not {c for c in body.decode() if c < " " and c != "\n"}
