"""The pages on which the operator looks at single backends, and says what he wants of them."""

from __future__ import annotations

import json
from typing import Any, Final

from flask import Response, request

from smartedge.admin.operate import MOST_WEIGHT, STATE_OF, OperatedEdge, backends_of, direct, weigh
from smartedge.admin.page import READ, WRITE, Page, answer, read_json
from smartedge.admin.status import status_document
from smartedge.balancer.errors import ClientError, EdgeError


class UnknownAction(EdgeError):
    """There is nothing of that name to be done with a backend."""

    status = 404
    title = "Not found"
    blame = "client"


def operator_pages(edge: OperatedEdge) -> tuple[Page, ...]:
    """Return the pages below /smartedge/backends."""

    def backends() -> Response:
        document = status_document(edge)
        return answer(200, {"generation": document["generation"], "backends": document["backends"]}, ETag=etag())

    def backend(backend_id: str) -> Response:
        ids = [backend.id for backend in backends_of(edge, backend_id)]
        found = [one for one in status_document(edge)["backends"] if one["id"] in ids]
        if ids == [backend_id]:
            return answer(200, found[0], ETag=etag())
        in_flight = sum(one["in_flight"] for one in found)
        return answer(200, {"id": backend_id, "in_flight": in_flight, "backends": found}, ETag=etag())

    def operate(backend_id: str, action: str) -> Response:
        if action != "weight" and action not in STATE_OF:
            raise UnknownAction(f'A backend can be sent {", ".join(STATE_OF)} or weight, not "{action[:100]}".')
        backends_of(edge, backend_id)
        wanted = _wanted(action)
        how = {"persist": wanted["persist"], "if_match": request.headers.get("If-Match")}
        if action == "weight":
            document = weigh(edge, backend_id, wanted["weight"], **how)
        else:
            document = direct(edge, backend_id, STATE_OF[action], **how)
        return answer(200, document, ETag=etag())

    def backend_address(backend_id: str, address: str) -> Response:
        return backend(f"{backend_id}/{address}")

    def operate_address(backend_id: str, address: str, action: str) -> Response:
        return operate(f"{backend_id}/{address}", action)

    def etag() -> str:
        return f'"{edge.config.etag}"'

    return (
        Page("/smartedge/backends", READ, False, backends),
        Page("/smartedge/backends/<backend_id>", READ, False, backend),
        Page("/smartedge/backends/<backend_id>/<ip:address>", READ, False, backend_address),
        Page("/smartedge/backends/<backend_id>/<action>", WRITE, False, operate),
        Page("/smartedge/backends/<backend_id>/<ip:address>/<action>", WRITE, False, operate_address),
    )


_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


def _wanted(action: str) -> dict[str, Any]:
    """Read what the request says: the body, a JSON object that may be missing, and ?persist=true. Raises ClientError."""
    body = read_json("the wish")
    try:
        said = json.loads(body) if body.strip() else {}
    except RecursionError:
        raise ClientError("The body is nested too deeply.") from None
    except ValueError as error:
        raise ClientError(f"The body is not JSON: {error}.") from error
    allowed = {"persist", "weight"} if action == "weight" else {"persist"}
    if not isinstance(said, dict) or not said.keys() <= allowed:
        raise ClientError(f"The body is an object with at most {' and '.join(sorted(allowed))}.")
    persist = said.get("persist", _FLAGS.get(request.args.get("persist", "false")))
    if not isinstance(persist, bool):
        raise ClientError("persist must be true or false.")
    if action != "weight":
        return {"persist": persist}
    if "weight" not in said:
        raise ClientError('The body must say the weight, as {"weight": 3}, or {"weight": null} for that of the file.')
    weight = said["weight"]
    if weight is not None and (type(weight) is not int or not 0 <= weight <= MOST_WEIGHT):
        raise ClientError(f"weight must be a whole number from 0 to {MOST_WEIGHT}, or null for that of the file.")
    return {"persist": persist, "weight": weight}
