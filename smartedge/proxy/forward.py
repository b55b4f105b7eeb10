"""The catch-all view: a lease, a request to the backend, its answer streamed on; and the retry loop around them.

Nothing else is decided here: who is picked is the pool's affair, what the bytes look like `headers`', how they travel
`transport`'s. An `Exchange` is one client request from its arrival to its last byte, and the WSGI response that carries it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

import flask

from smartedge.balancer.backend import Backend, Cell, Learned
from smartedge.balancer.errors import BackendError, ClientGone, EdgeError, NoBackend
from smartedge.balancer.pool import Lease, Outcome, Pool
from smartedge.balancer.retry import IDEMPOTENT, RetryBudget, RetryPolicy
from smartedge.proxy import problem
from smartedge.proxy.headers import AnswerFields, forwarded_lines, pairs_of
from smartedge.proxy.request import HANDLER, Replay, Request
from smartedge.proxy.transport import Answer, Outbound
from smartedge.proxy.tunnel import Tunnels

_RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)
MAX_RETRY_AFTER_S = 300.0
_RETRIES = int(Cell.RETRIES)


class Events(Protocol):
    """Who is told of what happens on a request's way."""

    def breaker_changed(self, backend: Backend, change: str) -> None:
        """Tell that a backend's breaker ejected or readmitted it."""

    def unreachable(self, backend: Backend) -> None:
        """Tell that a backend could not be connected to, so that it is probed soon."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request's way needs of the configuration, worked out at reload.

    is_trusted: whether a peer (its address as text) is one of `trusted_proxies`; None when there are none.
    idle_s: see TimeoutsConfig; tunnel_idle_s: the same for tunnels.
    """

    retry: RetryPolicy
    is_trusted: Callable[[bytes], bool] | None = None
    idle_s: float = 60.0
    tunnel_idle_s: float = 3600.0


class Forwarder:
    """Forwards requests to the pool's backends.

    edge: the row for the answers that the edge itself gives. log: takes each finished exchange when there is an access log.
    exchange_for: makes the exchange for a request with `Upgrade`; the one here lets that field end. tunnels: the open ones.
    """

    def __init__(self, pool: Pool, plan: Plan, edge: Learned, events: Events, next_id: Callable[[], str]) -> None:
        self.pool = pool
        self.plan = plan
        self.edge = edge
        self.events = events
        self.next_id = next_id
        self.budget = RetryBudget()
        self.log: Callable[[Exchange], None] | None = None
        self.exchange_for: Callable[[Forwarder, Request], Exchange] = Exchange
        self.tunnels = Tunnels()

    def __call__(self, request: Request) -> Exchange:
        """Forward a request; the exchange given back is a WSGI response, whatever became of it."""
        exchange = Exchange(self, request) if request.fields.upgrade is None else self.exchange_for(self, request)
        try:
            exchange.run()
        except EdgeError as error:
            exchange.fail(error)
        except BaseException:
            exchange.close()
            raise
        return exchange


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
        """Make the request for this backend; a second try sends the same bytes, but for a Host that is the backend's own."""
        outbound = self.outbound
        if outbound is not None and backend.spec.preserve_host:
            return outbound
        request = self.request
        fields = request.fields
        trust = self._forwarder.plan.is_trusted
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


class PassedResponse(flask.Response):
    """An exchange as Flask's own dispatch wants it, for apps with hooks: nothing added, and closed whatever happens.

    Werkzeug adds a Content-Type and never closes the body of a HEAD or a 304.
    """

    default_mimetype = None
    autocorrect_location_header = False
    automatically_set_content_length = False

    def __init__(self, exchange: Exchange) -> None:
        answer = exchange.answer
        if answer is not None:
            super().__init__(exchange, exchange.status_line(answer), exchange.pairs(answer), direct_passthrough=True)
        else:
            assert exchange.own_answer is not None
            status, fields, _ = exchange.own_answer
            super().__init__(exchange, f"{status} {problem.reason(status)}", fields, direct_passthrough=True)
        self._exchange = exchange

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Answer as a WSGI app does; what Flask's hooks did to the head of a 101 has no effect."""
        if self._exchange.switches:
            return self._exchange(environ, start_response)
        return super().__call__(environ, start_response)

    def get_app_iter(self, environ: Any) -> Any:
        """Give the exchange itself: its `close` is what WSGI servers call."""
        self._exchange._foreign_server = HANDLER not in environ
        return self._exchange


def retry_after(fields: AnswerFields) -> float | None:
    """Read an answer's Retry-After in seconds (RFC 9110 section 10.2.3; dates are passed over), capped: backends lie."""
    match = _RETRY_AFTER.search(fields.block)
    return min(float(match[1]), MAX_RETRY_AFTER_S) if match else None
