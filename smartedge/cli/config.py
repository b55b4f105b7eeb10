"""The commands `config show` and `config schema`: every value in effect and where it comes from, and what may be written."""

from __future__ import annotations

import json
import os
from functools import cache

import click

from smartedge.cli.errors import Stop
from smartedge.cli.group import CommandGroup
from smartedge.cli.table import table_lines
from smartedge.config.model import ConfigError, config_path, json_schema, load
from smartedge.config.origins import effective, origins
from smartedge.config.sources import Overlay, read_file
from smartedge.config.values import escaped


@click.group(cls=CommandGroup)
def config() -> None:
    """Look at the configuration: the values in effect (show), and what may be written (schema)."""


@config.command(epilog="Example: smartedge config show --origin | grep -v default$")
@click.argument("file", required=False)
@click.option("-c", "--config", "named", metavar="FILE", help="The same as FILE.")
@click.option("--origin", is_flag=True, help="A line for each value, with where it comes from: flag, variable, file or default.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --origin a list of path, value and origin.")
def show(file: str | None, named: str | None, origin: bool, as_json: bool) -> None:
    """Show every value in effect with FILE (backends.json unless given) and the variables; secrets are masked."""
    path = config_path(file or named, os.environ)
    try:
        read = cache(read_file)  # once: it may be a pipe
        loaded = load(path, os.environ, read=read)
        text = read(path)
    except ConfigError as error:
        raise Stop(str(error)) from error
    if not origin:
        click.echo(json.dumps(effective(loaded), indent=2, ensure_ascii=False))
        return
    found = list(origins(loaded, text, Overlay(os.environ, {}), path))
    if as_json:
        click.echo(json.dumps([one._asdict() for one in found], indent=2, ensure_ascii=False))
        return
    rows = [(escaped(one.path), escaped(json.dumps(one.value, ensure_ascii=False)), escaped(one.origin)) for one in found]
    click.echo("\n".join(table_lines(rows, titled=False)))


@config.command(epilog="Example: smartedge config schema > backends.schema.json")
def schema() -> None:
    """Print the JSON Schema of backends.json, by which editors complete and check.

    The file may name it: "$schema": "backends.schema.json".
    """
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
