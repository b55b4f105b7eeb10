"""What a line of the access log tells, in whatever format: the fields, and what a client's request and a backend's answer say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

from smartedge.http.request import Request
from smartedge.proxy.exchange import Exchange

FIELDS: Final[dict[str, Any]] = {
    "request_id": None,
    "trace_id": None,
    "client": None,
    "method": None,
    "path": None,
    "protocol": None,
    "status": None,
    "service": None,
    "route": None,
    "backend": None,
    "tries": [],
    "try_count": 0,
    "hedges": 0,
    "queue_s": 0.0,
    "latency_s": None,
    "duration_s": None,
    "bytes_in": 0,
    "bytes_out": 0,
    "tls": None,
    "user_agent": None,
    "referer": None,
}
"""What every line has after its time, in this order, and the value where there is none."""

MORE_FIELDS: Final = ("request_headers", "answer_headers", "error", "grpc_status")
"""What follows in a line that has it."""

TRY_FIELDS: Final = ("backend", "kind", "outcome", "status", "connect_s", "latency_s", "reason")
"""What is told of each of the `tries`."""

TLS_FIELDS: Final = ("version", "cipher", "server_name")

MOST_KNOWN: Final = 512
"""So many requests' or answers' fields are remembered with what a line says of them."""


class OwnLine(NamedTuple):
    """An answer of the edge's own that no exchange stands for: of an admin page, or a refusal by the server."""

    request_id: str
    client: bytes
    status: int
    request: Request | None
    error: str | None


class LineFormat(Protocol):
    """Writes lines of the access log; one class for each `access_log_format`. stamp: what `stamp` gave, once for many lines."""

    def stamp(self, when: float) -> str:
        """Write a Unix time as it stands in lines."""

    def of_exchange(self, stamp: str, exchange: Exchange) -> str:
        """Write the line of a request that has been forwarded, or could not be, with its line break."""

    def of_own(self, stamp: str, line: OwnLine) -> str:
        """Write the line of another answer."""


class HeaderNames(NamedTuple):
    """The fields whose values are logged, in lower case: the configuration's `access_log_headers`, taken apart."""

    request: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


NO_HEADERS: Final = HeaderNames()


def rfc3339(when: float) -> str:
    """Write a Unix time as `2026-11-27T03:10:00.123Z`."""
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Known(dict[int, tuple[object, str]]):
    """What a line says of fields, made once for as long as requests share them: most clients send the same ones again and again.

    By the fields' `id`; they are held here, so that no other has it. tell: makes it of a block of fields.
    """

    def __init__(self, tell: Callable[[bytes], str]) -> None:
        super().__init__()
        self._tell = tell

    def of(self, fields: object, block: bytes) -> str:
        """Give it for these fields, of which `block` is what came."""
        known = self.get(id(fields))
        if known is not None:
            return known[1]
        if len(self) >= MOST_KNOWN:
            self.clear()
        said = self._tell(block)
        self[id(fields)] = fields, said
        return said


class Values:
    """Finds the values of some fields in a block, as text; None for one that is not there. names: in lower case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        either = b"|".join(re.escape(name.encode()) for name in self.names)
        self._search = re.compile(rb"^(%b):[ \t]*([^\r\n]*)" % either, re.IGNORECASE | re.MULTILINE)

    def find(self, block: bytes) -> dict[str, str | None]:
        """Give the value of each; of one that was sent several times, all with a comma between (RFC 9110 section 5.2)."""
        found: dict[str, str | None] = dict.fromkeys(self.names)
        for name, value in self._search.findall(block):
            key, said = name.decode("latin-1").lower(), text_of(value.rstrip(b" \t"))
            before = found[key]
            found[key] = said if before is None else f"{before}, {said}"
        return found


class NamedValues:
    """What formats have in common that give each value a name: the headers that are logged, and the time as RFC 3339 has it.

    client_of: gives the address of a request's client. headers: whose values are logged beside those that every line has.
    """

    def __init__(self, client_of: Callable[[Request], bytes], headers: HeaderNames) -> None:
        self._client_of = client_of
        self._request_names, self._answer_names = headers
        self._client_values = Values(["user-agent", "referer", *headers.request])
        self._answer_values = Values(headers.answer)
        self._of_request = Known(self._tell_request)
        self._of_answer = Known(self._tell_answer)

    def stamp(self, when: float) -> str:
        """Write a Unix time as it stands in lines."""
        return rfc3339(when)

    def _tell_request(self, block: bytes) -> str:
        raise NotImplementedError

    def _tell_answer(self, block: bytes) -> str:
        raise NotImplementedError


def text_of(value: bytes) -> str:
    r"""Give bytes of a client's as text: UTF-8, and `\xff` for what is none."""
    return value.decode("utf-8", "backslashreplace")


def path_of(exchange: Exchange) -> bytes:
    """Give the path that the client asked for; the query, where people put secrets, is not part of it."""
    return (exchange.asked_target or exchange.attempts.request.target).partition(b"?")[0]


def tls_of(request: Request) -> tuple[str | None, str | None, str | None] | None:
    """Give version, cipher and server name of the client's connection; None without TLS."""
    if not request.secure:
        return None
    facts = getattr(request, "tls", None)
    if facts is not None:
        return facts  # type: ignore[no-any-return]
    try:  # another server's socket; one that is closed by now says nothing
        version, cipher = request.sock.version(), request.sock.cipher()
    except (AttributeError, OSError, ValueError):
        return None, None, None
    return version, None if cipher is None else cipher[0], None


def tries_of(exchange: Exchange) -> list[dict[str, Any]]:
    """Give what became of each try (TRY_FIELDS)."""
    return [
        {
            "backend": one.backend.id,
            "kind": one.kind,
            "outcome": one.outcome,
            "status": one.status or None,
            "connect_s": _rounded(one.connect_s),
            "latency_s": _rounded(one.latency_s),
            "reason": one.reason or None,
        }
        for one in exchange.tries()
    ]


def fields_of(line: OwnLine) -> dict[str, Any]:
    """Give the members of a line of the edge's own, beyond headers."""
    request = line.request
    found: dict[str, Any] = {"request_id": line.request_id, "client": text_of(line.client), "status": line.status}
    if request is not None:
        tls = tls_of(request)
        found |= {
            "method": text_of(request.method),
            "path": text_of(request.target.partition(b"?")[0]),
            "protocol": request.protocol,
            "bytes_in": request.body.received_bytes if request.body is not None else 0,
            "tls": None if tls is None else dict(zip(TLS_FIELDS, tls, strict=True)),
        }
    return FIELDS | found


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
