"""How a command ends that cannot do what it was asked to: one clear line on standard error, and an exit status."""

from __future__ import annotations

from typing import Any

import click


class Stop(click.ClickException):
    """The end of a command that cannot do what it was asked to; the message says why."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message after the program's name, on standard error."""
        click.echo(f"smartedge: {self.message}", file=file, err=file is None)


class Declined(Stop):
    """The balancer was asked, and said no."""

    exit_code = 1
