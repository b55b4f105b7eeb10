"""The access log as JSON: an object a line."""

from __future__ import annotations

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, NamedTuple

from smartedge.http.headers import RequestFields
from smartedge.http.request import PROTOCOLS, Request
from smartedge.http.trace_context import trace_id_of
from smartedge.observe.log_line import (
    MOST_KNOWN,
    TLS_FIELDS,
    HeaderNames,
    NamedValues,
    OwnLine,
    fields_of,
    text_of,
    tls_of,
    tries_of,
)
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.outbound import Hop, Outbound

MOST_QUOTED = 1024

THREE_DIGITS = tuple(f"{number:03d}" for number in range(1000))


def seconds(value: float) -> str:
    """Write seconds with six digits behind the point; `.6f` takes three times as long for what is short."""
    micros = int(value * 1e6 + 0.5)
    return f"0.{THREE_DIGITS[micros // 1000]}{THREE_DIGITS[micros % 1000]}" if 0 <= micros < 1_000_000 else f"{value:.6f}"


def quoted(text: str) -> str:
    """Write a text as JSON. What a terminal would obey rather than show (control characters, marks of direction) is escaped."""
    return encode_basestring(text) if text.isprintable() else encode_basestring_ascii(text)


class Quoted(dict[Any, str]):
    """Texts as JSON, for those that come again and again: addresses, methods, names."""

    def __missing__(self, text: Any) -> str:
        if len(self) >= MOST_QUOTED:
            self.clear()
        said = self[text] = "null" if text is None else quoted(text_of(text) if isinstance(text, bytes) else text)
        return said


class FirstTry(dict[tuple[int, int, str | None, str | None, str], str]):
    """What a line says of a request that its first backend answered over a kept connection, from the protocol to the latency.

    By version, status, service, route and backend: most lines share these (docs/performance.md).
    """

    def __missing__(self, known: tuple[int, int, str | None, str | None, str]) -> str:
        if len(self) >= MOST_QUOTED:
            self.clear()
        version, status, service, route, backend = known
        again = Quoted()
        said = self[known] = (
            f'"protocol": "{PROTOCOLS[version]}", "status": {status}, "service": {again[service]}, "route": {again[route]}, '
            f'"backend": {again[backend]}, "tries": [{{"backend": {again[backend]}, "kind": "first", "outcome": "ok", '
            f'"status": {status}, "connect_s": null, "latency_s": '
        )
        return said


class Asked(NamedTuple):
    """What lines say of the requests that one client sends with the same fields: at the beginning, and at their end.

    fields, method, peer, hop: what it was made of; held here, so that no other has its `id`.
    """

    fields: RequestFields
    method: bytes
    peer: bytes
    hop: Hop
    client: str
    agent: str


