"""The access log as logfmt: `key=value` a field, which Loki, vector and people read. What is not there is left out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from smartedge.http.request import PROTOCOLS, Request
from smartedge.observe.log_asked import AskedText, agent_and_referer
from smartedge.observe.log_json import quoted
from smartedge.observe.log_line import (
    TLS_FIELDS,
    HeaderNames,
    NamedValues,
    OwnLine,
    UsualTexts,
    fields_of,
    rfc3339,
    seconds,
    text_of,
    tls_of,
    tries_of,
)
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.outbound import Outbound

_BARE = re.compile(r"[!#-<>-\[\]-~]+")
"""A value that needs no quotation marks: printable ASCII without space, `"`, `=` and backslash."""


USUAL: Final = UsualTexts(
    between=" try_count=1 hedges=0 queue_s=0 latency_s=", duration=" duration_s=", received=" bytes_in=0 bytes_out="
)


class LogfmtLines(NamedValues):
    """Writes lines as logfmt; made and used by an AccessLog."""

    def __init__(self, client_of: Any, headers: HeaderNames) -> None:
        super().__init__(client_of, headers, USUAL)

    def stamp(self, when: float) -> str:
        """Write a Unix time as lines begin with it."""
        return f"time={rfc3339(when)} request_id="

    def lines(self, stamp: str, ended: Sequence[Exchange | OwnLine]) -> list[str]:
        """Write the lines of what has ended; an id with an `=` stands in quotation marks."""
        lines = super().lines(stamp, ended)
        for number, one in enumerate(ended):
            if isinstance(one, Exchange) and "=" in one.attempts.request_id:
                lines[number] = lines[number].replace(one.attempts.request_id, quoted(one.attempts.request_id), 1)
        return lines

    def _in_full(self, stamp: str, exchange: Exchange, asked: AskedText) -> str:
        attempts, answer = exchange.attempts, exchange.attempts.answer
        backend, outbound = attempts.backend, attempts.under_way
        latency = "" if attempts.latency_s is None else f" latency_s={seconds(attempts.latency_s)}"
        if attempts.tries == 1 and not attempts.tried and answer is not None and type(outbound) is Outbound:
            assert backend is not None
            lease = outbound.lease
            connect = "" if lease is None or lease.connect_s is None else f" tries.0.connect_s={lease.connect_s:.6f}"
            first_latency = "" if not latency else f" tries.0.{latency[1:]}"
            tries = f"{_first(backend.id)}{answer.counts_as}{connect}{first_latency}"
        else:
            tries = pairs("tries", tries_of(exchange))
        more = ""
        if self._answer_names and answer is not None:
            more = self._of_answer[answer.fields.block]
        more += pairs("error", None if exchange.error is None else exchange.error.detail)
        more += pairs("grpc_status", exchange.grpc_status)
        route_id, backend_id = None if exchange.route is None else exchange.route.id, None if backend is None else backend.id
        answered = _answered(attempts.request.version, exchange.status, exchange.routed_to, route_id, backend_id)
        return (
            f"{stamp}{attempts.request_id}{pairs('trace_id', attempts.trace_id)}{asked.before}{answered}"
            f"{tries} try_count={attempts.tries} hedges={attempts.hedges}"
            f" queue_s={f'{attempts.queue_s:.6f}' if attempts.queue_s else '0'}{latency}"
            f" duration_s={seconds(exchange.duration_s)} bytes_in={exchange.bytes_in} bytes_out={exchange.bytes_out}"
            f"{asked.agent[:-1]}{more}\n"
        )

    def _tell_client(self, request: Request) -> str:
        return f" client={value(text_of(self._client_of(request)))} method={value(text_of(request.method))}"

    def _tell_path(self, target: bytes) -> str:
        return f" path={value(text_of(target.partition(b'?')[0]))}"

    def _tell_first_try(self, known: tuple[int, int, str | None, str | None, str]) -> str:
        _, status, _, _, backend = known
        return f"{_answered(*known)}{_first(backend)}{status} tries.0.latency_s="

    def _tell_agent(self, request: Request) -> str:
        facts = tls_of(request)
        tls = "" if facts is None else pairs("tls", dict(zip(TLS_FIELDS, facts, strict=True)))
        return f"{tls}{self._tell_request(request.block)}\n"

    def _of_own(self, stamp: str, line: OwnLine) -> str:
        said = self._tell_request(b"" if line.request is None else line.request.block)
        whole = fields_of(line)
        del whole["request_id"]
        text = "".join(pairs(key, one) for key, one in whole.items())
        return f"{stamp}{value(line.request_id)}{text}{said}{pairs('error', line.error)}\n"

    def _tell_request(self, block: bytes) -> str:
        agent, referer = agent_and_referer(block)
        said = "" if agent is None else f" user_agent={value(text_of(agent))}"
        said += "" if referer is None else f" referer={value(text_of(referer))}"
        if self._request_names:
            said += pairs("request_headers", self._client_values.find(block))
        return said

    def _tell_answer(self, block: bytes) -> str:
        return pairs("answer_headers", self._answer_values.find(block))


def _answered(version: int, status: int, service: str | None, route: str | None, backend: str | None) -> str:
    return (
        f" protocol={PROTOCOLS[version]} status={status}{pairs('service', service)}{pairs('route', route)}"
        f"{pairs('backend', backend)}"
    )


def _first(backend: str) -> str:
    return f" tries.0.backend={value(backend)} tries.0.kind=first tries.0.outcome=ok tries.0.status="


def value(text: str) -> str:
    """Write a text as a value: as it is, or in quotation marks as JSON has them."""
    return text if _BARE.fullmatch(text) else quoted(text)


def pairs(key: str, said: Any) -> str:
    """Write a member of a line, a space before each pair; those of lists and objects have a dot in their names."""
    if said is None:
        return ""
    if isinstance(said, dict):
        return "".join(pairs(f"{key}.{name}", one) for name, one in said.items())
    if isinstance(said, list):
        return "".join(pairs(f"{key}.{number}", one) for number, one in enumerate(said))
    return f" {key}={value(said) if isinstance(said, str) else said}"
