"""W3C Trace Context (Level 2): which trace a request belongs to, as its `traceparent` says. Pure functions.

https://www.w3.org/TR/trace-context-2/. What cannot be read is no trace context; nobody is refused for it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from smartedge.http.headers import RequestFields

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""Flags: whoever sent it may record the trace; the trace id is of chance, in its last 56 bits at least."""

_TRACEPARENT = re.compile(rb"^traceparent:[ \t]*([^\r]*?)[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
_VALUE = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class Parent(NamedTuple):
    """What `traceparent` says: the span that a request belongs to. The ids are lower-case hexadecimal digits, 32 and 16."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded, as far as the parent knows."""
        return bool(self.flags & SAMPLED)


def read_traceparent(value: bytes) -> Parent | None:
    """Read the value of the field; None when it is none (section 3.2).

    Of a later version counts what this one has; what follows stands behind a hyphen. Version ff is forbidden (3.2.2.1).
    """
    found = _VALUE.fullmatch(value)
    if found is None:
        return None
    version, trace_id, span_id, flags, rest = found.groups()
    if version == b"00" and rest is not None:
        return None
    return Parent(trace_id.decode(), span_id.decode(), int(flags, 16) & (SAMPLED | RANDOM))


def read_parent(block: bytes) -> Parent | None:
    """Read the parent out of a request's header fields; None without one, and when several fields say one (section 3.2.1)."""
    found = _TRACEPARENT.findall(block)
    return read_traceparent(found[0]) if len(found) == 1 else None


def trace_id_of(fields: RequestFields) -> str | None:
    """Give the id of the trace that a request belongs to, None for none."""
    parent = read_parent(fields.block) if fields.traced else None
    return None if parent is None else parent.trace_id
