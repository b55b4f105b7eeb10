"""The command `completion`: the script by which a shell completes what is typed, made by click."""

from __future__ import annotations

import click

SHELLS = ("bash", "zsh", "fish")


@click.command(epilog="Example: smartedge completion bash > ~/.local/share/bash-completion/completions/smartedge")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that has a shell complete commands and flags: bash, zsh or fish."""
    from click.shell_completion import get_completion_class  # late: its memory is for this command alone

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(context.find_root().command, {}, "smartedge", "_SMARTEDGE_COMPLETE").source())
