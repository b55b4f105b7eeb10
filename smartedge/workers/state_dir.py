"""Several processes as one edge: where they meet, the slot of each, and who leads.

One running edge has one directory, `<base>/smartedge-<uid>/<identity>`, private to its user. Everything in it
rests on `flock`, which the kernel lets go of when a process dies, however it dies: a locked `slot-N.lock` is
a live worker, a locked `leader.lock` is the leader, a directory in which nothing is locked is a leftover (or the arbiter
that it is named after is about to start new workers).
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
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from posix import close  # not os.close: gevent's waits for the event loop where a directory is closed, and so would its lock

from smartedge.workers.identity import lives
from smartedge.workers.replaced_file import replace_text

MAX_SLOTS = 64
LOCK_WAIT_S = 5.0

OWNER = "owner"
"""The file that names the edge which has taken a directory over, if one has."""

_LOCK_RETRY_S = 0.01
_OPEN_FILE = os.O_RDWR | os.O_CREAT
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
"""How `held` opens a folder, to lock that itself."""

SHARED_MEMORY = Path("/dev/shm")
_SERVICE = Path("/run/smartedge")
"""The run-time directory of deploy/smartedge.service."""


class StateError(Exception):
    """The state directory cannot be used; the text says which one, why, and what to do."""


def no_room(path: Path, error: OSError) -> StateError:
    """Make the error for a state directory in which something could not be written."""
    return StateError(
        f"cannot use the state directory {path}: {error.strerror}; make room there or set SMARTEDGE_STATE_DIR to another one"
    )


class Busy(StateError):
    """It cannot be used now, for another process holds a lock in it: later it can."""


@dataclass(slots=True)
class FileLock:
    """A file lock, held until `release` or the end of the process; taken by a Membership.

    index: the slot's number, 0 for the leader's.
    """

    path: Path
    index: int
    fd: int | None

    @property
    def in_place(self) -> bool:
        """Whether the file is still where others look for it."""
        try:
            return self.fd is not None and os.path.samestat(os.stat(self.path), os.fstat(self.fd))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let go; a second time does nothing."""
        if self.fd is not None:
            close(self.fd)
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

    @classmethod
    def check(cls, env: Mapping[str, str] = os.environ) -> Path:
        """Return the place for the directories of this user's edges, made if need be; raises StateError if there is none."""
        home = _base(env) / f"smartedge-{os.geteuid()}"
        _make_private(home)
        return home

    @classmethod
    def existing(cls, identity: str, env: Mapping[str, str] = os.environ) -> StateDir | None:
        """Return the directory of the edge called `identity`, if there is one."""
        path = _base(env) / f"smartedge-{os.geteuid()}" / identity
        return cls.find(identity, env) if path.is_dir() else None

    @property
    def home(self) -> Path:
        """The parent of all the directories of this user's edges."""
        return self.path.parent

    def guarded(self) -> AbstractContextManager[None]:
        """Keep everybody from joining, leaving and sweeping meanwhile."""
        return held(self.home, OPEN_DIRECTORY)

    def take_slot(self, max_slots: int = MAX_SLOTS) -> FileLock:
        """Take the first free slot, and write into it our process number and since when (monotonic clock)."""
        with self.guarded():
            _make_private(self.path)  # it may have been swept since it was found: nobody was in it yet
            for index in range(max_slots):
                if lock := self._take(f"slot-{index}", index):
                    return lock
        raise StateError(f"all {max_slots} worker slots in {self.path} are taken: start fewer workers")

    def leader_lock(self) -> FileLock | None:
        """Become the leader and hold it, or return None because another worker is."""
        return self._take("leader")

    def leader_pid(self) -> int | None:
        """Return the leader's process number; None while there is none."""
        path = self.path / "leader.lock"
        return _written_in(path)[0] if path.exists() and _is_locked(path) else None

    def slot_lock(self, slot: int) -> FileLock | None:
        """Keep everybody out of a dead worker's slot, until `release`; None when it has been taken."""
        path = self.path / f"slot-{slot}.lock"
        fd = try_lock(path)
        return None if fd is None else FileLock(path, slot, fd)

    def last_in(self, slot: int) -> tuple[int, float]:
        """Return process number and time of the start of the worker that took a slot last."""
        return _written_in(self.path / f"slot-{slot}.lock")

    def _take(self, name: str, index: int = 0) -> FileLock | None:
        """Take a lock and write into its file who holds it, and since when; None when another worker does."""
        path = self.path / f"{name}.lock"
        if (fd := try_lock(path)) is None:
            return None
        try:
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {time.monotonic():.3f}\n".encode(), 0)
        except OSError:
            close(fd)
            raise
        return FileLock(path, index, fd)

    def used_slots(self) -> list[int]:
        """Return the slots that were ever taken in this edge, in order."""
        return sorted(int(path.stem.removeprefix("slot-")) for path in self.path.glob("slot-*.lock"))

    def live_slots(self) -> dict[int, int]:
        """Return the process number of every live worker by its slot (0 if it has not written it yet)."""
        return {index: pid for index, (pid, _) in self.live_since().items()}

    def live_since(self) -> dict[int, tuple[int, float]]:
        """Return process number and time of the start (monotonic clock) of every live worker by its slot."""
        paths = {index: self.path / f"slot-{index}.lock" for index in self.used_slots()}
        return {index: _written_in(path) for index, path in paths.items() if _is_locked(path)}

    def leave(self, slot: FileLock, *, others_may_come: bool = False) -> None:
        """Give the slot back; whoever leaves last removes the directory, unless other workers may come."""
        with self.guarded():
            slot.release()
            if not others_may_come:
                _remove_if_abandoned(self.path)

    def pass_to(self, identity: str) -> None:
        """Write down that the edge of this identity goes on here: its process may live when the one in our name has ended."""
        try:
            replace_text(self.path / OWNER, identity)
        except OSError as error:
            raise StateError(f"cannot write {self.path / OWNER}: {error.strerror}") from error

    def sweep(self) -> list[str]:
        """Remove what ended edges of this user left behind; return their names."""
        with self.guarded():
            siblings = [path for path in self.home.iterdir() if path != self.path and not lives(_owner_of(path))]
            return [path.name for path in siblings if _remove_if_abandoned(path)]


