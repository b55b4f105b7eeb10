"""Drives `ab` (ApacheBench) against the running balancer, then shows how it shared the requests out.

`make load-test` starts this with the system's Python: standard library only. The shares are those of this run: the
difference of two looks at GET /api/status. Exit status: 0; 1 when a request failed or its answer was no 2xx; 2 when
there is nothing to run with, after one line that says what to do.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from typing import NamedTuple
from urllib.parse import urlsplit

SETTLE_S = 2.0


class UnusableError(Exception):
    """There is no test to run; the text says what to do."""


class Row(NamedTuple):
    """What one backend has done since the balancer started."""

    id: str
    url: str
    requests: int
    in_flight: int


def status(url: str) -> list[Row]:
    """Ask the balancer at this URL for its backends; raises UnusableError."""
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UnusableError(f"{url} is no URL; one looks like http://127.0.0.1:8080/")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    token = os.environ.get("SMARTEDGE_ADMIN_TOKEN")
    connection = kind(parts.hostname, parts.port, timeout=10)
    try:
        connection.request("GET", "/api/status", headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise UnusableError(f"what answers at {where} is no balancer: {error!r}") from None
    except OSError:
        raise UnusableError(f"no balancer answers at {where}; start it in another terminal with: make run") from None
    finally:
        connection.close()
    if answer.status in (401, 403):
        raise UnusableError(f"{where}/api/status is refused; set SMARTEDGE_ADMIN_TOKEN to the balancer's token")
    try:
        backends = json.loads(body)["backends"]
        return [Row(b["id"], b["url"], int(b["requests"]), int(b.get("in_flight", 0))) for b in backends]
    except (ValueError, KeyError, TypeError):
        raise UnusableError(f"what answers at {where} is no balancer: /api/status is {answer.status}") from None


def settled(url: str) -> list[Row]:
    """Look at the status once nothing is in flight: `ab` may have its last answer before it is counted."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        rows = status(url)
        if not any(row.in_flight for row in rows) or time.monotonic() > deadline:
            return rows
        time.sleep(0.05)


def shares(before: list[Row], after: list[Row]) -> list[tuple[Row, int]]:
    """Count what each backend has done in between; one that is new started at 0."""
    was = {(row.id, row.url): row.requests for row in before}
    return [(row, row.requests - was.get((row.id, row.url), 0)) for row in after]


def table(counted: list[tuple[Row, int]]) -> list[str]:
    """Lay the shares out, names to the left and numbers to the right."""
    total = sum(count for _, count in counted) or 1
    lines = [("backend", "url", "requests", "share")]
    lines += [(row.id, row.url, str(count), f"{100 * count / total:.1f}%") for row, count in counted]
    wide = [max(len(line[column]) for line in lines) for column in range(4)]
    return [f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:>{wide[2]}}  {d:>{wide[3]}}".rstrip() for a, b, c, d in lines]


def number(label: str, report: str) -> int:
    """Find a number in what `ab` has printed; 0 when it does not mention it."""
    match = re.search(rf"^{label}:\s+(\d+)", report, re.MULTILINE)
    return int(match[1]) if match else 0


def main() -> int:
    """Run the test that the command line describes; the exit status."""
    parser = argparse.ArgumentParser(description="Load the running balancer with ab.", allow_abbrev=False)
    parser.add_argument("-n", type=int, default=1000, help="requests in all")
    parser.add_argument("-c", type=int, default=10, help="requests at a time")
    parser.add_argument("--keep-alive", action="store_true", help="use connections again")
    parser.add_argument("--status", metavar="URL", help="where the status is, if not on the same address")
    parser.add_argument("url", nargs="?", default="http://127.0.0.1:8080/")
    chosen = parser.parse_args()
    if not 1 <= chosen.c <= chosen.n:
        parser.error("-n and -c: 1 <= C <= N is wanted")
    ab = shutil.which("ab")
    try:
        if ab is None:
            raise UnusableError("ab is missing; install it with: sudo apt install apache2-utils")
        url = chosen.url if urlsplit(chosen.url).path else f"{chosen.url}/"  # ab wants a path
        before = settled(chosen.status or url)
        # -l: the length of an answer may vary, that is no failure. -r: one broken connection is no end.
        options = ["-l", "-r", "-n", str(chosen.n), "-c", str(chosen.c), *(["-k"] if chosen.keep_alive else [])]
        finished = subprocess.run([ab, *options, url], stdout=subprocess.PIPE, text=True, check=False)
        print(finished.stdout)
        counted = shares(before, settled(chosen.status or url))
    except UnusableError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    complete = number("Complete requests", finished.stdout)
    failed, others = number("Failed requests", finished.stdout), number("Non-2xx responses", finished.stdout)
    print("\n".join(table(counted)))
    print(f"\n{complete} of {chosen.n} requests complete, {failed} failed, {others} with a status other than 2xx")
    return 1 if finished.returncode or failed or others or complete < chosen.n else 0


if __name__ == "__main__":
    sys.exit(main())
