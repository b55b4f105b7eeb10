"""What a line of the access log tells, in whatever format: the fields, and what a client's request and a backend's answer say."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol

from smartedge.http.memory import remember
from smartedge.http.request import Request
from smartedge.observe.log_asked import AskedLines, AskedText, in_any_case
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.transport import Http1Answer

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

MOST_KNOWN: Final = 1024
LONGEST_KNOWN: Final = 1024
"""So many texts are remembered of each kind, of what is no longer than so many bytes."""

ALMOST_1_S: Final = 0.9999
MILLIS: Final = tuple(f"0.{number:03d}" for number in range(1000))
MICROS: Final = tuple(f"{number:03d}" for number in range(1000))
"""Seconds below one are written with six digits by these: `.6f` takes three times as long."""


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

    def lines(self, stamp: str, ended: Sequence[Exchange | OwnLine]) -> list[str]:
        """Write the lines of what has ended, each with its line break."""


class HeaderNames(NamedTuple):
    """The fields whose values are logged, in lower case: the configuration's `access_log_headers`, taken apart."""

    request: tuple[str, ...] = ()
    answer: tuple[str, ...] = ()


NO_HEADERS: Final = HeaderNames()


def seconds(value: float) -> str:
    """Write seconds with six digits behind the point."""
    micros = int(value * 1e6 + 0.5)
    return f"{MILLIS[micros // 1000]}{MICROS[micros % 1000]}" if 0.0 <= value < ALMOST_1_S else f"{value:.6f}"


def rfc3339(when: float) -> str:
    """Write a Unix time as `2026-11-27T03:10:00.123Z`."""
    second, micro_s = divmod(int(when * 1e6 + 0.5), 1_000_000)
    return f"{_rfc3339_second(second)}.{MICROS[micro_s // 1000]}Z"


@lru_cache(maxsize=2)
def _rfc3339_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:19]


