"""The command `check`: whether a configuration is right, all that is wrong with it, and what one should know besides."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import click

from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.cli.errors import Stop
from smartedge.cli.paint import painted
from smartedge.config.model import Config, ConfigError, Problem, admin_token, config_path, load
from smartedge.config.services import ServiceConfig
from smartedge.edge.cautions import cautions
from smartedge.process.preflight import check_usable


@click.command(epilog="Example: smartedge check backends.json")
@click.argument("file", required=False)
@click.option("-c", "--config", metavar="FILE", help="The same as FILE.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def check(file: str | None, config: str | None, as_json: bool) -> None:
    """Say whether the configuration in FILE is right (backends.json unless given), and all that is wrong with it."""
    if file and config and file != config:
        raise click.UsageError("FILE and --config name different files; give one of them")
    path = config_path(file or config, os.environ)
    try:
        loaded, token = load(path, os.environ), admin_token(os.environ)
        check_usable(loaded, os.environ, {}, path)
    except ConfigError as error:
        if as_json:
            click.echo(_document(path, None, error.problems, ()))
        raise Stop(str(error)) from error
    warnings = cautions(loaded, os.environ, has_token=token is not None)
    if as_json:
        click.echo(_document(path, loaded, (), warnings))
        return
    for line in _found(loaded):
        click.echo(line)
    for text in warnings:
        click.echo(f"{painted('warning', 'warn')}: {text}", err=True)


def _found(config: Config) -> list[str]:
    """Say what there is: in a line, and with services in another for each."""
    services = config.all_services()
    each = [
        f"{_counted(len(one.config.backends), 'backend')}{_more(one.config)}, strategy {one.config.strategy}" for one in services
    ]
    routes = f", {_counted(len(config.routes), 'route')}" if config.routes else ""
    if [one.name for one in services] == [DEFAULT_SERVICE]:
        return [f"{painted('ok', 'good')}: {each[0]}{routes}"]
    count = sum(len(one.config.backends) for one in services)
    lines = [f"  {one.name}: {text}" for one, text in zip(services, each, strict=True)]
    return [f"{painted('ok', 'good')}: {_counted(count, 'backend')} in {_counted(len(services), 'service')}{routes}", *lines]


def _more(config: ServiceConfig) -> str:
    """Say where more backends come from."""
    return f" and those of {', '.join(config.discover.sources)}" if config.discover is not None else ""


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _sources(config: ServiceConfig) -> dict[str, list[str]]:
    return {} if config.discover is None else {"discover": list(config.discover.sources)}


def _document(path: str, config: Config | None, problems: Sequence[Problem], warnings: Sequence[str]) -> str:
    services = () if config is None else config.all_services()
    each = {
        one.name: {"backends": len(one.config.backends), "strategy": one.config.strategy} | _sources(one.config)
        for one in services
    }
    document = {
        "ok": config is not None,
        "file": path,
        "backends": None if config is None else sum(len(one.config.backends) for one in services),
        "strategy": None if config is None else config.strategy,
        "services": None if config is None else each,
        "routes": None if config is None else len(config.routes),
        "problems": [{"path": problem.path, "detail": problem.message} for problem in problems],
        "warnings": list(warnings),
    }
    return json.dumps(document, indent=2)
