"""The configurations of an edge by number: a file that all of its workers go by, and who has applied which.

`generation.json` in the state directory is the truth: `{"generation": 17, "serial": 17, "found": {...}, "config": {...}}`,
complete, with flags and variables laid over the configuration, and beside it what sources have found; replaced whole. A
worker that comes later starts from it, whatever the configuration file says by then. Each worker writes the serial that it has
applied into a cell of its own (`cells.SERIAL`), so that whoever reloads can wait for all of them. Reloads are serialised by
`reload.lock`, which a worker that dies lets go of.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from smartedge.workers.membership import Membership
from smartedge.workers.replaced_file import replace_text, version_of
from smartedge.workers.state_dir import LOCK_WAIT_S, StateError, held

CONFIRM_S = 2.0
"""How long a reload waits for the other workers before it answers 202."""

_POLL_S = 0.01
_FILE = "generation.json"


@dataclass(frozen=True, slots=True)
class Generation:
    """A configuration that was applied, as the workers share it.

    number: the configuration's. serial: counts every one that this edge's workers are told of; where the number is that of a
    whole cluster, what this node alone finds has another serial and the same number. config, found: what their canonical texts
    say, as JSON has it.
    """

    number: int
    config: object
    serial: int
    found: object


@dataclass(frozen=True, slots=True)
class Confirmed:
    """Who has applied a generation; what a reload waits for. late: process numbers by slot of those that have not."""

    live: int
    late: Mapping[int, int]


class Peers(Protocol):
    """The workers of an edge, as a reload sees them: Generations, or Alone."""

    def writing(self) -> AbstractContextManager[None]:
        """Keep the reloads of other workers out. Raises StateError when that takes too long."""

    def mark(self) -> object:
        """Return what tells the file of the newest generation from those before it; None before the first."""

    def newest(self) -> Generation | None:
        """Return the newest generation; None when none was published. Raises StateError."""

    def publish(self, number: int, serial: int, config: str, found: str) -> None:
        """Make a configuration and what was found, their canonical texts, the newest. Raises StateError, and then it is not."""

    def confirm(self, number: int, serial: int) -> None:
        """Say that this worker has applied it."""

    def wait(self, serial: int, wait_s: float) -> Confirmed:
        """Wait for the others to confirm it, for so long at most."""


class Alone:
    """An edge of one process: there is nobody to tell, but for whoever asks for its status.

    membership: has the number that is applied; None until there is one.
    """

    def __init__(self, membership: Membership | None = None) -> None:
        self._membership = membership

    def writing(self) -> AbstractContextManager[None]:
        """Nobody else writes."""
        return contextlib.nullcontext()

    def mark(self) -> object:
        """Nobody else publishes."""
        return None

    def newest(self) -> Generation | None:
        """Nothing is published."""
        return None

    def publish(self, number: int, serial: int, config: str, found: str) -> None:
        """Nobody would read it."""

    def confirm(self, number: int, serial: int) -> None:
        """Say that it is applied."""
        if self._membership is not None:
            self._membership.confirm(number, serial)

    def wait(self, serial: int, wait_s: float) -> Confirmed:
        """Nobody is waited for."""
        return Confirmed(1, {})


class Heirloom:
    """The generations of an edge of one process, written down for the program that takes over from it (SIGUSR2).

    directory: of its state. follows: it has taken over itself, and starts from what is there.
    """

    def __init__(self, directory: Path, membership: Membership, *, follows: bool) -> None:
        self._path = directory / _FILE
        self._membership = membership
        self._alone = Alone(membership)
        self._follows = follows

    def writing(self) -> AbstractContextManager[None]:
        """Nobody else writes, until another program has taken over."""
        if self._membership.retired:
            raise StateError("another program has taken over, and has to be asked, by a new connection")
        return contextlib.nullcontext()

    def mark(self) -> object:
        """Nobody else publishes."""
        return self._path

    def newest(self) -> Generation | None:
        """Read what the program before this one has left."""
        return newest_in(self._path.parent) if self._follows else None

    def publish(self, number: int, serial: int, config: str, found: str) -> None:
        """Write it down, if that can be done: what serves now needs it not."""
        with contextlib.suppress(OSError):
            replace_text(self._path, _text_of(number, serial, config, found))

    def confirm(self, number: int, serial: int) -> None:
        """Say that it is applied."""
        self._alone.confirm(number, serial)

    def wait(self, serial: int, wait_s: float) -> Confirmed:
        """Nobody is waited for."""
        return self._alone.wait(serial, wait_s)


class Generations:
    """The generations of an edge of several processes; made by the Follower, asked by its Reloader too.

    directory: where the workers of this edge meet. membership: knows what each of them has applied. lock_s: how long another
    reload is waited for.
    """

    def __init__(self, directory: Path, membership: Membership, lock_s: float = LOCK_WAIT_S) -> None:
        self._path = directory / _FILE
        self._membership = membership
        self._lock_s = lock_s

    def writing(self) -> AbstractContextManager[None]:
        """Hold the reload lock."""
        return held(self._path.with_name("reload.lock"), wait_s=self._lock_s)

    def mark(self) -> object:
        """Return the version of the file."""
        return version_of(self._path)

    def newest(self) -> Generation | None:
        """Read the file."""
        return newest_in(self._path.parent)

    def publish(self, number: int, serial: int, config: str, found: str) -> None:
        """Replace the file; under the lock."""
        try:
            replace_text(self._path, _text_of(number, serial, config, found))
        except OSError as error:
            raise StateError(f"cannot write {self._path}: {error.strerror}") from error

    def confirm(self, number: int, serial: int) -> None:
        """Say that this worker has applied it."""
        self._membership.confirm(number, serial)

    def wait(self, serial: int, wait_s: float) -> Confirmed:
        """Wait until every live worker has confirmed this generation or a later one; a dead one is not waited for."""
        deadline = time.monotonic() + wait_s
        while True:
            confirmed = self._membership.confirmed()
            late = [slot for slot, applied in confirmed.items() if applied < serial]
            if not late or time.monotonic() >= deadline:
                pids = self._membership.live() if late else {}
                return Confirmed(len(confirmed), {slot: pids[slot] for slot in late if slot in pids})
            time.sleep(_POLL_S)


def _text_of(number: int, serial: int, config: str, found: str) -> str:
    return f'{{"generation": {number}, "serial": {serial}, "found": {found}, "config": {config}}}'


def newest_in(directory: Path) -> Generation | None:
    """Return the newest generation of the edge that keeps its state there, None when there is none. Raises StateError."""
    path = directory / _FILE
    try:
        document = json.loads(path.read_text())
        return Generation(int(document["generation"]), document["config"], int(document["serial"]), document["found"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path} holds no generation: another program wrote it, or another version") from error
