"""A listener that gunicorn has never heard of, which listens itself: one worker opens it for all.

    gunicorn ── worker (leads) ──▶ traffic, and admin_bind, http_bind     the leader of workers/leader.py; whoever leads next
            └── worker ─────────▶ traffic                                 opens them anew

Under `run` the program has opened them before anything serves.
"""

from __future__ import annotations

import logging
from typing import Any

from smartedge.config.values import listen_name
from smartedge.process.listening import listen_unix
from smartedge.server.server import EdgeServer

log = logging.getLogger(__name__)


class LeaderDoor:
    """Opens and closes one listener; owned by `AdminDoor` or `HttpDoor`, looked after once a second.

    key: of the configuration. missing: what there is not while it can't be opened, for the log.
    """

    def __init__(self, key: str, bind: str, app: Any, environ: dict[str, Any], missing: str) -> None:
        self._key = key
        self._bind = bind
        self._app = app
        self._environ = environ
        self._missing = missing
        self._said = False
        self.server: EdgeServer | None = None

    def follow_leader(self, leading: bool) -> bool:
        """Open it if it is ours to open, close it if it no longer is; say whether that changed. A failure is said once."""
        if not leading:
            return self.close()
        if self.server is not None:
            return False
        name: Any = listen_name(self._bind)
        try:
            server = EdgeServer(listen_unix(name) if isinstance(name, str) else name, self._app, environ=dict(self._environ))
            server.start()
        except OSError as error:
            if not self._said:
                log.warning("no %s yet: cannot listen on %s %s: %s", self._missing, self._key, self._bind, error)
            self._said = True
            return False
        self.server, self._said = server, False
        return True

    def close(self) -> bool:
        """Accept nothing more there; what is being answered is answered. Says whether it was open."""
        server, self.server = self.server, None
        if server is not None:
            server.close()
        return server is not None
