"""An OTLP collector of the tests' own: takes what is posted, decodes it with OpenTelemetry's messages, or misbehaves."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse


class Received:
    """One span that has come, in plain values; ids are hexadecimal digits, "" for no parent."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.trace_id, self.span_id, self.parent_id = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.kind = {2: "server", 3: "client"}[span.kind]
        self.name, self.state = span.name, span.trace_state
        self.began_ns, self.ended_ns = span.start_time_unix_nano, span.end_time_unix_nano
        self.error = span.status.message if span.status.code == 2 else None
        self.flags = span.flags
        self.said = _plain(span.attributes)
        self.resource = resource


class OtlpReceiver:
    """The collector, in threads of its own; a context. statuses: of the answers, the last one again and again.

    hang: answer nothing until the end. rejects: spans that it says it has refused. drip: say no end of header fields.
    """

    def __init__(self, *statuses: int, hang: bool = False, drip: bool = False, rejects: int = 0) -> None:
        self.statuses = list(statuses) or [200]
        self.heads: list[dict[str, str]] = []
        self.spans: list[Received] = []
        self.hang, self.drip, self.rejects = hang, drip, rejects
        self.ending = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass  # the other side has left, as some tests have it

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> OtlpReceiver:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.heads.append({name.lower(): value for name, value in handler.headers.items()} | {":path": handler.path})
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if self.hang:
            self.ending.wait(60)
            return
        if self.drip:
            handler.send_response(200)
            while not self.ending.wait(0.05):
                handler.wfile.write(b"X-Drip: 1\r\n")
            return
        if status == 200:
            self._take(gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body)
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = self.rejects
        text = answer.SerializeToString() if status == 200 else b"sorry"
        handler.send_response(status)
        if status == 503:
            handler.send_header("Retry-After", "0")
        handler.send_header("Content-Type", "application/x-protobuf")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def _take(self, body: bytes) -> None:
        for whole in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _plain(whole.resource.attributes)
            self.spans += [Received(span, resource) for scope in whole.scope_spans for span in scope.spans]

    def of(self, request_id: str) -> list[Received]:
        """The spans of one request: the edge's own first, then its tries in their order."""
        found = [span for span in self.spans if span.said["smartedge.request_id"] == request_id]
        return sorted(found, key=lambda span: (span.kind != "server", span.began_ns))


def _plain(attributes: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in attributes}
