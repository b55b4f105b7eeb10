"""The command `version`, and `--version`: ours, and those of what is underneath."""

from __future__ import annotations

import json
import platform
import ssl

import click

from smartedge import __version__
from smartedge.proxy.compiled import is_compiled

UNDERNEATH = ("gevent", "gunicorn", "flask", "requests", "httptools", "pydantic", "prometheus-client")
OPTIONAL = ("acme", "dnspython", "maxminddb", "bcrypt", "opentelemetry-sdk", "hpack")


def versions() -> dict[str, str]:
    """Return the version of each part that is installed; a report of a bug wants them."""
    from importlib.metadata import PackageNotFoundError  # late: its memory is for this command alone
    from importlib.metadata import version as version_of

    own = f"{__version__} (compiled)" if is_compiled() else __version__
    found = {"smartedge": own, "python": f"{platform.python_version()} ({platform.python_implementation()})"}
    for name in (*UNDERNEATH, *OPTIONAL):
        try:
            found[name] = version_of(name)
        except PackageNotFoundError:
            continue
    return found | {"openssl": ssl.OPENSSL_VERSION.removeprefix("OpenSSL "), "system": platform.platform(terse=True)}


def versions_text() -> str:
    """Write them for a person, ours in a line of its own."""
    own, *rest = versions().items()
    return "\n".join([f"{own[0]} {own[1]}", *(f"  {name} {text}" for name, text in rest)])


@click.command(epilog="Example: smartedge version --json")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Print the version of SmartEdge, and of what is underneath."""
    click.echo(json.dumps(versions(), indent=2) if as_json else versions_text())
