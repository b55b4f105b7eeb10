"""The access log as logfmt: `key=value` a field, which Loki, vector and people read. What is not there is left out."""

from __future__ import annotations

import re
from typing import Any

from smartedge.http.request import PROTOCOLS, Request
from smartedge.observe.log_json import quoted
from smartedge.observe.log_line import (
    TLS_FIELDS,
    NamedValues,
    OwnLine,
    fields_of,
    path_of,
    text_of,
    tls_of,
    tries_of,
)
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.outbound import Outbound

_BARE = re.compile(r"[!#-<>-\[\]-~]+")
"""A value that needs no quotation marks: printable ASCII without space, `"`, `=` and backslash."""


class LogfmtLines(NamedValues):
    """Writes lines as logfmt; made and used by an AccessLog."""

    def of_exchange(self, stamp: str, exchange: Exchange) -> str:
        """Write the line of a request that has been forwarded, or could not be."""
        attempts = exchange.attempts
        request, backend, answer = attempts.request, attempts.backend, attempts.answer
        latency = "" if attempts.latency_s is None else f" latency_s={attempts.latency_s:.6f}"
        outbound = attempts.under_way
        if attempts.tries == 1 and not attempts.tried and answer is not None and type(outbound) is Outbound:
            assert backend is not None
            lease = outbound.lease
            connect = "" if lease is None or lease.connect_s is None else f" tries.0.connect_s={lease.connect_s:.6f}"
            first_latency = "" if not latency else f" tries.0.{latency[1:]}"
            tries = (
                f" tries.0.backend={value(backend.id)} tries.0.kind=first tries.0.outcome=ok"
                f" tries.0.status={answer.counts_as}{connect}{first_latency}"
            )
        else:
            tries = pairs("tries", tries_of(exchange))
        more = ""
        if self._answer_names and answer is not None:
            more = self._of_answer.of(answer.fields, answer.fields.block)
        if exchange.error is not None:
            more += f" error={value(exchange.error.detail)}"
        if (grpc_status := exchange.grpc_status) is not None:
            more += f" grpc_status={grpc_status}"
        return (
            f"time={stamp} request_id={value(attempts.request_id)}"
            f"{'' if attempts.trace_id is None else f' trace_id={attempts.trace_id}'}"
            f" client={value(text_of(self._client_of(request)))} method={value(text_of(request.method))}"
            f" path={value(text_of(path_of(exchange)))} protocol={PROTOCOLS[request.version]} status={exchange.status}"
            f"{'' if exchange.routed_to is None else f' service={value(exchange.routed_to)}'}"
            f"{'' if exchange.route is None else f' route={value(exchange.route.id)}'}"
            f"{'' if backend is None else f' backend={value(backend.id)}'}"
            f"{tries} try_count={attempts.tries} hedges={attempts.hedges}"
            f" queue_s={f'{attempts.queue_s:.6f}' if attempts.queue_s else '0'}{latency} duration_s={exchange.duration_s:.6f}"
            f" bytes_in={exchange.bytes_in} bytes_out={exchange.bytes_out}{_tls(request)}"
            f"{self._of_request.of(request.fields, request.block)}{more}\n"
        )

    def of_own(self, stamp: str, line: OwnLine) -> str:
        """Write the line of another answer."""
        said = self._tell_request(b"" if line.request is None else line.request.block)
        whole = "".join(pairs(key, one) for key, one in fields_of(line).items())
        return f"time={stamp}{whole}{said}{pairs('error', line.error)}\n"

    def _tell_request(self, block: bytes) -> str:
        found = self._client_values.find(block)
        said = pairs("user_agent", found["user-agent"]) + pairs("referer", found["referer"])
        return said + pairs("request_headers", {name: found[name] for name in self._request_names})

    def _tell_answer(self, block: bytes) -> str:
        return pairs("answer_headers", self._answer_values.find(block))


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


def _tls(request: Request) -> str:
    facts = tls_of(request)
    return "" if facts is None else pairs("tls", dict(zip(TLS_FIELDS, facts, strict=True)))
