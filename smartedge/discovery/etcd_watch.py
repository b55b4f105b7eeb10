"""A watch of keys in etcd: what becomes of them from a revision on, told as it happens, on one long answer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import gevent
from gevent.queue import Queue

from smartedge.discovery.etcd_values import Compacted, EtcdError, Event, event, number, revision
from smartedge.discovery.http_session import FetchFailed

CHECK_S = 3.0
"""A watch that has been silent for so long is checked: a peer that is dead says nothing either."""

MAX_LINE = 64 * 1024 * 1024

Batch = tuple[int, tuple[Event, ...]]


class EtcdWatch:
    """What happens to keys, in batches of (revision, events); made by `EtcdClient.watch`, read by one greenlet, closed by any.

    A batch has all that was done in one revision, or several. One without events says that nothing has happened up to its
    revision: they come while it is quiet, some seconds apart, after etcd has been asked whether it is still there.

    endpoint: of the member that is watched, as messages name it. pieces: the answer as it comes, in a context that closes it.
    check: asks the same member for its revision, in such a way that only one in touch with a majority answers; done after check_s
    of silence. Both raise FetchFailed or EtcdError.
    Reading raises EtcdError when the watch is lost, and Compacted when its history is.
    """

    def __init__(
        self,
        endpoint: str,
        pieces: Callable[[], contextlib.AbstractContextManager[Iterator[bytes]]],
        check: Callable[[], int],
        from_revision: int,
        check_s: float = CHECK_S,
    ) -> None:
        self.endpoint = endpoint
        self._pieces = pieces
        self._check = check
        self._revision = from_revision - 1
        self._check_s = check_s
        self._heard = monotonic()
        self._batches: Any = Queue(64)  # whoever reads slowly slows etcd down, which keeps what we have not taken
        self._closed = self._is_begun = False
        self._greenlets = [gevent.spawn(self._run, self._read), gevent.spawn(self._run, self._keep_checking)]

    def __iter__(self) -> EtcdWatch:
        return self

    def __next__(self) -> Batch:
        """Wait for the next batch. Ends when the watch has been closed; raises EtcdError, Compacted among them."""
        found = None if self._closed else self._batches.get()
        if isinstance(found, EtcdError):
            self.close()
            raise found
        if found is None:
            raise StopIteration
        batch: Batch = found
        return batch

    def close(self) -> None:
        """End the watch, and whoever waits for its next batch; closing it twice is no error."""
        if self._closed:
            return
        self._closed = True
        gevent.killall([greenlet for greenlet in self._greenlets if greenlet is not gevent.getcurrent()], block=False)
        while not self._batches.empty():
            self._batches.get_nowait()
        self._batches.put_nowait(None)

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except EtcdError as error:
            self._batches.put(error)
        except (FetchFailed, ValueError, KeyError, TypeError, AttributeError) as error:
            cause = str(error) if isinstance(error, FetchFailed) else f"it sent what is no event of a watch ({error!r:.200})"
            self._batches.put(EtcdError(f"etcd at {self.endpoint}: the watch has ended: {cause}", retriable=True))

    def _read(self) -> None:
        with self._pieces() as pieces:
            rest = b""
            for piece in pieces:
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    self._take(json.loads(line))
                if len(rest) > MAX_LINE:
                    raise ValueError("an endless line")
        raise FetchFailed("etcd closed the connection", sent=True)

    def _take(self, said: Any) -> None:
        self._heard = monotonic()
        if "error" in said:
            problem = said["error"].get("message", said["error"]) if isinstance(said["error"], dict) else said["error"]
            raise FetchFailed(str(problem).removeprefix("etcdserver: "), sent=True)
        result = said["result"]
        self._is_begun = True
        if result.get("canceled"):
            if "compact_revision" in result:
                first = number(result, "compact_revision")
                raise Compacted(f"etcd at {self.endpoint}: revision {self._revision + 1} has been compacted", first)
            raise FetchFailed(str(result.get("cancel_reason") or "etcd cancelled it").removeprefix("etcdserver: "), sent=True)
        if events := tuple(event(one) for one in result.get("events", ())):
            # The header has the member's revision now, which may be ahead of events that are still to come.
            self._revision = max(one.mod_revision for one in events)
            self._batches.put((self._revision, events))
        else:
            revision(result)

    def _keep_checking(self) -> None:
        while True:
            gevent.sleep(max(self._check_s - (monotonic() - self._heard), 0.01))
            if monotonic() - self._heard < self._check_s:
                continue
            now = self._check()
            if not self._is_begun:
                raise FetchFailed("nothing has come of it, though etcd answers: a proxy may keep its words back", sent=True)
            if now < self._revision:
                text = f"its revision went back from {self._revision} to {now}: it has been put back to an older state"
                raise Compacted(f"etcd at {self.endpoint}: {text}")
            self._heard = monotonic()
            self._batches.put((self._revision, ()))
