"""The command `healthcheck`: whether the edge can serve, as an exit status that containers understand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from smartedge.cli.errors import Declined, Stop
from smartedge.cli.remote import RefusedError, RemoteEdge, for_running_edge
from smartedge.config.values import escaped


@click.command(epilog='Example: HEALTHCHECK CMD ["smartedge", "healthcheck"]')
@for_running_edge
def healthcheck(edge: RemoteEdge) -> None:
    """Ask /health: exit status 0 while a backend can serve, 1 if none can, the edge is draining, or nobody answers."""
    try:
        answer = edge.ask("GET", "/health")
    except RefusedError as error:
        raise Declined(_standing(error.problem) if "up" in error.problem else str(error)) from error
    except Stop as error:
        raise Declined(str(error)) from error
    edge.print_answer(answer, _standing)


def _standing(found: Mapping[str, Any]) -> str:
    """Say whether requests can be served, why not, and how many backends are up."""
    return escaped(f"{str(found.get('status')).replace('_', ' ')}: {found.get('up')} of {found.get('total')} backends up")
