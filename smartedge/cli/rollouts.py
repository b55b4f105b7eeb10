"""The commands about changes: plan one, confirm one, go back, and see what there was."""

from __future__ import annotations

import json
import os
import time
from typing import Any
from urllib.parse import quote

import click

from smartedge.cli.errors import Declined, Stop
from smartedge.cli.paint import painted
from smartedge.cli.remote import RefusedError, RemoteEdge, for_running_edge
from smartedge.cli.status_table import reload_text
from smartedge.cli.table import duration_text, entries_of, table_lines
from smartedge.config.model import ConfigError, config_path
from smartedge.config.problems import decode
from smartedge.config.sources import read_file
from smartedge.config.values import escaped

CHANGES = 2
"""The exit status of a plan that would change something, as Terraform's `plan -detailed-exitcode` has it."""

SHORT = 60
"""Letters of a value that are shown."""

_author = click.option("--author", metavar="NAME", help="Whose change it is; the history keeps it.")
_SIGNS = {"added": ("+", "good"), "removed": ("-", "bad"), "changed": ("~", "warn")}


@click.command(epilog="Example: smartedge plan new.json")
@click.argument("file", required=False)
@for_running_edge
def plan(edge: RemoteEdge, file: str | None) -> int:
    """Say what a reload with FILE would change in the running balancer; nothing is changed.

    FILE is that of the configuration unless given. Exit status: 0 nothing would change, 1 it would be refused, 2 something would.
    """
    path = config_path(file or edge.config, os.environ)
    try:
        text = read_file(path)
        if text is None:
            raise Stop(f"{escaped(path)}: there is no such file")
        document, repeated = decode(text, path)
        if repeated:
            raise Declined(f"{escaped(path)}: a key stands there twice; `smartedge check` names it")
    except ConfigError as error:
        raise Declined(str(error)) from error
    try:
        answer = edge.ask("POST", "/smartedge/plan", document)
    except RefusedError as error:
        raise Declined(str(error)) from error
    edge.print_answer(answer, plan_text)
    return CHANGES if answer.get("changed") else 0


@click.command(epilog="Example: smartedge confirm")
@for_running_edge
def confirm(edge: RemoteEdge) -> None:
    """Keep the configuration that is on trial (reload --confirm)."""
    edge.print_answer(edge.ask("POST", "/smartedge/confirm"), lambda answer: escaped(str(answer.get("message") or answer)))


@click.command(epilog="Example: smartedge rollback 12")
@click.argument("number", type=click.IntRange(1), required=False, metavar="[N]")
@for_running_edge
@_author
def rollback(edge: RemoteEdge, number: int | None, author: str | None) -> None:
    """Go back to configuration N of `history`, or to the one before; a trial ends by that, too."""
    said = {"id": number, "author": author}
    body = {name: value for name, value in said.items() if value is not None}
    edge.print_answer(edge.ask("POST", "/smartedge/rollback", body or None), reload_text)


@click.command(epilog="Example: smartedge history")
@for_running_edge
def history(edge: RemoteEdge) -> None:
    """Show the configurations that were applied, the newest first, and what each has changed."""
    edge.print_answer(edge.ask("GET", "/smartedge/generations"), history_text)


def reload_query(confirm_s: float | None, author: str | None, *, require_all: bool) -> str:
    """Write what a reload is asked for besides, as a query."""
    confirm = None if confirm_s is None else f"{confirm_s:g}"
    said = {"confirm_s": confirm, "author": author, "require_all": "true" if require_all else None}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in said.items() if value is not None)
    return f"?{query}" if query else ""


def plan_text(answer: dict[str, Any]) -> str:
    """Tell a plan to a person."""
    if not answer.get("changed"):
        lines = ["Nothing would change."]
    else:
        lines = [*map(_change_line, entries_of(answer.get("changes")))]
        lines += [f"  the files of {key} hold something else" for key in answer.get("files_renewed") or ()]
    lines += _part("What it means", answer.get("meaning"))
    for service, shares in sorted((answer.get("shares") or {}).items()):
        ratios = ", ".join(f"{name} {ratio:.0%}" for name, ratio in sorted(shares["ratios"].items())[:12])
        at = f" at {shares['requests_per_s']:g} requests a second" if shares["by"] == "simulation" else ", by weight"
        lines += ["", escaped(f"Expected shares of {service}{at}: {ratios}")]
    lines += _part("Only after a restart", answer.get("restart_needed"))
    lines += _part("Look at", answer.get("warnings"))
    if answer.get("changed"):
        lines += ["", f'To apply it to just what is in use now: If-Match: "{answer.get("etag")}"']
    return "\n".join(lines)


def history_text(answer: dict[str, Any]) -> str:
    """Lay out what was applied."""
    rows = [["ID", "AT", "GENERATION", "FROM", "BY", "AUTHOR", "CHANGES"]]
    for one in entries_of(answer.get("configurations")):
        mark = "*" if one.get("in_use") else ""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(one.get("at") or 0)))
        what = str(one.get("generation")), str(one.get("origin")), *map(str, _who(one)), _summary(one)
        rows.append([f"{one.get('id') or '-'}{mark}", at, *what])
    lines = table_lines([list(map(escaped, row)) for row in rows])
    if trial := answer.get("trial"):
        left = duration_text(trial["left_s"])
        lines += ["", f"generation {trial['generation']} is on trial for another {left}: confirm or rollback"]
    return "\n".join(lines if len(rows) > 1 else ["No configuration is kept yet."])


def _who(one: dict[str, Any]) -> tuple[object, object]:
    return one.get("by") or "-", one.get("author") or "-"


def _summary(one: dict[str, Any]) -> str:
    changes = entries_of(one.get("changes"))
    said = ", ".join(f"{_SIGNS.get(each.get('what', ''), ('~', ''))[0]}{each.get('path')}" for each in changes[:3])
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    unusable = "" if one.get("usable", True) else "can't be used any more"
    parts = [str(part) for part in (f"{said}{more}", one.get("note"), unusable) if part]
    return "; ".join(parts) or "-"


def _change_line(one: dict[str, Any]) -> str:
    sign, style = _SIGNS.get(str(one.get("what")), ("~", "warn"))
    old, new = _short(one.get("old")), _short(one.get("new"))
    value = new if sign == "+" else old if sign == "-" else f"{old} -> {new}"
    return painted(escaped(f"{sign} {one.get('path')}: {value}"), style)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


def _part(title: str, sentences: object) -> list[str]:
    said = [str(one) for one in sentences] if isinstance(sentences, list) else []
    return ["", f"{title}:", *(f"  {escaped(one)}" for one in said)] if said else []
