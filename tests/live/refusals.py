"""What the answer to a refused request looks like."""

from __future__ import annotations

import json

from tests.live.edges import LiveEdge
from tests.live.peers import parse_answers


def assert_refused(edge: LiveEdge, raw: bytes, status: int = 400) -> None:
    """The one answer is a problem document with this status, and then the connection ends."""
    received = edge.raw(raw)
    (answer,) = parse_answers(received, b"GET")
    assert answer.status == status
    assert answer.get(b"connection") == b"close"
    assert answer.get(b"content-type") == b"application/problem+json"
    problem = json.loads(answer.body)
    assert problem["status"] == status
    assert edge.log(request_id=problem["request_id"])["status"] == status
