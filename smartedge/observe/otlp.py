"""OTLP over HTTP: spans as OpenTelemetry's own messages (protobuf), posted to a collector.

Needs the extra `otel`, and is imported only where a collector is configured. The resource is made by OpenTelemetry's SDK. Its
exporter is not used: it makes a whole batch of messages at once, at 100 µs for each span, while every request waits; here a span
takes a fifth of that, and after a few of them requests go on (docs/tracing.md).
https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from typing import Any, Final

import gevent
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import OTELResourceDetector, Resource

from smartedge.observe.span_sender import SendFailed
from smartedge.observe.spans import SpanRecord, Value
from smartedge.workers.periodic import give_way

PIECE: Final = 32
"""Spans that are made into messages before requests go on."""

MOST_ANSWER_BYTES: Final = 65_536

_AGAIN: Final = frozenset((429, 502, 503, 504))
"""Answers after which the same may be sent again, by the specification."""

_KINDS: Final = {"server": Span.SPAN_KIND_SERVER, "client": Span.SPAN_KIND_CLIENT}
_HAS_REMOTE: Final = 0x100
_REMOTE: Final = 0x200
"""Flags of a span: whether its parent is in another process is known; it is (trace.proto, SpanFlags)."""


class OtlpCollector:
    """A collector that is posted to; made at reload, called by the SpanSender's greenlet.

    url: spans are posted there. resource: who sends them. headers: with each request. verify: a PEM file of authorities, True for
    the system's. cert: PEM files that we show, None for none.
    """

    def __init__(
        self,
        url: str,
        resource: Mapping[str, str],
        version: str,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        compress: bool = False,
        verify: bool | str = True,
        cert: str | tuple[str, str] | None = None,
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._compress = compress
        self._session = requests.Session()
        self._session.verify = verify
        self._session.cert = cert
        self._session.headers = {"User-Agent": f"smartedge/{version}", **headers, "Content-Type": "application/x-protobuf"}
        if compress:
            self._session.headers["Content-Encoding"] = "gzip"
        self._frame = ExportTraceServiceRequest()
        whole = self._frame.resource_spans.add()
        for key, value in resource.items():
            _say(whole.resource.attributes.add(), key, value)
        scope = whole.scope_spans.add().scope
        scope.name, scope.version = "smartedge", version

    def post(self, spans: Sequence[SpanRecord]) -> int:
        """Post spans, and return how many of them the collector has refused; raises SendFailed."""
        message = ExportTraceServiceRequest()
        message.CopyFrom(self._frame)
        room = message.resource_spans[0].scope_spans[0].spans
        for number, span in enumerate(spans, 1):
            _fill(room.add(), span)
            if number % PIECE == 0:
                give_way()
        data = message.SerializeToString()
        late = SendFailed(f"no answer within {self._timeout_s:g} s", again=True)
        try:
            with gevent.Timeout(self._timeout_s, late):
                return self._post(gzip.compress(data, 1) if self._compress else data)
        except requests.Timeout:
            raise late from None
        except OSError as error:  # requests' own among them
            raise SendFailed(_cause(error), again=isinstance(error, requests.ConnectionError)) from None

    def _post(self, data: bytes) -> int:
        with self._session.post(self._url, data=data, timeout=self._timeout_s, allow_redirects=False, stream=True) as answer:
            body: bytes = answer.raw.read(MOST_ANSWER_BYTES, decode_content=True)
            if answer.status_code != 200:
                said = answer.headers.get("Retry-After", "")
                after_s = min(float(said), 60.0) if said.isdecimal() else 0.0
                raise SendFailed(f"it answers {answer.status_code}", again=answer.status_code in _AGAIN, after_s=after_s)
        try:
            return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)
        except Exception:  # protobuf's DecodeError, whose place differs between versions: it said 200, that will do
            return 0


def make_resource(defaults: Mapping[str, str], said: Mapping[str, str]) -> dict[str, str]:
    """Say who sends spans: what is `said`, else by OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, else the defaults."""
    whole = Resource.create(dict(defaults)).merge(OTELResourceDetector().detect()).merge(Resource(dict(said)))
    return {key: str(value) for key, value in whole.attributes.items()}


def _fill(message: Any, span: SpanRecord) -> None:
    message.trace_id, message.span_id = bytes.fromhex(span.trace_id), bytes.fromhex(span.span_id)
    message.flags = 1 | _HAS_REMOTE
    if span.parent_id:
        message.parent_span_id = bytes.fromhex(span.parent_id)
        if span.kind == "server":
            message.flags |= _REMOTE
    if span.state:
        message.trace_state = span.state
    message.kind, message.name = _KINDS[span.kind], span.name
    message.start_time_unix_nano, message.end_time_unix_nano = span.began_ns, span.ended_ns
    attributes = message.attributes
    for key, value in span.attributes.items():
        _say(attributes.add(), key, value)
    if span.error is not None:
        message.status.code, message.status.message = Status.STATUS_CODE_ERROR, span.error


def _say(pair: KeyValue, key: str, value: Value) -> None:
    pair.key = key
    if isinstance(value, str):
        pair.value.string_value = value
    elif isinstance(value, float):
        pair.value.double_value = value
    else:
        pair.value.int_value = value


def _cause(error: BaseException) -> str:
    """Say in few words why there was no answer: the words of the system's error at the bottom."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.strerror:
            return found.strerror[:1].lower() + found.strerror[1:]
        if isinstance(found, ConnectionError):  # RemoteDisconnected
            return "the connection was closed without an answer"
        inner = [one for one in (*found.args, getattr(found, "reason", None)) if isinstance(one, BaseException)]
        found = inner[0] if inner else found.__cause__ or found.__context__
    return type(error).__name__
