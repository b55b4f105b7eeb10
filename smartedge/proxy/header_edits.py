"""Changes to header fields that a route asks for, on blocks of bytes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from smartedge.http.headers import RequestFields, folded

_PLACEHOLDER = re.compile(r"\{(host|client|request_id|service)\}")


@dataclass(frozen=True, slots=True)
class EditValues:
    """What the value of a field may name in braces. client: the address as text."""

    host: bytes
    client: bytes
    request_id: bytes
    service: bytes


class HeaderEdits:
    """Fields to set, add and remove; made at reload, used by the `Route` for a request or an answer.

    set_fields: in place of all fields of the name. add_fields: beside them. remove_fields: names. First those go that are set or
    removed, then all new ones come at the end, in the order of the file. Of a request those go, too, whose name has `_` for `-`:
    a backend that folds both to one name (WSGI, CGI) would take what a client says for what the route says.
    has_traceparent: they are about the trace, of which the edge then says nothing itself.
    """

    __slots__ = ("_drops", "_folded", "_plain", "_templates", "has_traceparent")

    def __init__(
        self,
        set_fields: Iterable[tuple[str, str]] = (),
        add_fields: Iterable[tuple[str, str]] = (),
        remove_fields: Iterable[str] = (),
    ) -> None:
        set_fields = tuple(set_fields)
        self._drops = frozenset(name.lower().encode() for name in (*(name for name, _ in set_fields), *remove_fields))
        self._folded = frozenset(map(folded, self._drops))
        add_fields = tuple(add_fields)
        text = "".join(f"{name}: {value}\r\n" for name, value in (*set_fields, *add_fields))
        self._templates = _template(text) if _PLACEHOLDER.search(text) else None
        self._plain = text.encode("latin-1")
        added = {name.lower() for name, _ in add_fields}
        self.has_traceparent = b"traceparent" in self._drops or "traceparent" in added

    def edit_block(self, block: bytes, values: Callable[[], EditValues]) -> bytes:
        """Give an answer's block with the changes; values: asked only if a field names one."""
        if self._drops:
            drops = self._drops
            block = b"".join(line for line in block.splitlines(True) if line[: line.find(b":")].lower() not in drops)
        return block + self._lines(values)

    def edit_request(self, fields: RequestFields, values: Callable[[], EditValues]) -> RequestFields:
        """Give a request's fields with the changes; values: as above."""
        lines = self._lines(values)
        return fields.with_others(self._folded, lines) if self._drops else fields.with_block(fields.block + lines)

    def _lines(self, values: Callable[[], EditValues]) -> bytes:
        if self._templates is None:
            return self._plain
        found = values()
        return b"".join(part if isinstance(part, bytes) else getattr(found, part) for part in self._templates)


def _template(text: str) -> tuple[bytes | str, ...]:
    """Cut a text into bytes that stay and names of values."""
    pieces = _PLACEHOLDER.split(text)
    return tuple(piece if at % 2 else piece.encode("latin-1") for at, piece in enumerate(pieces))
