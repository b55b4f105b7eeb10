"""How far a command is that takes long: one line on a terminal, which is written over and goes in the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from time import monotonic
from typing import TextIO

ERASE = "\r\x1b[K"

EACH_S = 0.1
"""A line is shown no more often: whoever works tells of every step."""


@contextmanager
def progress(stream: TextIO | None = None, clock: Callable[[], float] = monotonic) -> Iterator[Callable[[str], None]]:
    """Give what shows a line on standard error; where that is no terminal it shows nothing."""
    stream = stream or sys.stderr
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield lambda _text: None
        return

    shown_at = 0.0

    def show(text: str) -> None:
        nonlocal shown_at
        if clock() - shown_at < EACH_S:
            return
        shown_at = clock()
        stream.write(ERASE + text[: get_terminal_size().columns - 1])
        stream.flush()

    try:
        yield show
    finally:
        stream.write(ERASE)
        stream.flush()
