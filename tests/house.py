"""The one place where tests make a request, a backend, a pool, a forwarder and an edge that is served in the test's process.

What these are given from outside (clocks, transports, listeners) is in fakes.py, the other end of a socket in peers.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import gevent
import gevent.socket

from smartedge.app import SmartEdge
from smartedge.balancer.backend import Backend
from smartedge.balancer.candidates import Panic
from smartedge.balancer.cells import IN_FLIGHT, STATE, BackendRows, Row, private_row
from smartedge.balancer.errors import ClientGone
from smartedge.balancer.hedge_delay import HedgeDelay
from smartedge.balancer.learned import Learned
from smartedge.balancer.pool import Pool
from smartedge.balancer.retry import RetryPolicy
from smartedge.balancer.spec import STATES, State
from smartedge.balancer.strategies.menu import RoundRobin, Strategy
from smartedge.config.model import parse
from smartedge.edge.announce import Announcer
from smartedge.edge.backends import BackendRegistry
from smartedge.edge.edge import Edge
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.setup import SetupBuilder
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.observe.events import EventLog
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.forward import Forwarder
from smartedge.proxy.outbound import Hop
from smartedge.proxy.service import Service, ServicePolicy
from smartedge.server.server import EdgeServer
from smartedge.workers.shared_secret import Secret
from tests.fakes import Events, FakeAnswer, FakeTransport
from tests.policies import backend_spec, health_policy, retry_policy

HOST = b"Host: h\r\n"
OFTEN = health_policy(interval_s=0.02, timeout_s=5.0)


def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Let greenlets run until this is so."""
    with gevent.Timeout(timeout_s, AssertionError("it did not come about")):
        while not condition():
            gevent.sleep(0.002)


def request(
    method: bytes = b"GET",
    target: bytes = b"/",
    fields: bytes = b"",
    *,
    block: bytes = HOST,
    body: Any = None,
    peer: bytes = b"1.2.3.4",
    secure: bool = False,
) -> Request:
    """A request as a server reads it. fields: lines beside those of the block."""
    made = Request(method, target, 11, block + fields, RequestFields(block + fields), peer, secure)
    made.body = body
    return made


def said(fields: Any) -> dict[str, object]:
    """Give all that fields say. By `dir`: what is compiled has no `__slots__`."""
    values = {name: getattr(fields, name) for name in dir(fields) if not name.startswith("__") and name != "onward"}
    return {name: value for name, value in values.items() if not callable(value)}


def request_for(
    target: str = "/", host: str | None = "shop.example", method: str = "GET", peer: str = "192.0.2.1", **headers: str
) -> Request:
    """A request written in text, as routes have it; X_A=... is the field X-A."""
    fields = {} if host is None else {"Host": host}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    block = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
    return request(method.encode(), target.encode("latin-1"), block=block, peer=peer.encode())


def backend(name: str, weight: int = 1, *, probed: bool | None = True, transport: Any = None, **spec: Any) -> Backend:
    """A backend that its probes call healthy (or not, or that was never probed: None)."""
    made = backend_spec(**{"id": name, "url": f"http://{name}:80", "weight": weight} | spec)
    learned = Learned(made)
    if probed is not None:
        learned.health.probed(probed)
    return Backend(made, learned, transport)


def member(url: str = "http://a", label: str = "a", **spec: Any) -> Backend:
    """A backend that nobody has probed yet, and that is to be probed often."""
    return backend(label, probed=None, **{"url": url, "health": OFTEN} | spec)


def backends(*weights: int) -> tuple[Backend, ...]:
    """Healthy backends a, b, c, ... with these weights; past z they are called n26, n27, ..."""
    return tuple(backend(chr(97 + i) if i < 26 else f"n{i}", weight) for i, weight in enumerate(weights))


def pool(members: Sequence[Backend], strategy: Strategy | None = None, panic: Panic = "all") -> Pool:
    """A pool with a seeded source of chance."""
    return Pool(members, strategy or RoundRobin(), Random(7), panic)


