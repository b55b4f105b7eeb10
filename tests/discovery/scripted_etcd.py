"""An etcd that says what it is told to: its answers are functions of a question, in a greenlet of the test's process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

Answer = tuple[int, Any]
"""Status and body: bytes as they are, pieces of an iterator one by one, anything else as JSON."""


class ScriptedEtcd:
    """answers: what is said to a path below /v3/, by the question. asked: all (path, question, token) until now."""

    def __init__(self, **answers: Callable[[Any], Answer]) -> None:
        self.answers = {name.replace("_", "/"): answer for name, answer in answers.items()}
        self.asked: list[tuple[str, Any, str | None]] = []
        self.url = ""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        path = environ["PATH_INFO"].removeprefix("/v3/")
        question = json.loads(environ["wsgi.input"].read())
        self.asked.append((path, question, environ.get("HTTP_AUTHORIZATION")))
        status, body = self.answers[path](question)
        start_response(f"{status} Reason", [("Content-Type", "application/json")])
        if isinstance(body, bytes | Iterator):
            return [body] if isinstance(body, bytes) else body
        return [json.dumps(body).encode()]

    @property
    def paths(self) -> list[str]:
        return [path for path, _, _ in self.asked]


@contextlib.contextmanager
def scripted_etcd(**answers: Callable[[Any], Answer]) -> Iterator[ScriptedEtcd]:
    """Let it serve; `kv_range` is the name of the path kv/range."""
    etcd = ScriptedEtcd(**answers)
    server = WSGIServer(("127.0.0.1", 0), etcd, log=None, error_log=None)
    server.start()
    etcd.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield etcd
    finally:
        server.stop(timeout=0)


def header(revision: int = 7) -> dict[str, str]:
    """The head of an answer."""
    return {"cluster_id": "1", "member_id": "2", "revision": str(revision), "raft_term": "3"}


def refused(status: int, code: int, text: str) -> Answer:
    """An error as etcd's gateway writes it."""
    return status, {"error": f"etcdserver: {text}", "message": f"etcdserver: {text}", "code": code}


def lines(*said: Any, end: bool = False) -> Iterator[bytes]:
    """A watch's answer, which stays open unless it is to end."""
    for one in said:
        yield json.dumps(one).encode() + b"\n"
    if not end:
        gevent.sleep(60)
