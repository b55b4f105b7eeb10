"""The tries of one client request, one after the other, until a backend answers.

Each Exchange (exchange.py) owns one Attempts and runs it once, in the greenlet of the request. A try takes a lease on a backend
from the service's pool, sends the request through that backend's session, and has its answer, or fails; then
`balancer.retry` says whether there may be another. An answer that is complete ends its lease here; one that is still coming
leaves it open, and the Exchange ends it with the last byte. Others have a hand in this:

- the Queue (queue.py) has the greenlet wait when no backend has room, or none is there and one may soon be back;
- a Race (hedge.py), where requests are hedged, sends the try and, when its answer is late, begins others beside it;
- `silent.move` has a try end early whose backend leaves unanswered what others answer; the next one is begun already then;
- the client's server tells that the client has left.

Whichever of them the greenlet waits for is in `under_way`; its `cancel` ends the wait with an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import BreakerChange
from smartedge.balancer.cells import RETRIES
from smartedge.balancer.errors import BackendError, BadAnswer, EdgeError, NoBackend
from smartedge.balancer.lease import REASON_CELLS
from smartedge.balancer.places import Place
from smartedge.balancer.pool import Lease, Outcome
from smartedge.balancer.retry import IDEMPOTENT, SAFE, Tries
from smartedge.balancer.trace import Trace, TryKind
from smartedge.http.answer_fields import AnswerFields, retry_after
from smartedge.http.request import Replay, Request
from smartedge.http.trace_context import trace_id_of
from smartedge.proxy.answer import Answer
from smartedge.proxy.explain import Explain
from smartedge.proxy.outbound import Hop, Outbound, head_for, with_offer
from smartedge.proxy.queue import WaitingGreenlet
from smartedge.proxy.service import Service
from smartedge.proxy.tracer import begin_try
from smartedge.proxy.tried import Tried, keep

HedgedSend = Callable[["Attempts", Lease, Outbound], Answer]
"""Sends a try, and others beside it when its answer is late (`hedge.Hedges.race`)."""


class Cancellable(Protocol):
    """What a request's greenlet waits for: an Outbound for its answer, a Race, or a WaitingGreenlet for a lease."""

    def cancel(self, error: EdgeError) -> None:
        """End the wait with this error; nothing when it is over."""


