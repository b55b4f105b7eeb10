"""A client's request and its tries, as the modelled edge and the machines see them."""

from __future__ import annotations

from smartedge.balancer.errors import BackendTimeout, EdgeError
from smartedge.balancer.pool import Lease
from smartedge.balancer.retry import Tries
from smartedge.simulator.draws import Arrival
from smartedge.simulator.geography import Client

KEPT_SILENT = BackendTimeout("The backend kept silent for too long.")


class ClientRequest:
    """One client's request; made by Forwarding for each arrival.

    client: who sent it, and to which edge. open: its tries that are under way, oldest first. race: number of the latest one
    that was not a hedge, after the first. fallback: a lease whose answer is a failure, and its status, if there will be no
    better one. error: of the last try to break. since: when the first one did, and a backend that may come back is waited for.
    """

    __slots__ = ("arrival", "at", "client", "error", "fallback", "open", "race", "since", "tries")

    def __init__(self, client: Client, arrival: Arrival, at: float) -> None:
        self.client = client
        self.arrival = arrival
        self.at = at
        self.open: list[Try] = []
        self.race = 0
        self.since: float | None = None
        self.tries: Tries | None = None
        self.fallback: tuple[Lease, int] | None = None
        self.error: EdgeError = KEPT_SILENT

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """What tells which other requests are like this one: its method and target."""
        return self.arrival.kind


class Try:
    """One try of a request, which a Machine works on; made by Forwarding, the holder of its lease.

    work, luck, slowness, key: what is in it (see `Arrival`). farther_s: of the way to another zone. over: nobody waits for its
    answer any more; the machine does not know, and works on.
    """

    __slots__ = ("farther_s", "key", "lease", "luck", "over", "request", "slowness", "work")

    def __init__(self, request: ClientRequest, lease: Lease, work: float, luck: float, farther_s: float) -> None:
        self.farther_s = farther_s
        self.request = request
        self.lease = lease
        self.work = work
        self.luck = luck
        self.key = request.arrival.key
        self.slowness = request.arrival.slowness
        self.over = False
        lease.holder = self

    @property
    def kind(self) -> tuple[bytes, bytes]:
        """Method and target of its request (see `Lease`)."""
        return self.request.arrival.kind

    is_due = True
    """Whether the backend owes an answer (see `Lease`): always, as the machine has the whole request at once."""