def move(learned: Learned, own: Row, *others: Row, shared: Row | None = None) -> None:
    """Have a worker go on in these rows of the board, beside those of other workers."""
    everyone = (own[0], *(other[0] for other in others))
    learned.move_to(BackendRows(own, everyone, shared or private_row()))


def names(members: Sequence[Backend]) -> str:
    """The backends' names in one string."""
    return " ".join(member.id for member in members)


def set_state(one: Backend, wanted: State) -> None:
    """What the operator wants of a backend, said without a pool."""
    one.learned.shared[STATE] = STATES.index(wanted)


def policy_of(retry: RetryPolicy | None = None, **changes: Any) -> ServicePolicy:
    """The policy of a service that has nothing but retries, with these changes."""
    usual: dict[str, Any] = {
        "failures": frozenset(range(500, 600)),
        "idle_s": 60.0,
        "tunnel_idle_s": 3600.0,
        "queue": 0,
        "queue_s": 1.0,
        "affinity": None,
        "limiter": None,
    }
    return ServicePolicy(retry or retry_policy(), **(usual | changes))


class Told:
    """An Announcer, and what it has written down. wall: Unix time, which a test may set."""

    def __init__(self) -> None:
        self.wall = 1.75e9
        self.events = EventLog(Learned(), Random(1), wall=self.time)
        self.announcer = Announcer(self.events)

    def time(self) -> float:
        """The Unix time that it is."""
        return self.wall

    def all(self) -> list[dict[str, Any]]:
        """What has been told, oldest first."""
        return [document for document, _ in self.events.after({})]

    def kinds(self) -> list[str]:
        """What of that there was."""
        return [document["kind"] for document in self.all()]


class House:
    """A forwarder, a service and what it stands on: a healthy backend for each transport, called a, b, c and asked in turn.

    A list in place of a transport is what that backend does, request after request (FakeTransport).
    """

    def __init__(self, *transports: Any, policy: RetryPolicy | ServicePolicy | None = None, **spec: Any) -> None:
        self.transports: list[Any] = [FakeTransport(*one) if isinstance(one, list) else one for one in transports]
        self.backends = [backend(name, transport=one, **spec) for name, one in zip("abc", self.transports, strict=False)]
        for one, transport in zip(self.backends, self.transports, strict=True):
            transport.netloc = one.url.removeprefix("http://").encode()
        self.pool = pool(self.backends)
        self.edge_row = Learned()
        self.events = Events()
        whole = policy if isinstance(policy, ServicePolicy) else policy_of(policy)
        self.service = Service("default", self.pool, whole, self.events)
        hop = Hop(b"smartedge", None, forwarded_header=False)
        self.forwarder = Forwarder(self.service, hop, self.edge_row, lambda: "made-id")
        self.logged: list[Exchange] = []
        self.forwarder.log = self.logged.append
        self.requests: list[Request] = []

    def ask(self, method: bytes = b"GET", body: Any = None, **more: Any) -> Exchange:
        """Forward a request, and wait until its answer begins; see `request`."""
        return self.forwarder.forward(request(method, body=body, **more))

    def begin(self, method: bytes = b"GET", body: Any = None, **more: Any) -> Any:
        """Begin to forward a request; the greenlet gives its exchange."""
        self.requests.append(request(method, body=body, **more))
        greenlet = gevent.spawn(self.forwarder.forward, self.requests[-1])
        gevent.sleep(0)
        gevent.sleep(0)
        return greenlet

    def ask_outrun(self) -> Exchange:
        """Ask of two held transports: the second one, a hedge after 10 ms, answers first; give the exchange, which has ended."""
        self.pool.evidence.kinds.find(b"GET", b"/", make=True).hedge = hedge = HedgeDelay()
        hedge.after_s = 0.01
        with gevent.Timeout(20):
            greenlet = self.begin()
            self.until(1, 1)
            self.transports[1].end(FakeAnswer(200, b"quick"))
            exchange: Exchange = greenlet.get()
        served(exchange)
        return exchange

    def leave(self, number: int = -1) -> None:
        """Have the client of the request begun so many others before leave."""
        waiter = self.requests[number].waiter
        assert waiter is not None
        gevent.get_hub().loop.run_callback(waiter.give_up, ClientGone())

    def asked(self) -> list[int]:
        """How many requests have come to a, b, c."""
        return [len(transport.sent) for transport in self.transports]

    def until(self, *asked: int) -> None:
        """Wait until so many requests have come to a, b, c."""
        until(lambda: self.asked() == list(asked))

    def counted(self, cell: int) -> list[int]:
        """What has been counted of a, b, c."""
        return [one.learned.cells[cell] for one in self.backends]

    def edge_counted(self, cell: int) -> int:
        """What the edge has counted of itself."""
        return self.edge_row.cells[cell]

    def pool_counted(self, cell: int) -> int:
        """What has been counted of the service as a whole."""
        return self.pool.row.cells[cell]

    def settled(self) -> bool:
        """Whether every lease has come back."""
        return not any(self.counted(IN_FLIGHT))


