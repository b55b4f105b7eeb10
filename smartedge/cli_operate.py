"""The commands for single backends and single requests: drain, enable, disable, weight, explain."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import click

from smartedge.cli_ask import ask_balancer, url_option
from smartedge.cli_stop import Declined
from smartedge.config_values import escaped
from smartedge.remote_explain import explained_text, list_text

POLL_S = 0.2

_persist = click.option("--persist", is_flag=True, help="Write it into the configuration's file too, so that a restart keeps it.")
_backend = click.argument("backend", metavar="ID")


@click.command()
@_backend
@url_option
@_persist
@click.option("--wait", is_flag=True, help="Wait until its last request has ended.")
@click.option("--timeout", default=60.0, show_default=True, metavar="S", help="How long to wait, in seconds.")
def drain(backend: str, url: str, persist: bool, wait: bool, timeout: float) -> None:
    """Send a backend no new requests but those of its sticky sessions; those in flight end."""
    _operate(url, backend, "drain", {"persist": persist})
    if wait:
        _wait(url, backend, timeout)


@click.command()
@_backend
@url_option
@_persist
def enable(backend: str, url: str, persist: bool) -> None:
    """Have a drained or disabled backend back."""
    _operate(url, backend, "enable", {"persist": persist})


@click.command()
@_backend
@url_option
@_persist
def disable(backend: str, url: str, persist: bool) -> None:
    """Send a backend no new requests at all, not even those of sticky sessions."""
    _operate(url, backend, "disable", {"persist": persist})


@click.command()
@_backend
@click.argument("weight", metavar="N|default")
@url_option
@_persist
def weight(backend: str, weight: str, url: str, persist: bool) -> None:
    """Give a backend another weight, 0 to 1000, or `default` for that of the file."""
    if weight != "default" and not (weight.isascii() and weight.isdigit()):
        raise click.UsageError(f"the weight is a whole number or default, not {escaped(weight)}")
    _operate(url, backend, "weight", {"weight": None if weight == "default" else int(weight), "persist": persist})


@click.command()
@click.argument("request_id", required=False)
@url_option
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON.")
@click.option("--backend", metavar="ID", help="Without REQUEST_ID: only requests that were sent to this backend.")
@click.option("--outcome", metavar="WORD", help="Without REQUEST_ID: only those that ended ok, failed or abandoned.")
@click.option("--limit", default=20, show_default=True, help="Without REQUEST_ID: how many.")
def explain(request_id: str | None, url: str, as_json: bool, **filters: Any) -> None:
    """Say why a request went where it went; without REQUEST_ID, list the last ones of which that is known."""
    if request_id is not None:
        answer = ask_balancer("GET", url, f"/smartedge/decisions/{quote(request_id, safe='')}")
        click.echo(explained_text(answer, as_json=as_json))
        return
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in filters.items() if value is not None)
    click.echo(list_text(ask_balancer("GET", url, f"/smartedge/decisions?{query}"), as_json=as_json))


COMMANDS = (drain, enable, disable, weight, explain)


def _operate(url: str, backend: str, action: str, body: dict[str, Any]) -> None:
    answer = ask_balancer("POST", url, f"{_path(backend)}/{action}", body)
    click.echo(escaped(str(answer.get("message") or answer)))
    if answer.get("warning"):
        click.echo(f"smartedge: {escaped(str(answer['warning']))}", err=True)


def _wait(url: str, backend: str, timeout_s: float) -> None:
    """Ask until nothing is in flight; Declined when that takes too long."""
    deadline = monotonic() + timeout_s
    while in_flight := ask_balancer("GET", url, _path(backend)).get("in_flight", 0):
        if monotonic() > deadline:
            raise Declined(f"after {timeout_s:g} s {escaped(backend)} still has {in_flight} in flight")
        sleep(POLL_S)
    click.echo(f"{escaped(backend)} is drained")


def _path(backend: str) -> str:
    return f"/smartedge/backends/{quote(backend, safe='')}"
