"""The command `top`: the backends of a running balancer, live, with keys to sort, filter, look closer, and operate."""

from __future__ import annotations

import json
import sys
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import click

from smartedge.cli.errors import Declined, Stop
from smartedge.cli.remote import RemoteEdge, for_running_edge
from smartedge.cli.top_view import TopView, rows_of

if TYPE_CHECKING:
    from smartedge.cli.top_screen import Screen

DECISIONS = 15
EVENTS = 8
WIDE = 10_000
"""Columns of a table that goes to no terminal."""


@click.command(epilog="Example: smartedge top --once --json")
@for_running_edge
@click.option("--delay", default=1.0, show_default=True, metavar="S", help="Seconds between two looks.")
@click.option("--once", is_flag=True, help="Print one table, or with --json one status, and end.")
def top(edge: RemoteEdge, delay: float, once: bool) -> None:
    """Watch the backends of the running balancer, and operate them; ? shows the keys."""
    if not 0.1 <= delay <= 3600:
        raise click.UsageError(f"--delay is from 0.1 to 3600 seconds, not {delay:g}")
    view = TopView()
    if once or edge.as_json:
        view.status = edge.ask("GET", "/api/status")
        view.rows = rows_of(view.status)
        if edge.as_json:
            click.echo(json.dumps(view.status, indent=2))
            return
        for line in view.lines(WIDE, len(view.rows) + 5)[:-1]:
            click.echo("".join(piece.text for piece in line).rstrip())
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Stop("top needs a terminal; --once prints one table, and --once --json one status")
    import curses  # late, as its memory would be every edge's

    from smartedge.cli.top_screen import full_screen

    _Looker(edge, view).ask()  # what is wrong is said before the screen is taken over
    try:
        with full_screen() as screen:
            _watch(screen, _Looker(edge, view), view, delay)
    except curses.error as error:
        raise Stop(f"the terminal cannot show it ({error}); --once prints one table") from None


class _Looker:
    """Asks the edge again and again; made by the command. view: is told what the edge says."""

    def __init__(self, edge: RemoteEdge, view: TopView) -> None:
        self._edge = edge
        self._view = view
        self._asked_at = 0.0

    def ask(self) -> None:
        """Take one status; raises Stop."""
        view, before = self._view, self._view.status
        status, now = self._edge.ask("GET", "/api/status"), monotonic()
        view.rows = rows_of(status, before or None, now - self._asked_at if self._asked_at else 0.0)
        view.status, self._asked_at, view.trouble = status, now, ""
        row = view.row()
        if view.mode == "detail" and row is not None:
            query = f"backend={quote(row.name, safe='')}&limit={DECISIONS}"
            view.decisions = self._edge.ask("GET", f"/smartedge/decisions?{query}")["decisions"]
            of = {"service": row.entry.get("service", ""), "backend": row.entry.get("id", ""), "limit": EVENTS}
            view.events = self._edge.ask("GET", f"/smartedge/events?{urlencode(of)}")["events"]

    def ask_or_tell(self) -> None:
        """Take one status; what is wrong is shown, and it is tried again."""
        try:
            self.ask()
        except Stop as error:
            self._view.trouble = str(error).splitlines()[0]

    def do(self, path: str) -> None:
        """Operate a backend, and show what the edge says to it."""
        try:
            answer = self._edge.ask("POST", path, {})
            self._view.said = str(answer.get("message") or "done")
        except (Stop, Declined) as error:
            self._view.said = str(error).splitlines()[0]


def _watch(screen: Screen, looker: _Looker, view: TopView, delay_s: float) -> None:
    due = 0.0
    while view.mode != "quit":
        if monotonic() >= due:
            looker.ask_or_tell()
            due = monotonic() + delay_s
        screen.show(view.lines(*screen.size))
        key = screen.key(due - monotonic())
        if key is None:
            continue
        mode = view.mode
        if (asked := view.press(key)) is not None:
            looker.do(asked.path)
        if asked is not None or (view.mode == "detail" and mode != "detail"):
            due = 0.0
