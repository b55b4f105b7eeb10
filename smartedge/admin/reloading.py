"""A reload that somebody asks for by one of the operator's pages, and the event of one that is refused."""

from __future__ import annotations

from smartedge.admin.page import peer
from smartedge.balancer.errors import EdgeError
from smartedge.config.model import ConfigError
from smartedge.edge.edge import Edge
from smartedge.edge.reload_report import Reloaded


def reload_edge(edge: Edge, body: bytes | None, if_match: str | None, *, require_all: bool = False) -> Reloaded:
    """Have the edge use a configuration, as `Edge.reload`; raises what that raises, and has it written down."""
    by = peer()
    try:
        return edge.reload(body, if_match, require_all=require_all, by=by)
    except (ConfigError, EdgeError) as error:
        edge.announcer.reload_refused(error, by)
        raise
