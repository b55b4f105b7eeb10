"""The commands for a running balancer: reload, status, cluster; for single backends drain, enable, disable, weight; explain."""

from __future__ import annotations

import json
import sys
from ipaddress import ip_address
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import click

from smartedge.cli.cluster_table import cluster_text
from smartedge.cli.errors import Declined
from smartedge.cli.explain_table import explained_text, list_text
from smartedge.cli.paint import painted
from smartedge.cli.progress import progress
from smartedge.cli.remote import RemoteEdge, for_running_edge
from smartedge.cli.rollouts import reload_query
from smartedge.cli.status_table import reload_text, status_text
from smartedge.cli.table import entries_of
from smartedge.config.values import escaped

POLL_S = 0.2
WATCH_S = 1.0

_persist = click.option("--persist", is_flag=True, help="Write it into the configuration's file too, so that a restart keeps it.")
_backend = click.argument("backend", metavar="[SERVICE/]ID")
_backend_or_edge = click.argument("backend", metavar="[SERVICE/]ID", required=False)
_edge = click.option("--edge", "whole", is_flag=True, help="Not a backend but the edge itself: in a cluster this node.")
_all_nodes = click.option("--all", "all_nodes", is_flag=True, help="Not a backend but all nodes of the cluster.")


@click.command(epilog="Example: smartedge drain b2 --wait --timeout 120")
@_backend_or_edge
@for_running_edge
@_persist
@_edge
@_all_nodes
@click.option("--wait", is_flag=True, help="Wait until its last request has ended.")
@click.option("--timeout", default=60.0, show_default=True, metavar="S", help="How long to wait, in seconds.")
def drain(edge: RemoteEdge, backend: str | None, persist: bool, whole: bool, all_nodes: bool, wait: bool, timeout: float) -> None:
    """Send a backend no new requests but those of its sticky sessions; those in flight end.

    Or have the edge itself drain, one node or all: /health answers 503, so that whoever is in front sends it nothing new.
    """
    if backend is None or whole or all_nodes:
        _operate_edge(edge, "drain", backend, whole=whole, all_nodes=all_nodes, alone=persist or wait)
        return
    answer = edge.ask("POST", f"{_backend_path(backend)}/drain", {"persist": persist})
    if not (wait and edge.as_json):  # one document, when all is done
        _print_operated(edge, answer)
    if wait:
        _wait_until_drained(edge, backend, timeout)
        edge.print_answer(answer | {"in_flight": 0}, lambda _: f"{escaped(backend)} is drained")


@click.command(epilog="Example: smartedge enable b2")
@_backend_or_edge
@for_running_edge
@_persist
@_edge
@_all_nodes
def enable(edge: RemoteEdge, backend: str | None, persist: bool, whole: bool, all_nodes: bool) -> None:
    """Have a drained or disabled backend back; or the edge itself, one node or all."""
    if backend is None or whole or all_nodes:
        _operate_edge(edge, "enable", backend, whole=whole, all_nodes=all_nodes, alone=persist)
        return
    _operate(edge, backend, "enable", {"persist": persist})


@click.command(epilog="Example: smartedge disable web/b2 --persist")
@_backend
@for_running_edge
@_persist
def disable(edge: RemoteEdge, backend: str, persist: bool) -> None:
    """Send a backend no new requests at all, not even those of sticky sessions."""
    _operate(edge, backend, "disable", {"persist": persist})


@click.command(epilog="Example: smartedge weight b2 10")
@_backend
@click.argument("weight", metavar="N|default")
@for_running_edge
@_persist
def weight(edge: RemoteEdge, backend: str, weight: str, persist: bool) -> None:
    """Give a backend another weight, 0 to 1000, or `default` for that of the file."""
    if weight != "default" and not (weight.isascii() and weight.isdigit()):
        raise click.UsageError(f"the weight is a whole number or default, not {escaped(weight)}")
    _operate(edge, backend, "weight", {"weight": None if weight == "default" else int(weight), "persist": persist})


@click.command(epilog="Example: smartedge explain --backend b2 --outcome failed")
@click.argument("request_id", required=False)
@for_running_edge
@click.option("--backend", metavar="[SERVICE/]ID", help="Without REQUEST_ID: only requests that were sent to this backend.")
@click.option("--outcome", metavar="WORD", help="Without REQUEST_ID: only those that ended ok, failed or abandoned.")
@click.option("--limit", default=20, show_default=True, help="Without REQUEST_ID: how many.")
@click.option("--follow", is_flag=True, help="Without REQUEST_ID: go on with new ones as they come, until Ctrl-C.")
def explain(edge: RemoteEdge, request_id: str | None, *, follow: bool, **filters: Any) -> None:
    """Say why a request went where it went; without REQUEST_ID, list the last ones of which that is known.

    The id of a trace stands for the last request of it.
    """
    if follow and request_id is not None:
        raise click.UsageError("--follow lists requests as they come; it takes no REQUEST_ID")
    if request_id is not None:
        edge.print_answer(
            edge.ask("GET", f"/smartedge/decisions/{quote(request_id, safe='')}"), lambda answer: explained_text(answer, painted)
        )
        return
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in filters.items() if value is not None)
    seen: set[str] = set()
    while True:
        answer = edge.ask("GET", f"/smartedge/decisions?{query}")
        if not follow:
            edge.print_answer(answer, lambda answer: list_text(answer, painted))
            return
        seen = _print_unseen(edge, answer, seen)
        sleep(WATCH_S)


