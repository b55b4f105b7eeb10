"""The command `doctor`: looks at everything that a running edge will need, and says of each what is wrong and what to do."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from smartedge.cli.paint import painted
from smartedge.config.model import config_path
from smartedge.config.values import escaped

if TYPE_CHECKING:
    from smartedge.cli.checkup import Finding


@click.command(epilog="Example: smartedge doctor -c /etc/smartedge/backends.json")
@click.option("-c", "--config", "file", metavar="FILE", help="The configuration file; backends.json unless given.")
@click.option("--bind", metavar="HOST:PORT", help="What `run` will be told; so are the next two.")
@click.option("--admin-bind", metavar="HOST:PORT", help="Address of the admin pages alone; or unix:/PATH.")
@click.option("--http-bind", metavar="HOST:PORT", help="Address of a listener without TLS that sends everybody to https.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(file: str | None, as_json: bool, **flags: str | None) -> int:
    """Look at configuration, limits, state directory, ports, clock, certificates, backends and sources; say what to do.

    Exit status 0: nothing is bad; 1: something is.
    """
    from smartedge.cli.checkup import examine  # late: its memory is for this command alone

    found = list(examine(config_path(file, os.environ), flags))
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
    else:
        for one in found:
            click.echo(_line(one))
    return 1 if any(one.level == "bad" for one in found) else 0


def _line(one: Finding) -> str:
    sign = {"good": "ok  ", "warn": "warn", "bad": "BAD "}[one.level]
    remedy = f"\n      {escaped(one.remedy)}" if one.remedy else ""
    return f"{painted(sign, one.level)}  {one.check}: {escaped(one.said)}{remedy}"
