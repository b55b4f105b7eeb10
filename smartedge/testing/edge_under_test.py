"""A whole edge in the process of a test: real sockets, real probes, a clock that the test may move."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import gevent
import requests

from smartedge.app import SmartEdge
from smartedge.config.model import parse
from smartedge.edge.edge import Edge
from smartedge.server.server import EdgeServer
from smartedge.testing.clock import VirtualClock
from smartedge.testing.loop_thread import LoopThread
from smartedge.testing.scripted_backend import ScriptedBackend

T = TypeVar("T")
Document = dict[str, Any]

USUAL: Document = {"explain": {"sample_ratio": 1.0}, "log_level": "error"}
"""What is other than an edge's defaults: every request can be explained, and the log is for what is wrong."""


class EdgeUnderTest:
    """An edge that serves on a free port, with what a test asks it; made by the fixtures, one a test.

    backends: what it sends requests to, as the service `default`. directory: for its state, empty. settings: keys of
    backends.json, also `services` instead of backends: a ScriptedBackend may stand for a backend anywhere. Raises ConfigError.
    url: where it listens. clock: the time that its breakers and probes believe in. app: the Flask app, as `create_app` makes it.
    """

    def __init__(self, backends: Sequence[ScriptedBackend], directory: Path, **settings: Any) -> None:
        self.backends = tuple(backends)
        self.clock = VirtualClock()
        self._settings = settings
        self._stopped = False
        config = parse(self._text(settings))
        self._session = requests.Session()
        self._session.trust_env = False
        self._loop = LoopThread()
        self.clock.install()
        try:
            env = {"SMARTEDGE_STATE_DIR": str(directory)}
            self.app, self._server = self._loop.call(lambda: self._serve(config, env))
        except BaseException:
            self.clock.remove()
            self._loop.stop()
            raise
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.settled()

    @staticmethod
    def _serve(config: Any, env: Mapping[str, str]) -> tuple[SmartEdge, EdgeServer]:
        app = SmartEdge(Edge(config, env=env))
        server = EdgeServer(("127.0.0.1", 0), app)
        server.start()
        app.edge.be_found([server.socket.getsockname()])
        app.edge.begin_serving()
        return app, server

    # ---- requests ----

    def request(self, method: str, path: str = "/", **more: Any) -> requests.Response:
        """Send a request by a session of `requests`. more: as there; time-out 30 s unless said, redirects are not followed."""
        return self._session.request(method, self.url + path, **{"timeout": 30, "allow_redirects": False} | more)

    def get(self, path: str = "/", **more: Any) -> requests.Response:
        """Send a GET."""
        return self.request("GET", path, **more)

    def post(self, path: str = "/", **more: Any) -> requests.Response:
        """Send a POST."""
        return self.request("POST", path, **more)

    # ---- what has come of them ----

    @property
    def share(self) -> dict[str, float]:
        """The part of all answers so far that came from each backend, by id; 0 for each while there were none."""
        counts = {name: one["requests"] for name, one in self._counted().items()}
        total = sum(counts.values())
        return {name: count / total if total else 0.0 for name, count in counts.items()}

    @property
    def retries(self) -> int:
        """How many tries were made again so far."""
        return self._sum("retries")

    @property
    def hedges(self) -> int:
        """How many hedges were sent so far."""
        return self._sum("hedges")

    @property
    def failures(self) -> int:
        """How many tries have failed so far."""
        return self._sum("failed")

    def explain(self, answered: requests.Response | str) -> Document:
        """Return the decision about a request: its tries with their candidates, who was picked, and why.

        answered: an answer, or a request id. Raises LookupError when nothing is kept of it.
        """
        request_id = answered if isinstance(answered, str) else _request_id(answered)
        found: Document | None = self.call(lambda: self._until(lambda: self.app.edge.decisions.find(request_id)))
        if found is None:
            raise LookupError(f"the edge knows no request {request_id}")
        return found

    def status(self) -> Document:
        """Return what GET /api/status answers."""
        answer = self.get("/api/status")
        answer.raise_for_status()
        document: Document = answer.json()
        return document

    def backend(self, name: str, service: str | None = None) -> Document:
        """Return what the status says of one backend, by its id. Raises LookupError when there is none."""
        for of, one in self.status()["services"].items():
            for row in one["backends"]:
                if row["id"] == name and service in (None, of):
                    found: Document = row
                    return found
        raise LookupError(f"the edge has no backend {name}")

    def settled(self, timeout_s: float = 10.0) -> Self:
        """Wait until all is told that was under way: requests, and the probes that are due. Raises TimeoutError.

        A request that hangs never is.
        """
        edge = self.app.edge

        def unsettled() -> str:
            open_now = sum(backend.in_flight() for backend in edge.backends())
            if open_now:
                return f"{open_now} tries are still under way"
            if not edge.health.is_quiet():
                return "probes are still under way"
            return ""

        why = self.call(lambda: self._until(lambda: not unsettled() and "settled", timeout_s) or unsettled(), timeout_s + 10)
        if why != "settled":
            raise TimeoutError(f"after {timeout_s:g} s {why}")
        return self

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> Self:
        """Wait until this is so. Raises TimeoutError."""
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until:
                raise TimeoutError(f"it did not come about within {timeout_s:g} s")
            time.sleep(0.01)
        return self

    # ---- what the test does to it ----

    def advance(self, seconds: float) -> Self:
        """Let so many seconds pass for breakers, probes and limits, and wait until what is due has been done."""
        self.clock.advance(seconds)
        self.call(self.app.edge.health.wake)
        return self.settled()

    def reload(self, **changes: Any) -> Document:
        """Reload with these keys changed, as POST /api/reload does; return its answer. Raises ConfigError, and changes nothing.

        The key `backends` may be a list of ScriptedBackends.
        """
        settings = self._settings | changes
        body = self._text(settings).encode()
        document: Document = dict(self.call(lambda: self.app.edge.reload(body)).document)
        self._settings = settings
        self.settled()
        return document

    def set_state(self, name: str, state: str, service: str = "default") -> Self:
        """Have a backend `enabled`, `draining` or `disabled`, as the operator would. Raises LookupError when there is none."""
        word = {"enabled": "enable", "draining": "drain", "disabled": "disable"}[state]
        answer = self.post(f"/smartedge/services/{service}/backends/{name}/{word}")
        if answer.status_code != 200:
            raise LookupError(answer.json()["detail"])
        return self

    def call(self, function: Callable[[], T], timeout_s: float = 30.0) -> T:
        """Call a function where the edge runs, and return what it returns: for what the methods here do not tell."""
        return self._loop.call(function, timeout_s)

    def stop(self) -> None:
        """End it; requests under way are cut. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._session.close()

        def end() -> None:
            self._server.stop_gracefully(0)
            self.app.edge.stop()

        try:
            self.call(end)
        finally:
            self.clock.remove()
            self._loop.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<EdgeUnderTest {self.url} before {', '.join(one.id for one in self.backends) or 'services of its own'}>"

    # ---- within ----

    def _text(self, settings: Document) -> str:
        own = {} if "services" in settings or "backends" in settings else {"backends": list(self.backends)}
        return json.dumps(USUAL | own | settings, default=_entry)

    def _counted(self) -> dict[str, Document]:
        """Read the counts of every backend by its id, with the service's name before it where there are several services."""
        rows = [row for one in self.status()["services"].values() for row in one["backends"]]
        several = len({row["service"] for row in rows}) > 1
        return {f"{row['service']}/{row['id']}" if several else row["id"]: row for row in rows}

    def _sum(self, name: str) -> int:
        return sum(row[name] for row in self._counted().values())

    @staticmethod
    def _until(condition: Callable[[], T], timeout_s: float = 2.0) -> T:
        """Ask in the edge's loop until the answer is true, or time is up; return the last answer."""
        until = time.monotonic() + timeout_s
        while not (found := condition()) and time.monotonic() < until:
            gevent.sleep(0.005)
        return found


def _entry(value: object) -> Document:
    """Write a backend as backends.json has it."""
    if isinstance(value, ScriptedBackend):
        return {"id": value.id, "url": value.url}
    raise TypeError(f"{value!r} is nothing that backends.json can hold")


def _request_id(answer: requests.Response) -> str:
    """Find the id of a request in its answer: a field that a ScriptedBackend sends back, or in a problem of the edge's own."""
    if request_id := answer.headers.get("X-Request-Id"):
        return request_id
    if answer.headers.get("Content-Type") == "application/problem+json":
        return str(answer.json()["request_id"])
    raise LookupError("the answer does not say which request it is to: its backend does not send X-Request-Id back")
