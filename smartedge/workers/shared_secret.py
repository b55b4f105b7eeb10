"""The secret that sticky cookies are made with: the operator's, or a random one that all workers of an edge share."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

BYTES = 32


class Secret:
    """Where the secret of sticky cookies comes from; owned by the SetupBuilder.

    given: by the environment, None for nothing. of_cluster: those that all nodes have in common, none outside of a cluster.
    """

    def __init__(self, given: bytes | None) -> None:
        self._given = given
        self._own = secrets.token_bytes(BYTES)
        self.of_cluster: tuple[bytes, ...] = ()

    def choose(self, of_file: bytes | None, directory: Path | None) -> tuple[bytes, ...]:
        """Return the given one, else the file's, else the cluster's, else the one of the edge with this state directory.

        Those of a cluster are several, newest first. Without such a directory there is only this process, and what it made for
        itself. Raises OSError.
        """
        if self._given:
            return (self._given,)
        if of_file is not None:
            return (of_file,)
        return self.of_cluster or (self._own if directory is None else shared(directory),)


def shared(directory: Path) -> bytes:
    """Return the secret that is kept in a state directory; whoever asks first makes it. Raises OSError.

    It is written under another name and linked to its own, so that nobody ever reads half of it. It dies with the
    directory, when the edge's last worker ends.
    """
    path = directory / "sticky.secret"
    with contextlib.suppress(FileNotFoundError):
        return _read(path)
    written = directory / f".sticky.secret.{os.getpid()}.{secrets.token_hex(4)}"
    fd = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(BYTES))
        with contextlib.suppress(FileExistsError):  # another worker was quicker
            os.link(written, path)
    finally:
        os.unlink(written)
    return _read(path)


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        return file.read(BYTES)
