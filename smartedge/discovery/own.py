"""A source of a user's own, kept from doing harm: what it raises, how long it takes, and what it gives.

Its class is called with its options as keywords. It has `snapshots()`, a generator as every source's, or `snapshot()`, which is
asked again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gevent

from smartedge.config.discover import source_class
from smartedge.discovery.check import entries_of
from smartedge.discovery.source import SourceError


class OwnSource:
    """The source that a class of the user's makes; asked by a `SourceRunner`, which guards against what it raises.

    What takes longer than `timeout_s` is broken off, as far as it waits the way gevent does; code that computes without end, as
    every such code in a worker, holds up everything.

    name: of the class or entry point, as in the configuration. options: keywords of the class. every_s: how often `snapshot` is
    asked. timeout_s: how long it may take, and how long `snapshots` may say nothing.
    """

    def __init__(self, name: str, options: Mapping[str, Any], every_s: float, timeout_s: float) -> None:
        self._name = name
        self._options = options
        self._every_s = every_s
        self._timeout_s = timeout_s

    def snapshots(self) -> Iterator[Sequence[Any]]:
        """Yield what it gives."""
        try:
            wanted = source_class(self._name)
        except ValueError as error:
            raise SourceError(str(error)) from None
        source = self._timed(lambda: wanted(**self._options), "was not made")
        if callable(getattr(source, "snapshots", None)):
            yield from self._generated(source)
            return
        while True:
            yield self._timed(lambda: entries_of(source.snapshot()), "gave nothing")
            gevent.sleep(self._every_s)

    def _generated(self, source: Any) -> Iterator[Sequence[Any]]:
        snapshots = self._timed(source.snapshots, "was not begun")
        try:
            snapshots = iter(snapshots)
        except TypeError:
            raise SourceError(f"its snapshots() gave a {type(snapshots).__name__} in place of a generator") from None
        try:
            while (answer := self._timed(lambda: _next_of(snapshots), "gave nothing")) is not None:
                yield answer
        finally:
            if (close := getattr(snapshots, "close", None)) is not None:
                self._timed(close, "did not end")

    def _timed(self, call: Callable[[], Any], what: str) -> Any:
        """Call it, for so long at most; raises what it raises, or SourceError."""
        timeout = gevent.Timeout(self._timeout_s)
        try:
            with timeout:
                return call()
        except gevent.Timeout as error:
            if error is not timeout:
                raise
            raise SourceError(f"it {what} within {self._timeout_s:g} s") from None


def _next_of(snapshots: Iterator[Any]) -> tuple[object, ...] | None:
    """Take the next snapshot; None at the end."""
    try:
        return entries_of(next(snapshots))
    except StopIteration:
        return None
