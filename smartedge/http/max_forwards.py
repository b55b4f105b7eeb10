"""`Max-Forwards` in TRACE and OPTIONS: how many proxies a request may still pass (RFC 9110 section 7.6.2)."""

from __future__ import annotations

import re
from typing import Final

from smartedge.http.own_answer import OwnAnswer
from smartedge.http.request import Request

LIMITED: Final = frozenset((b"TRACE", b"OPTIONS"))
"""The methods in which the field means something; in others it goes on as it came."""

_MAX_FORWARDS: Final = re.compile(rb"^(max-forwards:)[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
_MOST: Final = 1_000_000
_SECRET: Final = re.compile(
    rb"^(?:authorization|proxy-authorization|cookie|x-smartedge-explain):[^\n]*\n", re.IGNORECASE | re.MULTILINE
)


def count_hop(request: Request) -> OwnAnswer | None:
    """Count this hop, and give None; or the edge's own answer (status, fields, body) when the request may go no further."""
    found = _MAX_FORWARDS.search(request.fields.block)
    if found is None:
        return None
    left = min(int(found[2][:20]), _MOST)
    if left == 0:
        return _answer(request)
    block = _MAX_FORWARDS.sub(lambda line: b"%b %d\r\n" % (line[1], left - 1), request.fields.block)
    request.fields = request.fields.with_block(block)
    return None


def _answer(request: Request) -> OwnAnswer:
    """Answer as the last recipient: TRACE gets back what arrived, without what is nobody else's business (section 9.3.8)."""
    if request.method == b"OPTIONS":
        return 200, [("Content-Length", "0")], b""
    line = b"TRACE %b %b\r\n" % (request.target, request.protocol.encode())
    body = line + _SECRET.sub(b"", request.block) + b"\r\n"
    return 200, [("Content-Type", "message/http"), ("Content-Length", str(len(body)))], body
