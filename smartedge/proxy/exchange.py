"""One client request on its way: a lease, the request to the backend, its answer streamed on; and the retry loop around them.

Nothing else is decided here: who is picked is the pool's affair, what the bytes look like `headers`', how they travel
`transport`'s. An `Exchange` lasts from a request's arrival to its last byte, and is the WSGI response that carries it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from smartedge.balancer.backend import Backend, Cell
from smartedge.balancer.errors import BackendError, ClientGone, EdgeError, NoBackend
from smartedge.balancer.pool import Lease, Outcome
from smartedge.balancer.retry import IDEMPOTENT
from smartedge.proxy import problem
from smartedge.proxy.headers import AnswerFields, forwarded_lines, pairs_of, retry_after
from smartedge.proxy.request import HANDLER, Replay, Request
from smartedge.proxy.transport import Answer, Outbound

_RETRIES = int(Cell.RETRIES)

if TYPE_CHECKING:
    from smartedge.proxy.forward import Forwarder


class Exchange:
    """One client request on its way. Called as a WSGI app it answers; iterated it gives the body; `close` ends the lease.

    A class with `close`, never a bare generator: one that is never started runs no `finally` (PEP 3333; a HEAD or 304).
    """

    # Defaults of the class: setting them on every exchange would cost more than some of its steps.
    lease: Lease | None = None
    backend: Backend | None = None
    answer: Answer | None = None
    outbound: Outbound | None = None
    replay: Replay | None = None
    own_answer: tuple[int, list[tuple[str, str]], bytes] | None = None
    error: EdgeError | None = None
    attempts = 0
    status = 0
    latency_s: float | None = None
    duration_s = 0.0
    bytes_out = 0
    finished = False
    _closed = False
    _head_sent = False
    _handler: Any = None
    _foreign_server = False

    def __init__(self, forwarder: Forwarder, request: Request) -> None:
        self._forwarder = forwarder
        self.request = request
        said = request.fields.request_id
        self.request_id = said.decode("latin-1") if said is not None else forwarder.next_id()
        self.started = monotonic()

    # ---- to the backend ----

    def run(self) -> None:
        """Try backends until one answers; raises the EdgeError that the client is to be told."""
        forwarder, request = self._forwarder, self.request
        pool, policy = forwarder.pool, forwarder.plan.retry
        request.on_gone = self._client_left
        if request.body is not None:
            self.replay = Replay(request.body, policy.body_bytes)
        forwarder.budget.deposit(self.started)
        lease = self.lease = pool.lease(self.started)
        tried: list[Backend] = []
        while True:
            self.attempts += 1
            backend = self.backend = lease.backend
            try:
                answer: Answer = backend.transport.send(self._outbound(backend))
            except EdgeError as error:
                self._lease_failed(lease, error)
                if not self._may_retry(error):
                    raise
                tried.append(backend)
                lease = self.lease = self._next_lease(tried, error)
                continue
            status = answer.status_code
            if answer.complete and status not in policy.statuses:
                self.answer, self.status, self.lease = answer, status, None
                change = lease.finish(monotonic(), status)
                self.latency_s = lease.latency_s
                if change:
                    forwarder.events.breaker_changed(backend, change)
                return
            self.latency_s = lease.answered(monotonic())
            if status in policy.statuses:
                tried.append(backend)
                another = self._lease_for_retry(tried)
                if another is not None:
                    answer.close()
                    self._end_lease(lease, "failed", answer)
                    lease = self.lease = another
                    continue
            self.answer = answer
            self.status = status
            return

    def _outbound(self, backend: Backend) -> Outbound:
        """Make the request for this backend: its own name may be the Host, so each try gets one of its own."""
        request = self.request
        fields = request.fields
        plan = self._forwarder.plan
        trust = plan.is_trusted
        body = request.body
        tail = b""
        if body is not None:
            if body.length is None:
                tail = b"Transfer-Encoding: chunked\r\n"
            if request.expects_continue:
                tail += b"Expect: 100-continue\r\n"
        block = fields.block
        if not fields.host or not backend.spec.preserve_host:
            block = b"Host: %b\r\n%b" % (backend.transport.netloc, fields.without_host())
        head = b"%b %b HTTP/1.1\r\n%b%bVia: 1.%b smartedge\r\nX-Request-Id: %b\r\n%b\r\n" % (
            request.method,
            request.target,
            block,
            forwarded_lines(
                fields,
                request.peer,
                b"https" if request.secure else b"http",
                trust is not None and trust(request.peer),
                plan.forwarded_header,
            ),
            b"1" if request.version == 11 else b"0",
            self.request_id.encode("latin-1"),
            tail,
        )
        outbound = self.outbound = Outbound(request.method, head, self.replay, request.method in IDEMPOTENT)
        if body is not None:
            outbound.on_sent = self._sent
        if request.interim is not None:
            outbound.on_interim = self._interim
        return outbound

    def _sent(self) -> None:
        """The upload is out: the backend's latency counts from here, a slow client is not its fault."""
        if self.lease is not None:
            self.lease.sent(monotonic())

    def _interim(self, status: int, status_line: bytes, fields: AnswerFields) -> None:
        assert self.request.interim is not None
        self.request.interim(status, status_line, fields.block)

    # ---- trying again ----

    def _may_retry(self, error: EdgeError) -> bool:
        """Whether another backend may get the request: never when this one may have acted, unless the method is idempotent."""
        policy = self._forwarder.plan.retry
        now = monotonic()
        if error.blame != "backend" or now - self.started > policy.deadline_s:
            return False
        if self.replay is not None and not self.replay.rewind():
            return False
        if not error.sent:
            return True
        return self.request.method in IDEMPOTENT and self.attempts < policy.attempts and self._forwarder.budget.withdraw(now)

    def _next_lease(self, tried: list[Backend], error: EdgeError) -> Lease:
        """Take a lease on a backend that was not tried; when there is none, `error` is what the client hears of."""
        try:
            lease = self._forwarder.pool.lease(monotonic(), tried)
        except NoBackend as none_left:
            if error.sent:
                raise error from None
            none_left.detail = f"{error.detail} No other backend is available ({none_left.detail})."
            raise
        lease.backend.learned.add(_RETRIES)
        return lease

    def _lease_for_retry(self, tried: list[Backend]) -> Lease | None:
        """Take a lease for another try after an answer that counts as a failure; None when the answer has to do."""
        policy = self._forwarder.plan.retry
        now = monotonic()
        if (
            self.request.method not in IDEMPOTENT
            or self.attempts >= policy.attempts
            or now - self.started > policy.deadline_s
            or (self.replay is not None and not self.replay.rewind())
        ):
            return None
        try:
            lease = self._forwarder.pool.lease(now, tried)
        except NoBackend:
            return None
        if not self._forwarder.budget.withdraw(now):
            lease.close(now, "abandoned")
            return None
        lease.backend.learned.add(_RETRIES)
        return lease

    # ---- the lease ----

    def _lease_failed(self, lease: Lease, error: EdgeError) -> None:
        self._end_lease(lease, "failed" if error.blame == "backend" else "abandoned")
        if not error.sent and isinstance(error, BackendError):
            self._forwarder.events.unreachable(lease.backend)

    def _end_lease(self, lease: Lease, outcome: Outcome, answer: Answer | None = None) -> None:
        self.lease = None
        code = answer.status_code if answer is not None else 0
        retry_after_s = retry_after(answer.fields) if answer is not None and outcome == "failed" else None
        change = lease.close(monotonic(), outcome, retry_after_s, code)
        if change:
            self._forwarder.events.breaker_changed(lease.backend, change)

    def _client_left(self) -> None:
        """The client closed its connection: the backend need not go on (called in the hub, so nothing here may wait)."""
        self.request.on_gone = None
        self.error = gone = ClientGone("The client left before its answer was complete.")
        connection = self.outbound.connection if self.outbound is not None else None
        if connection is not None and not (self.answer is not None and self.answer.complete):
            connection.failure = gone
            connection.wire.close()

    # ---- to the client ----

    def fail(self, error: EdgeError) -> None:
        """Let the client have an error of ours instead of an answer."""
        self.error = error
        self.status = error.status
        if error.status == 499:  # Nobody is there to read it.
            self.own_answer = 499, [("Content-Length", "0")], b""
        else:
            self.own_answer = problem.answer(error, self.request_id)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Exchange:
        """Answer as a WSGI app does (PEP 3333); our own server takes the fields as the bytes they are."""
        handler = self._handler = environ.get(HANDLER)
        direct = getattr(start_response, "__self__", None) is handler  # no middleware wants the head
        answer = self.answer
        if answer is None:
            assert self.own_answer is not None
            status, own_fields, _ = self.own_answer
            start_response(f"{status} {problem.reason(status)}", own_fields)
        elif handler is not None and direct:
            length, block = self._framed(answer)
            handler.begin(answer.status_code, answer.status_line, block, length, answer.fields.dated)
            if answer.complete:
                # It is all here: one send, without going round the server's loop.
                body = answer.read()
                self.bytes_out = len(body)
                if answer.trailers:
                    handler.trailers = answer.trailers
                if body:
                    try:
                        handler.write(body)
                    except BaseException:
                        self.close()  # The server does not know us yet.
                        raise
                self.finished = True
        else:
            start_response(self.status_line(answer), self.pairs(answer))
            self._foreign_server = handler is None
        return self

    def _framed(self, answer: Answer) -> tuple[int | None, bytes]:
        """Give the length of the answer's body and its header fields, as the client gets them."""
        fields = answer.fields
        if answer.status_code == 204 and fields.content_length is not None:  # RFC 9110 section 8.6: a 204 has none
            lines = fields.block.splitlines(True)
            return None, b"".join(line for line in lines if line[:15].lower() != b"content-length:") + answer.via
        return fields.content_length, fields.block + answer.via

    def status_line(self, answer: Answer) -> str:
        """Give the answer's status and reason as WSGI has them."""
        return answer.status_line[:-2].decode("latin-1")

    def pairs(self, answer: Answer) -> list[tuple[str, str]]:
        """Give the answer's end-to-end fields as WSGI has them."""
        return pairs_of(self._framed(answer)[1])

    @property
    def switches(self) -> bool:
        """Whether this becomes a tunnel (`upgrade.py`), which no server answers as HTTP."""
        return False

    @property
    def bytes_in(self) -> int:
        """How many bytes came from the client, the head not counted."""
        return self.request.body.received_bytes if self.request.body is not None else 0

    def __iter__(self) -> Iterator[bytes]:
        """Give the body."""
        return self

    def __next__(self) -> bytes:
        """Wait for the next piece, b"" to have the head sent; raises the EdgeError that cuts the client's answer."""
        if self.finished:
            raise StopIteration
        answer = self.answer
        if answer is None:
            if self.own_answer is None:
                raise StopIteration
            self.finished = True
            self.bytes_out = len(self.own_answer[2])
            return self.own_answer[2]
        if not self._head_sent and answer.connection is not None:
            self._head_sent = True
            if not answer.at_hand:
                return b""  # An event stream may say nothing for minutes after its head, which goes on now.
        try:
            piece = answer.read()
        except EdgeError as error:
            if self.error is None:
                self.error = error
            if self._foreign_server:  # gunicorn takes this for a connection that broke, and all else for a bug
                raise ConnectionResetError(errno.ECONNRESET, error.detail) from error
            raise
        if not piece:
            self.finished = True
            if answer.trailers and self._handler is not None:
                self._handler.trailers = answer.trailers
            raise StopIteration
        self.bytes_out += len(piece)
        return piece

    def close(self) -> None:
        """End the exchange: give the lease back, count, log. The second call does nothing."""
        if self._closed:
            return
        self._closed = True
        forwarder, request, answer, lease = self._forwarder, self.request, self.answer, self.lease
        request.on_gone = None
        now = monotonic()
        self.duration_s = now - self.started
        if answer is not None and not answer.complete:
            answer.close()
        if not self.finished and (answer is None or not answer.complete or request.method != b"HEAD"):
            self._broken_off()
        if lease is not None:
            error = self.error
            if error is not None:
                outcome: Outcome = "failed" if error.blame == "backend" else "abandoned"
            elif answer is not None and answer.status_code in forwarder.plan.retry.statuses:
                outcome = "failed"
            else:
                outcome = "ok"
            self._end_lease(lease, outcome, answer)
        counted = self.backend.learned if self.backend is not None and self.own_answer is None else forwarder.edge
        counted.count(self.status, self.duration_s, request.body.received_bytes if request.body else 0, self.bytes_out)
        if forwarder.log is not None:
            forwarder.log(self)

    def _broken_off(self) -> None:
        """Nobody read the answer to its end: unless the backend broke it, the client left."""
        if self.error is None:
            self.error = ClientGone("The client left before its answer was complete.")
        if self.error.blame == "client":
            self.status = 499
