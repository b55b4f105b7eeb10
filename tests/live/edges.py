"""A running edge for live tests: `smartedge run`, or gunicorn with either worker class, on a port of its own.

One edge serves many tests: each gives it its own backends and settings by `configure`, which reloads. What an
edge has been through shows when it should not: `settled` asks for zero leases after every test.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.live.peers import Answer, Client, Script, exchange, read_answer
from tests.live.processes import ROOT, Running, ask, listens, running, wait_until
from tests.live.processes import Answer as Plain

OWN, WORKER, GEVENT = "own", "worker", "gevent"
"""Our own server; our server in a gunicorn worker; gunicorn's own loop and parser."""

on_our_own_server = pytest.mark.parametrize("edge", [OWN], indirect=True)
"""For a test of the fixture `edge` that no server has a part in: what it shows is the same under all of them."""

COMMON: dict[str, Any] = {
    "health": {"interval_s": 0.5, "timeout_s": 0.5, "fall": 2, "rise": 1},
    "timeouts": {"connect_s": 1, "first_byte_s": 5, "idle_s": 5},
}

LISTENING = r"^🚀 SmartEdge iniciado na porta (\d+)$|Listening at: https?://[\d.]+:(\d+) "

_names = itertools.count(1)


class LiveEdge:
    """What tests do with an edge. port: where it listens. directory: holds backends.json and access.log."""

    def __init__(self, port: int, process: Running, directory: Path, server: str) -> None:
        self.port, self.process, self.directory, self.server = port, process, directory, server
        self.url = f"http://127.0.0.1:{port}"
        self._log_start = self._output_start = 0

    # Settings.

    def configure(self, *backends: Script | str | Mapping[str, Any], wait: bool = True, **settings: Any) -> None:
        """Have it forward to these, and wait until it has said so and each has been probed."""
        self._log_start, self._output_start = len(self.log_text()), len(self.process.output)
        document = document_of(self.directory, *backends, **settings)
        answer = ask(f"{self.url}/api/reload", "POST", body=json.dumps(document))
        assert answer.status == 200, answer.text
        told = answer.json()
        if (
            told["changed"] and settings.get("log_level", "info") == "info"
        ):  # a line that came late would pass for a later reload's
            line = f"generation {told['generation']} applied by"
            wait_until(lambda: line in self.output, 5, "the reload to be told")
        if wait:
            self.wait_probed()

    def wait_probed(self) -> None:
        """Wait until every backend has been probed once."""
        try:
            wait_until(lambda: all(b["health"] != "unknown" for b in self.backends()), 60, "the first probes")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.process}") from None

    # Requests.

    def client(self, timeout: float = 10.0) -> Client:
        """A raw connection to it."""
        return Client(self.port, timeout=timeout)

    def raw(self, data: bytes, *, timeout: float = 10.0) -> bytes:
        """What comes back for these bytes, until the edge closes."""
        return exchange(self.port, data, until_close=True, timeout=timeout)

    def ask(self, target: bytes = b"/", method: bytes = b"GET", headers: bytes = b"", body: bytes = b"") -> Answer:
        """One request on a connection of its own; headers are lines with their CRLF."""
        with self.client() as client:
            client.send(request(target, method, headers, body))
            return client.answer(method)

    # What it says of itself.

    def status(self) -> dict[str, Any]:
        """The whole /api/status."""
        document: dict[str, Any] = ask(f"{self.url}/api/status").json()
        return document

    def leader(self, after: int | None = None) -> dict[str, Any]:
        """The one worker that leads; waited for, as none does while the lead changes hands. after: the process before it."""

        def leaders() -> list[dict[str, Any]]:
            return [one for one in self.status()["workers"] if one["leader"] and one["pid"] != after]

        (found,) = wait_until(leaders, 60, "a worker to lead")
        return found

    def backends(self) -> list[dict[str, Any]]:
        """The backends of all services, as /api/status has them."""
        return [one for service in self.status()["services"].values() for one in service["backends"]]

    def admin(self, path: str, method: str = "GET", **more: Any) -> Plain:
        """Ask an admin page."""
        return ask(self.url + path, method, **more)

    def settled(self) -> None:
        """Wait until no lease is open any more."""
        wait_until(lambda: self.status()["totals"]["in_flight"] == 0, 5, "every lease to be given back")

    @property
    def output(self) -> str:
        """What it has printed since `configure`: an earlier test's backend may have had the same port."""
        return self.process.output[self._output_start :]

    def log_text(self) -> str:
        """The access log so far."""
        path = self.directory / "access.log"
        return path.read_text() if path.exists() else ""

    def log(self, **wanted: Any) -> dict[str, Any]:
        """The one line of the access log, since `configure`, that has these fields; waits for it."""

        def found() -> list[dict[str, Any]]:
            whole = self.log_text()[self._log_start :].rpartition("\n")[0]  # the last one may be in the writing
            lines = [json.loads(line) for line in whole.splitlines()]
            return [line for line in lines if wanted.items() <= line.items()]

        lines = wait_until(found, 5, f"{wanted} in the access log")
        assert len(lines) == 1, lines
        return lines[0]

    def worker_pid(self) -> int:
        """The process that serves."""
        pid: int = self.status()["workers"][0]["pid"]
        return pid

    def memory_bytes(self) -> int:
        """The resident memory of the process that serves (proc(5))."""
        status = Path(f"/proc/{self.worker_pid()}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def descriptors(self) -> list[str]:
        """What files and sockets it has open."""
        directory = Path(f"/proc/{self.worker_pid()}/fd")
        found = []
        for entry in directory.iterdir():
            with contextlib.suppress(OSError):
                found.append(os.readlink(entry))
        return found


def request(target: bytes = b"/", method: bytes = b"GET", headers: bytes = b"", body: bytes = b"") -> bytes:
    """A request as bytes, with Host and, where there is a body, Content-Length."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/1.1\r\nHost: edge.test\r\n%b%b\r\n%b" % (method, target, headers, length, body)


def first_piece(client: Client, wanted: bytes) -> bytes:
    """Read until `wanted` has come, and not a byte longer than needed."""
    while wanted not in client.stream.buffer:
        assert client.stream.fill(), f"the connection ended before {wanted!r}: {bytes(client.stream.buffer)!r}"
    return bytes(client.stream.buffer)


def document_of(directory: Path, *backends: Script | str | Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """A configuration: ids are new each time, so that a port used before carries nothing over."""
    number = next(_names)
    members = []
    for letter, backend in zip("abcdefghij", backends, strict=False):
        member = dict(backend) if isinstance(backend, Mapping) else {"url": getattr(backend, "url", backend)}
        if isinstance(member["url"], Script):
            member["url"] = member["url"].url
        members.append({"id": f"{letter}{number}", **member})
    document = {"backends": members, "access_log": str(directory / "access.log"), **settings}
    for section, common in COMMON.items():
        document[section] = {**common, **settings.get(section, {})}
    return document


@contextlib.contextmanager
def start_edge(
    directory: Path,
    *backends: Script | str | Mapping[str, Any],
    server: str = OWN,
    arguments: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
    probed: bool = True,
    bind: str = "127.0.0.1:0",
    app: str = "smartedge:create_app()",
    **settings: Any,
) -> Iterator[LiveEdge]:
    """Start an edge of its own for a test, which may then kill it; bind: where it listens, port 0 for a free one."""
    path = directory / "backends.json"
    if not path.exists():
        path.write_text(json.dumps(document_of(directory, *backends, **settings)))
    environment = {
        "PYTHONPATH": str(ROOT),
        "SMARTEDGE_CONFIG": str(path),
        "SMARTEDGE_STATE_DIR": str(directory / "state"),
        **(env or {}),
    }
    if server == OWN:
        command = [sys.executable, "-m", "smartedge", "run", "--bind", bind, *arguments]
    else:
        kind = "gevent" if server == GEVENT else "smartedge.worker.EdgeWorker"
        # Not `-m gunicorn`: what that starts again on SIGUSR2 finds gunicorn's own modules in place of Python's.
        gunicorn = str(Path(sys.executable).with_name("gunicorn"))
        command = [sys.executable, gunicorn, "-k", kind, "-w", "1", "-b", bind, *arguments, app]
    with running(command, LISTENING, cwd=directory, env=environment) as process:
        port = next(filter(None, process.wait_for(LISTENING).groups()))
        edge = LiveEdge(int(port), process, directory, server)
        wait_until(lambda: listens(edge.port), 10, "the edge to accept")
        if probed:
            edge.wait_probed()
        yield edge


__all__ = ["GEVENT", "OWN", "WORKER", "LiveEdge", "first_piece", "read_answer", "request", "start_edge"]
