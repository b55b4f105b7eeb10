"""Commands that have commands of their own: `smartedge`, and `smartedge config`."""

from __future__ import annotations

from difflib import get_close_matches

import click

SENTENCE = 200
"""A command's first sentence in the list has at most so many characters: all of it."""


class CommandGroup(click.Group):
    """A group that says what a mistyped command may have been, knows `-h` and `help`, and lists commands with whole sentences."""

    def __init__(self, *args: object, **settings: object) -> None:
        super().__init__(*args, **settings)  # type: ignore[arg-type]
        self.context_settings.setdefault("help_option_names", ["-h", "--help"])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; raises UsageError where there is none."""
        if args[0] == "help" and len(args) > 1:
            args = [args[1], "--help"]
        elif args[0] == "help":
            click.echo(ctx.get_help())
            ctx.exit()
        if not ctx.resilient_parsing and args[0][:1] != "-" and self.get_command(ctx, args[0]) is None:
            meant = get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f" Did you mean '{meant[0]}'?" if meant else ""
            raise click.UsageError(f"No such command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        rows = []
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None:
                rows.append((name, command.get_short_help_str(SENTENCE)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)
