"""Events as they come, for all clients of one worker that follow them: the rings are read once, whoever listens.

What a client is behind by is nobody's memory but that of the last events, which all share: one that reads too slowly is told how
many it has missed, and goes on.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import gevent
from gevent.event import Event
from gevent.lock import BoundedSemaphore

from smartedge.observe.events import RECORDS, Cursor, Document, EventLog

POLL_S: Final = 0.1
"""How often it is looked whether any worker has written something: a look at one number."""

REST_S: Final = 0.3
"""Where there was something the next look comes so much later: to read the rings takes milliseconds, and may be due always."""

COMMENT_S: Final = 15.0
"""A stream without events shows so often that it lives, for proxies in between, and notices that its client has gone."""

MOST_STREAMS: Final = 100
AT_ONCE: Final = 100
"""Events that go out in one piece."""


class Noted(NamedTuple):
    """An event in the memory of the feed; text: as server-sent events have it."""

    document: Document
    text: str


class EventFeed:
    """The events that have come since somebody listens; owned by the Edge, asked by its page for a stream (`open_stream`)."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._mark = -1
        self._place = Cursor()
        self._tail: deque[Noted] = deque(maxlen=RECORDS)
        self._count = 0
        self._streams: set[EventStream] = set()
        self._poller: Any = None
        self._is_closed = False
        self._lock = BoundedSemaphore()  # to read gives way

    @property
    def is_full(self) -> bool:
        """Whether there are as many streams as one worker may have."""
        return len(self._streams) >= MOST_STREAMS

    def open_stream(self, after: Cursor | None, wanted: Callable[[Document], bool]) -> EventStream:
        """Return a new stream of the events after a place, None for only those that are still to come."""
        with self._lock:
            if not self._streams:
                self._start_anew()
            self._take_news()
            place, count = self._place, self._count
            stream = EventStream(self, count, wanted)
            self._streams.add(stream)
        if after is not None:
            for document, cursor in self._events.after(after):
                slot = document["slot"]
                if cursor[slot] <= place.get(slot, 0):
                    stream.hold(Noted(document, event_text(document, cursor)))
        if self._is_closed:
            stream.end()
        elif self._poller is None:
            self._poller = gevent.spawn(self._poll)
        return stream

    def _start_anew(self) -> None:
        """Begin where the events end now: nobody has listened."""
        self._mark = self._events.mark
        self._tail.clear()
        for placed in self._events.after({}, newest=1):
            self._place = placed.cursor

    def let_go(self, stream: EventStream) -> None:
        """Hear that a stream has ended."""
        self._streams.discard(stream)

    def look(self) -> bool:
        """Take in what any worker has written since the last look; say whether there was something."""
        with self._lock:
            return self._take_news()

    def _take_news(self) -> bool:
        mark = self._events.mark  # first: what comes after it is news again
        if mark == self._mark:
            return False
        self._mark = mark
        for placed in self._events.after(self._place):
            self._place = placed.cursor
            self._tail.append(Noted(placed.document, event_text(placed.document, placed.cursor)))
            self._count += 1
        for stream in self._streams:
            stream.wake()
        return True

    def news(self, since: int) -> tuple[int, list[Noted], int]:
        """Return how many events are lost to one who has had `since` of them, the next ones, and how many it has had then."""
        first = self._count - len(self._tail)
        start = max(since, first)
        found = [self._tail[index] for index in range(start - first, min(start - first + AT_ONCE, len(self._tail)))]
        return start - since, found, start + len(found)

    def close(self) -> None:
        """End all streams, and those that are still asked for: the worker stops."""
        self._is_closed = True
        for stream in list(self._streams):
            stream.end()

    def _poll(self) -> None:
        wait_s = POLL_S
        while self._streams:
            gevent.sleep(wait_s)
            wait_s = REST_S if self.look() else POLL_S
        self._poller = None


class EventStream:
    """The body of an answer that goes on: events as text/event-stream (WHATWG HTML, 9.2); iterated and closed by the server.

    had: how many of the feed's events are not for it, as they were there before. wanted: by this client.
    """

    def __init__(self, feed: EventFeed, had: int, wanted: Callable[[Document], bool]) -> None:
        self._feed = feed
        self._held: list[str] = []
        self._had = had
        self._wanted = wanted
        self._woken = Event()
        self._begun = self._ended = False

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        """Return the next piece, and wait for it. Raises StopIteration once the stream has ended."""
        if not self._begun:
            self._begun = True
            return b"retry: 1000\n\n"
        while not self._ended:
            if self._held:
                piece, self._held = self._held[:AT_ONCE], self._held[AT_ONCE:]
                return "".join(piece).encode("utf-8", "replace")
            self._woken.clear()
            missed, found, self._had = self._feed.news(self._had)
            if missed:
                self._held.append(f'event: missed\ndata: {{"missed":{missed}}}\n\n')
            self._held += [one.text for one in found if self._wanted(one.document)]
            if not found and not missed and not self._woken.wait(COMMENT_S):
                return b":\n\n"
        raise StopIteration

    def hold(self, one: Noted) -> None:
        """Send an event of before, if it is wanted, ahead of those that come."""
        if self._wanted(one.document):
            self._held.append(one.text)

    def wake(self) -> None:
        """Look for news."""
        self._woken.set()

    def end(self) -> None:
        """End it after what has been sent."""
        self._ended = True
        self.wake()

    def close(self) -> None:
        """Let go of the feed; called by whoever iterates, however it ended."""
        self._ended = True
        self._feed.let_go(self)


def event_text(document: Document, cursor: Cursor) -> str:
    """Write an event as server-sent events have it; its JSON holds no line break."""
    data = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    return f"id: {cursor}\nevent: {document['kind']}\ndata: {data}\n\n"
