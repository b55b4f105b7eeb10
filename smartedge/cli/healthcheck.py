"""The command `healthcheck`: whether the edge can serve, as an exit status that containers understand."""

from __future__ import annotations

import click

from smartedge.cli.errors import Declined, Stop
from smartedge.cli.remote import RemoteEdge, for_running_edge

UNWELL = 1
"""What Docker and the like take for unhealthy; 2 is reserved there."""


@click.command(epilog='Example: HEALTHCHECK CMD ["smartedge", "healthcheck"]')
@for_running_edge
def healthcheck(edge: RemoteEdge) -> None:
    """Ask /health: exit status 0 while a backend can serve, 1 if none can, the edge is draining, or nobody answers."""
    try:
        answer = edge.ask("GET", "/health")
    except Stop as error:
        raise Declined(str(error)) from error
    edge.print_answer(answer, lambda found: f"{found['status']}: {found['up']} of {found['total']} backends up")
