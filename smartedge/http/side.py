"""What a tunnel and `linger` need of a connection, whoever it belongs to."""

from __future__ import annotations

from typing import Protocol


class Side(Protocol):
    """A connection as a tunnel and `linger` use it: a `Wire`, or gunicorn's socket as a `BorrowedWire` (proxy/foreign.py)."""

    def recv(self, timeout_s: float, size: int = ...) -> bytes: ...  # noqa: D102
    def send_now(self, data: bytes, timeout_s: float) -> None: ...  # noqa: D102
    def finish_sending(self) -> None: ...  # noqa: D102
    def break_off(self) -> None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


SwitchedHead = tuple[bytes, bytes, bytes, bytes]
"""A 101 to be told to a client: its status line, the backend's fields, the edge's own, and the protocol."""
