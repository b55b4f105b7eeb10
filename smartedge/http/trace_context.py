"""W3C Trace Context (Level 2): which trace a request belongs to, as its `traceparent` and `tracestate` say. Pure functions.

https://www.w3.org/TR/trace-context-2/. What cannot be read is no trace context; nobody is refused for it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from smartedge.http.headers import RequestFields
from smartedge.http.request import Request

SAMPLED: Final = 0x01
RANDOM: Final = 0x02
"""Flags: whoever sent it may record the trace; the trace id is of chance, in its last 56 bits at least."""

MOST_MEMBERS: Final = 32
"""Of a tracestate (section 3.3.1.1)."""

_LINES = re.compile(rb"\ntrace(?:parent|state):[^\n]*")
"""Of a text in lower case: with a literal beginning a search takes a fifth of the time."""

_VALUE = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_USUAL = re.compile(rb"\ntraceparent: 00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-0([0-3])\r\n")
"""The line as most programs write it."""

_MEMBER = re.compile(rb"([a-z0-9][a-z0-9_*/@-]{0,255})=([ -+\--<>-~]{0,255}[!-+\--<>-~])")


class Parent(NamedTuple):
    """The span that a request belongs to, as `traceparent` says it; the ids are 32 and 16 lower-case hexadecimal digits."""

    trace_id: bytes
    span_id: bytes
    flags: int


class Context(NamedTuple):
    """What a request says of its trace. state: its tracestate, b"" for none. block: the fields without what does not go on."""

    parent: Parent | None
    state: bytes
    block: bytes


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
    return Parent(trace_id, span_id, int(flags, 16) & (SAMPLED | RANDOM))


def is_tracestate(value: bytes) -> bool:
    """Whether a list is a tracestate: up to 32 members, each with a key of its own (section 3.3)."""
    members = [member for member in (part.strip(b" \t") for part in value.split(b",")) if member]
    found = [_MEMBER.fullmatch(member) for member in members[: MOST_MEMBERS + 1]]
    keys = {one[1] for one in found if one is not None}
    return len(keys) == len(members) <= MOST_MEMBERS


def read_context(fields: RequestFields) -> Context:
    """Read what a request's header fields say of its trace.

    Several traceparents are none. Without a parent a tracestate says nothing; one that is none is left out (section 3.3).
    Several fields of it are one list.
    """
    block = fields.block
    if fields.traced == 1 and (usual := _USUAL.search(block)) is not None:
        trace_id, span_id, flags = usual.groups()
        return Context(Parent(trace_id, span_id, int(flags)), b"", block[: usual.start() + 1] + block[usual.end() :])
    parents: list[tuple[tuple[int, int], bytes]] = []
    states: list[tuple[tuple[int, int], bytes]] = []
    for found in _LINES.finditer(b"\n" + block.lower()):
        start, end = place = found.span()
        (parents if block[start + 5] in b"pP" else states).append((place, block[start + 12 : end].strip(b" \t\r\n")))
    parent = read_traceparent(parents[0][1]) if len(parents) == 1 else None
    state = b",".join(value for _, value in states)
    keeps = parent is not None and is_tracestate(state)
    for (start, end), _ in sorted(parents if keeps else parents + states, reverse=True):
        block = block[:start] + block[end:]
    return Context(parent, state if keeps else b"", block)


def trace_id_of(request: Request) -> str | None:
    """Give the id of the trace that a request belongs to, as its backend is told; None for none."""
    if request.span is not None:
        return request.span.trace_id
    if request.traceparent:
        return request.traceparent[16:48].decode()
    parent = read_context(request.fields).parent if request.said.traced else None
    return None if parent is None else parent.trace_id.decode()
