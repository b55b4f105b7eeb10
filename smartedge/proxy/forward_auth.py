"""Asks somebody else whether a request may go on, as nginx's `auth_request` and Traefik's ForwardAuth do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import gevent

from smartedge.balancer.errors import BackendTimeout, BadAnswer, EdgeError
from smartedge.http.forwarded import told_of_client
from smartedge.http.headers import folded, pairs_of
from smartedge.http.own_answer import OwnAnswer, own_answer
from smartedge.http.request import Request
from smartedge.proxy.answer import Answer
from smartedge.proxy.outbound import Hop, Outbound

MOST_BODY_BYTES = 1 << 20
"""Of a refusal that goes to the client, a login page perhaps."""

_NOT_ASKED = frozenset(
    b"host content-length content-type content-encoding transfer-encoding expect range if-range if-match if-none-match"
    b" if-modified-since if-unmodified-since x-forwarded-method x-forwarded-uri".split()
)
"""Fields about a body that is not sent along, conditions on another resource, and what only we may say."""


@dataclass(frozen=True, slots=True)
class ForwardAuth:
    """Who is asked before a route is used; made at reload, called by its `Guard`.

    target, host: of the request that asks. copied: names, `folded`, of fields that go from a good answer to the backend; whatever
    clients send under these is dropped. send: sends a request to that server, over connections that are kept. hop: what that one
    is told of the way; by our name in Via we know a question that has come back to us.
    """

    target: bytes
    host: bytes
    copied: frozenset[bytes]
    timeout_s: float
    send: Callable[[Outbound], Answer]
    hop: Hop

    def ask(self, request: Request) -> OwnAnswer | None:
        """Return None for a 2xx, after the fields that it is asked for were put into the request, else the refusal.

        Raises BackendError when there is no answer, or none that can be used.
        """
        outbound = Outbound(b"GET", self.head(request), None, True)
        outbound.deadline, outbound.first_byte_s = monotonic() + self.timeout_s, None
        try:
            answer = self.send(outbound)
        except BackendTimeout as error:  # which speaks of a backend, and of the limits of its tries
            raise self._late() from error
        try:
            if not 200 <= answer.status_code < 300:
                with self._time_left(outbound.deadline):
                    return _refusal(answer)
            if self.copied:
                given = [line for line in answer.fields.block.splitlines(True) if _name(line) in self.copied]
                request.fields = request.fields.with_others(self.copied, b"".join(given))
            self._pass_over(answer, outbound.deadline)
            return None
        finally:
            if not answer.complete:
                answer.close()

    def _pass_over(self, answer: Answer, deadline: float) -> None:
        """Read the body of a good answer, which says nothing more, for its connection to be used again."""
        if answer.complete:
            answer.read()
            return
        with suppress(EdgeError), self._time_left(deadline):
            for _ in _pieces(answer, 65_536):
                pass

    def _time_left(self, deadline: float) -> gevent.Timeout:
        return gevent.Timeout(max(0.001, deadline - monotonic()), self._late())

    def _late(self) -> BackendTimeout:
        return BackendTimeout(
            f"Who is asked about the request took longer than {self.timeout_s:g} s to answer (forward_auth.timeout_s)."
        )

    def head(self, request: Request) -> bytes:
        """Write the head of the request that asks: the client's own fields, and what it wants to do."""
        return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b%bVia: 1.1 %b\r\nX-Forwarded-Method: %b\r\nX-Forwarded-Uri: %b\r\n%b\r\n" % (
            self.target,
            self.host,
            b"".join(_without(request.fields.block, _NOT_ASKED)),
            told_of_client(request, self.hop.is_trusted),
            self.hop.via,
            request.method,
            request.target,
            request.traceparent,
        )


def _refusal(answer: Answer) -> OwnAnswer:
    pieces = list(_pieces(answer, MOST_BODY_BYTES))
    if not answer.complete:
        raise BadAnswer(f"The refusal of the service that was asked is longer than {MOST_BODY_BYTES} bytes.")
    body = b"".join(pieces)
    fields = [(name, value) for name, value in pairs_of(answer.fields.block) if name.lower() not in ("content-length", "trailer")]
    return own_answer(answer.status_code, fields, body, "application/octet-stream")


def _pieces(answer: Answer, most_bytes: int) -> Iterable[bytes]:
    left = most_bytes
    while left > 0 and (piece := answer.read()):
        left -= len(piece)
        yield piece


def _without(block: bytes, names: frozenset[bytes]) -> list[bytes]:
    return [line for line in block.splitlines(True) if _name(line) not in names]


def _name(line: bytes) -> bytes:
    return folded(line[: line.find(b":")])
