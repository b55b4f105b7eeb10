"""The command `discover`: what a service's sources say, asked once by this command itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import click

from smartedge.cli.errors import Declined, Stop
from smartedge.cli.paint import painted
from smartedge.cli.table import table_lines
from smartedge.config.backends import BackendConfig
from smartedge.config.model import Config, ConfigError, config_path, load
from smartedge.config.values import escaped
from smartedge.discovery.ask_once import SourceAnswer, ask_once
from smartedge.discovery.menu import Surroundings, make_sources

TIMEOUT_S: Final = 20.0


@click.command(epilog="Example: smartedge discover web")
@click.argument("service", required=False)
@click.option("-c", "--config", metavar="FILE", help="The configuration file; backends.json unless given.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def discover(service: str | None, config: str | None, as_json: bool) -> None:
    """Ask where the backends of SERVICE come from, once, and print what is said; the balancer need not run.

    SERVICE may be left out where only one has sources. Exit status 1: a source fails, or says what nobody would go by.
    """
    path = config_path(config, os.environ)
    try:
        loaded = load(path, os.environ)
    except ConfigError as error:
        raise Stop(str(error)) from error
    name, said = _service(loaded, service)
    around = Surroundings(os.path.dirname(os.path.abspath(path)), loaded.resolve_s, os.environ, Random())
    answers = [ask_once(made, TIMEOUT_S) for made in make_sources(said, around)]
    text = _document(name, answers) if as_json else "\n\n".join(_text(name, one) for one in answers if not one.problem)
    if text:
        click.echo(text)
    for one in answers:
        for finding in one.findings if not as_json else ():
            click.echo(escaped(f"warning: {name} ({one.kind}): {finding}"), err=True)
    if problems := [f"{name} ({one.kind}): {one.problem}" for one in answers if one.problem]:
        raise Declined("\n  ".join(map(escaped, problems)))


def _service(config: Config, name: str | None) -> tuple[str, Any]:
    """Find the service that is meant, and its `discover`; raises Stop."""
    services = {one.name: one.config.discover for one in config.all_services()}
    with_sources = [one for one, said in services.items() if said is not None]
    if name is None:
        if not with_sources:
            raise Stop('no service has "discover" in this configuration, so there is nobody to ask')
        if len(with_sources) > 1:
            raise Stop(f"say which service: {', '.join(with_sources)}")
        name = with_sources[0]
    if name not in services:
        raise Stop(f"there is no service {escaped(json.dumps(name))}; there are: {', '.join(services)}")
    if services[name] is None:
        having = f"; {', '.join(with_sources)} have" if len(with_sources) > 1 else "".join(f"; {one} has" for one in with_sources)
        raise Stop(f'the service {name} has no "discover"{having}')
    return name, services[name]


def _text(name: str, answer: SourceAnswer) -> str:
    """Lay an answer out as a table."""
    count = len(answer.backends)
    head = (
        f"{name} ({answer.kind}): {count} {'backend' if count == 1 else 'backends'}, answered in {answer.took_s * 1000:,.0f} ms"
    )
    if answer.ttl_s is not None:
        head += f", which holds for {answer.ttl_s:g} s"
    columns = [one for one in _COLUMNS if one[0] in _ALWAYS or any(one[2](backend) for backend in answer.backends)]
    rows = [[title for title, _, _ in columns], *([show(one) for _, _, show in columns] for one in answer.backends)]
    lines = table_lines(rows, [index for index, (_, is_word, _) in enumerate(columns) if not is_word], painted)
    return "\n".join([escaped(head), *(lines if answer.backends else [])])


def _labels(backend: BackendConfig) -> str:
    return " ".join(f"{name}={text}" for name, text in backend.labels)


_COLUMNS: Final[tuple[tuple[str, bool, Callable[[BackendConfig], str]], ...]] = (
    ("BACKEND", True, lambda one: one.id),
    ("URL", True, lambda one: one.url),
    ("WEIGHT", False, lambda one: str(one.weight)),
    ("PRIORITY", False, lambda one: str(one.priority or "")),
    ("STATE", True, lambda one: one.state if one.state != "enabled" else ""),
    ("ZONE", True, lambda one: one.zone or ""),
    ("REGION", True, lambda one: one.region or ""),
    ("LABELS", True, _labels),
)
_ALWAYS: Final = ("BACKEND", "URL", "WEIGHT")
"""Columns that are there also where nothing stands in them."""


def _document(name: str, answers: Sequence[SourceAnswer]) -> str:
    sources = [
        {
            "source": one.kind,
            "ok": not one.problem,
            "problem": one.problem or None,
            "findings": list(one.findings),
            "ttl_s": one.ttl_s,
            "took_s": round(one.took_s, 4),
            "backends": [backend.model_dump(mode="json", exclude_unset=True) for backend in one.backends],
        }
        for one in answers
    ]
    return json.dumps({"service": name, "sources": sources}, indent=2)
