"""The way to a new version without a stop (SIGUSR2): one new program at a time, and what is said of it.

SIGUSR2 ──▶ begin ──▶ Successor … look, again and again ──▶ it serves: whoever owns this hands over, and ends gently
                                                        └─▶ it does not: said in the log, and all goes on as it was
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence

from smartedge.process.predecessor import Listener
from smartedge.process.successor import Successor, started_as

log = logging.getLogger("smartedge")


class Upgrade:
    """Made where a program begins to serve, owned by whoever minds its signals (cli/). env: more variables for the new one.

    done: another program has taken over.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._ours = started_as()
        self.successor: Successor | None = None
        self.done = False

    def begin(self, identity: str, listeners: Sequence[Listener]) -> bool:
        """Start the new program, which takes over the edge of this identity; what speaks against it is logged, and False."""
        if self.successor is not None:
            log.warning("SIGUSR2: process %d is starting already, to take over", self.successor.pid)
            return False
        if os.getpid() == 1:
            log.warning("SIGUSR2: nothing is started: process 1 of a container must stay; start another container instead")
            return False
        try:
            self.successor = Successor(self._ours, identity, listeners, self._env)
        except OSError as error:
            log.error("SIGUSR2: the new program cannot be started, and this one serves on: %s", error)
            return False
        log.info("SIGUSR2: process %d starts, to take over: %s", self.successor.pid, " ".join(self._ours.arguments))
        return True

    def look(self) -> bool:
        """Say whether there is nothing more to wait for: the new program has taken over, or never will."""
        if self.done or self.successor is None:
            return True
        heard = self.successor.look()
        if heard is None:
            return False
        if heard.serves:
            log.info("SIGUSR2: process %d has taken over; requests under way end here", self.successor.pid)
            self.done = True
        else:
            log.error("SIGUSR2: the new program did not take over, and this one serves on: %s", heard.why)
            self.successor = None
        return True

    def end(self) -> None:
        """End a new program that is still starting: we stop, and so does all that we have begun."""
        if self.successor is not None and not self.done:
            self.successor.end()
            self.successor = None
