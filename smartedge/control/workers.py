"""Several processes as one edge: which edge this process belongs to, its slot, and who leads.

One running edge has one directory, `<base>/smartedge-<uid>/<identity>`, private to its user. Everything in it
rests on `flock`, which the kernel lets go of when a process dies, however it dies: a locked `slot-N.lock` is
a live worker, a locked `leader.lock` is the leader, a directory in which nothing is locked is a leftover.
Joining, leaving and sweeping take a lock on the parent directory first, so that none of them ever sees
another half done.

A lock is never unlocked, only closed: `flock` belongs to the open file, which a forked child shares, so
LOCK_UN in a child would unlock its parent. The descriptors are closed on exec.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

MAX_SLOTS = 64
LOCK_WAIT_S = 5.0
UNDER_GUNICORN = "gunicorn-"  # how the identity of an edge starts that may have more than one process

_LOCK_RETRY_S = 0.01
_OPEN_FILE = os.O_RDWR | os.O_CREAT
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_SHARED_MEMORY = Path("/dev/shm")


class StateError(Exception):
    """The state directory cannot be used; the text says which one, why, and what to do."""


def edge_identity(env: Mapping[str, str] = os.environ) -> str:
    """Return a name that all processes of one running edge share, and no other edge on this machine has.

    Call it in the process that serves: with gunicorn's `--preload` the application is made in the arbiter.
    Workers of gunicorn are one edge by their arbiter, our own server is one by itself. The start time tells a
    process from a later one with the same number, the PID namespace from one with the same number in another
    container.
    """
    parent = os.getppid()
    forked_by_gunicorn = env.get("SERVER_SOFTWARE", "").startswith("gunicorn/") and "gunicorn.arbiter" in sys.modules
    if forked_by_gunicorn and _is_arbiter(parent):
        return f"{UNDER_GUNICORN}{parent}-{_started(parent)}-{_pid_namespace()}"
    return f"edge-{os.getpid()}-{_started(os.getpid())}-{_pid_namespace()}"


def _is_arbiter(pid: int) -> bool:
    """Say whether our parent is the arbiter; process 1 may be, in a container, or have adopted an orphan."""
    if pid != 1:
        return True
    with contextlib.suppress(OSError):
        command = Path("/proc/1/cmdline").read_bytes()
        return b"gunicorn" in command or b"smartedge" in command
    return False


def _started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot (proc(5), stat, field 22); "0" if unknown."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "0"


def _pid_namespace() -> int:
    with contextlib.suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino
    return 0


@dataclass(slots=True)
class FileLock:
    """A lock held until `release` or the end of the process. index: the slot's number, 0 for the leader's."""

    path: Path
    index: int
    fd: int | None

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


@dataclass(frozen=True, slots=True)
class StateDir:
    """The directory of one running edge. The methods raise StateError, or say so when they don't."""

    path: Path

    @classmethod
    def find(cls, identity: str, env: Mapping[str, str] = os.environ) -> StateDir:
        """Return the directory of the edge called `identity`, made if need be.

        The base is $SMARTEDGE_STATE_DIR, else the first usable one of /dev/shm, $XDG_RUNTIME_DIR and the
        temporary directory. What other users own, or can write to, is refused: they could read or forge what
        the workers tell each other.
        """
        home = _base(env) / f"smartedge-{os.geteuid()}"
        _make_private(home)
        _make_private(home / identity)
        return cls(home / identity)

    @property
    def home(self) -> Path:
        """The parent of all the directories of this user's edges."""
        return self.path.parent

    def guarded(self) -> AbstractContextManager[None]:
        """Keep everybody from joining, leaving and sweeping meanwhile."""
        return held(self.home, _OPEN_DIRECTORY)

    def take_slot(self, max_slots: int = MAX_SLOTS) -> FileLock:
        """Take the first free slot and write our process number into it."""
        with self.guarded():
            _make_private(self.path)  # it may have been swept since it was found: nobody was in it yet
            for index in range(max_slots):
                path = self.path / f"slot-{index}.lock"
                if (fd := _try_lock(path)) is not None:
                    os.ftruncate(fd, 0)
                    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                    return FileLock(path, index, fd)
        raise StateError(f"all {max_slots} worker slots in {self.path} are taken: start fewer workers")

    def leader_lock(self) -> FileLock | None:
        """Become the leader and hold it, or return None because another worker is."""
        path = self.path / "leader.lock"
        fd = _try_lock(path)
        return None if fd is None else FileLock(path, 0, fd)

    def used_slots(self) -> list[int]:
        """Return the slots that were ever taken in this edge, in order."""
        return sorted(int(path.stem.removeprefix("slot-")) for path in self.path.glob("slot-*.lock"))

    def live_slots(self) -> dict[int, int]:
        """Return the process number of every live worker by its slot (0 if it has not written it yet)."""
        paths = {index: self.path / f"slot-{index}.lock" for index in self.used_slots()}
        return {index: _pid_in(path) for index, path in paths.items() if _is_locked(path)}

    def leave(self, slot: FileLock) -> None:
        """Give the slot back; whoever leaves last removes the directory."""
        with self.guarded():
            slot.release()
            _remove_if_abandoned(self.path)

    def sweep(self) -> list[str]:
        """Remove what killed edges of this user left behind; return their names."""
        with self.guarded():
            siblings = [path for path in self.home.iterdir() if path != self.path]
            return [path.name for path in siblings if _remove_if_abandoned(path)]


