"""What all connections of a server share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ServerLimits:
    """What a client may take: seconds and bytes."""

    head_s: float = 10.0
    keepalive_s: float = 75.0
    idle_s: float = 60.0
    target_bytes: int = 8192
    head_bytes: int = 65536
    headers: int = 200
    body_bytes: int = 0
