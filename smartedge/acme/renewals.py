"""Which automatic certificates are due, and the program that gets them (issue.py), started by the worker that leads.

Whatever happens here, what is shown stays shown: a new certificate is a file that is noticed as any other (`edge.files`).
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import gevent
from gevent import subprocess

from smartedge.acme.storage import Storage, storage_of
from smartedge.config.model import Config
from smartedge.http.certificates import Certificate

log = logging.getLogger("smartedge")

DAY_S: Final = 86_400.0
REMAINING_RATIO: Final = 1 / 3
"""A certificate is renewed when this share of its life is left, as Let's Encrypt asks for."""
SPREAD_RATIO: Final = 0.05
"""And up to this share earlier, each by its name, so that those which came together do not all come again together."""
AT_ONCE: Final = 5
"""Names in one run of the program."""
RUN_S: Final = 200.0
"""Time of a run, for each of its names."""
BUSY: Final = 75
"""Its exit status where another edge with the same storage is at it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a Config says of automatic certificates. how: http-01 where there is an `http_bind`, else tls-alpn-01."""

    names: tuple[str, ...]
    storage: Storage
    directory: str
    email: str | None
    ca_file: str | None
    how: str
    retry_s: float


def order_of(config: Config, env: Mapping[str, str] = os.environ) -> Order | None:
    """Work out what is to be got; None where nothing is."""
    if not config.automatic_names:
        return None
    acme = config.acme
    how = "http-01" if config.http_bind is not None else "tls-alpn-01"
    return Order(config.automatic_names, storage_of(config, env), acme.directory, acme.email, acme.ca_file, how, acme.retry_s)


def missing_library() -> str | None:
    """Say what is to be installed before certificates can be got; None where nothing is missing."""
    if all(importlib.util.find_spec(name) for name in ("acme", "cryptography")):
        return None
    return "needs certbot's library for names in certificates: pip install 'smartedge[acme]'"


def renew_at(name: str, certificate: Certificate) -> float:
    """Give when a certificate is due, in Unix time: a third of its life before its end, or somewhat earlier."""
    life_s = certificate.expires_at - certificate.begins_at
    spread = SPREAD_RATIO * crc32(name.encode()) / 2**32
    return certificate.expires_at - life_s * (REMAINING_RATIO + spread)


def due(order: Order, certificates: Sequence[Certificate], now: float) -> Iterator[str]:
    """Give the names whose certificate is not there or due, and which may be tried now. certificates: those in use."""
    there = {one.files.cert_file: one for one in certificates}
    for name in order.names:
        certificate = there.get(str(order.storage.certificate(name)))
        if (certificate is None or now >= renew_at(name, certificate)) and now >= order.storage.failures(name)[1]:
            yield name


def wait_s(failures: int, retry_s: float, rng: random.Random) -> float:
    """Give how long to wait after so many failures in a row: doubled with each, up to a day, and never quite the same."""
    return min(DAY_S, retry_s * 2.0 ** min(failures - 1, 30)) * rng.uniform(0.75, 1.25)


class Renewals:
    """Gets certificates that are due, in one run of the program at a time. Owned by the `Edge`, which looks once a second."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._running: Any = None
        self._process: Any = None
        self._not_before = 0.0

    def look(self, order: Order | None, certificates: Sequence[Certificate], now: float) -> None:
        """Start a run if something is due, in the worker that leads. now: Unix time."""
        if order is None or now < self._not_before or (self._running is not None and not self._running.ready()):
            return
        if names := [*due(order, certificates, now)][:AT_ONCE]:
            self._running = gevent.spawn(self._run, order, names, now)

    def stop(self) -> None:
        """End the run that is under way; what it was at is begun anew by whoever leads next."""
        if self._running is not None:
            self._running.kill(block=False)
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    def _run(self, order: Order, names: list[str], now: float) -> None:
        try:
            status, told, said = self._ask(order, names)
        except (OSError, subprocess.TimeoutExpired) as error:
            status, told, said = 1, {}, str(error)
        if status == BUSY:
            self._not_before = now + order.retry_s
            return
        for name in names:
            self._take_note(order, name, told.get(name, said), now)
        self._not_before = now + 2.0  # by then the files have been read

    def _ask(self, order: Order, names: list[str]) -> tuple[int, dict[str, str], str]:
        """Run the program: its exit status, what it said of each name ("" is fine), and the last line of its errors."""
        wanted = {
            "names": names,
            "directory": order.directory,
            "storage": str(order.storage.path),
            "email": order.email,
            "ca_file": order.ca_file,
            "how": order.how,
        }
        root = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "smartedge.acme.issue"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # a Ctrl-C is not for it
        )
        try:
            out, errors = self._process.communicate(json.dumps(wanted).encode(), timeout=RUN_S * len(names))
        finally:
            if self._process.poll() is None:
                self._process.kill()
        told = {}
        for line in out.decode("utf-8", "replace").splitlines():
            answer = json.loads(line)
            told[answer["name"]] = answer["detail"]
        last = errors.decode("utf-8", "replace").strip().rpartition("\n")[2]
        return self._process.returncode, told, last or f"the program ended with status {self._process.returncode}"

    def _take_note(self, order: Order, name: str, detail: str, now: float) -> None:
        try:
            if not detail:
                order.storage.succeeded(name)
                log.info("there is a new certificate for %s", name)
                return
            failures = order.storage.failures(name)[0] + 1
            wait = wait_s(failures, order.retry_s, self._rng)
            order.storage.failed(name, failures, now + wait)
            log.warning("no certificate for %s, tried again in %.0f s: %s", name, wait, detail)
        except OSError as error:
            self._not_before = now + max(order.retry_s, 60.0)
            log.warning("cannot write into %s: %s", order.storage.path, error.strerror)
