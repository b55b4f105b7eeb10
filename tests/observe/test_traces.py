"""An edge whose traces are recorded: spans come to a collector, another one after a reload, and nobody waits for a bad one."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.app import SmartEdge, create_app
from smartedge.balancer.cells import SPANS_LOST, SPANS_SENT
from smartedge.balancer.learned import Learned
from smartedge.config.model import parse
from smartedge.observe.span_sender import SpanSender
from smartedge.observe.traces import Traces
from tests.fakes import local_client
from tests.live.peers import Script, answers, refused_port
from tests.otlp_receiver import OtlpReceiver

PARENT = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"


@pytest.fixture
def backend() -> Iterator[Script]:
    with Script(answers()) as script:
        yield script


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: Script) -> SmartEdge:
    """An edge that takes no part in traces yet."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    return create_app(parse(json.dumps({"backends": [backend.url]})))


def trace_with(app: SmartEdge, backend: Script, tracing: Any) -> Any:
    body = json.dumps({"backends": [backend.url], "tracing": tracing})
    return local_client(app).post("/api/reload", data=body, content_type="application/json")


def ask(app: SmartEdge, request_id: str, **headers: str) -> None:
    assert local_client(app).get("/shop", headers={"X-Request-Id": request_id} | headers, buffered=True).status_code == 200


def test_spans_come_to_the_collector_of_the_configuration_in_use(own: SmartEdge, backend: Script) -> None:
    with OtlpReceiver() as first, OtlpReceiver() as second:
        ask(own, "r-0", traceparent=PARENT)
        assert trace_with(own, backend, {"otlp": first.url, "sample_ratio": 1, "service_name": "shop"}).status_code == 200
        ask(own, "r-1", traceparent=PARENT)
        ask(own, "r-2")
        assert trace_with(own, backend, {"otlp": f"{second.url}/v1/traces", "sample_ratio": 0}).status_code == 200
        ask(own, "r-3")
        ask(own, "r-4", traceparent=PARENT)
        own.edge.stop()
        assert (first.of("r-0"), first.of("r-3"), second.of("r-3"), second.of("r-2")) == ([], [], [], [])
        server, client = first.of("r-1")
        assert (server.kind, server.trace_id, server.parent_id) == ("server", PARENT[3:35], PARENT[36:52])
        assert (client.kind, client.parent_id) == ("client", server.span_id)
        sent = {
            line.split(b": ")[1]
            for request in backend.requests
            for line in request.split(b"\r\n")
            if b"traceparent" in line.lower()
        }
        assert f"00-{server.trace_id}-{client.span_id}-01".encode() in sent
        begun, _ = first.of("r-2")
        assert begun.parent_id == ""
        assert begun.resource["service.name"] == "shop"
        assert begun.resource["smartedge.slot"] == "0"
        assert len(second.of("r-4")) == 2
        assert second.of("r-4")[0].resource["service.name"] == "smartedge"
        instances = {span.resource["service.instance.id"] for span in first.spans + second.spans}
        assert len(instances) == 1
    assert own.edge.edge_row.cells[SPANS_SENT] == 6
    assert own.edge.edge_row.cells[SPANS_LOST] == 0


def test_a_bad_collector_loses_spans_and_nothing_else(own: SmartEdge, backend: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="smartedge")
    with refused_port() as port:
        assert trace_with(own, backend, {"otlp": f"http://127.0.0.1:{port}", "sample_ratio": 1, "queue": 4}).status_code == 200
        for number in range(5):
            ask(own, f"r-{number}")
        own.edge.stop()
    assert [own.edge.edge_row.cells[cell] for cell in (SPANS_SENT, SPANS_LOST)] == [0, 10]
    told = [record.getMessage() for record in caplog.records if "spans" in record.getMessage()]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("tracing", "path", "words"),
    [
        ({"otlp": "collector:4318"}, "tracing.otlp", "http://"),
        ({"sample_ratio": 2}, "tracing.sample_ratio", "at most 1"),
        ({"ca_file": "/nowhere.pem"}, "tracing.ca_file", "no file"),
    ],
)
def test_a_reload_that_asks_for_what_is_not_there_is_refused(
    own: SmartEdge, backend: Script, tracing: Any, path: str, words: str
) -> None:
    assert trace_with(own, backend, tracing).status_code == 422
    (problem,) = trace_with(own, backend, tracing).get_json()["errors"]
    assert (problem["path"], words in problem["detail"]) == (path, True)
    assert own.edge.setup.tracer is None
    own.edge.stop()


def test_a_reload_that_changes_only_what_is_sampled_goes_on_with_its_connection(own: SmartEdge, backend: Script) -> None:
    with OtlpReceiver() as receiver:
        assert trace_with(own, backend, {"otlp": receiver.url, "sample_ratio": 0}).status_code == 200
        sender = own.edge.setup.spans
        assert trace_with(own, backend, {"otlp": receiver.url, "sample_ratio": 1, "others_per_s": 0}).status_code == 200
        assert sender is not None
        assert own.edge.setup.spans is sender
        assert trace_with(own, backend, {"otlp": receiver.url, "timeout_s": 1}).status_code == 200
        assert own.edge.setup.spans is not sender
        assert trace_with(own, backend, None).status_code == 200
        assert own.edge.setup.spans is None
        own.edge.stop()


def test_what_is_counted_is_counted_once_also_of_a_collector_that_is_gone() -> None:
    row = Learned()
    traces = Traces(lambda request: request.peer)
    first, second = (SpanSender("http://c", lambda _: 0, 10) for _ in range(2))
    traces.send_to(first)
    first.sent, first.lost = 3, 1
    traces.report_trouble(row)
    traces.send_to(second)
    second.sent = 4
    traces._end(first)
    for _ in range(3):
        traces.report_trouble(row)
    assert [row.cells[cell] for cell in (SPANS_SENT, SPANS_LOST)] == [7, 1]
    traces.close(row)