class Attempts:
    """One client request's tries; owned by its Exchange.

    lease: of the try that counts, while it is open. backend, answer: of the latest try. under_way: what is waited for. tries: how
    many were begun, `hedges` of them beside another. tried: how those ended whose answer did not come whole at once, None where
    nobody wants to know (`Exchange.tries`). latency_s: from the last byte of the request to the first of the answer. queue_s: the
    time in the queue. key, preferred: what the request is known by, and the id of the backend that its session is with. origin:
    where its client is, where that counts. gone: why nobody waits any more. offered: the protocols that it offers to switch to
    (upgrade.py), None for none. service, policy: the Router's to change before it runs. first_byte_s: the longest wait for an
    answer's first byte, where its route has its own. moved_to: goes on with this lease when the try under way ends (silent.py).
    """

    __slots__ = (
        "_back_until",
        "_more_tries",
        "answer",
        "backend",
        "explain",
        "first_byte_s",
        "gone",
        "hedges",
        "hop",
        "key",
        "latency_s",
        "lease",
        "moved_to",
        "offered",
        "origin",
        "policy",
        "preferred",
        "queue_s",
        "replay",
        "request",
        "request_id",
        "service",
        "started",
        "trace",
        "tried",
        "tries",
        "under_way",
    )

    def __init__(
        self, service: Service, request: Request, request_id: str, hop: Hop, explain: Explain, offered: bytes | None = None
    ) -> None:
        self.service = service
        self.policy = service.policy
        self.request = request
        self.request_id = request_id
        self.offered = offered
        self.started = monotonic()
        self.lease: Lease | None = None
        self.backend: Backend | None = None
        self.answer: Answer | None = None
        self.under_way: Cancellable | None = None
        self.replay: Replay | None = None
        self.gone: EdgeError | None = None
        self.trace: Trace | None = None
        self.key = b""
        self.first_byte_s: float | None = None
        self.preferred: str | None = None
        self.origin: Place | None = None
        self.tries = self.hedges = 0
        self.tried: tuple[Tried, ...] | None = None
        self.queue_s = 0.0
        self.latency_s: float | None = None
        self.hop = hop
        self.explain = explain
        self._more_tries: Tries | None = None
        self.moved_to: Lease | None = None
        self._back_until: float | None = None

    def run(self, race: HedgedSend | None = None) -> Answer:
        """Try backends until one answers; raises the EdgeError that the client is to be told.

        race: sends a try that is to be hedged (`Hedges.race`), and leaves the lease of the one that counts in `lease`.
        """
        service, policy, request = self.service, self.policy, self.request
        if policy.limiter is not None:
            policy.limiter.admit(request, self.started)
        if policy.affinity is not None:
            self.key, self.preferred, self.origin = policy.affinity.read(request)
        request.waiter = self
        if request.body is not None:
            self.replay = Replay(request.body, policy.retry.body_bytes)
        service.budget.deposit(self.started)
        lease = self._take_lease(self.started)
        if race is not None and not (policy.retry.hedge and self._may_hedge()):
            race = None
        while True:
            self.tries += 1
            self.lease = lease
            backend = self.backend = lease.backend
            outbound = self.under_way = self.make_outbound(lease)
            try:
                if race is None:
                    answer: Answer = backend.transport.send(outbound)
                else:
                    answer = race(self, lease, outbound)
                    lease = self.lease
                    self.backend = lease.backend
            except EdgeError as error:
                lease = self._lease_after(error)
                continue
            status = answer.counts_as
            if answer.complete and status not in policy.remarkable:
                self.answer, self.lease = answer, None
                change = lease.finish(monotonic(), status)
                self.latency_s = lease.latency_s
                if change or service.queue.waiters:
                    self.lease_ended(lease, change)
                return answer
            self.latency_s = lease.answered(monotonic(), status)
            if status in policy.retry.statuses:
                another = self._lease_instead_of(lease, answer)
                if another is not None:
                    answer.close()
                    self.end_lease(lease, "failed" if self.is_failure(answer) else "ok", answer)
                    lease = self._begin_anew(another, BadAnswer("The backend did not wait for the whole request."))
                    continue
            self.answer = answer
            return answer

    def make_outbound(self, lease: Lease) -> Outbound:
        """Make the request for a lease's backend: its own name may be the Host, so each try gets one of its own."""
        request = self.request
        if request.traceparent and (self.tries > 1 or request.span is not None):
            begin_try(request, lease)
        head, offered = head_for(lease.backend, request, self.request_id, self.hop), self.offered
        if offered is not None:
            head = with_offer(head, offered)
        repeatable = request.method in IDEMPOTENT and offered is None
        outbound = Outbound(request.method, head, self.replay, repeatable, lease)
        if request.body is not None:
            outbound.on_sent = self._request_sent
        if request.interim is not None:
            outbound.told = self
        if self._more_tries is not None or self.queue_s or self.first_byte_s is not None:
            outbound.deadline, outbound.first_byte_s = self._deadline, self.first_byte_s
        outbound.hasty, outbound.upgrade, outbound.started = request.hasty, offered is not None, self.started
        return outbound

    @property
    def trace_id(self) -> str | None:
        """The trace that the request belongs to, as its backend is told: 32 hexadecimal digits; None for none."""
        return trace_id_of(self.request)

    # ---- what its leases tell of it (`balancer.lease.Holder`) ----

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """What tells which other requests are like this one: its method and target."""
        return self.request.method, self.request.target

    @property
    def is_due(self) -> bool:
        """Whether the backend owes an answer: it has the whole request, and no conversation goes on about it.

        Who offers to switch protocols may wait for whatever the new one is about.
        """
        if self.offered is not None or self.request.expects_continue:
            return False
        return self.replay is None or self.replay.complete or self.replay.body.complete

    # ---- what comes while it waits ----

    def give_up(self, why: EdgeError) -> None:
        """The client left, or the edge stops: the backend need not go on (called in the hub, so nothing here may wait)."""
        self.request.waiter = None
        self.gone = why
        if self.under_way is not None and not (self.answer is not None and self.answer.complete):
            self.under_way.cancel(self.gone)

    def _request_sent(self) -> None:
        """The upload is out: the backend's latency counts from here, a slow client is not its fault."""
        if self.lease is not None:
            self.lease.sent(monotonic())

    def pass_interim(self, status: int, status_line: bytes, fields: AnswerFields) -> None:
        """Pass a 1xx on to the client."""
        assert self.request.interim is not None
        if self.lease is not None:
            self.lease.sent(monotonic())  # It is at work: from here on it is late anew.
        self.request.interim(status, status_line, fields.block)

    # ---- leases ----

    def _take_lease(self, now: float, tried: Sequence[Backend] = (), failed: EdgeError | None = None) -> Lease:
        """Take a lease; wait in the queue when all that could serve are full, or may soon be back. Raises NoBackend.

        failed: the try before it.
        """
        why = None
        if not self.service.queue.waiters:
            try:
                return self.take_lease_now(now, tried)
            except NoBackend as none:
                why = none
                self.service.clients_host = self.request.said.host
        policy, deadline, now = self.policy, self._deadline, monotonic()
        if self._back_until is None:
            self._back_until = now + policy.retry.wait_s
        room_until, back_until = min(now + policy.queue_s, deadline), min(self._back_until, deadline)
        waiting = self.under_way = WaitingGreenlet(self._take_as_waiter, tried, self.preferred, failed, room_until, back_until)
        try:
            return self.service.queue.wait(waiting, why)
        finally:
            self.under_way = None
            self.queue_s += waiting.queued_s

    def _take_as_waiter(self, now: float, tried: Sequence[Backend], session: str | None) -> Lease:
        self.preferred = session
        return self.take_lease_now(now, tried)

    def take_lease_now(self, now: float, tried: Sequence[Backend], kind: TryKind = "retry", must: bool = True) -> Lease:
        """Take a lease, or raise NoBackend at once (AllFull among them). kind: of a try after the first. must: see `Pool`."""
        if tried and self.trace is None:  # A request that is tried again is recorded from here on.
            self.trace = self.explain.begin_late_trace(kind, self.lease)
        lease = self.service.pool.lease(now, tried, self.key, self.preferred, self.trace, must, self.origin)
        lease.holder = self
        return lease

    def is_failure(self, answer: Answer) -> bool:
        """Whether an answer counts as a failure of its backend."""
        return answer.counts_as in self.policy.failures

    def end_lease(self, lease: Lease, outcome: Outcome, answer: Answer | None = None, error: EdgeError | None = None) -> None:
        """Close a lease, and have told what its breaker made of it. answer: what the backend answered, if it did."""
        if self.lease is lease:
            self.lease = None
        code = answer.counts_as if answer is not None else 0
        retry_after_s = retry_after(answer.fields) if answer is not None and outcome == "failed" else None
        now, reason = monotonic(), ""
        if outcome == "failed":
            reason = "status" if error is None else error.reason
            if (cell := REASON_CELLS.get(reason)) is not None:
                lease.backend.learned.add(cell)
            if self.trace is None:
                self.trace = self.explain.begin_late_trace("failed", lease)
        if lease.record is not None:
            lease.record.end(now, outcome, code, error)
        if self.tried is not None:
            self.tried = keep(self.tried, lease, outcome, code, reason)
        sent = error is None or error.sent
        self.lease_ended(lease, lease.close(now, outcome, retry_after_s, code, sent=sent))

    def lease_failed(self, lease: Lease, error: EdgeError) -> None:
        """Close a lease that ended with an error."""
        self.end_lease(lease, "failed" if error.blame == "backend" else "abandoned", error=error)
        if not error.sent and isinstance(error, BackendError):
            self.service.events.unreachable(lease.backend)

    def lease_ended(self, lease: Lease, change: BreakerChange | None) -> None:
        """Have told what a lease's end has changed, and its room given to somebody who waits."""
        service = self.service
        if change:
            service.events.breaker_changed(lease.backend, change)
        if service.queue.waiters:
            service.queue.serve()

    # ---- other tries ----

    @property
    def is_repeatable(self) -> bool:
        """Whether the request may be sent to another backend although one may have acted on it, or have begun a session."""
        return self.request.method in IDEMPOTENT and self.offered is None

    def _may_hedge(self) -> bool:
        """Whether it may be with two backends at once: not who waits for a 100, nor a sticky session, be it late."""
        return self.is_repeatable and not self.request.expects_continue and self.preferred is None

    @property
    def _deadline(self) -> float:
        """When the last answer has to begin, of all tries and the time in the queue together; not of a first try at once."""
        return self.started + self.policy.retry.deadline_s

    @property
    def more_tries(self) -> Tries:
        """The decision about more tries, made when the first is asked for: most requests need none."""
        if self._more_tries is None:
            retry, safe = self.policy.retry, self.request.method in SAFE
            self._more_tries = Tries(retry, self.service.budget, self.started, self.is_repeatable, self.backend, safe=safe)
        return self._more_tries

    def _lease_after(self, error: EdgeError) -> Lease:
        """Take a lease on a backend that was not tried after a try that failed; raises what the client is to hear of."""
        moved_to, self.moved_to = self.moved_to, None
        if moved_to is not None:
            return self._begin_anew(moved_to, error)
        if self.lease is not None:
            self.lease_failed(self.lease, error)
        now = monotonic()
        more_tries = self.more_tries
        if (
            error.blame != "backend"
            or (self.replay is not None and not self.replay.rewind())
            or not more_tries.again(now, sent=error.sent)
        ):
            raise error
        try:
            lease = self._take_lease(now, more_tries.tried, error)
        except NoBackend as none_left:
            more_tries.in_vain(now)
            if error.sent:
                raise error from None
            none_left.detail = f"{error.detail} No other backend is available ({none_left.detail})."
            raise
        self._note_try(lease, "retry", RETRIES)
        return lease

    def _begin_anew(self, lease: Lease, error: EdgeError) -> Lease:
        """Go back to the first byte of the request, for another try with this lease; raises `error`, or that the client left."""
        if self.gone is None and (self.replay is None or self.replay.rewind()):
            return lease
        self.end_lease(lease, "abandoned")
        raise self.gone or error

    def _lease_instead_of(self, lease: Lease, answer: Answer) -> Lease | None:
        """Take a lease for another try after an answer that may be bettered; None when it has to do."""
        now, more_tries = monotonic(), self.more_tries
        if self.replay is not None and not self.replay.can_rewind:
            return None
        if not more_tries.again_after(now, answer.counts_as, lambda: lease.is_hopeless(now), unacted=answer.unacted):
            return None
        return self.take_another(now, "retry", RETRIES)

    def take_another(self, now: float, kind: TryKind, cell: int, *, must: bool = True) -> Lease | None:
        """Take a lease for a try that `more_tries` has allowed; None, and the try given back, when there is no backend for it.

        cell: counts it. must: see `Pool`.
        """
        try:
            lease = self.take_lease_now(now, self.more_tries.tried, kind, must=must)
        except NoBackend:
            self.more_tries.in_vain(now)
            return None
        self._note_try(lease, kind, cell)
        return lease

    def _note_try(self, lease: Lease, kind: TryKind, cell: int) -> None:
        """Take note of a try after the first, which is about to begin."""
        self.more_tries.begun(lease.backend)
        lease.backend.learned.add(cell)
        lease.kind = kind
        if self.trace is not None:
            self.trace.because(kind)
        if lease.record is not None:
            lease.record.kind = kind
