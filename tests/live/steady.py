"""A steady load: clients that ask again and again, and remember every request that came to nothing, and when."""

from __future__ import annotations

import random
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from tests.live.edges import request
from tests.live.peers import Client, WireError


@dataclass(frozen=True)
class Failure:
    """A request that was not answered with 200: from when to when it was under way, and what came instead."""

    began: float
    ended: float
    what: str


class Load:
    """Clients in threads of their own that ask, each in its way, until they are stopped: what the loads have in common.

    clients: what each of them does, until `_over`. timeout_s: of a request. answered: how many were, under `_lock`.
    """

    def __init__(self, clients: Sequence[Callable[[], None]], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=client) for client in clients]
        self.answered = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Let the requests under way end, and send no more."""
        self._over.set()
        for thread in self._threads:
            thread.join(self._timeout_s + 5)


class SteadyLoad(Load):
    """So many clients, each with a pause between two requests; half of them keep their connections.

    A kept connection that ends between two requests is no failure: a client opens another one and asks again, once.
    """

    def __init__(self, port: int, clients: int = 8, pause_s: float = 0.05, timeout_s: float = 20.0) -> None:
        super().__init__([partial(self._run, number) for number in range(clients)], timeout_s)
        self._port, self._pause_s = port, pause_s
        self.reconnected = 0
        self.failures: list[Failure] = []

    def _run(self, number: int) -> None:
        keeps = number % 2 == 0
        chance = random.Random(number)
        client: Client | None = None
        while not self._over.wait(chance.uniform(0, 2 * self._pause_s)):
            client = self._ask(client, keeps=keeps)
        if client is not None:
            client.close()

    def _ask(self, client: Client | None, *, keeps: bool) -> Client | None:
        """Send one request, and return the connection if it can be used again."""
        began = time.monotonic()
        try:
            if client is not None and has_ended(client):
                client.close()
                client = None
            if client is not None:
                try:
                    return self._exchange(client, keeps=keeps)
                except (OSError, WireError):
                    if client.stream.buffer:
                        raise
                    client.close()
                    with self._lock:
                        self.reconnected += 1
            client = Client(self._port, timeout=self._timeout_s)
            return self._exchange(client, keeps=keeps)
        except (OSError, WireError) as error:
            with self._lock:
                self.failures.append(Failure(began, time.monotonic(), f"{type(error).__name__}: {error}"))
            if client is not None:
                client.close()
            return None

    def _exchange(self, client: Client, *, keeps: bool) -> Client | None:
        client.send(request(headers=b"" if keeps else b"Connection: close\r\n"))
        answer = client.answer()
        if answer.status != 200:
            raise WireError(f"status {answer.status}: {answer.body[:200]!r}")
        with self._lock:
            self.answered += 1
        if keeps and (answer.get(b"connection") or b"").lower() != b"close":
            return client
        client.close()
        return None


def has_ended(client: Client) -> bool:
    """Whether the other side has closed a connection on which nothing is due."""
    return bool(select.select([client.sock], [], [], 0)[0])
