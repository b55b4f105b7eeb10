"""Runs both example servers and the balancer until Ctrl-C; this is what `make run` starts.

The balancer stops first, so that requests in flight still find their servers.

Exit status: 0 after Ctrl-C or SIGTERM; else 2, or that of the child that failed, after one line that says why.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from children import ROOT, Child, Children, FailedError, accepts, refuse_busy, run_children, say

SERVERS = {"server1.py": 8081, "server2.py": 8082}
BALANCER_GRACE_S = 15.0  # longer than its own shutdown_grace_s


def balancer_address(config: str) -> tuple[str, int]:
    """Where the balancer will listen: environment, else file, else its default; the file has been checked."""
    written = json.loads((ROOT / config).read_text(encoding="utf-8"))
    bind = os.environ.get("SMARTEDGE_BIND") or written.get("bind") or "127.0.0.1:8080"
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def run(local: Children, config: str) -> None:
    """Check, start everything in order and watch it."""
    local.wait_ended(local.start("the check", "-m", "smartedge", "check", "--config", config))
    host, port = balancer_address(config)
    for name, its_port in SERVERS.items():
        refuse_busy(name, "localhost", its_port)
    refuse_busy("the balancer", host, port)
    for name, its_port in SERVERS.items():
        local.wait_ready(local.start(name, name), lambda port=its_port: accepts("127.0.0.1", port))
    near = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    shown = {"127.0.0.1": "localhost", "::1": "[::1]"}.get(near, near)
    say(f"starting the balancer; then try: curl http://{shown}:{port}/   (Ctrl-C stops all three)")
    run = ("-m", "smartedge", "run", "--config", config)
    balancer = local.start("the balancer", *run, stage=1, grace_s=BALANCER_GRACE_S)
    local.wait_ready(balancer, lambda: accepts(near, port))
    watch(local, balancer)


def watch(local: Children, balancer: Child) -> None:
    """Go on until the end is asked for or the balancer ends; a server may go: watch the balancer react."""
    while not local.stops:
        for child in local.turn(None):
            if child is balancer:
                raise FailedError(child.status, f"{child.name} stopped (exit {child.status})")
            say(f"{child.name} stopped (exit {child.status}); start it again with: python3 {child.name} &")


def main() -> int:
    """Run until the end is asked for; the exit status."""
    parser = argparse.ArgumentParser(description="Run both example servers and the balancer.", allow_abbrev=False)
    parser.add_argument("--config", default="backends.json", help="the balancer's configuration file")
    config = parser.parse_args().config
    return run_children(lambda local: run(local, config))


if __name__ == "__main__":
    sys.exit(main())
