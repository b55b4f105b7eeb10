"""The pages about configurations: those of before, the one on trial, the way back, and what another would change."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from smartedge.admin.discoveries import with_discoveries
from smartedge.admin.page import READ, WRITE, Page, answer, object_in, peer, read_json
from smartedge.admin.reloading import author_of, refusals_written_down
from smartedge.balancer.errors import ClientError
from smartedge.edge.edge import Edge
from smartedge.edge.reload_errors import ConfigNotReadable
from smartedge.edge.rollouts import Asked


def rollout_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the pages."""

    def generations() -> Response:
        rollouts = edge.rollouts
        trial = rollouts.trial_document(rollouts.trial())
        events = (placed.document for placed in edge.chronicle.events.after({}))
        configurations = with_discoveries(rollouts.documents(), events)
        return answer(200, {"generation": edge.generation, "trial": trial, "configurations": configurations})

    def confirm() -> Response:
        return answer(200, edge.rollouts.confirm(peer()), ETag=f'"{edge.etag}"')

    def rollback() -> Response:
        said = _members(read_json("the configuration to go back to"))
        number = said.get("id", request.args.get("id"))
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) < 10:
            number = int(number)
        if number is not None and type(number) is not int:
            raise ClientError("id must be the number of a configuration in GET /smartedge/generations.")
        asked = Asked(by=peer(), author=author_of(said))
        with refusals_written_down(edge, asked):
            result = edge.rollouts.rollback(number, asked, request.headers.get("If-Match"))
        return answer(result.status, result.document, ETag=f'"{edge.etag}"')

    def plan() -> Response:
        from smartedge.admin.plan import plan_document  # late: few edges are ever asked for one

        body = read_json("the configuration")
        try:
            text = body or edge.origin.read_text() or b""
        except OSError as error:
            raise ConfigNotReadable(f"{error.filename} cannot be read: {error.strerror}; send the configuration") from error
        return answer(200, plan_document(edge, text), ETag=f'"{edge.etag}"')

    return (
        Page("/smartedge/plan", WRITE, False, plan),
        Page("/smartedge/generations", READ, False, generations),
        Page("/smartedge/confirm", WRITE, False, confirm),
        Page("/smartedge/rollback", WRITE, False, rollback),
    )


def _members(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    wanted = 'Send {"id": N}, with "author" if you like, or nothing for the configuration before.'
    said = object_in(body, wanted)
    if not said.keys() <= {"id", "author"}:
        raise ClientError(wanted)
    return said
