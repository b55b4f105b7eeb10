"""One client request, from its arrival to its last byte: its tries (attempts.py), and the answer that is streamed on."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import Any

from gevent import GreenletExit

from smartedge.balancer.errors import ClientGone, EdgeError, EdgeStopped
from smartedge.balancer.pool import Lease, Outcome
from smartedge.http import grpc, problem
from smartedge.http.cookies import field
from smartedge.http.environ_keys import HANDLER
from smartedge.http.headers import pairs_of, without_length
from smartedge.http.own_answer import OwnAnswer
from smartedge.http.pipes import Pipe, give_back
from smartedge.http.request import Request
from smartedge.proxy.answer import Answer
from smartedge.proxy.attempts import Attempts, HedgedSend
from smartedge.proxy.foreign import ForeignClient
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.route import Route
from smartedge.proxy.tried import Tried, with_answered
from smartedge.server.answer import AnswerWriter
from smartedge.server.answering import Forwarded


class Ending:
    """Whoever made an Exchange: the `Forwarder`, which derives from this and imports this file."""

    def end_exchange(self, exchange: Exchange) -> None:
        """Count, record and log one that has ended."""
        raise NotImplementedError


class Exchange(Forwarded):
    """One client request on its way; made by the Forwarder, answered with and closed by the server.

    Called as a WSGI app it answers; iterated it gives the body; `close` ends the lease. A class with `close`, never a bare
    generator: one that is never started runs no `finally` (PEP 3333; a HEAD or 304).

    route: the one that the request took, None without routes. routed_to: the name of the service that it is for, None for what
    the edge answers itself. asked_target: what the client asked for, where the route has
    changed that. own_answer: the edge's own, in place of a backend's.
    forwarder: told once when all is over. finished: the whole answer has been given to the server. counted: it
    has been counted already (a tunnel's is, with its 101).
    """

    __slots__ = (
        "_client",
        "_closed",
        "_forwarder",
        "_head_sent",
        "_lent",
        "_writer",
        "asked_target",
        "attempts",
        "bytes_out",
        "counted",
        "duration_s",
        "error",
        "finished",
        "own_answer",
        "route",
        "routed_to",
        "status",
    )

    def __init__(self, attempts: Attempts, forwarder: Ending) -> None:
        self.attempts = attempts
        self.own_answer: OwnAnswer | None = None
        self.route: Route | None = None
        self.routed_to: str | None = None
        self.asked_target: bytes | None = None
        self.error: EdgeError | None = None
        self.status = self.bytes_out = 0
        self.duration_s = 0.0
        self.finished = self.counted = False
        self._forwarder = forwarder
        self._closed = self._head_sent = False
        self._writer: AnswerWriter | None = None
        self._client: ForeignClient | None = None
        self._lent: memoryview | Pipe | None = None

    @property
    def request(self) -> Request:
        """The client's request."""
        return self.attempts.request

    # ---- to the client ----

    def run(self, race: HedgedSend | None = None) -> None:
        """Have a backend's answer; raises the EdgeError that the client is to be told. race: see `Attempts.run`."""
        self.status = self.attempts.run(race).status_code

    def answer_here(self, own_answer: OwnAnswer) -> None:
        """Let the client have an answer of ours."""
        self.status = own_answer[0]
        self.own_answer = own_answer

    def fail(self, error: EdgeError) -> None:
        """Let the client have an error of ours instead of an answer."""
        self.error = error
        self.status = error.status
        if grpc.is_call(self.request.block):
            self.own_answer = grpc.answer(error, self.attempts.request_id)
            self.status = 200 if error.status != 499 else 499
        else:
            self.own_answer = problem.answer(error, self.attempts.request_id, self.attempts.trace_id)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Exchange:
        """Answer as a WSGI app does (PEP 3333)."""
        handler: Any = environ.get(HANDLER)  # an EdgeHandler, if the server is ours
        try:
            writer: AnswerWriter | None = None if handler is None else handler.writer
            is_direct = getattr(start_response, "__self__", None) is writer  # no middleware wants the head
            if writer is not None and is_direct:
                self.answer_to(writer)
                return self
            self._writer = writer
            answer = self.attempts.answer
            if self.is_for_nobody:
                assert self.error is not None
                raise self.error if handler is not None else ConnectionResetError(errno.ECONNRESET, self.error.detail)
            if answer is not None:
                start_response(self.status_line(answer), self.pairs(answer))
            else:
                self._begin_own_answer(start_response)
        except BaseException:
            self.close()  # The server does not know us yet.
            raise
        if handler is None:
            self.belongs_to(ForeignClient(environ, start_response))
        return self

    def answer_to(self, writer: AnswerWriter) -> Iterable[Any] | None:
        """Answer a client of our own server, which takes the fields as the bytes they are; return what is still to be written.

        None is returned for an answer that has been written whole.

        The server closes the exchange then. Raises the ClientGone of a client that has left, and what the writer raises.
        """
        self._writer = writer
        answer = self.attempts.answer
        if answer is None:
            if self.is_for_nobody:
                assert self.error is not None
                raise self.error
            self._begin_own_answer(writer.start_response)
            return self
        fields, length = answer.fields, answer.fields.content_length
        block = self._block(answer) if fields.announces or answer.status_code == 204 else fields.block
        added = answer.via if self.attempts.policy.affinity is None else self.added(answer)
        if not answer.complete:
            writer.begin_answer(answer.status_code, answer.status_line, block, length, fields.dated, None, added)
            answer.begin_lending(pipes=writer.takes_pipes)  # our writer has sent a piece before the next is asked for
            return self
        # It is all here: one send, without going round the server's loop, saves 2.5 µs (docs/performance.md).
        body = answer.lend()
        self.bytes_out = len(body)
        if answer.trailers:
            writer.trailers = answer.trailers
        writer.begin_answer(answer.status_code, answer.status_line, block, length, fields.dated, body, added)
        self.finished = True
        return None

    def _begin_own_answer(self, start_response: Any) -> None:
        assert self.own_answer is not None
        status, own_fields, _ = self.own_answer
        start_response(f"{status} {problem.reason(status)}", own_fields)

    def belongs_to(self, client: ForeignClient) -> None:
        """Go to a client of a server that is not ours, which has been told the head."""
        self._client = client
        body, answer = self.request.body, self.attempts.answer
        if body is not None and not body.complete:
            client.close_after()
        if answer is not None and answer.status_code == 426 and (value := field(answer.fields.block, b"upgrade")):
            client.keep_upgrade(value.decode("latin-1"))

    def _block(self, answer: Answer) -> bytes:
        """Give the answer's own header fields, as the client gets them."""
        fields = answer.fields
        if answer.status_code == 204 and fields.content_length is not None:  # RFC 9110 section 8.6: a 204 has none
            return without_length(fields.block)
        if fields.announces and (self.request.version == 10 or self._writer is None):
            return fields.without_trailer()
        return fields.block

    def added(self, answer: Answer) -> bytes:
        """Give the header fields that the edge adds to a backend's answer."""
        attempts = self.attempts
        affinity = attempts.policy.affinity
        if affinity is None or attempts.backend is None:
            return answer.via
        return answer.via + affinity.answer_lines(attempts.request, attempts.backend, attempts.preferred)

    def status_line(self, answer: Answer) -> str:
        """Give the answer's status and reason as WSGI has them."""
        return answer.status_line[:-2].decode("latin-1")

    def pairs(self, answer: Answer) -> list[tuple[str, str]]:
        """Give the answer's end-to-end fields as WSGI has them."""
        return pairs_of(self._block(answer) + self.added(answer))

    @property
    def is_for_nobody(self) -> bool:
        """Whether the client has left before it was answered: 499 stands in the log and is never written."""
        return self.status == 499 and self.own_answer is not None

    @property
    def switches(self) -> bool:
        """Whether this becomes a tunnel (`upgrade.py`), which no server answers as HTTP."""
        return False

    @property
    def grpc_status(self) -> int | None:
        """How a call of gRPC has ended; None for all that is none."""
        if self.error is not None:
            return grpc.status_of(self.error) if grpc.is_call(self.request.block) else None
        answer = self.attempts.answer
        return None if answer is None else answer.grpc_status

    @property
    def bytes_in(self) -> int:
        """How many bytes came from the client, the head not counted."""
        body = self.attempts.request.body
        return body.received_bytes if body is not None else 0

    def tries(self) -> Sequence[Tried]:
        """Give all tries, in the order that they began; called after the end, where a log or a trace wants them."""
        attempts = self.attempts
        outbound, answer = attempts.under_way, attempts.answer
        tried = attempts.tried or ()
        if answer is not None and type(outbound) is Outbound and outbound.lease is not None:
            tried = with_answered(tried, outbound.lease, answer.counts_as)
        return tried if len(tried) < 2 else sorted(tried, key=lambda one: one.began)

    def __iter__(self) -> Iterator[Any]:
        """Give the body: bytes, and to our own server what is lent until the next piece is asked for: memoryviews, Pipes."""
        return self

    def __next__(self) -> Any:
        """Wait for the next piece, b"" to have the head sent; raises the EdgeError that cuts the client's answer."""
        if self.finished:
            raise StopIteration
        answer = self.attempts.answer
        if answer is None:
            if self.own_answer is None:
                raise StopIteration
            self.finished = True
            body = self.own_answer[2]
            self.bytes_out = len(body)
            if not body:
                raise StopIteration  # an empty piece would send the head alone, and what ends with it is told from that (gRPC)
            return body
        if not self._head_sent and not answer.complete:
            self._head_sent = True
            if not answer.at_hand:
                return b""  # An event stream may say nothing for minutes after its head, which goes on now.
        try:
            piece = self._next_of(answer)
        except EdgeError as error:
            self.error = self.attempts.gone or error
            if self._ends_call(self.error):
                raise StopIteration from None
            if self._client is not None:
                self._client.break_off()
                # gunicorn takes this for a connection that broke, and all else for a bug
                raise ConnectionResetError(errno.ECONNRESET, error.detail) from error
            raise
        if not piece:
            self.finished = True
            if answer.trailers and self._writer is not None:
                self._writer.trailers = answer.trailers
            raise StopIteration
        self.bytes_out += len(piece)
        return piece

    def _ends_call(self, error: EdgeError) -> bool:
        """Tell a client of gRPC in trailers why its answer ends here; False for others, whose answer is cut."""
        if self._writer is None or error.status == 499 or not grpc.is_call(self.request.block):
            return False
        self.finished = True
        self._writer.trailers = [(name.encode(), value.encode()) for name, value in grpc.fields_of(error)]
        return True

    def _next_of(self, answer: Answer) -> Any:
        """Wait for the answer's next piece, which may lie in a buffer that is lent until the one after it is asked for."""
        if self._lent is not None:
            give_back(self._lent)
            self._lent = None
        piece = answer.read()
        if not isinstance(piece, bytes):
            self._lent = piece
        return piece

    def close(self) -> None:
        """End the exchange: give the lease back, have it counted and logged. The second call does nothing."""
        if self._closed:
            return
        self._closed = True
        attempts = self.attempts
        request, answer = attempts.request, attempts.answer
        request.waiter = None
        self.duration_s = monotonic() - attempts.started
        if self.error is None:
            self.error = attempts.gone
        if answer is not None and not answer.complete:
            answer.close()
        if not self.finished and (answer is None or not answer.complete or request.method != b"HEAD"):
            self._broken_off()
        if attempts.lease is not None:
            self._end_lease(attempts.lease, answer)
        self._forwarder.end_exchange(self)
        if self._client is not None and self.finished:
            self._client.leave()

    def _end_lease(self, lease: Lease, answer: Answer | None) -> None:
        error = self.error
        if error is not None:
            outcome: Outcome = "failed" if error.blame == "backend" else "abandoned"
        elif answer is not None and self.attempts.is_failure(answer):
            outcome = "failed"
        else:
            outcome = "ok"
        self.attempts.end_lease(lease, outcome, answer, error)

    def _broken_off(self) -> None:
        """Nobody read the answer to its end: unless the backend broke it or the edge cut it, the client left."""
        if self.error is None:
            if isinstance(sys.exc_info()[1], GreenletExit):  # gunicorn's own loop ends its greenlets so, as it stops
                self.error = EdgeStopped()
            else:
                self.error = ClientGone()
        if self.error.blame == "client":
            self.status = 499
        elif not self.status:
            self.status = self.error.status
