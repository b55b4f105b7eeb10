"""The program that this one takes over from (SIGUSR2), as the new one sees it: its sockets, its edge, and how it is told.

old ── SMARTEDGE_TAKES_OVER, sockets, a pipe ──▶ new
old ◀── "serves", or why it cannot ───────────── new        the old one goes on until the first has come (successor.py)
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from smartedge.process.systemd import Role, listens

VARIABLE: Final = "SMARTEDGE_TAKES_OVER"
SERVES: Final = b"serves"
REFUSED: Final = b"refused "


class Listener(NamedTuple):
    """A socket that the edge listens on. bind: the address that it was opened for; "" for one that the service manager passed."""

    descriptor: int
    role: Role
    bind: str


@dataclass(slots=True)
class Predecessor:
    """Who started us to take over; made by `run`, asked by whoever listens and serves.

    identity: of its edge, which ours goes on with. listeners: its sockets. tells: the pipe by which it hears of us, None once
    it has heard.
    """

    identity: str
    listeners: list[Listener]
    tells: int | None

    def to_text(self) -> str:
        """What the variable says."""
        return json.dumps({"identity": self.identity, "listeners": self.listeners, "tells": self.tells})

    def we_serve(self) -> None:
        """Tell it that it may end; a second time does nothing. One that is gone needs not be told."""
        self._tell(SERVES)

    def we_cannot(self, why: str) -> None:
        """Tell it why it has to go on."""
        self._tell(REFUSED + why.encode(errors="replace")[:4000])

    def _tell(self, what: bytes) -> None:
        tells, self.tells = self.tells, None
        if tells is not None:
            with contextlib.suppress(OSError):
                os.write(tells, what)
            os.close(tells)


def find_predecessor(env: MutableMapping[str, str] = os.environ) -> Predecessor | None:
    """Take what says that we were started to take over, with the sockets; None where nothing does. Raises ValueError."""
    text = env.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        said = json.loads(text)
        identity, tells = str(said["identity"]), int(said["tells"])
        found = [Listener(int(descriptor), role, str(bind)) for descriptor, role, bind in said["listeners"]]
        is_pipe = stat.S_ISFIFO(os.fstat(tells).st_mode)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(f"{VARIABLE} is set by SIGUSR2 alone, and says nothing that could be taken over: {error}") from error
    if not is_pipe or not all(listens(one.descriptor) for one in found):
        raise ValueError(f"{VARIABLE} is set by SIGUSR2 alone, and names descriptors that do not listen")
    for descriptor in (tells, *(one.descriptor for one in found)):
        os.set_inheritable(descriptor, False)
    return Predecessor(identity, found, tells)
