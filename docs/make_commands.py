"""Writes docs/commands.md and the man page deploy/smartedge.1 from the commands' own help: python docs/make_commands.py.

`--check` writes nothing and ends with status 1 when one of them is not up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "commands.md"
MANUAL = ROOT / "deploy" / "smartedge.1"

HEAD = """# Commands

`smartedge COMMAND`, or `python -m smartedge COMMAND`. This page is made from the commands' own help (docs/make_commands.py), and
so is the manual page, deploy/smartedge.1.

Commands for a running edge find the one that runs with this configuration; `--url`, `SMARTEDGE_URL` and `-c` name another
([operating](operating.md)).

## Exit status

| status | means |
|---|---|
| 0 | done |
| 1 | declined: the edge was asked and said no, a source failed, `doctor` found something bad, `healthcheck` cannot serve |
| 2 | not possible: wrong arguments, a wrong file, nobody answers |
| 130 | interrupted (Ctrl-C) |

What that is for each command stands with it; where nothing is said of 2 and 130, they mean this. Sentences for people are on
standard error, answers on standard output; `--json` makes an answer, and a refusal, one JSON object. All commands have it
but `run`, `completion`, and `config schema`, which prints JSON anyway.

## Completion and manual

    smartedge completion bash > ~/.local/share/bash-completion/completions/smartedge
    smartedge completion zsh > "${fpath[1]}/_smartedge"
    smartedge completion fish > ~/.config/fish/completions/smartedge.fish
    man deploy/smartedge.1
"""


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Give every command with its whole name, in the order of the names."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def usage(name: str, command: click.Command) -> str:
    """Write how it is called."""
    with click.Context(command, info_name=f"smartedge {name}") as context:
        return " ".join([context.command_path, *command.collect_usage_pieces(context)])


def options(command: click.Command) -> Iterator[tuple[str, str]]:
    """Give each flag as it is written, and what it means."""
    with click.Context(command) as context:
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
            if record is not None and "--help" not in record[0]:
                yield record[0], " ".join(record[1].split())


def paragraphs(command: click.Command) -> list[str]:
    """Give its help, a paragraph each."""
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def page(program: click.Group) -> str:
    """Write the page."""
    parts = [HEAD]
    for name, command in commands(program):
        parts.append(f"\n## {name}\n\n    {usage(name, command)}\n\n" + "\n\n".join(paragraphs(command)) + "\n")
        if rows := list(options(command)):
            lines = [f"| `{flag.replace('|', chr(92) + '|')}` | {text.replace('|', chr(92) + '|')} |" for flag, text in rows]
            parts.append("\n| flag | means |\n|---|---|\n" + "\n".join(lines) + "\n")
        parts.append("\nExit status: " + exits_of(name) + ".\n")
        if command.epilog:
            parts.append(f"\nExample: `{command.epilog.removeprefix('Example: ').rstrip('.')}`\n")
    return "".join(parts)


def exits_of(name: str) -> str:
    """Write what its exit statuses mean, in a line."""
    from smartedge.cli.exits import EXITS

    return "; ".join(f"{status} {meaning}" for status, meaning in EXITS[name].items())


def manual(program: click.Group) -> str:
    """Write the manual page, in the man macros (man 7)."""
    lines = [
        '.TH SMARTEDGE 1 "" SmartEdge "User Commands"',
        ".SH NAME",
        "smartedge \\- HTTP load balancer that shares requests out to backends, and says why",
        ".SH SYNOPSIS",
        ".B smartedge",
        ".I COMMAND",
        "[ARGUMENTS]",
        ".SH COMMANDS",
    ]
    for name, command in commands(program):
        lines += [".SS " + _roff(usage(name, command).removeprefix("smartedge ")), *map(_roff, paragraphs(command))]
        for flag, text in options(command):
            lines += [".TP", ".B " + _roff(flag), _roff(text)]
        lines += [".PP", _roff(f"Exit status: {exits_of(name)}.")]
        if command.epilog:
            lines += [".PP", "Example:", ".RS", ".nf", _roff(command.epilog.removeprefix("Example: ")), ".fi", ".RE"]
    lines += [
        ".SH EXIT STATUS",
        *(".TP\n.B 0\ndone", ".TP\n.B 1\ndeclined", ".TP\n.B 2\nnot possible", ".TP\n.B 130\ninterrupted"),
        ".SH FILES",
        ".TP\n.B backends.json\nThe configuration, in the current directory unless \\-c or SMARTEDGE_CONFIG names another.",
    ]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def main() -> int:
    """Write, or compare."""
    sys.path.insert(0, str(ROOT))
    from smartedge.cli.main import program

    program.load_all()
    made = {PAGE: page(program), MANUAL: manual(program)}
    if "--check" in sys.argv:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in made.items()))
    for path, text in made.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
