"""What the commands share that talk to a running balancer: the flags that say which one, asking it, and answers as JSON."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import click

from smartedge.cli.errors import Declined, Stop
from smartedge.cli.find import find
from smartedge.cli.remote import RefusedError, Target, UnreachableError, ask
from smartedge.config.model import ConfigError, admin_token


class Asked:
    """The balancer that a command is for, found when it is first asked.

    url, cacert, config: the flags. as_json: answers are printed as JSON, refusals too.
    """

    def __init__(self, url: str | None, cacert: str | None, config: str | None, *, as_json: bool) -> None:
        self.as_json = as_json
        self._flags = url, cacert, config
        self._target: Target | None = None

    def __call__(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask it; what goes wrong ends the command."""
        try:
            token = admin_token(os.environ)
            if self._target is None:
                self._target = find(*self._flags, os.environ)
            return ask(method, self._target, path, token=token, body=body)
        except RefusedError as error:
            self._print_problem(error.problem)
            raise Declined(str(error)) from error
        except (ConfigError, UnreachableError, Stop) as error:
            self._print_problem({"title": "Not asked", "detail": str(error)})
            raise error if isinstance(error, Stop) else Stop(str(error)) from error

    def show(self, answer: Mapping[str, Any], text: Callable[[dict[str, Any]], str]) -> None:
        """Print an answer: as JSON, or as the text that is made of it."""
        click.echo(json.dumps(answer, indent=2) if self.as_json else text(dict(answer)))

    def _print_problem(self, problem: Mapping[str, Any]) -> None:
        if self.as_json:
            click.echo(json.dumps({"error": dict(problem)}, indent=2))


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the flags that say which balancer it is for; it gets that as its first argument."""

    @click.option(
        "--url",
        metavar="URL",
        help="Where the balancer answers: http(s)://HOST:PORT or unix:/PATH; else SMARTEDGE_URL, else the one that runs"
        " with this configuration.",
    )
    @click.option("--cacert", metavar="FILE", help="PEM file of the authority that its certificate is of.")
    @click.option("-c", "--config", metavar="FILE", help="The configuration that it runs with; backends.json unless given.")
    @click.option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON; a refusal too, as error.")
    @functools.wraps(command)
    def asked(url: str | None, cacert: str | None, config: str | None, as_json: bool, **rest: Any) -> None:
        command(Asked(url, cacert, config, as_json=as_json), **rest)

    return asked
