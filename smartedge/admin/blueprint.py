"""The admin pages as a Flask Blueprint, and who may see them.

Every page takes every method and refuses the wrong ones itself: with a route for one method only the others
would fall through to the catch-all, and POST /health would be forwarded to a backend.
"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, request
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import BaseConverter

from smartedge.admin.cluster import cluster_pages
from smartedge.admin.dashboard import dashboard_pages
from smartedge.admin.decisions import decision_pages
from smartedge.admin.events import event_pages
from smartedge.admin.history import history_pages
from smartedge.admin.live import LiveDocument, live_pages
from smartedge.admin.main_pages import main_pages
from smartedge.admin.one_way_rule import OneWayRule
from smartedge.admin.operate import drain_pages, operator_pages
from smartedge.admin.page import Page
from smartedge.admin.refusals import Refusals
from smartedge.admin.rollouts import rollout_pages
from smartedge.admin.routes import route_pages
from smartedge.edge.access import OWN_NAMES, Refusal, may_administer
from smartedge.edge.edge import Edge
from smartedge.edge.peer_owner import owned_by_us
from smartedge.http.environ_keys import SOCKET


class IpConverter(BaseConverter):
    """Matches an IP address, one of those of a backend's name, and no word."""

    regex = r"[0-9A-Fa-f%]*[.:][0-9A-Fa-f.:%]*"
    weight = 50  # looked at before any text


def make_admin(edge: Edge) -> Blueprint:
    """Return the Blueprint, to be registered on the app that answers the admin pages."""
    live = LiveDocument(edge)
    pages = (
        *main_pages(edge),
        *operator_pages(edge),
        *decision_pages(edge),
        *event_pages(edge),
        *history_pages(edge),
        *drain_pages(edge),
        *cluster_pages(edge),
        *rollout_pages(edge),
        *route_pages(edge),
        *live_pages(live),
        *dashboard_pages(live, lambda: _refusal(edge) is None),
    )
    blueprint = Blueprint("admin", __name__)
    refusals = Refusals(edge)
    refusals.register(blueprint)

    def add(state: BlueprintSetupState) -> None:
        state.app.url_map.converters["ip"] = IpConverter
        for page in pages:
            endpoint = f"{blueprint.name}.{page.view.__name__}"
            state.app.view_functions[endpoint] = _guarded(page, edge, refusals)
            state.app.url_map.add(OneWayRule(page.path, endpoint=endpoint, methods=None))

    blueprint.record(add)
    return blueprint


def _guarded(page: Page, edge: Edge, refusals: Refusals) -> Callable[..., Response]:
    """Let a request through to the view only if it may ask this, and in this way."""

    def view(**parts: str) -> Response:
        if not page.public and (refusal := _refusal(edge)):
            title, headers = "Not allowed", {}
            if refusal.status == 401:
                title, headers = "Authentication needed", {"WWW-Authenticate": 'Bearer realm="smartedge"'}
            return refusals.refuse(refusal.status, title, refusal.detail, **headers)
        if request.method not in page.methods:
            allowed = ", ".join(page.methods)
            return refusals.refuse(405, "Method not allowed", f"Use {allowed} here.", Allow=allowed)
        return page.view(**parts)

    return view


def _refusal(edge: Edge) -> Refusal | None:
    return may_administer(
        request.environ.get("REMOTE_ADDR", ""),
        {name.lower(): value for name, value in request.headers},
        is_ours=lambda: owned_by_us(request.environ.get(SOCKET)),
        token=edge.token,
        networks=edge.config.admin_allow,
        names=OWN_NAMES,
    )
