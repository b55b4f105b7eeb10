"""The text of a decision's record, as JSON: what was decided about one request, and all that is known of it.

It is written piece by piece, which takes less time than dictionaries and an encoder do. What does not fit into its place in the
ring (`workers.ring`) is made a document after all, and shortened.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import Any, Final

from smartedge.balancer.trace import Trace, TryRecord
from smartedge.workers.ring import ROOM_BYTES

Document = dict[str, Any]

MOST_PATH: Final = 256
MOST_SUMMARY: Final = 1000

ROWS: Final = (64, 32, 16, 8, 4, 2, 1, 0)
"""How many candidates of a try are kept, and of the others: the most with which the record fits."""

_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode

_INFINITE: Final = float("inf")


def record_text(
    slot: int,
    at: float,
    trace: Trace,
    outcome: str,
    client: bytes,
    method: bytes,
    target: bytes,
    status: int,
    error: tuple[str, str] | None,
    request_id: str,
    trace_id: str | None,
    started: float,
    tries: int,
    latency_s: float | None,
    duration_s: float,
    routed: tuple[str, str | None] | None,
) -> bytes:
    """Return the record of a request, as text that fits into the ring.

    at: when it began, in Unix time; started: the same by the clock of its tries. error: blame and detail. routed: the id of its
    route, and the service that this led to.
    """
    text = (
        f'{{"request_id":{encode_basestring(request_id)},"trace_id":{_or_null(trace_id)},"at":{at:.6f},"slot":{slot},'
        f'"why":[{",".join(map(encode_basestring, trace.why))}],"client":{encode_basestring(client.decode("latin-1"))},'
        f'"method":{encode_basestring(method.decode("latin-1")[:MOST_PATH])},'
        f'"path":{encode_basestring(target.partition(b"?")[0].decode("latin-1")[:MOST_PATH])},'
        f'"status":{status},"outcome":{encode_basestring(outcome)},'
        f'"blame":{_or_null(None if error is None else error[0])},'
        f'"error":{_or_null(None if error is None else error[1][:MOST_PATH])},'
        f'"try_count":{tries},"latency_s":{"null" if latency_s is None else f"{latency_s:.6f}"},"duration_s":{duration_s:.6f},'
        f'"summary":{encode_basestring(trace.summary()[:MOST_SUMMARY])},"tries_left_out":{trace.more},'
        f'"tries":[{",".join([try_text(one, started) for one in trace.tries])}]'
        f"{'' if routed is None else _routed(*routed)}}}"
    )
    encoded = text.encode("utf-8", "replace")
    return encoded if len(encoded) <= ROOM_BYTES else fitted(json.loads(text))


def try_text(one: TryRecord, started: float) -> str:
    """Return what is told of one try; times are seconds since the request began."""
    rows = ",".join([_row(*row) for row in one.candidates])
    return (
        f'{{"kind":"{one.kind}","after_s":{one.at - started:.7f},"backend":{_or_null(one.backend)},'
        f'"recorded":{"true" if one.recorded else "false"},"strategy":{encode_basestring(one.strategy)},'
        f'"reason":{encode_basestring(one.reason)},"where":{_or_null(one.where or None)},"cost":{_number(one.cost)},'
        f'"panic":{"true" if one.panic else "false"},"candidate_count":{one.count},"candidates":[{rows}],'
        f'"left_out":{_encode(one.left_out) if one.left_out else "[]"},"unseen":{one.unseen},'
        f'"outcome":{encode_basestring(one.outcome)},"status":{one.status or "null"},"latency_s":{_number(one.latency_s)},'
        f'"duration_s":{_number(one.duration_s)},"blame":{_or_null(one.blame or None)},"error":{_or_null(one.error or None)}}}'
    )


def _row(
    backend_id: str,
    full_weight: int,
    weight: float,
    in_flight: int,
    ewma_s: float,
    pace_s: float | None,
    waiting_s: float,
    latency_s: float,
    cost: float | None,
    turns_ratio: float | None,
) -> str:
    """Return a candidate's row, in the order of `balancer.trace.CANDIDATE`."""
    return (
        f"[{encode_basestring(backend_id)},{full_weight},{round(weight, 3)},{in_flight},{ewma_s:.7f},{_number(pace_s)},"
        f"{waiting_s:.7f},{latency_s:.7f},{_number(cost)},{_number(turns_ratio)}]"
    )


def _routed(route_id: str, service: str | None) -> str:
    return f',"route":{encode_basestring(route_id)},"service":{_or_null(service)}'


def _or_null(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)


def _number(number: float | None) -> str:
    """Return a number as JSON: what `round` makes of it, in one step."""
    if number is None:
        return "null"
    return f"{number:.7f}" if -_INFINITE < number < _INFINITE else _encode(number)


def fitted(document: Document) -> bytes:
    """Write a record as text that fits into the ring: the picked and the best candidates are kept longest, then the tries."""
    text = _text(document)
    for most in ROWS:
        if len(text) <= ROOM_BYTES:
            return text
        text = _text(document | {"tries": [_shortened(one, most) for one in document["tries"]]})
    tries = [_shortened(one, 0) for one in document["tries"]]
    left_out = document["tries_left_out"]
    while len(text) > ROOM_BYTES and tries:
        del tries[len(tries) // 2]
        left_out += 1
        text = _text(document | {"tries": tries, "tries_left_out": left_out})
    return text if len(text) <= ROOM_BYTES else _text(document | {"tries": [], "summary": "", "error": None})


def _shortened(one: Document, most: int) -> Document:
    """Keep at most so many rows of a try; the numbers of all stay."""
    candidates, left_out = one["candidates"], one["left_out"]
    best = sorted(candidates, key=lambda row: (row[0] != one["backend"], row[-1] is None, row[-1]))[: most or 1]
    kept = [row for row in candidates if row in best]
    return one | {"candidates": kept, "left_out": left_out[:most], "unseen": one["unseen"] + len(left_out[most:])}


def _text(document: Document) -> bytes:
    return _encode(document).encode("utf-8", "replace")
