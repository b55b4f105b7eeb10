"""A real etcd for tests: one member or three, on free loopback ports, which can be stopped, killed and held."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.live.processes import Running, ask, free_port, listens, wait_until


class EtcdServer:
    """A member of an etcd. folder: its data, kept from one start to the next. url: where clients ask it.

    peers: "name=URL" of all members, this one among them; none for one that is alone. arguments: more of etcd's flags.
    """

    def __init__(
        self, folder: Path, name: str = "default", *, port: int = 0, peers: Sequence[str] = (), scheme: str = "http"
    ) -> None:
        if shutil.which("etcd") is None:
            pytest.skip("etcd is missing: sudo apt install etcd-server")
        self.name = name
        self.port = port or free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.data = folder / name
        own = next((peer.partition("=")[2] for peer in peers if peer.startswith(f"{name}=")), f"http://127.0.0.1:{free_port()}")
        self._folder = folder
        self._membership = (
            *("--name", name, "--data-dir", str(self.data), "--initial-advertise-peer-urls", own),
            *("--initial-cluster", ",".join(peers) or f"{name}={own}"),
        )
        self._command = [
            "etcd",
            *self._membership,
            *("--listen-client-urls", self.url, "--advertise-client-urls", self.url, "--listen-peer-urls", own),
            *("--logger", "zap", "--log-level", "error", "--enable-pprof=false"),
        ]
        self._process: Running | None = None

    def start(self, *arguments: str, wait: bool = True) -> EtcdServer:
        """Start it, with what it had before; wait: until it serves. arguments: more of etcd's flags."""
        assert self._process is None
        self._process = Running([*self._command, *arguments], self._folder, None)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until it answers as a member of a majority; for one with TLS or users, until it listens."""
        wait_until(lambda: self.is_healthy() if self.url.startswith("http:") else listens(self.port), 20, f"etcd {self._process}")

    def is_healthy(self) -> bool:
        """Whether it has a leader and can read."""
        return bool(json.loads(ask(f"{self.url}/health", timeout_s=3).body)["health"] == "true")

    def is_leader(self) -> bool:
        """Whether it leads the members."""
        status = ask(f"{self.url}/v3/maintenance/status", "POST", body="{}", timeout_s=3).json()
        return bool(status["leader"] == status["header"]["member_id"])

    def stop(self) -> None:
        """End it as a service manager does."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Hold it: its connections stay, and nothing answers on them."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def restore(self, backup: Path) -> None:
        """Put it back to what `ctl("snapshot", "save", ...)` has written; for one that is alone."""
        self.kill()
        shutil.rmtree(self.data)
        self.ctl("snapshot", "restore", str(backup), *self._membership)
        self.start()

    # Keys.

    def put(self, key: str, value: object, lease: str = "0") -> int:
        """Write a key: a text as it is, anything else as JSON. Return the revision."""
        text = value if isinstance(value, str) else json.dumps(value)
        return int(self._call("kv/put", key=_encoded(key), value=_encoded(text), lease=lease)["header"]["revision"])

    def delete(self, key: str, end: str = "") -> None:
        """Delete a key, or all from one up to another."""
        self._call("kv/deleterange", key=_encoded(key), **({"range_end": _encoded(end)} if end else {}))

    def grant(self, ttl_s: int) -> str:
        """Make a lease."""
        return str(self._call("lease/grant", TTL=str(ttl_s))["ID"])

    def revoke(self, lease: str) -> None:
        """End a lease."""
        self._call("lease/revoke", ID=lease)

    def _call(self, path: str, **said: str) -> Any:
        answer = ask(f"{self.url}/v3/{path}", "POST", body=json.dumps(said))
        if answer.status >= 500:
            raise OSError(answer.text)  # it may go well in a while
        assert answer.status == 200, answer.text
        return answer.json()

    def save(self, file: Path) -> None:
        """Take a backup."""
        self.ctl("snapshot", "save", str(file))

    def ctl(self, *arguments: str) -> str:
        """Give etcdctl a command, and return what it says."""
        command = ["etcdctl", "--endpoints", self.url, *arguments]
        env = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, how)
            self._process.end()
            self._process = None


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@contextlib.contextmanager
def etcd(folder: Path, *arguments: str) -> Iterator[EtcdServer]:
    """One member, running."""
    server = EtcdServer(folder)
    try:
        yield server.start(*arguments)
    finally:
        server.kill()


@contextlib.contextmanager
def etcd_of_three(folder: Path, *arguments: str) -> Iterator[list[EtcdServer]]:
    """Three members, running and in touch."""
    names = ("one", "two", "three")
    peers = [f"{name}=http://127.0.0.1:{free_port()}" for name in names]
    servers = [EtcdServer(folder, name, peers=peers) for name in names]
    try:
        for server in servers:
            server.start(*arguments, wait=False)
        for server in servers:
            server.wait_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()
