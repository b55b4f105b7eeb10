"""What the commands share that talk to a running balancer: where it is, and asking it."""

from __future__ import annotations

import os
from typing import Any

import click

from smartedge.cli_stop import Declined, Stop
from smartedge.config import ConfigError, admin_token
from smartedge.remote import RefusedError, UnreachableError, ask

DEFAULT_URL = "http://127.0.0.1:8080"

url_option = click.option(
    "--url",
    default=DEFAULT_URL,
    show_default=True,
    help="Where the balancer answers: its --bind, or its --admin-bind if it has one.",
)


def ask_balancer(method: str, url: str, path: str, body: object = None) -> dict[str, Any]:
    """Ask the running balancer; what goes wrong ends the command."""
    try:
        return ask(method, url, path, token=admin_token(os.environ), body=body)
    except (ConfigError, UnreachableError) as error:
        raise Stop(str(error)) from error
    except RefusedError as error:
        raise Declined(str(error)) from error