@click.command(epilog="Example: smartedge reload")
@for_running_edge
@click.option("--require-all", is_flag=True, help="Change nothing unless every node of the cluster can use it.")
@click.option(
    "--confirm",
    "confirm_s",
    type=click.FloatRange(1, 86_400),
    metavar="S",
    help="Go back unless `confirm` comes within S seconds.",
)
@click.option(
    "--max-error-ratio",
    type=click.FloatRange(0, 1),
    metavar="R",
    help="With --confirm: go back when more requests fail, and more than before.",
)
@click.option(
    "--max-p99-factor",
    type=click.FloatRange(1, 1_000),
    metavar="F",
    help="With --confirm: go back when the p99 is F times that of before.",
)
@click.option("--author", metavar="NAME", help="Whose change it is; the history keeps it.")
def reload(
    edge: RemoteEdge,
    *,
    require_all: bool,
    confirm_s: float | None,
    max_error_ratio: float | None,
    max_p99_factor: float | None,
    author: str | None,
) -> None:
    """Have the running balancer read its configuration again; in a cluster, have all nodes use it."""
    limits = {
        name: value for name, value in (("error_ratio", max_error_ratio), ("p99_factor", max_p99_factor)) if value is not None
    }
    if limits and confirm_s is None:
        raise click.UsageError("--max-error-ratio and --max-p99-factor are for a reload with --confirm")
    body = {"confirm_s": confirm_s, "rollback_on": limits} if limits else None
    query = reload_query(None if limits else confirm_s, author, require_all=require_all)
    edge.print_answer(edge.ask("POST", f"/api/reload{query}", body), reload_text)


@click.command(epilog="Example: smartedge cluster --json")
@for_running_edge
def cluster(edge: RemoteEdge) -> None:
    """Show the nodes of the cluster that the running balancer is one of."""
    edge.print_answer(edge.ask("GET", "/smartedge/cluster"), lambda answer: cluster_text(answer, paint=painted))


@click.command(epilog="Example: smartedge status --watch")
@for_running_edge
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C; `top` has keys, too.")
def status(edge: RemoteEdge, watch: bool) -> None:
    """Show the backends of the running balancer, and how requests were shared out."""
    while True:
        answer = edge.ask("GET", "/api/status")
        if watch and sys.stdout.isatty():
            click.clear()
        edge.print_answer(answer, lambda answer: status_text(answer, painted))
        if not watch:
            return
        sleep(WATCH_S)


def _print_unseen(edge: RemoteEdge, answer: dict[str, Any], seen: set[str]) -> set[str]:
    """Print the decisions that were not there before, the oldest first, and return what has been seen."""
    found = entries_of(answer.get("decisions"))
    fresh = [one for one in reversed(found) if one.get("request_id") not in seen]
    if edge.as_json:
        for one in fresh:
            click.echo(json.dumps(one))
    elif fresh:
        lines = list_text({"decisions": fresh}, painted).splitlines()
        click.echo("\n".join(lines[1:] if seen else lines))  # the titles once
    return {str(one.get("request_id")) for one in found} or seen


def _operate(edge: RemoteEdge, backend: str, action: str, body: dict[str, Any]) -> None:
    _print_operated(edge, edge.ask("POST", f"{_backend_path(backend)}/{action}", body))


def _operate_edge(edge: RemoteEdge, action: str, backend: str | None, *, whole: bool, all_nodes: bool, alone: bool) -> None:
    """Drain or enable the edge. alone: flags were given that are for backends."""
    if backend is not None or whole == all_nodes or alone:
        raise click.UsageError("say which backend, or --edge, or --all; --persist and --wait are for a backend")
    _print_operated(edge, edge.ask("POST", f"/smartedge/{action}{'?all=true' if all_nodes else ''}"))


def _print_operated(edge: RemoteEdge, answer: dict[str, Any]) -> None:
    edge.print_answer(answer, lambda answer: escaped(str(answer.get("message") or answer)))
    if answer.get("warning"):
        click.echo(f"smartedge: {escaped(str(answer['warning']))}", err=True)


def _wait_until_drained(edge: RemoteEdge, backend: str, timeout_s: float) -> None:
    """Ask until nothing is in flight; Declined when that takes too long."""
    deadline = monotonic() + timeout_s
    with progress() as show:
        while in_flight := edge.ask("GET", _backend_path(backend)).get("in_flight", 0):
            left_s = deadline - monotonic()
            if left_s < 0:
                raise Declined(f"after {timeout_s:g} s {escaped(backend)} still has {in_flight} in flight")
            show(f"{escaped(backend)} has {in_flight} in flight; waiting for {left_s:.0f} s at most")
            sleep(POLL_S)


def _backend_path(backend: str) -> str:
    """Return the path of a backend's page: of `web/b1`, or of an id alone, which the edge looks for in all services.

    What may be the address of a name as well (`b1/10.0.0.5`) is left to the edge, too.
    """
    service, slash, backend_id = backend.partition("/")
    if not service or (slash and not backend_id):
        raise click.UsageError(f'a backend is SERVICE/ID, or its ID alone, not "{escaped(backend)}"')
    if not slash or _is_address(backend_id):
        return f"/smartedge/backends/{quote(backend, safe='')}"
    return f"/smartedge/services/{quote(service, safe='')}/backends/{quote(backend_id, safe='')}"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
