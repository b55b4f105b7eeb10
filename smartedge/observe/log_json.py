"""The access log as JSON: an object a line."""

from __future__ import annotations

import json
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, Final

from smartedge.http.request import PROTOCOLS, Request
from smartedge.http.trace_context import trace_id_of
from smartedge.observe.log_asked import AskedText, agent_and_referer
from smartedge.observe.log_line import (
    TLS_FIELDS,
    HeaderNames,
    Known,
    NamedValues,
    OwnLine,
    UsualTexts,
    fields_of,
    is_first_try,
    rfc3339,
    seconds,
    text_of,
    tls_of,
    tries_of,
)
from smartedge.proxy.exchange import Exchange


def quoted(text: str) -> str:
    """Write a text as JSON. What a terminal would obey rather than show (control characters, marks of direction) is escaped."""
    return encode_basestring(text) if text.isprintable() else encode_basestring_ascii(text)


def _quote(text: str | bytes | None) -> str:
    return "null" if text is None else quoted(text_of(text) if isinstance(text, bytes) else text)


USUAL: Final = UsualTexts(
    between=', "reason": null}], "try_count": 1, "hedges": 0, "queue_s": 0.0, "latency_s": ',
    duration=', "duration_s": ',
    received=', "bytes_in": 0, "bytes_out": ',
)


class JsonLines(NamedValues):
    """Writes lines as JSON objects; made and used by an AccessLog."""

    def __init__(self, client_of: Any, headers: HeaderNames) -> None:
        super().__init__(client_of, headers, USUAL)
        self._quoted = Known(_quote)
        self._tls = Known(_tell_tls)

    def stamp(self, when: float) -> str:
        """Write a Unix time as lines begin with it."""
        return f'{{"time": "{rfc3339(when)}", "request_id": "'

    def _in_full(self, stamp: str, exchange: Exchange, asked: AskedText) -> str:
        attempts, again = exchange.attempts, self._quoted
        request, backend, answer, route = attempts.request, attempts.backend, attempts.answer, exchange.route
        latency_s = "null" if attempts.latency_s is None else seconds(attempts.latency_s)
        trace_id, before = trace_id_of(request), asked.before
        if trace_id is not None:
            before = before.replace("null", quoted(trace_id), 1)
        if is_first_try(exchange) and answer is not None and backend is not None and answer.counts_as == exchange.status:
            route_id = None if route is None else route.id
            told = self._first_try[request.version, exchange.status, exchange.routed_to, route_id, backend.id]
            told = f'{told}{latency_s}, "reason": null}}]'
        else:
            told = (
                f'"protocol": "{PROTOCOLS[request.version]}", "status": {exchange.status}, '
                f'"service": {again[exchange.routed_to]}, "route": {again[None if route is None else route.id]}, '
                f'"backend": {again[None if backend is None else backend.id]}, "tries": {json.dumps(tries_of(exchange))}'
            )
        more = ""
        if self._answer_names and answer is not None:
            more = self._of_answer[answer.fields.block]
        if exchange.error is not None:
            more += f', "error": {quoted(exchange.error.detail)}'
        if (grpc_status := exchange.grpc_status) is not None:
            more += f', "grpc_status": {grpc_status}'
        return (
            f'{stamp}{attempts.request_id}{before}{told}, "try_count": {attempts.tries}, "hedges": {attempts.hedges}, '
            f'"queue_s": {f"{attempts.queue_s:.6f}" if attempts.queue_s else "0.0"}, "latency_s": {latency_s}, '
            f'"duration_s": {seconds(exchange.duration_s)}, "bytes_in": {exchange.bytes_in}, "bytes_out": {exchange.bytes_out}'
            f"{asked.agent[:-2]}{more}}}\n"
        )

    def _tell_client(self, request: Request) -> str:
        client, method = self._quoted[self._client_of(request)], self._quoted[request.method]
        return f'", "trace_id": null, "client": {client}, "method": {method}, "path": '

    def _tell_path(self, target: bytes) -> str:
        return f"{quoted(text_of(target.partition(b'?')[0]))}, "

    def _tell_first_try(self, known: tuple[int, int, str | None, str | None, str]) -> str:
        version, status, service, route, backend = known
        again = self._quoted
        return (
            f'"protocol": "{PROTOCOLS[version]}", "status": {status}, "service": {again[service]}, "route": {again[route]}, '
            f'"backend": {again[backend]}, "tries": [{{"backend": {again[backend]}, "kind": "first", "outcome": "ok", '
            f'"status": {status}, "connect_s": null, "latency_s": '
        )

    def _tell_agent(self, request: Request) -> str:
        tls = self._tls[tls_of(request) or (None,) * 3] if request.secure else "null"
        return f', "tls": {tls}, {self._tell_request(request.block)}}}\n'

    def _of_own(self, stamp: str, line: OwnLine) -> str:
        whole = fields_of(line)
        del whole["request_id"], whole["user_agent"], whole["referer"]
        text = ", ".join(f'"{key}": {_value(value)}' for key, value in whole.items())
        said = self._tell_request(b"" if line.request is None else line.request.block)
        error = "" if line.error is None else f', "error": {quoted(line.error)}'
        return f"{stamp}{quoted(line.request_id)[1:]}, {text}, {said}{error}}}\n"

    def _tell_request(self, block: bytes) -> str:
        agent, referer = agent_and_referer(block)
        said = f'"user_agent": {self._quoted[agent]}, "referer": {self._quoted[referer]}'
        if self._request_names:
            said += _headers("request_headers", self._request_names, self._client_values.find(block))
        return said

    def _tell_answer(self, block: bytes) -> str:
        return _headers("answer_headers", self._answer_names, self._answer_values.find(block))


def _tell_tls(facts: tuple[str | None, str | None, str | None]) -> str:
    return ", ".join(f'"{key}": {_value(value)}' for key, value in zip(TLS_FIELDS, facts, strict=True)).join("{}")


def _headers(member: str, names: tuple[str, ...], found: dict[str, str | None]) -> str:
    return f', "{member}": {{{", ".join(f"{quoted(name)}: {_value(found[name])}" for name in names)}}}'


def _value(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    return json.dumps(value)
