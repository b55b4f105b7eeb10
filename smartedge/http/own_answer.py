"""Answers of the edge's own: status, header fields as WSGI has them, and the body."""

from __future__ import annotations

from collections.abc import Sequence

OwnAnswer = tuple[int, list[tuple[str, str]], bytes]
"""An answer that no backend gave; an `Exchange` writes it."""

_BODILESS = (204, 205, 304)


def own_answer(
    status: int, fields: Sequence[tuple[str, str]], body: bytes, content_type: str = "text/plain; charset=utf-8"
) -> OwnAnswer:
    """Make one; content_type: unless `fields` say otherwise, and there is a body."""
    named = {name.lower() for name, _ in fields}
    added = []
    if body and "content-type" not in named:
        added.append(("Content-Type", content_type))
    if status not in _BODILESS:
        added.append(("Content-Length", str(len(body))))
    return status, [*fields, *added], body
