"""The secrets behind TLS session tickets: all workers of an edge have the same, and resume each other's sessions."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from smartedge.http.server_tls import ServerTls
from smartedge.workers.rotated_secrets import RotatedSecrets
from smartedge.workers.state_dir import StateError

log = logging.getLogger("smartedge")


class Tickets:
    """Keeps the ticket keys of one worker those of all; owned by its `Edge`, which calls `look` once a second.

    Alone until it has joined the others. The worker that leads makes a new secret each day; in a cluster it is told them
    (`use_cluster_secrets`), and replaces none by itself.
    """

    def __init__(self, tls: ServerTls, *, in_cluster: bool = False) -> None:
        self._tls = tls
        self._secrets = RotatedSecrets(None)
        self._in_cluster = in_cluster
        self._said: str | None = None

    def join_workers(self, directory: Path | None) -> None:
        """Have the secrets of the edge with this state directory; raises StateError."""
        self._secrets = RotatedSecrets(None if directory is None else directory / "tickets.secret")
        self._secrets.look(time.time())
        self._use()

    def look(self, *, leading: bool) -> None:
        """Follow what another worker has made, and make what is due. leading: by this one."""
        now = time.time()
        try:
            changed = self._secrets.look(now)
            if leading and not self._in_cluster:
                changed = self._secrets.rotate(now) or changed
        except (StateError, OSError) as error:
            self._say(f"session tickets keep the keys that they have: {error}")
            return
        if changed:
            self._use()

    def use_cluster_secrets(self, newest_first: Sequence[bytes]) -> None:
        """Have all workers of this node use these; called in the one that leads. Raises StateError."""
        if self._secrets.replace(newest_first, time.time()):
            self._use()

    def _use(self) -> None:
        self._tls.use_secrets(self._secrets.newest_first)
        if self._tls.problem is not None:
            self._say(f"session tickets have keys of each worker's own, so others resume no sessions: {self._tls.problem}")

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            log.warning("%s", text)
