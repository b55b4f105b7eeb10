"""gevent's plugins, for which the installed packages are looked through once a start, and not 25 times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import metadata


@contextlib.contextmanager
def plugins_found_once() -> Iterator[None]:
    """While it lasts, what is installed is as it was at its beginning; for gevent's patches, before other threads run.

    gevent tells its plugins of each module that it is about to patch or has patched, and each time asks anew which there are:
    one file of every installed package is read.
    """
    look_up = metadata.entry_points
    metadata.entry_points = look_up().select
    try:
        yield
    finally:
        metadata.entry_points = look_up
