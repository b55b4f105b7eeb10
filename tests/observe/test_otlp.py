"""OTLP over HTTP, with a collector that decodes what comes with OpenTelemetry's own messages."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.observe.otlp import OtlpCollector, make_resource
from smartedge.observe.span_sender import SendFailed
from smartedge.observe.spans import SpanRecord
from tests.live.peers import Call, Script, refused_port
from tests.otlp_receiver import OtlpReceiver

OWN = SpanRecord(
    "0af7651916cd43dd8448eb211c80319c",
    "00f067aa0ba902b7",
    "00f067aa0ba902b8",
    "a=1,b=2",
    "server",
    "GET /é",
    1_700_000_000_000_000_001,
    1_700_000_000_500_000_000,
    {"smartedge.request_id": "r-1", "server.port": 80, "smartedge.queue_s": 0.25},
    "no backend",
)
TRY = OWN._replace(span_id="00f067aa0ba902b9", parent_id=OWN.span_id, kind="client", error=None)
ROOT = OWN._replace(parent_id="", state="", error="")


def collector(url: str, **more: Any) -> OtlpCollector:
    usual: dict[str, Any] = {"headers": {}, "timeout_s": 20.0}
    return OtlpCollector(f"{url}/v1/traces", {"service.name": "smartedge"}, "1.2", **(usual | more))


@pytest.mark.parametrize("compress", [False, True])
def test_spans_come_as_they_are(compress: bool) -> None:
    with OtlpReceiver() as receiver:
        own = collector(receiver.url, compress=compress, headers={"X-Scope-OrgID": "team"})
        assert own.post([OWN, TRY, ROOT]) == 0
        first, second, third = receiver.spans
    assert (first.trace_id, first.span_id, first.parent_id, first.state) == OWN[:4]
    assert (first.kind, first.name, first.began_ns, first.ended_ns) == OWN[4:8]
    assert (first.said, first.error, first.resource) == (OWN.attributes, "no backend", {"service.name": "smartedge"})
    assert (second.kind, second.parent_id, second.error) == ("client", OWN.span_id, None)
    assert (third.parent_id, third.state, third.error) == ("", "", "")
    assert [span.flags for span in (first, second, third)] == [0x301, 0x101, 0x101]  # only the first's parent is elsewhere
    (head,) = receiver.heads
    assert (head[":path"], head["content-type"], head["x-scope-orgid"]) == ("/v1/traces", "application/x-protobuf", "team")
    assert head["user-agent"] == "smartedge/1.2"
    assert head.get("content-encoding") == ("gzip" if compress else None)


def test_a_connection_is_kept_for_the_next_batch() -> None:
    with OtlpReceiver() as receiver:
        own = collector(receiver.url)
        for _ in range(3):
            own.post([OWN] * 100)
        assert len(receiver.spans) == 300


def test_what_the_collector_refuses_is_told() -> None:
    with OtlpReceiver(rejects=2) as receiver:
        assert collector(receiver.url).post([OWN] * 3) == 2


@pytest.mark.parametrize(("status", "again"), [(500, False), (400, False), (401, False), (301, False), (429, True), (503, True)])
def test_another_answer_is_a_failure(status: int, again: bool) -> None:
    with OtlpReceiver(status) as receiver, pytest.raises(SendFailed, match=f"it answers {status}") as caught:
        collector(receiver.url).post([OWN])
    assert caught.value.again is again


def test_a_collector_that_says_nothing_is_not_waited_for_longer_than_allowed() -> None:
    with OtlpReceiver(hang=True) as receiver, pytest.raises(SendFailed, match=r"no answer within 0\.1 s") as caught:
        collector(receiver.url, timeout_s=0.1).post([OWN])
    assert caught.value.again


def test_one_that_is_not_there_is_named_in_plain_words() -> None:
    with refused_port() as port, pytest.raises(SendFailed, match=r"^connection refused$") as caught:
        collector(f"http://127.0.0.1:{port}").post([OWN])
    assert caught.value.again


def test_one_that_hangs_up_is_named_in_plain_words() -> None:
    """It was "ConnectionError"."""

    def hang_up(call: Call) -> None:
        call.request()

    with Script(hang_up) as there, pytest.raises(SendFailed, match=r"^the connection was closed without an answer$") as caught:
        collector(there.url).post([OWN])
    assert caught.value.again


def test_authorities_that_cannot_be_read_are_a_failure_like_any_other() -> None:
    with refused_port() as port, pytest.raises(SendFailed):
        collector(f"https://127.0.0.1:{port}", verify="/nowhere.pem").post([OWN])


def test_who_sends_is_said_by_the_configuration_before_opentelemetry_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = {"service.name": "smartedge", "service.instance.id": "w1"}
    plain = make_resource(defaults, {})
    assert {**plain, **defaults} == plain
    assert plain["telemetry.sdk.name"] == "opentelemetry"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-edge")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,service.instance.id=a%20b")
    by_variables = make_resource(defaults, {})
    assert (by_variables["service.name"], by_variables["service.instance.id"]) == ("shop-edge", "a b")
    assert by_variables["deployment.environment.name"] == "prod"
    said = make_resource(defaults, {"service.name": "mine", "deployment.environment.name": "test"})
    assert (said["service.name"], said["deployment.environment.name"], said["service.instance.id"]) == ("mine", "test", "a b")
