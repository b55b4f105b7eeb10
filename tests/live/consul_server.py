"""A stand-in for a Consul agent, in threads: its health endpoint with the documented rules of blocking queries and ACL tokens,
and the registration of an instance at it.

Sources: https://developer.hashicorp.com/consul/api-docs/health, .../features/blocking, .../features/consistency. What it keeps:

- every change raises one index; an answer has in X-Consul-Index the index of the last change of its service, never below 1;
- a question with an index waits until that of the service is greater, or `wait` is over (5 minutes if not said, 10 at most, and
  up to a sixteenth more); an index of 0 or none does not wait; neither does one that is greater than all there is: when Consul is
  restored from a snapshot the index goes back, and the answer comes at once with the smaller one;
- `passing` leaves out instances with a check that is not passing; all `tag`s must be there; `near` sorts by the distances of
  nodes;
- with a token set others are refused with 403, and a token that may read nothing gets an empty list, marked as filtered.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Query = dict[str, list[str]]


class ConsulServer:
    """One agent. asked: (path, query, token) of every question. port: stays the same when it is taken down and up again.

    fault: None, or what it does instead of answering: a status with its text, bytes as they are, or "hang".
    leader: whether the servers have one. answer: headers of every answer, laid over the usual ones; None takes one out.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Query, str | None]] = []
        self.fault: tuple[int, str] | bytes | str | None = None
        self.leader = True
        self.token: str | None = None
        self.blind_token: str | None = None
        self.headers: dict[str, str | None] = {}
        self.distances: dict[str, float] = {}
        self.port = 0
        self.waiting = 0
        self._index = 10
        self._changed_at: dict[str, int] = {}
        self._instances: dict[tuple[str, str], dict[str, Any]] = {}
        self._news = threading.Condition()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # What an operator does.

    def register(self, name: str, label: str, port: int, *, node: str = "node1", status: str = "passing", **service: Any) -> None:
        """Put an instance in: service has more of its fields (Address, Tags, Meta, Weights), Node those of its machine."""
        machine = {"ID": node, "Node": node, "Address": "127.0.0.1", "Datacenter": "dc1", "Meta": None, **service.pop("Node", {})}
        found = {
            "ID": label,
            "Service": name,
            "Tags": [],
            "Address": "",
            "Meta": None,
            "Port": port,
            "Weights": {"Passing": 1, "Warning": 1},
        }
        checks = [
            {"CheckID": "serfHealth", "Status": "passing"},
            {"CheckID": f"service:{label}", "Status": status},
        ]
        with self._changed(name):
            self._instances[(node, label)] = {"Node": machine, "Service": {**found, **service}, "Checks": checks}

    def deregister(self, name: str, label: str, node: str = "node1") -> None:
        """Take an instance out."""
        with self._changed(name):
            del self._instances[(node, label)]

    def put_back(self, index: int) -> None:
        """Be restored from a snapshot: what there is stays, and indexes go back."""
        with self._news:
            self._index = index
            self._changed_at = dict.fromkeys(self._changed_at, index)
            self._news.notify_all()

    @contextlib.contextmanager
    def _changed(self, name: str) -> Iterator[None]:
        with self._news:
            yield
            self._index += 1
            self._changed_at[name] = self._index
            self._news.notify_all()

    # How it answers.

    def up(self) -> None:
        """Listen."""

        class Handler(_Handler):
            consul = self

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Refuse connections; those that wait are cut."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.cut()
            self._server = None

    def instances(self, name: str, query: Query) -> list[dict[str, Any]]:
        """Give what a question is about."""
        found = [one for one in self._instances.values() if one["Service"]["Service"] == name]
        if query.get("passing", ["0"])[0] in ("", "1", "true"):
            found = [one for one in found if all(check["Status"] == "passing" for check in one["Checks"])]
        found = [one for one in found if set(query.get("tag", ())) <= set(one["Service"]["Tags"] or ())]
        if "near" in query:
            found.sort(key=lambda one: self.distances.get(one["Node"]["Node"], 0.0))
        return found

    def wait(self, name: str, query: Query) -> int:
        """Wait as a question wants to, and return the index of its answer."""
        index, wait_s = int(query.get("index", ["0"])[0]), min(_seconds(query.get("wait", ["300s"])[0]), 600.0)
        with self._news:
            if 0 < index <= self._index:
                self.waiting += 1
                self._news.wait_for(
                    lambda: self._at(name) > index or self._index < index or self.fault, wait_s * random.uniform(1, 17 / 16)
                )
                self.waiting -= 1
            return self._at(name)

    def break_with(self, fault: tuple[int, str] | bytes | str | None) -> None:
        """Begin a fault, also for those who wait; None ends it."""
        with self._news:
            self.fault = fault
            self._news.notify_all()

    def _at(self, name: str) -> int:
        return max(self._changed_at.get(name, self._index), 1)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self.open: set[Any] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def cut(self) -> None:
        for sock in self.open:
            with contextlib.suppress(OSError):
                sock.shutdown(2)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    consul: ConsulServer

    def do_GET(self) -> None:
        consul, parts = self.consul, urlsplit(self.path)
        query, token = parse_qs(parts.query, keep_blank_values=True), self.headers.get("X-Consul-Token")
        consul.asked.append((parts.path, query, token))
        name = re.fullmatch(r"/v1/health/service/([^/]+)", parts.path)
        if name is None:
            self._say(404, b"")
        elif consul.token is not None and token not in filter(None, (consul.token, consul.blind_token)):
            self._say(403, b"Permission denied: token with AccessorID '00000000' lacks permission 'service:read'\n")
        elif "dc" in query and query["dc"] != ["dc1"]:
            self._say(500, b"No path to datacenter")
        else:
            index = consul.wait(name[1], query)
            self._answer(name[1], query, index, is_blind=token is not None and token == consul.blind_token)

    def do_PUT(self) -> None:
        """Register an instance at the agent; its checks are taken for passing."""
        said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if urlsplit(self.path).path != "/v1/agent/service/register":
            self._say(404, b"")
            return
        more = {key: said[key] for key in ("Address", "Tags", "Meta", "Weights") if key in said}
        self.consul.register(said["Name"], said.get("ID", said["Name"]), said.get("Port", 0), **more)
        self._say(200, b"")

    def _answer(self, name: str, query: Query, index: int, *, is_blind: bool) -> None:
        consul = self.consul
        fault = consul.fault
        if fault == "hang":
            while consul.fault == "hang":
                time.sleep(0.02)
            self.close_connection = True
        elif isinstance(fault, bytes):
            self._say(200, fault, {"X-Consul-Index": str(index)})
        elif isinstance(fault, tuple):
            self._say(fault[0], fault[1].encode())
        else:
            found = [] if is_blind else consul.instances(name, query)
            headers = {
                "X-Consul-Index": str(index),
                "X-Consul-KnownLeader": "true" if consul.leader else "false",
                "X-Consul-LastContact": "0" if consul.leader else "12345",
                "X-Consul-Effective-Consistency": "leader",
            }
            if is_blind:
                headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
            said = {**headers, **consul.headers}
            self._say(200, json.dumps(found).encode(), {key: value for key, value in said.items() if value is not None})

    def _say(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(OSError):
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", **(headers or {}), "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, *arguments: Any) -> None:
        pass


def _seconds(text: str) -> float:
    """A duration as Go writes it, of one part."""
    found = re.fullmatch(r"(\d+)(ms|s|m)", text)
    assert found, f"wait={text}"
    return int(found[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[found[2]]


@contextlib.contextmanager
def consul() -> Iterator[ConsulServer]:
    """An agent that listens."""
    server = ConsulServer()
    server.up()
    try:
        yield server
    finally:
        server.break_with(None)
        server.down()
