"""The listener of `admin_bind` under gunicorn: opened by the worker that leads (leader_door.py)."""

from __future__ import annotations

from typing import Any

from smartedge.http.environ_keys import ADMIN
from smartedge.process.leader_door import LeaderDoor


class AdminDoor:
    """Opens and closes the admin listener as this worker leads or does not; made by `create_app`, called by `Edge` once a second.

    app: the Flask app (`smartedge.app`), which stands above this folder.
    """

    def __init__(self, app: Any) -> None:
        self._edge = app.edge
        bind = app.edge.config.admin_bind
        self._door = None if bind is None else LeaderDoor("admin_bind", bind, app, {ADMIN: True}, "admin pages")

    def follow_leader(self) -> None:
        """Open the listener if this worker leads, else close it. What does not work is said once, and tried again."""
        door, edge = self._door, self._edge
        if door is None or (edge.listeners and door.server is None):
            return
        if door.follow_leader(edge.follower.leading):
            self._tell()

    def close(self) -> None:
        """Accept nothing more there; what is being answered is answered."""
        if self._door is not None and self._door.close():
            self._tell()

    def _tell(self) -> None:
        """Have the commands find it, or no longer."""
        server = self._door.server if self._door is not None else None
        if server is None:
            self._edge.listeners = ()
        else:
            self._edge.be_found([server.socket.getsockname()])
