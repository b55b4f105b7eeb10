"""The lame duck: /health says 503, so that whoever is in front sends nothing new, while everything is served as before."""

from __future__ import annotations

import logging

from flask import Response

from smartedge.admin.operate import OperatedEdge
from smartedge.admin.page import WRITE, Page, answer

log = logging.getLogger(__name__)

MESSAGES = {
    True: "draining: /health answers 503, requests are served as before; POST /smartedge/enable takes it back",
    False: "enabled: /health tells again whether a backend can serve",
}


def drain_pages(edge: OperatedEdge) -> tuple[Page, ...]:
    """Return the pages that drain the whole edge, all its workers, and enable it again."""

    def drain() -> Response:
        return _set(edge, draining=True)

    def enable() -> Response:
        return _set(edge, draining=False)

    return Page("/smartedge/drain", WRITE, False, drain), Page("/smartedge/enable", WRITE, False, enable)


def _set(edge: OperatedEdge, *, draining: bool) -> Response:
    edge.drain(draining)
    log.warning("edge %s", "draining" if draining else "enabled")
    return answer(200, {"draining": edge.draining, "message": MESSAGES[draining]})