@contextlib.contextmanager
def held(path: Path, flags: int = _OPEN_FILE, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock on a file, made if missing, for a few lines that wait for nothing. Raises StateError.

    It is polled, not waited for: a worker stopped at the wrong moment must not stop the others for longer
    than `wait_s`.
    """
    deadline = time.monotonic() + wait_s
    while (fd := try_lock(path, flags)) is None:
        if time.monotonic() > deadline:
            raise Busy(f"another process has held the lock on {path} for more than {wait_s:g} s")
        time.sleep(_LOCK_RETRY_S)
    try:
        yield
    finally:
        close(fd)


def try_lock(path: Path, flags: int = _OPEN_FILE, kind: int = fcntl.LOCK_EX) -> int | None:
    """Return the descriptor of the file, now locked, or None if another one holds the lock."""
    fd = None
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if fd is not None:
            close(fd)
        if isinstance(error, BlockingIOError):
            return None
        raise StateError(f"cannot lock {path}: {error.strerror}") from error
    return fd


def _is_locked(path: Path) -> bool:
    """Say whether somebody holds the lock; a shared lock is tried, so that two who ask do not meet."""
    fd = try_lock(path, os.O_RDONLY, fcntl.LOCK_SH)
    if fd is not None:
        close(fd)
    return fd is None


def _written_in(path: Path) -> tuple[int, float]:
    """Read a slot's file, which its worker may be about to write."""
    try:
        pid, since = path.read_text().split()
        return int(pid), float(since)
    except ValueError:
        return 0, time.monotonic()


def _owner_of(path: Path) -> str:
    """Return the name that says whose process has to live for this directory to be in use."""
    with contextlib.suppress(OSError):
        return (path / OWNER).read_text()
    return path.name


def _remove_if_abandoned(path: Path) -> bool:
    """Remove an edge's directory unless somebody holds a lock in it; say whether it was removed."""
    if path.is_symlink() or not path.is_dir() or any(map(_is_locked, path.glob("*.lock"))):
        return False
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def bases(env: Mapping[str, str]) -> list[Path]:
    """Return where an edge that was started with other variables than ours may keep its directory: the places that there are."""
    if chosen := env.get("SMARTEDGE_STATE_DIR"):
        return [Path(chosen).absolute()]
    places = (SHARED_MEMORY, Path(env.get("XDG_RUNTIME_DIR") or SHARED_MEMORY), Path(tempfile.gettempdir()), _SERVICE)
    return [place for place in dict.fromkeys(places) if place.is_dir()]


def is_alive(path: Path) -> bool:
    """Say whether an edge with this directory runs: whether a worker of it does. One that we may not read counts as dead."""
    with contextlib.suppress(StateError, OSError):
        return any(map(_is_locked, path.glob("slot-*.lock")))
    return False


def _base(env: Mapping[str, str]) -> Path:
    if chosen := env.get("SMARTEDGE_STATE_DIR"):
        base = Path(chosen).absolute()
        try:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateError(f"cannot make SMARTEDGE_STATE_DIR {base}: {error.strerror}") from error
        return base
    for base in (SHARED_MEMORY, Path(env.get("XDG_RUNTIME_DIR") or SHARED_MEMORY)):
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
