"""The command line: which commands there are. Whatever stops one is one clear line and exit status 2."""

from __future__ import annotations

import errno
import os
from collections.abc import MutableMapping, Sequence
from importlib import import_module
from typing import Final

import click

from smartedge.cli.group import CommandGroup
from smartedge.cli.paint import wants_colour

MODULES: Final = {
    "run": "run",
    "check": "check",
    "config": "config",
    "convert": "convert",
    "discover": "discover",
    "doctor": "doctor",
    "route": "route",
    "simulate": "simulate",
    **dict.fromkeys(("plan", "confirm", "rollback", "history"), "rollouts"),
    **dict.fromkeys(("reload", "status", "cluster", "drain", "enable", "disable", "weight", "explain"), "operate"),
    "events": "events",
    "top": "top",
    "healthcheck": "healthcheck",
    "version": "version",
    "completion": "completion",
}
"""In which file of this folder each command is, under its own name."""


class LazyGroup(CommandGroup):
    """Imports a command when it is asked for: what serves for months carries no other one's memory."""

    def load_all(self) -> MutableMapping[str, click.Command]:
        """Import all of them, for who wants to look at them; return them by name."""
        for name in MODULES:
            self.commands[name] = getattr(import_module(f"smartedge.cli.{MODULES[name]}"), name)
        return self.commands

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return their names."""
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one of them; None where there is none of this name."""
        if cmd_name not in MODULES:
            return None
        command: click.Command = getattr(import_module(f"smartedge.cli.{MODULES[cmd_name]}"), cmd_name)
        return command


def _print_versions(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from smartedge.cli.version import versions_text

        click.echo(versions_text())
        context.exit()


@click.group(cls=LazyGroup)
@click.option(
    "-V", "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_versions, help="Print the versions."
)
def program() -> None:
    """SmartEdge, an HTTP load balancer: shares requests out to backends, and says why."""
    click.get_current_context().color = wants_colour(os.environ)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; exit status 0 is done, 1 declined by the balancer, 2 not possible, 130 interrupted."""
    try:
        result = program.main(arguments, prog_name="smartedge", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer would fail again, at the end of all
        click.echo(f"smartedge: cannot write to standard output: {error.strerror}", err=True)
        return 2
    return int(result or 0)
