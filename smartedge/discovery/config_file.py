"""The file that a configuration is kept in: read whole, and replaced as a whole.

A reader sees the old file or the new one, never a part, also when the machine stops in between.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets

MAX_BYTES = 8 * 1024 * 1024 + 1  # one more than any configuration may have: enough to be refused


class ConfigFile:
    """The configuration's file, by path; owned by a ConfigOrigin.

    A symbolic link is followed each time, so that it may be turned while we run.

    Errors are OSError and name the path.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)

    def read(self) -> bytes:
        """Give the bytes as they are now."""
        with open(self.path, "rb") as file:
            return file.read(MAX_BYTES)

    def write(self, data: bytes) -> None:
        """Replace the content: temporary file beside it, fsync, rename, fsync of the directory.

        Mode and, where that is allowed, owner stay. After an error the file is as it was, and alone.
        """
        target = os.path.realpath(self.path)
        directory = os.path.dirname(target)
        temporary = os.path.join(directory, f".smartedge-{secrets.token_hex(8)}.tmp")
        try:
            _write_synced(temporary, data, like=target)
            os.replace(temporary, target)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            if isinstance(error, OSError):
                raise _explained(error, self.path) from error
            raise
        _sync_directory(directory)


def _write_synced(path: str, data: bytes, *, like: str) -> None:
    """Make a new file with the mode and owner of another, if that exists, and have it on the disk."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "wb") as file:
        with contextlib.suppress(FileNotFoundError):
            old = os.stat(like)
            with contextlib.suppress(PermissionError):  # only root gives files away
                os.fchown(file.fileno(), old.st_uid, old.st_gid)
            os.fchmod(file.fileno(), old.st_mode & 0o7777)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    """Have the rename on the disk too; a file system that cannot is no error, as the new file is in place."""
    with contextlib.suppress(OSError):
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _explained(error: OSError, path: str) -> OSError:
    """The same error, about the path that people know instead of the temporary one."""
    reason = error.strerror or str(error)
    if error.errno == errno.EBUSY:
        reason += " (a single file mounted into a container cannot be replaced; mount its directory)"
    return OSError(error.errno, reason, path)