@contextlib.contextmanager
def held(path: Path, flags: int = _OPEN_FILE, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock on a file, made if missing, for a few lines that wait for nothing. Raises StateError.

    It is polled, not waited for: a worker stopped at the wrong moment must not stop the others for longer
    than `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while (fd := _try_lock(path, flags)) is None:
        if time.monotonic() > deadline:
            raise StateError(f"another process has held the lock on {path} for more than {wait_s:g} s")
        time.sleep(_LOCK_RETRY_S)
    try:
        yield
    finally:
        os.close(fd)


def _try_lock(path: Path, flags: int = _OPEN_FILE, kind: int = fcntl.LOCK_EX) -> int | None:
    """Return the descriptor of the file, now locked, or None if another one holds the lock."""
    fd = None
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if fd is not None:
            os.close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise StateError(f"cannot lock {path}: {error.strerror}") from error
    return fd


def _is_locked(path: Path) -> bool:
    """Say whether somebody holds the lock; a shared lock is tried, so that two who ask do not meet."""
    fd = _try_lock(path, os.O_RDONLY, fcntl.LOCK_SH)
    if fd is not None:
        os.close(fd)
    return fd is None


def _pid_in(path: Path) -> int:
    text = path.read_text().strip()
    return int(text) if text.isdecimal() else 0


def _remove_if_abandoned(path: Path) -> bool:
    """Remove an edge's directory unless somebody holds a lock in it; say whether it was removed."""
    if path.is_symlink() or not path.is_dir() or any(map(_is_locked, path.glob("*.lock"))):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _base(env: Mapping[str, str]) -> Path:
    if chosen := env.get("SMARTEDGE_STATE_DIR"):
        base = Path(chosen).absolute()
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot make SMARTEDGE_STATE_DIR {base}: {error.strerror}") from error
        return base
    for base in (_SHARED_MEMORY, Path(env.get("XDG_RUNTIME_DIR") or _SHARED_MEMORY)):
        if os.access(base, os.W_OK | os.X_OK):
            return base
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise StateError("no directory to keep state in: set SMARTEDGE_STATE_DIR to a writable one") from error


def _make_private(path: Path) -> None:
    """Make sure that `path` is a directory of ours that nobody else can enter."""
    try:
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise StateError(
            f"cannot make the state directory {path}: {error.strerror}; set SMARTEDGE_STATE_DIR to another"
        ) from error
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{path} must be a directory, but is a file or a symbolic link: remove it")
    if found.st_uid != os.geteuid():
        raise StateError(f"{path} belongs to user {found.st_uid}, not {os.geteuid()}: remove it or set SMARTEDGE_STATE_DIR")
    if found.st_mode & 0o077:
        raise StateError(f"{path} is open to other users (mode {found.st_mode & 0o777:o}): chmod 700 it")
