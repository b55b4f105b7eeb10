"""What workers of the edge do that none of them tells: one has died, another leads, some have another configuration.

It is found by comparing one look with the one before, and with the events that there are: they outlive whoever looked before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from smartedge.edge.noticed import Noticed
from smartedge.observe.events import Document
from smartedge.workers.overview import Standing

APART_LOOKS: Final = 3
"""After so many looks in a row, a second apart, that find workers with different configurations they are called apart."""

Worker = tuple[int, int]
"""Slot and process number."""


class WorkerChanges:
    """Looks at the workers once a second; owned by a worker's `ChangeWatch`."""

    def __init__(self) -> None:
        self._led = False
        self._live: frozenset[Worker] = frozenset()
        self._missing: frozenset[Worker] = frozenset()
        self._apart_looks = 0
        self._is_apart: bool | None = None

    def look(self, seen: Standing, events: Iterable[Document], *, leading: bool) -> Iterator[Noticed]:
        """Yield what has changed. leading: this worker does what one does for all. events: all that are kept, read if need be."""
        if leading != self._led:
            self._led = leading
            yield from _leader_changed(seen, events)
        if not leading:
            self._live, self._missing, self._is_apart = frozenset(), frozenset(), None
            return
        live = frozenset(seen.live.items())
        if live != self._live or self._missing:
            missing = _missing(live, events)
            for slot, pid in sorted(missing & self._missing):  # at two looks: one may have begun to serve after the first
                text = f"worker {slot} (process {pid}) has died: it was killed, or ended without a word"
                yield Noticed("worker_died", "error", text, members={"worker": slot, "pid": pid})
            self._live, self._missing = live, missing - self._missing
        yield from self._apart(seen, events)

    def _apart(self, seen: Standing, events: Iterable[Document]) -> Iterator[Noticed]:
        """Say that workers have had different configurations for longer than a reload takes, or that they no longer do."""
        if self._is_apart is None:
            told = [event["kind"] for event in events if event["kind"] in ("apart", "together")]
            self._is_apart = told[-1:] == ["apart"]
        newest = max(seen.serials.values(), default=0)
        late = {slot: seen.live.get(slot, 0) for slot, serial in seen.serials.items() if serial != newest}
        self._apart_looks = self._apart_looks + 1 if late else 0
        if self._apart_looks >= APART_LOOKS and not self._is_apart:
            self._is_apart = True
            names = ", ".join(f"worker {slot} (process {pid})" for slot, pid in sorted(late.items()))
            text = f"workers differ: the newest configuration is not in use in {names}; the log says why"
            members = {"late": [{"slot": slot, "pid": pid} for slot, pid in sorted(late.items())]}
            yield Noticed("apart", "warning", text, members=members)
        elif self._is_apart and not late:
            self._is_apart = False
            yield Noticed("together", "info", "all workers have the same configuration again")


def _leader_changed(seen: Standing, events: Iterable[Document]) -> Iterator[Noticed]:
    """Say who leads now, unless the last event of that says so already: both of two workers may notice it."""
    slot = seen.leader
    if slot is None or slot not in seen.live:
        return
    pid = seen.live[slot]
    before = [(event["leader"], event["pid"]) for event in events if event["kind"] == "leader_changed"][-1:]
    if before == [(slot, pid)]:
        return
    after = "".join(f", after worker {slot} (process {pid})" for slot, pid in before)
    yield Noticed("leader_changed", "info", f"worker {slot} (process {pid}) leads{after}", members={"leader": slot, "pid": pid})


def _missing(live: frozenset[Worker], events: Iterable[Document]) -> frozenset[Worker]:
    """Return the workers that have begun to serve, are not there any more, and have not said that they end."""
    serving: set[Worker] = set()
    for event in events:
        if event["kind"] == "started":
            serving.add((event["worker"], event["pid"]))
        elif event["kind"] in ("stopped", "worker_died"):
            serving.discard((event["worker"], event["pid"]))
    return frozenset(serving - live)