class Values:
    """Finds the values of some fields in a block, as text; None for one that is not there. names: in lower case."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        either = b"|".join(in_any_case(name) for name in self.names)
        self._search = re.compile(rb"\n(%b):[ \t]*(.*)" % either)

    def find(self, block: bytes) -> dict[str, str | None]:
        """Give the value of each; of one that was sent several times, all with a comma between (RFC 9110 section 5.2)."""
        found: dict[str, str | None] = dict.fromkeys(self.names)
        for name, value in self._search.findall(b"\n" + block):
            key, said = name.decode("latin-1").lower(), text_of(value.rstrip(b" \t\r"))
            before = found[key]
            found[key] = said if before is None else f"{before}, {said}"
        return found


class Known(dict[Any, str]):
    """Texts of a line, made once for what comes again and again, unless it is long. tell: makes one."""

    def __init__(self, tell: Callable[[Any], str]) -> None:
        super().__init__()
        self._tell = tell

    def __missing__(self, key: Any) -> str:
        said = self._tell(key)
        if key is None or len(key) <= LONGEST_KNOWN:
            remember(self, key, said, MOST_KNOWN)
        return said


class UsualTexts(NamedTuple):
    """What a format writes between the numbers of a request that its first backend answered at once.

    between: the latency of the try and that of the request. duration: what stands before that. received: between it and the bytes
    of the answer, of a request without a body.
    """

    between: str
    duration: str
    received: str


class NamedValues(AskedLines):
    """What formats have in common that give each value a name: how a line is put together, and the headers that are logged.

    client_of: gives the address of a request's client. headers: whose values are logged beside those that every line has. usual:
    what the lines of usual requests have in common.
    """

    def __init__(self, client_of: Callable[[Request], bytes], headers: HeaderNames, usual: UsualTexts) -> None:
        super().__init__(client_of)
        self._between, self._duration, self._received = usual
        self._request_names, self._answer_names = headers
        self._has_more = bool(headers.answer)
        self._client_values = Values(headers.request)
        self._answer_values = Values(headers.answer)
        self._of_answer = Known(self._tell_answer)
        self._first_try = Known(self._tell_first_try)

    def lines(self, stamp: str, ended: Sequence[Exchange | OwnLine]) -> list[str]:
        """Write the lines of what has ended; what is asked for each of them again stands before the loop."""
        lines: list[str] = []
        first_try, has_more, almost_1_s, of_http1, usual_kind = self._first_try, self._has_more, ALMOST_1_S, Http1Answer, Exchange
        between, duration, received, millis, micros = self._between, self._duration, self._received, MILLIS, MICROS
        for exchange in ended:
            if isinstance(exchange, OwnLine):
                lines.append(self._of_own(stamp, exchange))
                continue
            attempts = exchange.attempts
            request, backend, answer = attempts.request, attempts.backend, attempts.answer
            onward, status, duration_s = request.said.onward, exchange.status, exchange.duration_s
            asked = None if onward is None else onward.logged
            if asked is None or asked.block is not request.known_block or asked.method != request.method or asked.by is not self:
                asked = self._ask(request)
            target = exchange.asked_target or request.target
            if target != asked.target:
                asked.target, asked.before = target, asked.client + self._tell_path(target)
            outbound, latency_s = attempts.under_way, attempts.latency_s
            if (
                attempts.tries != 1
                or attempts.tried
                or duration_s >= almost_1_s
                or exchange.error is not None
                or request.body is not None
                or request.traceparent
                or request.span is not None
                or request.said.traced
                or answer is None
                or answer.counts_as != status
                or (type(answer) is not of_http1 and answer.grpc_status is not None)
                or backend is None
                or latency_s is None
                or attempts.queue_s
                or has_more
                or type(exchange) is not usual_kind
                or type(outbound) is not Outbound
                or (outbound.lease is not None and outbound.lease.connect_s is not None)
            ):
                lines.append(self._in_full(stamp, exchange, asked))
                continue
            # Most requests are answered by their first backend, over a kept connection: one row of texts, most of them known.
            route = exchange.route
            told = first_try[request.version, status, exchange.routed_to, None if route is None else route.id, backend.id]
            micro_s = int(latency_s * 1e6 + 0.5)
            latency = millis[micro_s // 1000] + micros[micro_s % 1000]
            micro_s = int(duration_s * 1e6 + 0.5)
            lines.append(
                f"{stamp}{attempts.request_id}{asked.before}{told}{latency}{between}{latency}{duration}"
                f"{millis[micro_s // 1000]}{micros[micro_s % 1000]}{received}{exchange.bytes_out}{asked.agent}"
            )
        return lines

    def _in_full(self, stamp: str, exchange: Exchange, asked: AskedText) -> str:
        """Write the line of any request that has been forwarded, or could not be."""
        raise NotImplementedError

    def _of_own(self, stamp: str, line: OwnLine) -> str:
        """Write the line of another answer."""
        raise NotImplementedError

    def _tell_path(self, target: bytes) -> str:
        """Write the path of a target."""
        raise NotImplementedError

    def _tell_first_try(self, known: tuple[int, int, str | None, str | None, str]) -> str:
        """Write what a line says of a request that its first backend answered, from the protocol to the latency of the try.

        By version, status, service, route and backend, which most lines share.
        """
        raise NotImplementedError

    def _tell_answer(self, block: bytes) -> str:
        raise NotImplementedError


def is_first_try(exchange: Exchange) -> bool:
    """Whether a request had one try, whose answer came whole and at once over a kept connection."""
    attempts, outbound = exchange.attempts, exchange.attempts.under_way
    if attempts.tries != 1 or attempts.tried or type(outbound) is not Outbound:
        return False
    return outbound.lease is None or outbound.lease.connect_s is None


def text_of(value: bytes) -> str:
    r"""Give bytes of a client's as text: UTF-8, and `\xff` for what is none."""
    return value.decode("utf-8", "backslashreplace")


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