class JsonLines(NamedValues):
    """Writes lines as JSON objects; made and used by an AccessLog."""

    def __init__(self, client_of: Any, headers: HeaderNames) -> None:
        super().__init__(client_of, headers)
        self._quoted = Quoted()
        self._first_try = FirstTry()
        self._asked: dict[int, Asked] = {}
        self._tls: dict[Any, str] = {}

    def of_exchange(self, stamp: str, exchange: Exchange) -> str:
        """Write the line of a request that has been forwarded, or could not be."""
        attempts = exchange.attempts
        request, backend, answer = attempts.request, attempts.backend, attempts.answer
        asked, method, hop = self._asked.get(id(request.fields)), request.method, attempts.hop
        if asked is None or asked.method != method or asked.peer is not request.peer or asked.hop is not hop:
            asked = self._tell_asked(request, hop)
        path = (exchange.asked_target or request.target).partition(b"?")[0].decode("utf-8", "backslashreplace")
        latency_s = "null" if attempts.latency_s is None else seconds(attempts.latency_s)
        trace_id = trace_id_of(request)
        bytes_in = 0 if request.body is None and exchange.status != 101 else exchange.bytes_in  # of a tunnel, too
        route = None if exchange.route is None else exchange.route.id
        outbound = attempts.under_way
        if (
            attempts.tries == 1
            and not attempts.tried
            and answer is not None
            and backend is not None
            and answer.counts_as == exchange.status
            and type(outbound) is Outbound
            and (outbound.lease is None or outbound.lease.connect_s is None)
        ):
            told = self._first_try[request.version, exchange.status, exchange.routed_to, route, backend.id]
            told = f'{told}{latency_s}, "reason": null}}], "try_count": 1, "hedges": 0'
        else:
            again = self._quoted
            told = (
                f'"protocol": "{PROTOCOLS[request.version]}", "status": {exchange.status}, '
                f'"service": {again[exchange.routed_to]}, "route": {again[route]}, '
                f'"backend": {"null" if backend is None else again[backend.id]}, '
                f'"tries": {json.dumps(tries_of(exchange))}, "try_count": {attempts.tries}, "hedges": {attempts.hedges}'
            )
        more = ""
        if self._answer_names and answer is not None:
            more = self._of_answer.of(answer.fields, answer.fields.block)
        if exchange.error is not None:
            more += f', "error": {quoted(exchange.error.detail)}'
        if (grpc_status := exchange.grpc_status) is not None:
            more += f', "grpc_status": {grpc_status}'
        return (
            f'{{"time": "{stamp}", "request_id": "{attempts.request_id}", "trace_id": '
            f'{"null" if trace_id is None else quoted(trace_id)}, "client": {asked.client}, '
            f'"path": {encode_basestring(path) if path.isprintable() else quoted(path)}, {told}, '
            f'"queue_s": {f"{attempts.queue_s:.6f}" if attempts.queue_s else "0.0"}, "latency_s": {latency_s}, '
            f'"duration_s": {seconds(exchange.duration_s)}, "bytes_in": {bytes_in}, '
            f'"bytes_out": {exchange.bytes_out}, "tls": {self._tls_said(request) if request.secure else "null"}, '
            f"{asked.agent}{more}}}\n"
        )

    def of_own(self, stamp: str, line: OwnLine) -> str:
        """Write the line of another answer."""
        whole = {"time": stamp, **fields_of(line)}
        del whole["user_agent"], whole["referer"]
        text = ", ".join(f'"{key}": {_value(value)}' for key, value in whole.items())
        said = self._tell_request(b"" if line.request is None else line.request.block)
        error = "" if line.error is None else f', "error": {quoted(line.error)}'
        return f"{{{text}, {said}{error}}}\n"

    def _tell_request(self, block: bytes) -> str:
        found = self._client_values.find(block)
        said = f'"user_agent": {_value(found["user-agent"])}, "referer": {_value(found["referer"])}'
        return said + _headers("request_headers", self._request_names, found)

    def _tell_answer(self, block: bytes) -> str:
        return _headers("answer_headers", self._answer_names, self._answer_values.find(block))

    def _tell_asked(self, request: Request, hop: Hop) -> Asked:
        if len(self._asked) >= MOST_KNOWN:
            self._asked.clear()
        again = self._quoted
        client = f'{again[self._client_of(request)]}, "method": {again[request.method]}'
        agent = self._tell_request(request.block)
        asked = self._asked[id(request.fields)] = Asked(request.fields, request.method, request.peer, hop, client, agent)
        return asked

    def _tls_said(self, request: Request) -> str:
        facts = tls_of(request) or (None,) * 3
        said = self._tls.get(facts)
        if said is None:
            if len(self._tls) >= MOST_QUOTED:
                self._tls.clear()
            pairs = zip(TLS_FIELDS, facts, strict=True)
            said = self._tls[facts] = ", ".join(f'"{key}": {_value(value)}' for key, value in pairs).join("{}")
        return said


def _headers(member: str, names: tuple[str, ...], found: dict[str, str | None]) -> str:
    if not names:
        return ""
    return f', "{member}": {{{", ".join(f"{quoted(name)}: {_value(found[name])}" for name in names)}}}'


def _value(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    return json.dumps(value)
