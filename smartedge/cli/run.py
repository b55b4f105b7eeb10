"""The command `run`: reads the configuration, refuses what cannot be used, and serves."""

from __future__ import annotations

import os
from typing import Any

import click

from smartedge.cli.errors import Stop
from smartedge.config.model import Config, ConfigError, admin_token, config_path
from smartedge.config.values import escaped
from smartedge.edge.cluster_start import ClusterStart, load_for_start
from smartedge.http.resources import TooFewDescriptors, require_descriptors
from smartedge.process.listening import CannotListen
from smartedge.process.predecessor import Predecessor, find_predecessor
from smartedge.process.preflight import check_usable
from smartedge.workers.board import BoardError
from smartedge.workers.row_book import RowsError
from smartedge.workers.state_dir import StateError

_STRATEGY_HELP = "How a backend is chosen: adaptive, round_robin, ewma, least_requests, random, consistent_hash or module:Class."
_CONFIG_HELP = "The configuration file; backends.json unless given."


@click.command(epilog="Example: smartedge run --backend http://localhost:8081 --backend http://localhost:8082")
@click.option("-c", "--config", metavar="FILE", help=_CONFIG_HELP)
@click.option("--bind", metavar="HOST:PORT", help="Address that clients connect to; 127.0.0.1:8080 unless given.")
@click.option("--backend", metavar="URL", multiple=True, help="A backend, instead of the file's; may be repeated.")
@click.option("--admin-bind", metavar="HOST:PORT", help="Address for health, reload, status and metrics alone; or unix:/PATH.")
@click.option("--http-bind", metavar="HOST:PORT", help="Address of a listener without TLS that sends everybody to https.")
@click.option(
    "--domain",
    metavar="NAME",
    multiple=True,
    help="Serve this host by https, with a certificate that is got and renewed: on ports 443 and 80 unless others are named."
    " By it you agree to the authority's terms (Let's Encrypt's unless acme.directory is another's). May be repeated.",
)
@click.option("--workers", metavar="N", help="Processes that serve: a number, or auto for one per processor; 1 unless given.")
@click.option("--certfile", metavar="FILE", help="PEM file of the certificate for https; read again at every reload.")
@click.option("--keyfile", metavar="FILE", help="PEM file of its key, if the certificate's file does not hold it.")
@click.option(
    "--access-log",
    metavar="[FILE]",
    is_flag=False,
    flag_value="true",
    help="Write a line for each request to standard output, or to FILE.",
)
@click.option("--access-log-format", metavar="FORMAT", help="How it looks: json, combined or logfmt; json unless given.")
@click.option("--strategy", metavar="NAME", help=_STRATEGY_HELP)
@click.option(
    "--log-level", metavar="LEVEL", help="What to log to standard error: debug, info, warning or error; info unless given."
)
@click.option(
    "--cluster",
    metavar="URL",
    help="The etcd that the nodes of a cluster have in common, etcd://HOST:2379,HOST:2379/PREFIX; etcds:// for TLS. The"
    " configuration is there then.",
)
@click.option("--node", metavar="NAME", help="What this node is called in its cluster; host name and port unless given.")
@click.option(
    "--tracing",
    metavar="[URL]",
    is_flag=False,
    flag_value="true",
    help="Take part in traces (traceparent), and send spans to the OTLP collector at URL; backends.json may say more.",
)
@click.option("--zone", metavar="NAME", help="The zone that this edge stands in: its backends there come first.")
def run(config: str | None, backend: tuple[str, ...], domain: tuple[str, ...], node: str | None, **flags: str | None) -> int:
    """Start the balancer; Ctrl-C stops it."""
    if node:
        os.environ["SMARTEDGE_NODE"] = node
    path, overrides = config_path(config, os.environ), {"backends": list(backend), "domain": list(domain), **flags}
    try:
        require_descriptors()
        predecessor = find_predecessor()
    except (TooFewDescriptors, ValueError) as error:
        raise Stop(str(error)) from error
    try:
        return _run(path, overrides, predecessor)
    except Stop as stop:
        if predecessor is not None:
            predecessor.we_cannot(str(stop))
        raise


def _run(path: str, overrides: dict[str, Any], predecessor: Predecessor | None) -> int:
    """Load the configuration, and serve; raises Stop for what can't be done."""
    try:
        (loaded, cluster), token = load_for_start(path, os.environ, overrides), admin_token(os.environ)
        check_usable(loaded, os.environ, overrides, path, listens="LISTEN_FDS" not in os.environ)
        return _serve(loaded, path, overrides, token, cluster, predecessor)
    except (ConfigError, BoardError, RowsError, StateError, CannotListen) as error:
        raise Stop(str(error)) from error
    except OSError as error:
        if reason := _file_trouble(error):
            raise Stop(reason) from error
        raise


def _serve(
    config: Config,
    path: str,
    overrides: dict[str, Any],
    token: str | None,
    cluster: ClusterStart | None,
    predecessor: Predecessor | None,
) -> int:
    """Serve in this process or in several; the imports are late, so that a broken file is told at once."""
    workers = len(os.sched_getaffinity(0)) if config.workers == "auto" else int(config.workers)
    if workers == 1:
        from smartedge.cli.serve import serve

        return serve(config, config_path=path, overrides=overrides, token=token, cluster=cluster, predecessor=predecessor)
    from smartedge.cli.serve_many import serve_many

    return serve_many(
        config, workers, config_path=path, overrides=overrides, token=token, cluster=cluster, predecessor=predecessor
    )


def _file_trouble(error: OSError) -> str | None:
    """An error about a file names it; any other is not foreseen, and keeps its traceback."""
    return f"{escaped(str(error.filename))}: {error.strerror}" if error.filename else None
