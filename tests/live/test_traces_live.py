"""Traces of a running edge, whoever serves: several workers send their spans, and a collector that hangs holds nobody up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, start_edge
from tests.live.peers import Script, answers, closes_without_answer
from tests.live.processes import wait_until
from tests.otlp_receiver import OtlpReceiver, Received

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"


def tracing(receiver: OtlpReceiver) -> dict[str, Any]:
    return {"otlp": receiver.url, "sample_ratio": 0, "trusted": ["127.0.0.0/8"], "timeout_s": 60}


def ask(edge: LiveEdge, request_id: str) -> None:
    headers = f"X-Request-Id: {request_id}\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n"
    assert edge.ask(headers=headers.encode()).status == 200


def spans_of(receiver: OtlpReceiver, request_id: str) -> list[Received]:
    return wait_until(lambda: receiver.of(request_id), 30, f"the spans of {request_id}")


def instances(edge: LiveEdge, receiver: OtlpReceiver) -> dict[str, str]:
    """The workers whose spans have come, by slot; asks once more."""
    ask(edge, "again")
    return {one.resource["smartedge.slot"]: one.resource["service.instance.id"] for one in receiver.spans}


@pytest.mark.parametrize(("kind", "arguments"), [(GEVENT, ("-w", "2", "--preload")), (WORKER, ())])
def test_a_retry_is_seen_in_its_trace_under_gunicorn(tmp_path: Path, kind: str, arguments: tuple[str, ...]) -> None:
    with (
        OtlpReceiver() as receiver,
        Script(closes_without_answer()) as bad,
        Script(answers()) as good,
        start_edge(tmp_path, bad, good, server=kind, arguments=arguments, tracing=tracing(receiver)) as edge,
    ):
        ids = [f"r-{number}" for number in range(4)]
        for request_id in ids:
            ask(edge, request_id)
        own, first, second = next(found for found in (spans_of(receiver, request_id) for request_id in ids) if len(found) == 3)
        assert (own.trace_id, own.parent_id) == (TRACE, SPAN)
        assert {first.parent_id, second.parent_id} == {own.span_id}
        tries = [(one.said["smartedge.try"], one.said["smartedge.outcome"]) for one in (first, second)]
        assert tries == [("first", "failed"), ("retry", "ok")]
        assert f"00-{TRACE}-{second.span_id}-01".encode() in b"".join(good.requests)
        assert edge.log(request_id=own.said["smartedge.request_id"])["trace_id"] == TRACE
        workers = len(edge.status()["workers"])
        wait_until(lambda: len(set(instances(edge, receiver).values())) == workers, 60, "spans from every worker")


def test_no_request_waits_for_a_collector_that_hangs_and_neither_does_the_end(tmp_path: Path) -> None:
    with (
        OtlpReceiver() as receiver,
        OtlpReceiver(hang=True) as hanging,
        Script(answers()) as good,
        start_edge(tmp_path, good, server=OWN, arguments=("--workers", "2"), tracing=tracing(receiver)) as edge,
    ):
        wait_until(lambda: len(set(instances(edge, receiver).values())) == 2, 60, "spans from both workers")
        edge.configure(good, tracing=tracing(hanging))
        began = time.monotonic()
        ask(edge, "r-0")
        wait_until(lambda: hanging.heads, 30, "spans to be posted")
        for number in range(20):
            ask(edge, f"hung-{number}")
        assert edge.process.stop(timeout_s=30) == 0
        assert time.monotonic() - began < 60  # the collector answers when the test ends
        assert "Traceback" not in edge.process.output
