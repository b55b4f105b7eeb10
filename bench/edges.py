"""How each edge is set up to choose among its backends: all retry on 500 too; the peers give an answer 5 s."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from peers import Command, Peer, Place, caddy, edge_env, haproxy, needs, needs_file, nginx, smartedge

ANSWER_S = 5
# `smartedge` is what a list of backends alone gives.
EWMA = {"strategy": "ewma", "retry": {"statuses": [500, 502, 503, 504], "hedge": True}}
ROUND_ROBIN = {"strategy": "round_robin", "retry": {"statuses": [500, 502, 503, 504]}}

NGINX_RETRIES = f"""\
proxy_next_upstream error timeout http_500 http_502 http_503 http_504;
            proxy_connect_timeout {ANSWER_S}s;
            proxy_read_timeout {ANSWER_S}s;"""

# `redispatch 1`: every retry goes to another server, and at once. all-retryable-errors has 500 to 504 in it.
HAPROXY_RETRIES = """\
    option httpchk GET /health
    option redispatch 1
    retries 3
    retry-on all-retryable-errors"""

# Caddy does not repeat a request because of its status. One failure (its default) takes a backend out for 10 s (nginx's).
CADDY_RETRIES = """\
lb_policy least_conn
        lb_retries 3
        health_uri /health
        health_interval 2s
        fail_duration 10s
        max_fails 1
        unhealthy_status 500 502 503 504"""


def _nginx(place: Place) -> Command:
    return nginx(place, "least_conn;", NGINX_RETRIES)


def _haproxy(place: Place) -> Command:
    return haproxy(place, "leastconn", HAPROXY_RETRIES, "check inter 2s", ANSWER_S)


def _caddy(place: Place) -> Command:
    return caddy(place, CADDY_RETRIES, f"response_header_timeout {ANSWER_S}s")


def ours(settings: Mapping[str, object]) -> Callable[[Place], Command]:
    """SmartEdge with these settings and otherwise defaults, or with what is left of them that it takes."""
    return lambda place: smartedge(place, accepted(json.dumps(settings)))


@functools.cache
def accepted(settings: str) -> Mapping[str, object]:
    """The settings, without hedging where SmartEdge refuses them for that; says so."""
    wanted = json.loads(settings)
    problem = _refusal(wanted)
    if problem and wanted.get("retry", {}).pop("hedge", False):
        print(f"without hedging, which SmartEdge refuses here: {problem}", file=sys.stderr)
        problem = _refusal(wanted)
    if problem:
        print(f"SmartEdge refuses {settings}: {problem}", file=sys.stderr)
    return wanted


def _refusal(settings: Mapping[str, object]) -> str:
    """What `smartedge check` says against them; nothing when they are right."""
    with tempfile.TemporaryDirectory() as directory:
        config, env = edge_env(Place(0, ["127.0.0.1:1"], Path(directory)), settings)
        argv = [sys.executable, "-m", "smartedge", "check", "--config", str(config)]
        run = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True)
    return (run.stderr.strip() or run.stdout.strip()).splitlines()[-1] if run.returncode else ""


EDGES = {
    edge.name: edge
    for edge in (
        Peer("nginx", needs("nginx", "nginx"), _nginx),
        Peer("haproxy", needs("haproxy", "haproxy"), _haproxy),
        Peer("caddy", needs("caddy", "caddy"), _caddy),
        Peer("smartedge", needs_file("smartedge/__main__.py"), ours({}), ours=True),
        Peer("smartedge-ewma", needs_file("smartedge/__main__.py"), ours(EWMA), ours=True),
        Peer("smartedge-rr", needs_file("smartedge/__main__.py"), ours(ROUND_ROBIN), ours=True),
    )
}
