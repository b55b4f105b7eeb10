"""The way to a backend that answers: a lease, the request, and when that fails, or takes too long, another try.

Nothing else is decided here: who is picked is the pool's affair, whether there may be another try `balancer.retry`'s, what the
bytes look like `headers`', how they travel `transport`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from smartedge.balancer.backend import Backend
from smartedge.balancer.breaker import BreakerChange
from smartedge.balancer.cells import HEDGES, RETRIES
from smartedge.balancer.errors import BackendError, BackendTimeout, ClientGone, EdgeError, NoBackend
from smartedge.balancer.pool import Lease, Outcome
from smartedge.balancer.retry import IDEMPOTENT, SAFE, Tries
from smartedge.balancer.trace import Trace
from smartedge.http.headers import AnswerFields, retry_after
from smartedge.http.request import Replay, Request
from smartedge.proxy.left import Left
from smartedge.proxy.outbound import Outbound, head_for
from smartedge.proxy.transport import Answer

if TYPE_CHECKING:
    from smartedge.proxy.affinity import Affinity
    from smartedge.proxy.forward import Forwarder
    from smartedge.proxy.hedge import Race
    from smartedge.proxy.queue import Waiter


class Attempts:
    """One client request's tries, until one of them has an answer.

    lease, backend, outbound, answer: of the try that counts. attempts: how many there were, hedges among them. latency_s: from
    the last byte of the request to the first of the answer. place: in the queue, while it waits there. queued: whether it was
    there. back_until: how long it waits for a backend that may come back. affinity: what found the
    request's key and the id of the backend that its sticky cookie names. first_byte_s: the longest wait for an answer's first
    byte, where its route has one of its own.
    """

    # Defaults of the class: setting them on every exchange would cost more than some of its steps.
    lease: Lease | None = None
    backend: Backend | None = None
    answer: Answer | None = None
    outbound: Outbound | None = None
    replay: Replay | None = None
    error: EdgeError | None = None
    race: Race | None = None
    place: Waiter | None = None
    queued = False
    back_until: float | None = None
    trace: Trace | None = None
    affinity: Affinity | None = None
    key = b""
    preferred: str | None = None
    first_byte_s: float | None = None
    attempts = 0
    hedges = 0
    status = 0
    latency_s: float | None = None
    _tries: Tries | None = None
    _moved_to: Lease | None = None

    def __init__(self, forwarder: Forwarder, request: Request) -> None:
        self._forwarder = forwarder
        self.service = service = forwarder.service
        self.policy = service.policy
        self.request = request
        said = request.fields.request_id
        self.request_id = said.decode("latin-1") if said is not None else forwarder.next_id()
        self.started = monotonic()

    # ---- to the backend ----

    def run(self) -> None:
        """Try backends until one answers; raises the EdgeError that the client is to be told."""
        service, policy, request = self.service, self.policy, self.request
        retry, remarkable = policy.retry, policy.remarkable
        if policy.limiter is not None:
            policy.limiter.admit(request, self.started)
        if policy.affinity is not None:
            self.affinity = policy.affinity
            self.key, self.preferred = policy.affinity.take(request)
        request.on_gone = self._client_left
        if request.body is not None:
            self.replay = Replay(request.body, retry.body_bytes)
        service.budget.deposit(self.started)
        if service.queue.places:
            lease = self._take(self.started)
        else:
            try:  # as `_take` does, without the way there
                lease = service.pool.lease(self.started, (), self.key, self.preferred, self.trace)
            except NoBackend as none:
                lease = service.queue.wait(self, (), none)
        self.lease = lease
        lease.holder = self
        hedges = service.hedges if retry.hedge and self._may_hedge() else None
        while True:
            self.attempts += 1
            backend = self.backend = lease.backend
            outbound = self.outbound = self.make_outbound(backend)
            try:
                if hedges is None:
                    answer: Answer = backend.transport.send(outbound)
                else:
                    answer = hedges.race(self, lease, outbound)
                    lease = self.lease
                    backend = self.backend = lease.backend
            except EdgeError as error:
                lease = self.lease = self._lease_after(error)
                continue
            status = answer.status_code
            if answer.complete and status not in remarkable:
                self.answer, self.status, self.lease = answer, status, None
                change = lease.finish(monotonic(), status)
                self.latency_s = lease.latency_s
                if change:
                    service.events.breaker_changed(backend, change)
                if service.queue.places:
                    service.queue.serve()
                return
            self.latency_s = lease.answered(monotonic(), status)
            if status in retry.statuses:
                another = self._lease_instead_of(lease, answer)
                if another is not None:
                    answer.close()
                    self.end_lease(lease, "failed" if self.is_failure(answer) else "ok", answer)
                    lease = self.lease = another
                    continue
            self.answer = answer
            self.status = status
            return

    def make_outbound(self, backend: Backend) -> Outbound:
        """Make the request for this backend: its own name may be the Host, so each try gets one of its own."""
        request = self.request
        body = request.body
        head = head_for(backend, request, self.request_id, self._forwarder.hop)
        outbound = Outbound(request.method, head, self.replay, request.method in IDEMPOTENT)
        if body is not None:
            outbound.on_sent = self._sent
        if request.interim is not None:
            outbound.on_interim = self.interim
        if self._tries is not None or self.queued or self.first_byte_s is not None:
            outbound.deadline, outbound.first_byte_s = self.deadline, self.first_byte_s
        outbound.hasty = request.hasty
        return outbound

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """What tells which other requests are like this one: its method and target."""
        return self.request.method, self.request.target

    @property
    def deadline(self) -> float:
        """When the last answer has to begin, of all tries and the time in the queue together; not of a first try at once."""
        return self.started + self.policy.retry.deadline_s

    def _sent(self) -> None:
        """The upload is out: the backend's latency counts from here, a slow client is not its fault."""
        if self.lease is not None:
            self.lease.sent(monotonic())

    def interim(self, status: int, status_line: bytes, fields: AnswerFields) -> None:
        """Pass a 1xx on to the client."""
        assert self.request.interim is not None
        if self.lease is not None:
            self.lease.sent(monotonic())  # It is at work: from here on it is late anew.
        self.request.interim(status, status_line, fields.block)

    # ---- leases ----

    def _take(self, now: float, tried: Sequence[Backend] = (), failed: EdgeError | None = None) -> Lease:
        """Take a lease; wait in the queue when all that could serve are full, or may soon be back. Raises NoBackend.

        failed: the try before it.
        """
        queue = self.service.queue
        why = None
        if not queue.places:
            try:
                return self.lease_now(now, tried)
            except NoBackend as none:
                why = none
        return queue.wait(self, tried, why, failed)

    def nudge(self, backend: Backend) -> None:
        """Have a backend probed soon that this request could use."""
        self._forwarder.clients_host = self.request.fields.host
        self.service.events.unreachable(backend)

    def lease_now(self, now: float, tried: Sequence[Backend], *, must: bool = True) -> Lease:
        """Take a lease, or raise NoBackend at once (AllFull among them). must: see `Pool.lease`."""
        trace = self._traced() if tried else self.trace
        return self.service.pool.lease(now, tried, self.key, self.preferred, trace, must=must)

    def is_failure(self, answer: Answer) -> bool:
        """Whether an answer counts as a failure of its backend."""
        return answer.status_code in self.policy.failures

    def _traced(self) -> Trace | None:
        """Give the trace of a request that is tried again: if it was not recorded so far, it is from here on."""
        if self.trace is None:
            self.trace = self._forwarder.explain.late("retry" if self.race is None else "hedge", self.lease)
        return self.trace

    def end_lease(self, lease: Lease, outcome: Outcome, answer: Answer | None = None, error: EdgeError | None = None) -> None:
        """Close a lease, and have told what its breaker made of it. answer: what the backend answered, if it did."""
        if self.lease is lease:
            self.lease = None
        code = answer.status_code if answer is not None else 0
        retry_after_s = retry_after(answer.fields) if answer is not None and outcome == "failed" else None
        now = monotonic()
        if self.trace is None and outcome == "failed":
            self.trace = self._forwarder.explain.late("failed", lease)
        if self.trace is not None:
            self.trace.ended(lease, now, outcome, code, error)
        sent = error is None or error.sent
        self._lease_ended(lease, lease.close(now, outcome, retry_after_s, code, sent=sent))

    def lease_failed(self, lease: Lease, error: EdgeError) -> None:
        """Close a lease that ended with an error."""
        self.end_lease(lease, "failed" if error.blame == "backend" else "abandoned", error=error)
        if not error.sent and isinstance(error, BackendError):
            self.service.events.unreachable(lease.backend)

    def outrun(self, lease: Lease) -> None:
        """Close a lease without an answer because a try that was begun after it has one."""
        if self.lease is lease:
            self.lease = None
        now = monotonic()
        if self.trace is not None:
            self.trace.ended(lease, now, "outrun")
        self._lease_ended(lease, lease.outrun(now))

    def _lease_ended(self, lease: Lease, change: BreakerChange | None) -> None:
        service = self.service
        if change:
            service.events.breaker_changed(lease.backend, change)
        if service.queue.places:
            service.queue.serve()

    # ---- trying again ----

    def _repeatable(self) -> bool:
        """Whether the request may be sent to another backend although one may have acted on it."""
        return self.request.method in IDEMPOTENT

    def _may_hedge(self) -> bool:
        """Whether it may be with two backends at once.

        One who waits for a 100 has one conversation; and a sticky session's backend being late is no reason to leave it.
        """
        return self._repeatable() and not self.request.expects_continue and self.preferred is None

    @property
    def tries(self) -> Tries:
        """The decision about more tries, made when the first is asked for."""
        if self._tries is None:
            safe = self.request.method in SAFE
            self._tries = Tries(self.policy.retry, self.service.budget, self.started, self._repeatable(), self.backend, safe=safe)
        return self._tries

    def _lease_after(self, error: EdgeError) -> Lease:
        """Take a lease on a backend that was not tried after a try that failed; raises what the client is to hear of."""
        moved_to, self._moved_to = self._moved_to, None
        if moved_to is not None:
            if self.error is None and (self.replay is None or self.replay.rewind()):
                return moved_to
            self.end_lease(moved_to, "abandoned")
            raise self.error or error
        if self.lease is not None:
            self.lease_failed(self.lease, error)
        now = monotonic()
        tries = self.tries
        if (
            error.blame != "backend"
            or (self.replay is not None and not self.replay.rewind())
            or not tries.again(now, sent=error.sent)
        ):
            raise error
        try:
            lease = self._take(now, tries.tried, error)
        except NoBackend as none_left:
            tries.in_vain(now)
            if error.sent:
                raise error from None
            none_left.detail = f"{error.detail} No other backend is available ({none_left.detail})."
            raise
        self._begun(lease, RETRIES)
        return lease

    def _lease_instead_of(self, lease: Lease, answer: Answer) -> Lease | None:
        """Take a lease for another try after an answer that may be bettered; None when it has to do."""
        now = monotonic()
        tries = self.tries
        if self.replay is not None and not self.replay.rewind():
            return None
        if not tries.again_after(now, answer.status_code, lambda: lease.is_hopeless(now)):
            return None
        try:
            another = self.lease_now(now, tries.tried)
        except NoBackend:
            tries.in_vain(now)
            return None
        self._begun(another, RETRIES)
        return another

    def lease_for_hedge(self, now: float) -> Lease | None:
        """Take a lease for a try beside those under way, if there may be one."""
        tries = self.tries
        if not tries.hedge(now):
            return None
        try:
            lease = self.lease_now(now, tries.tried, must=False)
        except NoBackend:
            tries.in_vain(now)
            return None
        self.attempts += 1
        self.hedges += 1
        self._begun(lease, HEDGES)
        return lease

    def _begun(self, lease: Lease, counter: int) -> None:
        assert self._tries is not None
        lease.holder = self
        self._tries.begun(lease.backend)
        lease.backend.learned.add(counter)
        if self.trace is not None:
            self.trace.began(lease, "retry" if counter == RETRIES else "hedge")

    # ---- from outside ----

    @property
    def is_due(self) -> bool:
        """Whether the backend owes an answer: it has the whole request, and no conversation goes on about it."""
        return not self.request.expects_continue and (self.replay is None or self.replay.complete or self.replay.body.complete)

    def move(self, lease: Lease) -> None:
        """Go on with another backend, if that may be: this one leaves unanswered what others answer.

        A sticky session stays, and a race looks after itself. What waits for its own connection, or for its client, is not at
        the backend yet. The try is left waiting (`left`): that it is answered after all shows that its backend is back.
        """
        connection = self.outbound.connection if self.outbound is not None else None
        if lease is not self.lease or connection is None or self.race is not None or connection.wire.closed:
            return
        if self.preferred == lease.backend.id or (self.replay is not None and self.replay.twin() is None):
            return
        now = monotonic()
        tries = self.tries
        if not tries.may_follow(now) or not tries.again(now, sent=True):
            return
        try:
            another = self.lease_now(now, tries.tried, must=False)
        except NoBackend:
            tries.in_vain(now)
            return
        if self.trace is not None:
            self.trace.ended(lease, now, "overdue")
        self._begun(another, RETRIES)
        self._moved_to = another
        self.lease = None
        if self.service.may_leave(lease.backend):
            lease.left = True
            patience_s = lease.sent_at + lease.backend.transport.adapter.limits.first_byte_s - now
            Left(lease, connection.wire, patience_s, self._left_ended)
        else:
            self._lease_ended(lease, lease.close(now, "abandoned"))
        connection.failure = BackendTimeout("The backend leaves unanswered what others answer.")
        connection.wire.close()

    def _left_ended(self, lease: Lease, outcome: Outcome) -> None:
        now = monotonic()
        if outcome == "ok":
            lease.answered(now)
            outcome = "abandoned"  # nobody reads it
        self._lease_ended(lease, lease.close(now, outcome))

    def _client_left(self) -> None:
        """The client closed its connection: the backend need not go on (called in the hub, so nothing here may wait)."""
        self.request.on_gone = None
        self.error = gone = ClientGone("The client left before its answer was complete.")
        if self.race is not None:
            self.race.break_off(gone)
            return
        if self.place is not None:
            self.place.leave(gone)
            return
        connection = self.outbound.connection if self.outbound is not None else None
        if connection is not None and not (self.answer is not None and self.answer.complete):
            connection.failure = gone
            connection.wire.close()
