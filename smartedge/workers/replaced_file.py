"""A file that is replaced whole and read by all: a reader sees the old one or the new one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from smartedge.workers.identity import is_running


def version_of(path: Path) -> tuple[int, int, int] | None:
    """Return what tells a file from the one that replaces it (a rename brings another inode); None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def replace_text(path: Path, text: str) -> None:
    """Replace a file's text, for its user alone; after an OSError it is as it was. Of several writers the last one wins."""
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")  # our own: workers that start together write the same files
    try:
        with open(fresh, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    with contextlib.suppress(OSError):
        _clear_up(path)


def _clear_up(path: Path) -> None:
    """Remove what writers have left that were killed while they wrote."""
    for left in path.parent.glob(f"{path.name}.*.new"):
        writer = left.name[len(path.name) + 1 : -len(".new")]
        if writer.isdecimal() and not is_running(int(writer)):
            left.unlink(missing_ok=True)
