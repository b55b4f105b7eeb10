"""The pages of services and of backends, and those by which the operator drains, enables, disables and weighs one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flask import Response, request

from smartedge.admin.edit import add_backend, remove_backend
from smartedge.admin.named import check_service, find_backend
from smartedge.admin.operator_word import direct, weigh
from smartedge.admin.page import READ, WRITE, Page, answer, peer, read_flag, read_json
from smartedge.admin.status import read_services, service_document
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.balancer.spec import State
from smartedge.edge.edge import Edge

STATE_OF: Final[Mapping[str, State]] = {"drain": "draining", "enable": "enabled", "disable": "disabled"}
MOST_WEIGHT: Final = 1000

_DRAIN_MESSAGES: Final = {
    True: "draining: /health answers 503, requests are served as before; POST /smartedge/enable takes it back",
    False: "enabled: /health tells again whether a backend can serve",
}


class UnknownAction(EdgeError):
    """There is nothing of that name to be done with a backend."""

    status = 404
    title = "Not found"
    blame = "client"


def operator_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages below /smartedge/services, and those of backends below /smartedge/backends, where an id is enough."""

    def services() -> Response:
        seen = etag()  # first: one that is older than the document is refused in If-Match, one that is newer would not be
        found = {one.written.name: service_document(edge, one) for one in read_services(edge)}
        return answer(200, {"generation": edge.generation, "services": found}, ETag=seen)

    def service(service: str) -> Response:
        seen = etag()
        check_service(edge, service)
        return answer(200, service_document(edge, *read_services(edge, service)), ETag=seen)

    def backends(service: str | None = None) -> Response:
        if request.method == "POST":
            return add_backend(edge, service)
        seen = etag()
        if service is not None:
            check_service(edge, service)
        found = [one for reading in read_services(edge, service) for one in service_document(edge, reading)["backends"]]
        return answer(200, {"generation": edge.generation, "backends": found}, ETag=seen)

    def backend(backend_id: str, service: str | None = None) -> Response:
        if request.method == "DELETE":
            return remove_backend(edge, backend_id, service)
        seen = etag()
        meant = find_backend(edge, backend_id, service)
        ids = [backend.id for backend in meant.backends]
        (reading,) = read_services(edge, meant.service)
        found = [one for one in service_document(edge, reading)["backends"] if one["id"] in ids]
        if ids == [meant.id]:
            return answer(200, found[0], ETag=seen)
        in_flight = sum(one["in_flight"] for one in found)
        document = {"service": meant.service, "id": meant.id, "in_flight": in_flight, "backends": found}
        return answer(200, document, ETag=seen)

    def operate(backend_id: str, action: str, service: str | None = None) -> Response:
        if action != "weight" and action not in STATE_OF:
            raise UnknownAction(f'A backend can be sent {", ".join(STATE_OF)} or weight, not "{action[:100]}".')
        meant = find_backend(edge, backend_id, service)
        wanted = _wanted(action)
        how = {"persist": wanted["persist"], "if_match": request.headers.get("If-Match")}
        if action == "weight":
            document = weigh(edge, meant, wanted["weight"], **how)
        else:
            document = direct(edge, meant, STATE_OF[action], **how)
        return answer(200, document, ETag=etag())

    def backend_address(backend_id: str, address: str, service: str | None = None) -> Response:
        return backend(f"{backend_id}/{address}", service)

    def operate_address(backend_id: str, address: str, action: str, service: str | None = None) -> Response:
        return operate(f"{backend_id}/{address}", action, service)

    def etag() -> str:
        return f'"{edge.etag}"'

    return (
        Page("/smartedge/services", READ, False, services),
        Page("/smartedge/services/<service>", READ, False, service),
        *(
            page
            for below in ("/smartedge/backends", "/smartedge/services/<service>/backends")
            for page in (
                Page(below, (*READ, "POST"), False, backends),
                Page(f"{below}/<backend_id>", (*READ, "DELETE"), False, backend),
                Page(f"{below}/<backend_id>/<ip:address>", READ, False, backend_address),
                Page(f"{below}/<backend_id>/<action>", WRITE, False, operate),
                Page(f"{below}/<backend_id>/<ip:address>/<action>", WRITE, False, operate_address),
            )
        ),
    )


def drain_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages that drain the whole edge, all its workers, and enable it again."""

    def drain() -> Response:
        return _set_draining(edge, draining=True)

    def enable() -> Response:
        return _set_draining(edge, draining=False)

    return Page("/smartedge/drain", WRITE, False, drain), Page("/smartedge/enable", WRITE, False, enable)


def _set_draining(edge: Edge, *, draining: bool) -> Response:
    everywhere = read_flag("all")
    edge.drain(draining, everywhere=everywhere)
    edge.announcer.edge_drained(draining, peer(), everywhere=everywhere)
    document = {"draining": edge.draining, "all": everywhere}
    return answer(200, document | {"message": ("all nodes are " if everywhere else "") + _DRAIN_MESSAGES[draining]})


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
    persist = said.get("persist") if "persist" in said else read_flag("persist")
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
