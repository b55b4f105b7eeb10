"""Events: what happened to the edge, its backends and its workers, kept for whoever asks any worker for it.

Each worker writes into a ring of its own, which outlives it; whoever is asked reads those of all. So nothing waits for a lock,
and there is no number that counts all events. A place in the stream is therefore a number for each ring (`Cursor`): what a ring
has got since comes after it, whatever its clock said.
"""

from __future__ import annotations

import heapq
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from time import time
from typing import Any, Final, Literal, NamedTuple

from smartedge.balancer.cells import EVENTS
from smartedge.balancer.learned import Learned
from smartedge.workers.ring import Ring, numbered, room_of, text_at, written_part

log = logging.getLogger(__name__)

Document = dict[str, Any]
Level = Literal["info", "warning", "error"]

RECORDS: Final = 1000
"""How many events of each worker are kept."""

RECORD_BYTES: Final = 2048
ROOM_BYTES: Final = room_of(RECORD_BYTES)

PIECE: Final = 50
"""So many events are read at a stretch, less than a millisecond."""

AGE_BITS: Final = 24
"""The numbers of a new ring begin with the second of its making, so that those of a ring before it, which are in the cursors of
clients, are all lower: what a new edge has to tell is new to them."""

_CURSOR: Final = re.compile(r"(?a:\d{1,3}-[0-9a-f]{1,16})(?:\.(?a:\d{1,3}-[0-9a-f]{1,16})){0,99}")


class Cursor(dict[int, int]):
    """A place in the stream of events: the number of the last one that was read of each worker's slot."""

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Read what `str` has made. Raises ValueError."""
        if not _CURSOR.fullmatch(text):
            raise ValueError("it is none that an answer has given")
        pairs = (part.split("-") for part in text.split("."))
        return cls({int(slot): int(number, 16) for slot, number in pairs})

    def __str__(self) -> str:
        """What clients are given, to whom it means nothing; never empty."""
        return ".".join(f"{slot}-{number:x}" for slot, number in sorted(self.items())) or "0-0"


class Placed(NamedTuple):
    """An event, and the place behind it."""

    document: Document
    cursor: Cursor


class EventLog:
    """What this worker has to tell, and what all have told; owned by its Edge, written by its Announcer.

    edge_row: where each worker says to all that there is something new. wall: Unix time. give_way: called between two pieces of
    what takes long.
    """

    def __init__(
        self, edge_row: Learned, rng: Random, wall: Callable[[], float] = time, give_way: Callable[[], None] = lambda: None
    ) -> None:
        self._edge_row = edge_row
        self._rng = rng
        self._wall = wall
        self._give_way = give_way
        self._slot = 0
        self._quiet: tuple[int, Cursor] | None = None  # the mark at which there was nothing after a place
        self._directory: Path | None = None
        self._ring = Ring.private(RECORDS, RECORD_BYTES, self._first())

    def join_workers(self, directory: Path | None, slot: int) -> None:
        """Keep events in the edge's directory, where all workers find them; in this process alone without one."""
        self._slot = slot
        if directory is None:
            return
        try:
            ring = Ring.open(directory / f"events-{slot}.ring", RECORDS, RECORD_BYTES, self._first())
        except OSError as error:
            log.warning("events are kept in this process alone: %s", error)
            return
        content = self._ring.content()
        for _, start in sorted(numbered(content, RECORD_BYTES)):
            if (text := text_at(content, start, RECORD_BYTES)) is not None:
                ring.write(_text(json.loads(text) | {"slot": slot}))
        self._ring.close()
        self._directory, self._ring = directory, ring

    def close(self) -> None:
        """Let go of the edge's directory; what happens after that is nobody's to ask for."""
        self._ring.close()
        self._directory, self._ring = None, Ring.private(1, RECORD_BYTES)

    def write(
        self, kind: str, level: Level, text: str, service: str | None = None, backend: str | None = None, **members: Any
    ) -> None:
        """Write an event down. kind: see announce.KINDS. text: one sentence. members: more of it, as JSON has it."""
        document: Document = {"at": round(self._wall(), 6), "slot": self._slot, "kind": kind, "level": level}
        document |= {"service": service, "backend": backend, "text": text}
        self._ring.write(fitted(document | members))
        self._edge_row.shared[EVENTS] = self._rng.getrandbits(62)

    def now(self) -> float:
        """Return the Unix time by which events are told."""
        return self._wall()

    @property
    def mark(self) -> int:
        """What is another number as soon as any worker has written something."""
        return self._edge_row.shared[EVENTS]

    def after(self, cursor: Mapping[int, int], newest: int = RECORDS) -> Iterator[Placed]:
        """Yield what has come after a place, oldest first. newest: so many of each worker, where it has more."""
        place, mark = Cursor(cursor), self.mark
        if (mark, place) == self._quiet:
            return  # as most questions of a page that asks all the time
        news = []
        for slot, content in self._rings():
            last, records = place.get(slot, 0), sorted(numbered(content, RECORD_BYTES))
            if records and last > records[-1][0]:
                last = 0  # of another edge, whose clock was ahead
            records = [record for record in records if record[0] > last]
            if skipped := records[:-newest]:
                place[slot] = skipped[-1][0]
            news.append(_documents(slot, content, records[-newest:]))
            self._give_way()
        merged = heapq.merge(*news, key=lambda one: one[0])  # by time, but each worker's in the order that it wrote them
        for count, (_, slot, number, document) in enumerate(merged, 1):
            place = Cursor(place | {slot: number})
            yield Placed(document, place)
            if count % PIECE == 0:
                self._give_way()
        self._quiet = mark, place

    def _rings(self) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of each worker's ring."""
        if self._directory is None:
            yield self._slot, self._ring.content()
            return
        for path in sorted(self._directory.glob("events-*.ring")):
            yield int(path.stem.removeprefix("events-")), written_part(path, RECORD_BYTES)

    def _first(self) -> int:
        return (int(self._wall()) << AGE_BITS) + 1


def _documents(slot: int, content: bytes, records: list[tuple[int, int]]) -> Iterator[tuple[float, int, int, Document]]:
    for number, start in records:
        if (text := text_at(content, start, RECORD_BYTES)) is not None:
            document: Document = json.loads(text)
            yield document["at"], slot, number, document


MOST_TEXT: Final = 600
MOST_NAME: Final = 200


def fitted(document: Document) -> bytes:
    """Write an event as text that fits into the ring: its words are cut first, then its own members go, the longest first."""
    text = _text(document)
    if len(text) <= ROOM_BYTES:
        return text
    kept = document | {"text": document["text"][:MOST_TEXT]}
    own = sorted((name for name in document if name not in _USUAL), key=lambda name: len(_text({name: document[name]})))
    while len(text := _text(kept)) > ROOM_BYTES and own:
        del kept[own.pop()]
    if len(text) > ROOM_BYTES:  # names that are longer than anybody's
        text = _text(kept | {name: kept[name] and str(kept[name])[:MOST_NAME] for name in ("service", "backend", "text")})
    return text


_USUAL: Final = frozenset({"at", "slot", "kind", "level", "service", "backend", "text"})

_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def _text(document: Document) -> bytes:
    return _encode(document).encode("utf-8", "replace")
