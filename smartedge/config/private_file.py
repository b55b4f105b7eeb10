"""A file for its owner alone: a certificate with its key, or what is kept of secrets and of addresses within a network.

workers/replaced_file.py does likewise with what many processes write into one directory of theirs: there a name says who wrote
it, and what the dead have left is cleared up. Here the directory may be the operator's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_private(path: Path, content: bytes, *, sync: bool = True) -> None:
    """Put a file in its place, whole, readable by its owner alone; after an OSError what was there is there.

    sync: have it on the disk before, which takes some milliseconds in which this process does nothing else.
    """
    fresh = path.with_name(f".smartedge-{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
