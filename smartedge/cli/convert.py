"""The command `convert`: another program's configuration as backends.json, and each line that is not taken over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from smartedge.cli.errors import Stop
from smartedge.config.model import ConfigError, parse
from smartedge.config.values import escaped

if TYPE_CHECKING:
    from smartedge.convert.draft import Draft

KINDS = ("nginx", "haproxy", "caddy")


@click.command(epilog="Example: smartedge convert /etc/nginx/nginx.conf > backends.json")
@click.argument("file")
@click.option("--from", "kind", type=click.Choice(KINDS), help="What the file is of; else its name says it.")
@click.option("--json", "as_json", is_flag=True, help="Print config and left_out (line, text, why) as one JSON object.")
def convert(file: str, kind: str | None, as_json: bool) -> None:
    """Print backends.json for what FILE says: nginx.conf, haproxy.cfg or a Caddyfile.

    Backends, routes and who may are taken over. Each line that is not is told, with what it means here, on standard error.
    What the old server refuses is refused: where that can be said in part only, more is; where it cannot be said, nothing is
    converted. Nothing is asked and nothing is started: look at the result with `smartedge check`.
    """
    from smartedge.convert.words import NotReadable  # late: their memory is for this command alone

    kind = kind or _kind_of(file)
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no text in UTF-8"
        raise Stop(f"{escaped(file)}: {reason}") from error
    try:
        draft = _reader(kind)(text)
    except NotReadable as error:
        raise Stop(f"{escaped(file)}: {error}") from error
    except (ValueError, IndexError) as error:
        raise Stop(f"{escaped(file)}: cannot be read as a file of {kind}: {error}") from error
    document = draft.document()
    notes = sorted(draft.notes, key=lambda note: note.line)
    if as_json:
        left_out = [{"line": note.line, "text": note.text, "why": note.why} for note in notes]
        click.echo(json.dumps({"config": document, "left_out": left_out}, indent=2, ensure_ascii=False))
        return
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))
    for note in notes:
        click.echo(f"{escaped(file)}:{note.line}: left out: {escaped(note.text)}\n    {escaped(note.why)}", err=True)
    try:
        parse(json.dumps(document), origin="the result")
    except ConfigError as error:
        click.echo(f"smartedge: to be mended by hand: {error}", err=True)


def _reader(kind: str) -> Callable[[str], Draft]:
    if kind == "nginx":
        from smartedge.convert.nginx import read_nginx as read
    elif kind == "haproxy":
        from smartedge.convert.haproxy import read_haproxy as read
    else:
        from smartedge.convert.caddyfile import read_caddyfile as read
    return read


def _kind_of(file: str) -> str:
    name = Path(file).name.lower()
    for word, kind in (("nginx", "nginx"), ("haproxy", "haproxy"), ("caddy", "caddy"), (".cfg", "haproxy"), (".conf", "nginx")):
        if word in name:
            return kind
    raise click.UsageError(f"say what {escaped(file)} is of: --from nginx, --from haproxy or --from caddy")
