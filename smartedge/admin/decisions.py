"""The pages that say why: what was decided about the last requests, and about one of them in full."""

from __future__ import annotations

from flask import Response, request

from smartedge.admin.named import refuse_ambiguous
from smartedge.admin.page import READ, Page, answer
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.edge.edge import Edge
from smartedge.workers.ring import RECORDS

USUAL_LIMIT = 100
OUTCOMES = ("ok", "failed", "abandoned")
LISTED = (
    "request_id",
    "trace_id",
    "at",
    "slot",
    "why",
    "method",
    "path",
    "route",
    "service",
    "status",
    "outcome",
    "try_count",
    "latency_s",
    "duration_s",
    "summary",
)
"""What the list shows of a request; its own page shows all."""


class UnknownDecision(EdgeError):
    """Nothing is kept of that request."""

    status = 404
    title = "Unknown request"
    blame = "client"


def decision_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages below /smartedge/decisions."""

    def decisions() -> Response:
        backend, outcome = request.args.get("backend"), request.args.get("outcome")
        if backend is not None:
            refuse_ambiguous(edge, backend)
        if outcome is not None and outcome not in OUTCOMES:
            raise ClientError(f"outcome must be one of {', '.join(OUTCOMES)}.")
        limit = _limit(request.args.get("limit", str(USUAL_LIMIT)))
        found = [
            {name: document.get(name) for name in LISTED[:4]}
            | {"backends": [one["backend"] for one in document["tries"]]}
            | {name: document.get(name) for name in LISTED[4:]}
            for document in edge.decisions.newest()
            if (outcome is None or document["outcome"] == outcome)
            and (backend is None or any(_is_of(one["backend"], document.get("service"), backend) for one in document["tries"]))
        ]
        ratio = edge.config.explain.sample_ratio
        return answer(200, {"sample_ratio": ratio, "found": len(found), "decisions": found[:limit]})

    def decision(request_id: str) -> Response:
        document = edge.decisions.find(request_id)
        if document is None:
            raise UnknownDecision(
                "Nothing is kept of that request: only the last 1,000 are that were sampled (explain.sample_ratio), "
                "tried again, hedged or failed, or that asked to be explained (X-SmartEdge-Explain: 1)."
            )
        return answer(200, document)

    return (
        Page("/smartedge/decisions", READ, False, decisions),
        Page("/smartedge/decisions/<path:request_id>", READ, False, decision),
    )


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= RECORDS:
        raise ClientError(f"limit must be a whole number from 1 to {RECORDS}.")
    return int(text)


def _is_of(tried: str | None, service: str | None, wanted: str) -> bool:
    """Whether a try of a request to this service went to the backend of that name, or to one address of it (`b1/10.0.0.5`)."""
    wanted = wanted.removeprefix(f"{service or DEFAULT_SERVICE}/")
    return tried is not None and (tried == wanted or tried.startswith(f"{wanted}/"))
