"""gevent's plugins, for which the installed packages are looked through once a start, and not 25 times."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib import metadata


@contextlib.contextmanager
def plugins_found_once() -> Iterator[None]:
    """While it lasts, gevent's plugins that are installed are those of its beginning, and nobody else's are found.

    gevent tells its plugins of each module that it is about to patch or has patched, and each time asks anew which there are:
    one file of every installed package is read, and all that stands there is compared. For its patches, before other threads run.
    """
    look_up = metadata.entry_points
    found = look_up()
    groups = [group for group in found.groups if group.startswith("gevent.")]
    metadata.entry_points = metadata.EntryPoints(one for group in groups for one in found.select(group=group)).select  # type: ignore[assignment]
    try:
        yield
    finally:
        metadata.entry_points = look_up
