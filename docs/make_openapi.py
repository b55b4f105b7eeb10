"""Writes docs/openapi.json, the OpenAPI 3.1 description of the admin pages: python docs/make_openapi.py (--check compares).

The table is written by hand; tests/admin/test_openapi.py compares it with the routes, and asks each page all sorts of things.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "openapi.json"


class Operation(NamedTuple):
    """One method of one path. answers: the statuses that it may have besides those that all pages have. body: a schema's name.

    query: names of parameters, each with its schema. members: what an answer of 200 always has. media: of the answer.
    """

    method: str
    path: str
    summary: str
    members: tuple[str, ...] = ()
    body: str | None = None
    query: tuple[tuple[str, dict[str, Any]], ...] = ()
    answers: tuple[int, ...] = ()
    media: str = "application/json"
    public: bool = False


TEXT: Final = {"type": "string"}
FLAG: Final = {"type": "boolean"}
NUMBER: Final = {"type": "number"}
COUNT: Final = {"type": "integer", "minimum": 1}
BACKEND: Final = ("id", "url", "state", "health", "breaker", "in_flight", "requests", "share_ratio", "last_check")
OPERATED: Final = ("service", "id", "changed", "before", "after", "in_flight", "persisted", "generation", "message")
RELOADED: Final = (
    "generation",
    "changed",
    "etag",
    "added",
    "removed",
    "changed_backends",
    "settings_changed",
    "workers",
    "message",
)
REFUSALS: Final = (400, 409, 412, 413, 415, 422, 500, 503)
"""What a reload may be refused with."""

CONFIRM: Final = (("confirm_s", NUMBER), ("author", TEXT), ("require_all", FLAG))
_BELOW: Final = ("/smartedge/services/{service}/backends", "/smartedge/backends")

OPERATIONS: Final = (
    Operation("get", "/health", "Whether the edge can serve", ("status", "up", "total"), answers=(503,), public=True),
    Operation("post", "/api/reload", "Apply the file, or the body", RELOADED, "Configuration", CONFIRM, (202, *REFUSALS)),
    Operation("patch", "/api/reload", "Change single keys (RFC 7396)", RELOADED, "MergePatch", CONFIRM, (202, *REFUSALS)),
    Operation("get", "/api/status", "What the edge knows of itself", ("strategy", "generation", "etag", "workers", "services")),
    Operation("get", "/metrics", "Prometheus' text", media="text/plain"),
    Operation("get", "/smartedge/", "The page for browsers", media="text/html", public=True),
    Operation("get", "/smartedge/static/{name}", "Its files", answers=(404,), media="*/*", public=True),
    Operation("get", "/smartedge/live", "What the page shows", query=(("fresh", FLAG),), answers=(400,)),
    Operation("get", "/smartedge/services", "All services", ("generation", "services")),
    Operation("get", "/smartedge/services/{service}", "One service", ("strategy", "status", "backends"), answers=(404,)),
    *(
        operation
        for below in _BELOW
        for operation in (
            Operation("get", below, "Backends", ("generation", "backends"), answers=(404,)),
            Operation("post", below, "Add a backend", RELOADED, "Backend", CONFIRM, (201, 202, 404, *REFUSALS)),
            Operation("get", f"{below}/{{backend}}", "One backend", BACKEND, answers=(404, 409)),
            Operation("delete", f"{below}/{{backend}}", "Take a backend out", RELOADED, answers=(202, 404, *REFUSALS)),
            Operation("get", f"{below}/{{backend}}/{{address}}", "One address of a backend", BACKEND, answers=(404, 409)),
            Operation(
                "post",
                f"{below}/{{backend}}/{{action}}",
                "drain, enable, disable or weight",
                OPERATED,
                "Action",
                (("persist", FLAG),),
                (404, *REFUSALS),
            ),
            Operation(
                "post",
                f"{below}/{{backend}}/{{address}}/{{action}}",
                "The same for one address",
                OPERATED,
                "Action",
                (("persist", FLAG),),
                (404, *REFUSALS),
            ),
        )
    ),
    Operation(
        "get",
        "/smartedge/decisions",
        "Where the last requests went",
        ("sample_ratio", "found", "decisions"),
        query=(("backend", TEXT), ("outcome", TEXT), ("limit", COUNT)),
        answers=(400, 404, 409),
    ),
    Operation("get", "/smartedge/decisions/{request_id}", "Why one went there", ("request_id", "tries"), answers=(404,)),
    Operation(
        "get",
        "/smartedge/events",
        "What happened, or as it happens (text/event-stream)",
        ("events", "cursor"),
        query=(("after", TEXT), ("limit", COUNT), ("service", TEXT), ("backend", TEXT), ("since", NUMBER)),
        answers=(400, 404, 503),
    ),
    Operation(
        "get",
        "/smartedge/history",
        "The last 15 minutes",
        ("every_s", "from", "series"),
        query=(("service", TEXT), ("backend", TEXT), ("points", COUNT)),
        answers=(400, 404, 409),
    ),
    Operation("post", "/smartedge/drain", "Have /health say 503", ("draining",), query=(("all", FLAG),), answers=(400, 503)),
    Operation("post", "/smartedge/enable", "Take that back", ("draining",), query=(("all", FLAG),), answers=(400, 503)),
    Operation("get", "/smartedge/cluster", "The nodes of the cluster", ("node", "nodes"), answers=(404,)),
    Operation("get", "/smartedge/generations", "The configurations of before", ("generation", "trial", "configurations")),
    Operation(
        "post", "/smartedge/plan", "What a reload would change", ("changed", "changes", "etag"), "Configuration", (), REFUSALS
    ),
    Operation("post", "/smartedge/confirm", "Keep the one on trial", ("generation", "etag", "message"), answers=REFUSALS),
    Operation("post", "/smartedge/rollback", "Go back", RELOADED, "Rollback", (("id", COUNT),), (202, 404, *REFUSALS)),
    Operation(
        "get",
        "/smartedge/route",
        "Which route a request would take",
        ("route", "does", "routes"),
        query=(("method", TEXT), ("url", TEXT), ("client", TEXT), ("header", TEXT)),
        answers=(400,),
    ),
    Operation("post", "/smartedge/routes/{route}/weights", "Share a route out anew", (), "Weights", (), (404, *REFUSALS)),
    Operation("get", "/smartedge/hello", "Whether this is a SmartEdge", answers=(400,), public=True),
)

ACTION: Final = {
    "type": "object",
    "properties": {"persist": FLAG, "weight": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000}},
}
PROBLEM: Final = {
    "type": "object",
    "required": ["type", "status", "title", "detail", "request_id"],
    "properties": {
        "type": TEXT,
        "status": {"type": "integer"},
        "title": TEXT,
        "detail": TEXT,
        "request_id": TEXT,
        "errors": {"type": "array", "items": {"type": "object", "properties": {"path": TEXT, "detail": TEXT}}},
    },
}


def made() -> dict[str, Any]:
    """Make the document."""
    sys.path.insert(0, str(ROOT))
    from smartedge import __version__
    from smartedge.config.model import json_schema

    schema = json_schema()
    definitions = schema.pop("$defs")
    schema.pop("$schema")
    moved = json.loads(json.dumps({"Configuration": schema, **definitions}).replace("#/$defs/", "#/components/schemas/"))
    trial = {"confirm_s": NUMBER, "author": TEXT, "require_all": FLAG, "rollback_on": {"type": "object"}}
    moved["Configuration"]["properties"] |= trial
    own = {
        "Problem": PROBLEM,
        "Action": ACTION,
        "Backend": {"anyOf": [TEXT, {"$ref": "#/components/schemas/BackendConfig"}]},
        "MergePatch": {"type": "object"},
        "Rollback": {"type": "object", "properties": {"id": COUNT, "author": TEXT}},
        "Weights": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
    }
    paths: dict[str, Any] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method] = operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SmartEdge",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "The pages of an operator. Who is no process of the edge's own user on its machine needs the token.",
        },
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "security": [{}, {"token": []}],
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}, "schemas": own | moved},
    }


def operation(one: Operation) -> dict[str, Any]:
    """Write one operation."""
    answered = {"type": "object", "required": list(one.members)} if one.media == "application/json" else {"type": "string"}
    good = {"description": "Done", "content": {one.media: {"schema": answered}}}
    problem = {
        "description": "Refused, and nothing has changed",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    statuses = {status: good if status < 300 else problem for status in one.answers}
    if one.path == "/health":
        statuses[503] = good | {"description": "It cannot, or is draining"}
    usual = {} if one.public else {401: problem, 403: problem}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": TEXT}
        for name in (part[1:-1] for part in one.path.split("/") if part.startswith("{"))
    ]
    parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in one.query]
    if 412 in one.answers:
        parameters.append({"name": "If-Match", "in": "header", "schema": TEXT})
    found: dict[str, Any] = {
        "summary": one.summary,
        "operationId": f"{one.method} {one.path}",
        "parameters": parameters,
        "responses": {str(status): answer for status, answer in sorted({200: good, **statuses, **usual}.items())},
    }
    if one.public:
        found["security"] = []
    if one.body is not None:
        media = "application/merge-patch+json" if one.body == "MergePatch" else "application/json"
        found["requestBody"] = {"content": {media: {"schema": {"$ref": f"#/components/schemas/{one.body}"}}}}
    return found


def main() -> int:
    """Write, or compare."""
    text = json.dumps(made(), indent=1, ensure_ascii=False) + "\n"
    if "--check" in sys.argv:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
