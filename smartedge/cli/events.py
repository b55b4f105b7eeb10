"""The command `events`: what has happened to the running balancer, as lines, and with --follow what happens."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import click

from smartedge.cli.errors import Stop
from smartedge.cli.event_line import event_line
from smartedge.cli.paint import painted
from smartedge.cli.remote import RefusedError, RemoteEdge, for_running_edge
from smartedge.cli.table import Entry, entries_of
from smartedge.config.values import escaped

USUAL_COUNT: Final = 20
MOST: Final = 1000
"""So many the balancer gives at once."""

AGAIN_S: Final = 1.0
"""How long until a balancer that has gone is asked again."""

_UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


@click.command(epilog="Example: smartedge events --follow --service web")
@for_running_edge
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, also over a restart of the balancer, until Ctrl-C.")
@click.option("--service", metavar="NAME", help="Only events of this service.")
@click.option("--backend", metavar="[SERVICE/]ID", help="Only events of this backend.")
@click.option("--since", metavar="TIME", help="Only events since then: 90s, 15m, 2h or 1d ago, or 2026-11-27T08:00.")
@click.option(
    "-n", "count", metavar="N", type=int, help=f"How many of the past: {USUAL_COUNT}, or with --since all, unless given."
)
def events(
    edge: RemoteEdge, follow: bool, service: str | None, backend: str | None, since: str | None, count: int | None
) -> None:
    """Show what happened: ejections, flips, reloads, discoveries, what operators did."""
    if count is None:
        count = USUAL_COUNT if since is None else MOST
    if not 0 <= count <= MOST:
        raise click.UsageError(f"-n is from 0 to {MOST}, not {count}")
    start = None if since is None else f"{unix_time_of(since, time.time()):.3f}"
    filters = {"service": service, "backend": backend, "since": start}
    asked = {name: value for name, value in filters.items() if value is not None}
    answer = edge.ask("GET", f"/smartedge/events?{urlencode({**asked, 'limit': max(count, 1)})}")
    found = entries_of(answer.get("events"))[-count:] if count else []
    if edge.as_json and not follow:
        click.echo(json.dumps({**answer, "events": found}, indent=2))
        return
    for event in found:
        _print(event, as_json=edge.as_json)
    if follow:
        try:
            with ended_by_interrupt():
                for event in following(edge, asked, str(answer.get("cursor", "0-0"))):
                    _print(event, as_json=edge.as_json)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None  # without a word: it is how one ends it


@contextlib.contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """End the process at once by SIGINT: as an exception it gets lost where it comes to gevent's loop instead of to us."""

    def end(_number: int, _frame: object) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def following(edge: RemoteEdge, asked: dict[str, str], cursor: str) -> Iterator[Entry]:
    """Yield what happens after a cursor, whatever becomes of the balancer. Raises RefusedError."""
    is_told = False
    while True:
        try:
            for place, event in streamed(edge.follow(f"/smartedge/events?{urlencode({**asked, 'after': cursor})}")):
                cursor, is_told = place or cursor, False
                if event is not None:
                    yield event
            trouble = "the balancer has ended the stream"
        except RefusedError as error:
            if error.problem.get("status") != 503:
                raise
            trouble = str(error)
        except Stop as error:
            trouble = str(error)
        if not is_told and not trouble.startswith("the balancer has ended"):
            is_told = True
            click.echo(f"smartedge: {trouble.splitlines()[0]}; waiting for it", err=True)
        time.sleep(AGAIN_S)


def streamed(lines: Iterator[str]) -> Iterator[tuple[str | None, Entry | None]]:
    """Read server-sent events: the id and the data of each, both None for one that only shows that somebody is there."""
    place, data = None, ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield place, _object(data)
            place, data = None, ""
        elif field == "id":
            place = value
        elif field == "data":
            data += value
        elif not field or field == "retry":
            yield None, None


def _object(data: str) -> Entry | None:
    try:
        found = json.loads(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _print(event: Entry, *, as_json: bool) -> None:
    click.echo(json.dumps(event, separators=(",", ":")) if as_json else event_line(event, painted))


def unix_time_of(text: str, now: float) -> float:
    """Read a time: so long ago, or a date and time, which is this machine's unless it says whose. Raises UsageError."""
    if match := re.fullmatch(r"(\d{1,6}(?:\.\d+)?) ?(s|m|min|h|d)", text, re.ASCII):
        return max(0.0, now - float(match[1]) * _UNITS[match[2]])
    try:
        return max(0.0, datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError, OSError):
        raise click.UsageError(
            f"--since is a time ago, such as 90s, 15m, 2h or 1d, or one such as 2026-11-27T08:00, not {escaped(text)}"
        ) from None
