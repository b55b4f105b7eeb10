"""An open-loop load: requests come when they are due, whatever became of those before, as the world's clients do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

from tests.live.edges import request
from tests.live.peers import Client, WireError


class OpenLoad:
    """So many requests a second, each on a connection of its own; begun and ended as a context.

    answers: when each came and its body, in the order in which they ended. failures: what came instead of a 200.
    """

    def __init__(self, port: int, per_s: float = 60.0, timeout_s: float = 20.0) -> None:
        self._port, self._gap_s, self._timeout_s = port, 1.0 / per_s, timeout_s
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(100)
        self._thread = threading.Thread(target=self._run)
        self.answers: list[tuple[float, bytes]] = []
        self.failures: list[str] = []
        self.sent = 0

    def __enter__(self) -> OpenLoad:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and let those under way end."""
        self._over.set()
        self._thread.join()
        self._pool.shutdown()

    def bodies(self, last: int) -> list[bytes]:
        """Give the bodies of the latest answers."""
        return [body for _, body in self.answers[-last:]]

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += self._gap_s
            self.sent += 1
            self._pool.submit(self._ask)

    def _ask(self) -> None:
        try:
            client = Client(self._port, timeout=self._timeout_s)
            try:
                client.send(request(headers=b"Connection: close\r\n"))
                answer = client.answer()
            finally:
                client.close()
        except (OSError, WireError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        if answer.status == 200:
            self.answers.append((time.monotonic(), answer.body))
        else:
            self.failures.append(f"status {answer.status}: {answer.body[:200]!r}")
