"""Python's garbage collector in a worker: spared what stays for long, and run so often that each of its pauses is short."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from smartedge.process import hosting

THRESHOLDS: Final = 700, 3, 10
"""The middle one is usually 10, for a pause at 7,000 new objects that takes up to 3 ms; so it comes at 2,100."""

_NEVER: Final = 1_000_000_000


def begin() -> None:
    """Set the collector up for a worker that is complete: what is here now stays, and is looked through no more.

    Not even once: a megabyte of it could go, and to find that takes 40 ms, a twentieth of a start.
    """
    hosting.give_back_memory()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS[:2], _NEVER if _put_off else THRESHOLDS[2])


def spare() -> None:
    """Have it look through what has come no more, such as some 50 backends; takes 0.3 ms.

    Nothing of them is in a circle, so that what goes is freed all the same. Else every full collection would hold up all clients
    for as long as hundreds of requests take: 25 ms in the midst of a reload with 500 new backends.
    """
    gc.collect(1)
    gc.freeze()


_put_off: list[int] = []
"""The last threshold, to go back to, once for each long piece of work that goes on now."""


@contextmanager
def put_off() -> Iterator[None]:
    """Put full collections off while something of all backends is made: each would look through what there is of it so far.

    Nothing of it is in a circle. With 10,000 backends a full collection took 40 to 160 ms, several times a document, and a third
    of the start.
    """
    young, middle, full = gc.get_threshold()
    _put_off.append(_put_off[0] if _put_off else full)
    gc.set_threshold(young, middle, _NEVER)
    try:
        yield
    finally:
        full = _put_off.pop()
        if not _put_off:
            gc.set_threshold(*gc.get_threshold()[:2], full)