def setup_builder(
    origin: ConfigOrigin, clock: Callable[[], float] = monotonic, secret: bytes | None = b"a secret of 16 bytes"
) -> SetupBuilder:
    """What builds the setups of a worker that has no place among others. secret: the operator's, of sticky cookies."""
    return SetupBuilder(origin, BackendRegistry(Learned(), Random(7)), Learned(), Secret(secret), clock)


def served(exchange: Exchange) -> tuple[int, bytes]:
    """Answer through WSGI as a foreign server does; status and body. What is for nobody breaks its connection off."""
    heads: list[str] = []
    try:
        result = exchange({}, lambda status, _fields: heads.append(status))
    except ConnectionResetError:
        assert exchange.is_for_nobody
        assert heads == []
        return exchange.status, b""
    try:
        body = b"".join(result)
    finally:
        exchange.close()
    return int(heads[0][:3]), body


class Served:
    """An edge behind our own server, whose backends are taken for healthy; `logged` holds the exchanges that have ended.

    path: of the file that its configuration is written to, None for an edge without one.
    """

    def __init__(
        self, *urls: str, ssl_context: Any = None, token: str | None = None, path: Path | None = None, **settings: Any
    ) -> None:
        text = json.dumps({"backends": list(urls), **settings}, indent=1)
        if path is not None:
            path.write_text(text)
        self.edge = Edge(parse(text), config_path=None if path is None else str(path), token=token)
        self.edge.began = True
        for one in self.edge.pool.backends:
            one.learned.health.probed(True)
        self.logged: list[Any] = []
        self.edge.forwarder.log = self.logged.append
        self.app = SmartEdge(self.edge)
        self.server = EdgeServer(("127.0.0.1", 0), self.app, ssl_context=ssl_context)
        self.server.start()

    def client(self) -> Any:
        """A connection to it."""
        sock = gevent.socket.create_connection(("127.0.0.1", self.server.server_port))
        sock.settimeout(10)
        return sock

    @property
    def backend(self) -> Backend:
        """The only backend."""
        (only,) = self.edge.pool.backends
        return only

    def counted(self, cell: int) -> float:
        """What has been counted of the only backend."""
        return self.backend.learned.totals()[cell]

    def ended(self, count: int = 1) -> list[Any]:
        """The exchanges that have ended, when there are so many."""
        until(lambda: len(self.logged) >= count, 10)
        return self.logged


@contextlib.contextmanager
def running(*urls: str, **more: Any) -> Iterator[Served]:
    """An edge in front of these URLs: no probes, no other process. more: of Served, or keys of the configuration."""
    made = Served(*urls, **more)
    try:
        yield made
    finally:
        made.server.stop_gracefully(0)
