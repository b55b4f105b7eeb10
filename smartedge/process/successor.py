"""The program that takes over from this one (SIGUSR2), as the old one sees it: started, and heard of until it serves or ends.

It is started by the same command line in the same directory, so what is installed there by now is what runs: the way to a new
version. Until it says that it serves nothing here is another.
"""

from __future__ import annotations

import contextlib
import os
import posix
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final, NoReturn

import gevent

from smartedge.process.predecessor import REFUSED, SERVES, VARIABLE, Listener, Predecessor

START_S: Final = 60.0
"""A new program that does not serve after so long is ended."""

NOT_HANDED_ON: Final = ("SERVER_SOFTWARE", "GUNICORN_PID", "GUNICORN_FD")
"""Variables that gunicorn's arbiter has set for its workers."""


@dataclass(frozen=True, slots=True)
class StartedAs:
    """How this program was started; noted when it begins, for a directory may be another by then."""

    arguments: tuple[str, ...]
    directory: str


def started_as(env: Mapping[str, str] = os.environ) -> StartedAs:
    """Say how this program was started.

    Where a script started it (`smartedge`), the script is started again, and with it the Python that it names by then. The
    directory is the one by whose name we came here, as the shell has it: a symbolic link may lead to another version later.
    """
    script = sys.argv[0]
    if sys.orig_argv[1:2] == [script] and os.access(script, os.X_OK):
        arguments = (script, *sys.argv[1:])
    else:
        arguments = (sys.executable, *sys.orig_argv[1:])
    here = os.getcwd()
    with contextlib.suppress(OSError):
        if os.path.samefile(env.get("PWD", here), here):
            here = env.get("PWD", here)
    return StartedAs(arguments, here)


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a new program: it serves, or why it does not."""

    serves: bool
    why: str = ""


class Successor:
    """A new program from its start until it serves or has ended; owned by whoever serves (cli/), which asks `look`.

    ours: how we were started. identity: of our edge. listeners: all that it listens on. env: more variables. now: of a monotonic
    clock. Raises OSError when no process can be made.
    """

    def __init__(
        self,
        ours: StartedAs,
        identity: str,
        listeners: Sequence[Listener],
        env: Mapping[str, str] | None = None,
        now: float | None = None,
    ) -> None:
        self._began = monotonic() if now is None else now
        self.hears, tells = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._said = b""
        handed = Predecessor(identity, list(listeners), tells)
        whole = {name: value for name, value in os.environ.items() if name not in NOT_HANDED_ON}
        whole |= {**(env or {}), VARIABLE: handed.to_text()}
        # Not os.fork, nor subprocess: gevent's own need an event loop, which an arbiter does not run, and go on in the child.
        self.pid = posix.fork()
        if self.pid == 0:
            _become(ours, whole, [tells, *(one.descriptor for one in listeners)], tells)
        os.close(tells)

    def look(self, now: float | None = None) -> Heard | None:
        """Return what became of it, None while that is open. To be asked no more once it has told."""
        try:
            data = os.read(self.hears, 4096)
        except BlockingIOError:
            if (monotonic() if now is None else now) - self._began < START_S:
                return None
            self.end()
            return Heard(False, f"it did not serve within {START_S:g} s, and was ended")
        self._said += data
        if self._said.startswith(SERVES):
            os.close(self.hears)
            return Heard(True)
        if data:
            return None  # it tells why, and ends
        os.close(self.hears)
        return Heard(False, self._why_it_ended())

    def end(self) -> None:
        """End it, for it is not wanted any more."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        self._status(1.0)
        with contextlib.suppress(OSError):
            os.close(self.hears)

    def _why_it_ended(self) -> str:
        status = self._status(1.0)
        if self._said.startswith(REFUSED):
            return self._said[len(REFUSED) :].decode(errors="replace")
        how = "" if status is None else f" with status {status}" if status >= 0 else f", killed by signal {-status}"
        return f"it ended{how} before it served; what it has said stands above"

    def _status(self, wait_s: float) -> int | None:
        """Return how it has ended, negative for a signal; None where another part of this process has heard that before us."""
        deadline = monotonic() + wait_s
        while monotonic() < deadline:
            try:
                pid, status = posix.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid:
                return os.waitstatus_to_exitcode(status)
            gevent.sleep(0.01)
        return None


def _become(ours: StartedAs, env: Mapping[str, str], kept: Sequence[int], tells: int) -> NoReturn:
    """Be the new program, in the process that was made for it; what speaks against it is told."""
    try:
        os.chdir(ours.directory)
        for descriptor in kept:
            os.set_inheritable(descriptor, True)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvpe(ours.arguments[0], ours.arguments, env)
    except BaseException as error:
        os.write(tells, REFUSED + f"{ours.arguments[0]} cannot be started in {ours.directory}: {error}".encode())
    finally:
        os._exit(127)
