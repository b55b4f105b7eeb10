"""A reload that somebody asks for by one of the operator's pages, what its body may say besides, and one that is refused."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

from flask import request

from smartedge.admin.page import peer
from smartedge.admin.written import laid_out
from smartedge.balancer.errors import ClientError, EdgeError
from smartedge.config.model import ConfigError
from smartedge.edge import collector
from smartedge.edge.edge import Edge
from smartedge.edge.reload_report import Reloaded
from smartedge.edge.rollouts import MOST_S, Asked
from smartedge.edge.verdict import TrialLimits

MEMBERS: Final = ("require_all", "confirm_s", "rollback_on", "author")
"""What stands beside the configuration in a body, and is no part of it."""

MOST_AUTHOR: Final = 200


def reload_edge(
    edge: Edge, body: bytes | None, if_match: str | None, asked: Asked | None = None, *, require_all: bool = False
) -> Reloaded:
    """Have the edge use a configuration, as `Rollouts.reload`; raises what that raises, and has it written down."""
    asked = asked or Asked(by=peer())
    with collector.put_off(), refusals_written_down(edge, asked):
        return edge.rollouts.reload(body, if_match, asked, require_all=require_all)


@contextlib.contextmanager
def refusals_written_down(edge: Edge, asked: Asked) -> Iterator[None]:
    """Have the event of a reload that is refused in here; it is raised all the same."""
    try:
        yield
    except (ConfigError, EdgeError) as error:
        edge.announcer.reload_refused(error, asked.by)
        raise


def split_body(body: bytes) -> tuple[bytes, dict[str, Any]]:
    """Take the members out of a body that are no part of the configuration; return what they said, too.

    What is no JSON is left for the checks of the configuration to refuse.
    """
    if not any(b'"%b"' % name.encode() in body for name in MEMBERS):
        return body, {}
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return body, {}
    if not isinstance(document, dict):
        return body, {}
    said = {name: document.pop(name) for name in MEMBERS if name in document}
    if not said:
        return body, {}
    return (laid_out(document, body) if document else b""), said


def asked_of(said: dict[str, Any], *, has_body: bool) -> tuple[Asked, bool]:
    """Read how a reload is asked for, in the body's members or the query; whether all nodes must be able to use it, too.

    Raises ClientError, which names the member.
    """
    require_all = said.get("require_all", False)
    if not isinstance(require_all, bool):
        raise ClientError("require_all must be true or false.")
    confirm_s = _number("confirm_s", said.get("confirm_s", request.args.get("confirm_s")), 1.0, MOST_S)
    limits = _limits(said.get("rollback_on"))
    if limits != TrialLimits() and confirm_s is None:
        raise ClientError("rollback_on is for a reload with confirm_s, the time within which it is to be confirmed.")
    return Asked(confirm_s, limits, peer(), author_of(said), "api" if has_body else "file"), require_all


def author_of(said: dict[str, Any]) -> str | None:
    """Read who says that the change is his. Raises ClientError."""
    author = said.get("author", request.args.get("author"))
    if author is None:
        return None
    if not isinstance(author, str) or not author.strip() or len(author) > MOST_AUTHOR or not author.isprintable():
        raise ClientError(f"author must be a text of 1 to {MOST_AUTHOR} printable characters.")
    return author.strip()


def _limits(said: object) -> TrialLimits:
    if said is None:
        return TrialLimits()
    if not isinstance(said, dict) or not said or not said.keys() <= {"error_ratio", "p99_factor"}:
        raise ClientError('rollback_on must be an object with error_ratio or p99_factor, such as {"error_ratio": 0.05}.')
    ratio = _number("rollback_on.error_ratio", said.get("error_ratio"), 0.0, 1.0)
    return TrialLimits(ratio, _number("rollback_on.p99_factor", said.get("p99_factor"), 1.0, 1000.0))


def _number(name: str, value: object, least: float, most: float) -> float | None:
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        raise ClientError(f"{name} must be a number from {least:g} to {most:,g}.")
    return float(number)
