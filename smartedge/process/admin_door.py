"""The listener of `admin_bind` under gunicorn, which listens itself and has never heard of it: one worker opens it for all.

    gunicorn ── worker (leads) ──▶ traffic, and admin_bind       the leader of workers/leader.py; whoever leads next opens it anew
            └── worker ─────────▶ traffic

Under `run` the program has opened it before anything serves.
"""

from __future__ import annotations

import logging
from typing import Any

from smartedge.config.values import listen_name
from smartedge.http.environ_keys import ADMIN
from smartedge.process.listening import listen_unix
from smartedge.server.server import EdgeServer

log = logging.getLogger(__name__)


class AdminDoor:
    """Opens and closes the admin listener as this worker leads or does not; made by `create_app`, called by `Edge` once a second.

    app: the Flask app (`smartedge.app`), which stands above this folder.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._bind = app.edge.config.admin_bind
        self._server: EdgeServer | None = None
        self._said = False

    def follow_leader(self) -> None:
        """Open the listener if this worker leads, else close it. What does not work is said once, and tried again."""
        edge = self._app.edge
        if self._bind is None or (edge.listeners and self._server is None):
            return
        if not edge.follower.leading:
            self.close()
        elif self._server is None:
            try:
                self._server = self._open(self._bind)
            except OSError as error:
                if not self._said:
                    log.warning("no admin pages yet: cannot listen on admin_bind %s: %s", self._bind, error)
                self._said = True
                return
            self._said = False
            edge.be_found([self._server.socket.getsockname()])

    def close(self) -> None:
        """Accept nothing more there; what is being answered is answered."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            self._app.edge.listeners = ()

    def _open(self, bind: str) -> EdgeServer:
        name: Any = listen_name(bind)
        server = EdgeServer(listen_unix(name) if isinstance(name, str) else name, self._app, environ={ADMIN: True})
        server.start()
        return server
