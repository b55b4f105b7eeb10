"""Which edge a process belongs to, and whether that edge lives: from the process table (proc(5)), where there is one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UNDER_GUNICORN = "gunicorn-"
"""How the identity of an edge starts that may have more than one process."""

UNKNOWN = "0"


@dataclass(frozen=True, slots=True)
class Succession:
    """How a worker takes over from another program (SIGUSR2). identity: of that one's edge, with which ours goes on.

    rereads: it is one of the first workers, and reads what the file says by now; later ones start from what the edge has.
    """

    identity: str
    rereads: bool


def edge_identity(env: Mapping[str, str] = os.environ) -> str:
    """Return a name that all processes of one running edge share, and no other edge on this machine has.

    Call it in the process that serves: with gunicorn's `--preload` the application is made in the arbiter.
    Workers of gunicorn are one edge by their arbiter, our own server is one by itself. The start time tells a
    process from a later one with the same number, the PID namespace from one with the same number in another
    container.
    """
    parent = os.getppid()
    forked_by_gunicorn = env.get("SERVER_SOFTWARE", "").startswith("gunicorn/") and "gunicorn.arbiter" in sys.modules
    upgrades_parent = env.get("GUNICORN_PID") == str(parent)  # SIGUSR2: we are the next arbiter, not one of its workers
    if forked_by_gunicorn and not upgrades_parent and _is_arbiter(parent):
        return f"{UNDER_GUNICORN}{parent}-{_started(parent)}-{_pid_namespace()}"
    return f"edge-{os.getpid()}-{_started(os.getpid())}-{_pid_namespace()}"


def arbiter_identity() -> str:
    """Return what the workers of this process have as their `edge_identity`: it is their arbiter."""
    pid = os.getpid()
    return f"{UNDER_GUNICORN}{pid}-{_started(pid)}-{_pid_namespace()}"


def _is_arbiter(pid: int) -> bool:
    """Say whether our parent is the arbiter; process 1 may be, in a container, or have adopted an orphan."""
    if pid != 1:
        return True
    with contextlib.suppress(OSError):
        command = Path("/proc/1/cmdline").read_bytes()
        return b"gunicorn" in command or b"smartedge" in command
    return False


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot (proc(5), stat, field 22); UNKNOWN if nobody can say."""
    with contextlib.suppress(OSError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[18] if state not in "ZX" else UNKNOWN  # a zombie is dead
    return UNKNOWN


def is_running(pid: int) -> bool:
    """Say whether there is such a process; where that can't be said, there is none."""
    return _started(pid) != UNKNOWN


def _pid_namespace() -> int:
    with contextlib.suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0


def lives(name: str) -> bool:
    """Say whether the process lives that a directory is named after: an edge's only one, or its arbiter.

    For one of another PID namespace that can't be said, which counts as no.
    """
    _, pid, started, namespace, *_ = f"{name}----".split("-")
    return namespace == str(_pid_namespace()) and pid.isdecimal() and _started(int(pid)) == started != UNKNOWN


def sockets_of(pid: int) -> frozenset[str] | None:
    """Return the sockets that a process has open, named as everywhere in the system; None when we may not know.

    A worker inherits its arbiter's listeners. An arbiter that ends closes them before it tells its workers; one that
    replaces its workers keeps them.
    """
    found = set()
    try:
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.add(os.readlink(entry.path))
    except FileNotFoundError:
        return frozenset()
    except OSError:
        return None
    return frozenset(name for name in found if name.startswith("socket:"))
