"""Scrapes: one at a time, and whoever asks meanwhile shares the next one."""

from __future__ import annotations

from collections.abc import Sequence

from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from smartedge.admin.exemplars import NEWEST, NO_EXEMPLARS, Exemplars
from smartedge.admin.exposition import content_type_of, exposition, has_exemplars
from smartedge.admin.snapshot import read_snapshot
from smartedge.edge import collector
from smartedge.edge.edge import Edge
from smartedge.workers.periodic import Pauses, in_pieces

Text = tuple[Sequence[bytes], str]
"""Pieces of a text, and its content type."""


class Scrapes:
    """Makes the text of the metrics for all who ask one worker; owned by the Blueprint, called by its page.

    However many ask, and however often, one text is made at a time. Who asks while one is made waits for the next, which all of
    them share: so nobody gets numbers that are older than the question.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._turn = BoundedSemaphore(1)
        self._next: dict[str, AsyncResult[Text]] = {}

    def make(self, accept: str) -> Text:
        """Return text and content type in the format that fits an Accept field best."""
        content_type = content_type_of(accept)
        shared = self._next.get(content_type)
        if shared is not None:
            found: Text = shared.get()
            return found
        result = self._next[content_type] = AsyncResult()
        try:
            with self._turn, collector.put_off():
                del self._next[content_type]
                made = self._make(accept, content_type)
        except BaseException as error:
            result.set_exception(error)
            raise
        result.set(made)
        return made

    def _make(self, accept: str, content_type: str) -> Text:
        snapshot, pause = read_snapshot(self._edge), Pauses()
        exemplars = NO_EXEMPLARS
        if has_exemplars(content_type):
            exemplars = Exemplars(in_pieces(self._edge.decisions.newest_traced(NEWEST)))
            pause()
        return exposition(snapshot, accept, pause, exemplars)
