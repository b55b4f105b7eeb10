"""The command `route`: which route and service a request would take, and why each other one did not."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from smartedge.cli.errors import Stop
from smartedge.cli.paint import painted
from smartedge.config.model import ConfigError, config_path, load
from smartedge.config.values import escaped
from smartedge.edge.plain_routes import plain_table
from smartedge.edge.policies import trust
from smartedge.edge.route_answer import answer, made_request, without_routes


@click.command(epilog='Example: smartedge route GET https://shop.example/api/x -H "X-Beta: 1"')
@click.argument("method")
@click.argument("url")
@click.option("-H", "headers", metavar="'NAME: VALUE'", multiple=True, help="A header field; may be repeated.")
@click.option("--client", default="127.0.0.1", show_default=True, metavar="IP", help="The client's address.")
@click.option("-c", "--config", metavar="FILE", help="The configuration file; backends.json unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def route(method: str, url: str, headers: tuple[str, ...], client: str, config: str | None, as_json: bool) -> None:
    """Say which route of the configuration a request would take, and why each other one would not; nothing is sent."""
    try:
        loaded = load(config_path(config, os.environ), os.environ)
    except ConfigError as error:
        raise Stop(str(error)) from error
    try:
        request = made_request(method, url, headers, client)
    except ValueError as error:
        raise Stop(str(error)) from error
    if loaded.routes:
        found = answer(plain_table(loaded.routes, trust(loaded)), request)
    else:
        found = without_routes(loaded.all_services()[0].name)
    click.echo(json.dumps(found, indent=2) if as_json else as_text(found))


def as_text(found: dict[str, Any]) -> str:
    """Tell it to a person: what becomes of the request, then a line for each route."""
    lines = [f"{found['route']}: {found['does']}" if found["route"] else found["does"]]
    width = max((len(each["route"]) for each in found["routes"]), default=0)
    lines += [f"  {each['route']:<{width}}  {each['why_not'] or 'taken'}" for each in found["routes"]]
    styles = ["title", *("plain" if each["why_not"] else "good" for each in found["routes"])]
    return "\n".join(painted(escaped(line), style) for line, style in zip(lines, styles, strict=True))
