"""The listener of `http_bind`: no TLS, no backend. It answers an authority's questions, and sends everybody else to https."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from smartedge.acme.storage import storage_of
from smartedge.config.model import Config
from smartedge.config.values import address
from smartedge.http import problem
from smartedge.http.environ_keys import REQUEST
from smartedge.http.headers import HOST
from smartedge.http.request import Request
from smartedge.process.leader_door import LeaderDoor
from smartedge.process.whereabouts import clients_port
from smartedge.server.front import AppHooks

CHALLENGES: Final = b"/.well-known/acme-challenge/"
_TOKEN = re.compile(rb"[A-Za-z0-9_-]{1,128}")
MOST_BYTES: Final = 4096
"""Of an answer to an authority's question; they are about 90 bytes long."""


class HttpApp:
    """The app of that listener; made with it, and called by its `EdgeServer`. edge: gives the configuration in use."""

    def __init__(self, edge: Any) -> None:
        self._edge = edge
        self._port: int | None = None
        self.server_hooks = AppHooks(limits=lambda: edge.server_limits, next_request_id=edge.ids.next)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request (PEP 3333)."""
        request: Request = environ[REQUEST]
        config: Config = self._edge.config
        path = request.target.partition(b"?")[0]
        if path.startswith(CHALLENGES):
            if (content := _answer(config, path.removeprefix(CHALLENGES))) is not None:
                start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(content)))])
                return [content]
            if config.acme_webroot is not None or config.automatic_names:
                return _problem(start_response, 404, "There is no such answer to an authority's question.", self._edge)
        host = _host(request.said.host)
        if host is None:
            return _problem(start_response, 400, "The Host field names no host.", self._edge)
        port = config.https_port or self._clients_port(config)
        where = host if port == 443 else f"{host}:{port}"
        target = "/" if request.target == b"*" else request.target.decode("latin-1")
        start_response("308 Permanent Redirect", [("Location", f"https://{where}{target}"), ("Content-Length", "0")])
        return []

    def _clients_port(self, config: Config) -> int:
        if self._port is None:
            self._port = clients_port(self._edge.listeners) or address(config.bind)[1]
        return self._port


class HttpDoor:
    """Opens and closes that listener under gunicorn; made by the app, looked after once a second, before `AdminDoor`.

    app: the Flask app (`smartedge.app`), which stands above this folder.
    """

    def __init__(self, app: Any) -> None:
        self._edge = app.edge
        bind = app.edge.config.http_bind
        self._door = None if bind is None else LeaderDoor("http_bind", bind, HttpApp(app.edge), {}, "redirects to https")
        self._is_ours: bool | None = None

    def follow_leader(self) -> None:
        """Open it if it is ours to open, close it if it no longer is."""
        if self._is_ours is None:
            self._is_ours = not self._edge.listeners  # else the program that runs us has opened it
        if self._door is not None and self._is_ours:
            self._door.follow_leader(self._edge.follower.leading)


def _answer(config: Config, token: bytes) -> bytes | None:
    """Read the answer to a question: of our own program's, or of another that writes into `acme_webroot`."""
    if not _TOKEN.fullmatch(token):
        return None
    folders = [storage_of(config).challenges] if config.automatic_names else []
    if config.acme_webroot is not None:
        folders.append(Path(config.acme_webroot) / ".well-known" / "acme-challenge")
    for folder in folders:
        try:
            fd = os.open(folder / token.decode(), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                return file.read(MOST_BYTES)
        except OSError:
            continue
    return None


def _host(field: bytes | None) -> str | None:
    """Give the host of a Host field without its port; None where there is none."""
    if not field or not HOST.fullmatch(field):
        return None
    text = field.decode("latin-1")
    return text[: text.index("]") + 1] if text.startswith("[") else text.partition(":")[0]


def _problem(start_response: Any, status: int, detail: str, edge: Any) -> Iterable[bytes]:
    body = problem.body(status, problem.reason(status), detail, edge.ids.next())
    start_response(
        f"{status} {problem.reason(status)}", [("Content-Type", problem.CONTENT_TYPE), ("Content-Length", str(len(body)))]
    )
    return [body]
