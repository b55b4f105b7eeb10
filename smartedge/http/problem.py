"""Our own errors as the client sees them: `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import json
import math
from http import HTTPStatus
from typing import Any

from smartedge.balancer.errors import EdgeError

CONTENT_TYPE = "application/problem+json"

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {499: "Client Closed Request"}


def reason(status: int) -> str:
    """Give the reason phrase that belongs to a status code (RFC 9110 section 15)."""
    return _REASONS.get(status, "Unknown")


def body(status: int, title: str, detail: str, request_id: str, **more: Any) -> bytes:
    """Write a problem document; `more` holds its extension members (RFC 9457 section 3.2)."""
    problem = {
        "type": "about:blank",
        "status": status,
        "title": title,
        "detail": detail,
        "request_id": request_id,
        **more,
    }
    return json.dumps(problem, ensure_ascii=False).encode() + b"\n"


def answer(error: EdgeError, request_id: str, trace_id: str | None = None) -> tuple[int, list[tuple[str, str]], bytes]:
    """Turn an error into an answer: status, header fields, body. trace_id: of the trace that the request belongs to, if any."""
    more = {} if trace_id is None else {"trace_id": trace_id}
    document = body(error.status, error.title, error.detail, request_id, **more)
    fields = [
        ("Content-Type", CONTENT_TYPE),
        ("Content-Length", str(len(document))),
        ("Cache-Control", "no-store"),
    ]
    if error.retry_after_s is not None:
        fields.append(("Retry-After", str(max(1, math.ceil(error.retry_after_s)))))
    return error.status, fields, document
