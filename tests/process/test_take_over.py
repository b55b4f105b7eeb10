"""Listeners of gunicorn's gevent worker that our server serves: its real worker, parser and response, in this process."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from sys import maxsize
from typing import Any

import gevent
import gevent.socket
import gevent.ssl
import pytest
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.config import Config as GunicornConfig
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

from smartedge.app import SmartEdge
from smartedge.config.model import parse
from smartedge.edge.edge import Edge
from smartedge.http.resources import HOLDERS
from smartedge.process import worker_server
from smartedge.process.take_over import is_plain_gevent, replace_servers, stricter
from smartedge.server.front import ServerLimits
from smartedge.server.server import EdgeServer
from tests.certificates import Authority
from tests.house import until
from tests.live.wire import Answer, CutOffError, Stream, read_answer, read_request
from tests.peers import backend, head_of
from tests.refused import BAD_CHUNKS, CHUNKED, NEXT, POST, REFUSED, UNKNOWN

GET = b"GET / HTTP/1.1\r\nHost: edge.test\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nServer: theirs\r\nContent-Length: 5\r\n\r\nhello"


class Gunicorn:
    """A gevent worker of gunicorn's that serves an edge; own: it is served by our own server.

    path: of a unix socket. document: keys of the configuration. change: what is done before it serves. more: gunicorn's settings.
    """

    def __init__(
        self,
        url: str,
        path: Path | None = None,
        document: dict[str, Any] | None = None,
        own: bool = False,
        change: Callable[[Gunicorn], None] = lambda _: None,
        **more: Any,
    ) -> None:
        self.edge = Edge(parse(json.dumps({"backends": [url], **(document or {})})))
        self.edge.began = True
        for one in self.edge.pool.backends:
            one.learned.health.probed(True)
        self.logged: list[Any] = []
        self.edge.forwarder.log = self.logged.append
        self.app = SmartEdge(self.edge)
        cfg = GunicornConfig()
        for name, value in {"loglevel": "critical", **more}.items():
            cfg.set(name, value)
        listener = gevent.socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        listener.bind(str(path) if path else ("127.0.0.1", 0))
        listener.listen()
        self.address = listener.getsockname()
        self.worker = GeventWorker(0, os.getppid(), [listener], None, 30, cfg, cfg.logger_class(cfg))
        self.worker.wsgi = self.app
        change(self)
        if own:
            self.server: Any = EdgeServer(listener, self.app)
            self.server.start()
            return
        tls = {"ssl_context": ssl_context(cfg)} if cfg.is_ssl else {}
        handle = partial(self.worker.handle, listener)
        servers: list[Any] = [StreamServer(listener, handle, spawn=Pool(cfg.worker_connections), **tls)]
        servers[0].start()
        if self.worker.wsgi is self.app and is_plain_gevent(self.worker):  # as `take_over` asks, which finds both on the stack
            replace_servers(servers, self.worker, self.app)
        [self.server] = servers

    def begin_stop(self) -> None:
        """Do what gunicorn does a second at most after SIGTERM, and after the last request of `--max-requests`."""
        self.worker.alive = False
        self.server.close()

    @contextlib.contextmanager
    def client(self, *raws: bytes) -> Iterator[Stream]:
        """A connection to it, on which these have been sent."""
        sock = gevent.socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        sock.settimeout(20)
        with contextlib.closing(sock):
            sock.connect(self.address)
            for raw in raws:
                sock.sendall(raw)
            yield Stream(sock)


@contextlib.contextmanager
def serving(play: Any = None, **more: Any) -> Iterator[Gunicorn]:
    """The worker in front of a backend that plays this on each connection, else says hello to every request."""
    with backend(play or says_hello) as url:
        made = Gunicorn(url, **more)
        try:
            yield made
            until(lambda: made.edge.pool.backends[0].in_flight() == 0, 20)
        finally:
            made.worker.alive = False
            made.server.stop(timeout=0)
            made.worker.tmp.close()


def says_hello(sock: Any, _number: int) -> None:
    stream = Stream(sock)
    while read_request(stream):
        sock.sendall(HELLO)


def echoes(sock: Any, _number: int) -> None:
    stream = Stream(sock)
    while seen := read_request(stream):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(seen.raw), seen.raw))


SEEN: list[bytearray] = []
"""What came to the backend of `shared` on each connection since it was cleared."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Gunicorn]:
    def play(sock: Any, _number: int) -> None:
        stream = Stream(sock)
        SEEN.append(stream.buffer)
        while stream.fill():
            if bytes(stream.buffer[:7]) == b"GET / H":
                stream.take(len(stream.buffer))
                sock.sendall(HELLO)

    with serving(play) as made:
        yield made


# ---- what is served ----


def test_our_server_reads_every_request_and_answers_it() -> None:
    with serving(echoes) as edge, edge.client() as client:
        for _ in range(3):
            client.sock.sendall(b"GET /1 HTTP/1.1\r\nHost: h\r\nx-cAsE: 1\r\nx_y: 1\r\n\r\n")  # type: ignore[union-attr]
            answer = read_answer(client)
            assert (answer.get(b"server"), answer.get(b"via")) == (None, b"1.1 smartedge")
            assert b"x-cAsE: 1\r\nx_y: 1\r\n" in answer.body
        assert edge.worker.nr == 0  # gunicorn has seen none


def test_requests_that_have_come_together_are_answered_in_order_and_once() -> None:
    with (
        serving(echoes) as edge,
        edge.client(b"".join(POST.replace(b"/", b"/%d" % i, 1) + b"Content-Length: 1\r\n\r\n%d" % i for i in range(9))) as client,
    ):
        for i in range(9):
            answer = read_answer(client)
            assert answer.body.startswith(b"POST /%d " % i)
            assert answer.body.endswith(b"\r\n\r\n%d" % i)
        assert len(edge.logged) == 9


def test_bodies_are_read_to_their_ends_with_their_trailers() -> None:
    with serving(echoes) as edge:
        with edge.client(POST + b"Content-Length: 300000\r\n\r\n" + b"a") as client:
            client.sock.sendall(b"a" * 299_999 + GET)  # type: ignore[union-attr]
            assert read_answer(client).body.endswith(b"\r\n\r\n" + b"a" * 300_000)
            assert read_answer(client).body.startswith(b"GET / ")
        chunked = POST + b"Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        with edge.client(chunked + b"3\r\nabc\r\n", b"0\r\nX-Sum: 1\r\n\r\n", GET) as client:
            assert read_answer(client).body.endswith(b"0\r\nX-Sum: 1\r\n\r\n")
            assert read_answer(client).body.startswith(b"GET / ")


@pytest.mark.parametrize("behind", [b"", GET], ids=["first", "second"])
def test_a_body_that_nobody_has_read_ends_the_connection(behind: bytes) -> None:
    def play(sock: Any, _number: int) -> None:
        while (head := head_of(sock)).startswith(b"GET"):
            sock.sendall(HELLO)
        if head:
            sock.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with serving(play) as edge, edge.client(behind + POST + b"Content-Length: 200000\r\n\r\n" + NEXT) as client:
        if behind:
            assert read_answer(client).status == 200
        answer = read_answer(client)
        assert (answer.status, answer.get(b"connection")) == (413, b"close")
        client.sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        assert client.rest() == b""
        assert len(edge.logged) == 1 + bool(behind)


@pytest.mark.parametrize("behind", [b"", GET], ids=["first", "second"])
@pytest.mark.parametrize("raw", [*REFUSED.values(), *UNKNOWN.values()], ids=[*REFUSED, *UNKNOWN])
def test_what_is_not_http_is_refused_as_by_our_own_server(shared: Gunicorn, raw: bytes, behind: bytes) -> None:
    SEEN.clear()
    with shared.client(behind + raw) as client:
        if behind:
            assert read_answer(client).status == 200
        client.sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        answer = read_answer(client)
        assert answer.status in (400, 414, 501)
        assert answer.get(b"connection") == b"close"
        assert answer.get(b"content-type") == b"application/problem+json"
        assert client.rest() == b""
    assert [data for data in SEEN if data] == []


@pytest.mark.parametrize("behind", [b"", GET], ids=["first", "second"])
@pytest.mark.parametrize("raw", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_chunked_body_that_is_none_is_refused_with_all_behind_it(shared: Gunicorn, raw: bytes, behind: bytes) -> None:
    SEEN.clear()
    with shared.client(behind + CHUNKED + raw + NEXT) as client:
        if behind:
            assert read_answer(client).status == 200
        client.sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        received = client.rest()
    assert re.match(rb"HTTP/1\.1 (400|413|431) ", received)
    assert received.count(b"HTTP/1.1 ") == 1
    for data in filter(None, SEEN):
        assert b"smuggled" not in data
        with pytest.raises(CutOffError):
            read_request(Stream(None, bytes(data)))


def test_a_client_that_leaves_while_it_waits_is_noticed_at_once() -> None:
    came = gevent.event.Event()
    left = gevent.event.Event()

    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        came.set()
        if not sock.recv(1):
            left.set()

    with serving(play) as edge:
        with edge.client(GET) as client:
            assert came.wait(20)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # type: ignore[union-attr]
        assert left.wait(20)
        until(lambda: edge.logged, 20)
        assert edge.logged[0].status == 499


def test_our_own_pages_are_answered_on_such_a_connection() -> None:
    with serving() as edge, edge.client(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2) as client:
        for _ in range(2):
            assert json.loads(read_answer(client).body)["status"] == "ok"


def test_clients_may_speak_http2_at_once_where_the_configuration_says_so() -> None:
    hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and no settings
    with serving(document={"h2c": True}) as edge, edge.client(hello) as client:
        client.fill()
        assert client.buffer[3] == 4  # its own SETTINGS (RFC 9113 section 6.5)


def test_a_unix_socket_is_taken_over_like_any_other(tmp_path: Path) -> None:
    with serving(echoes, path=tmp_path / "sock") as edge, edge.client(GET, GET) as client:
        for _ in range(2):
            assert b"X-Forwarded-For: unix\r\n" in read_answer(client).body


@pytest.mark.parametrize("take_over", [True, False])
def test_a_listener_with_tls_of_gunicorns_is_taken_over_like_any_other(tmp_path: Path, take_over: bool) -> None:
    """`--certfile` and `--keyfile`: hands are shaken by gunicorn's own context."""
    authority = Authority()
    pem = authority.sign(tmp_path / "edge.pem", "edge.test")

    def context(_cfg: object, _default: object) -> gevent.ssl.SSLContext:  # as gunicorn makes it where gevent has patched ssl
        made = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(pem)
        return made

    trusting = gevent.ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(cadata=authority.pem.decode())
    settings = {"certfile": pem, "keyfile": pem, "ssl_context": context, "document": {"take_over": take_over}}
    with (
        serving(echoes, **settings) as edge,
        edge.client() as plain,
        contextlib.closing(trusting.wrap_socket(plain.sock, server_hostname="edge.test")) as sock,
    ):
        client = Stream(sock)
        for body in (b"a", b"b" * 300_000):
            sock.sendall(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            answer = read_answer(client)
            assert answer.body.endswith(b"\r\n\r\n" + body)
            assert b"X-Forwarded-Proto: https\r\n" in answer.body
            assert answer.get(b"server") == (None if take_over else b"gunicorn")


def test_gunicorn_reads_the_proxy_protocol_and_the_address_holds_for_all_requests() -> None:
    with (
        serving(echoes, proxy_protocol="v1", proxy_allow_ips="127.0.0.1") as edge,
        edge.client(b"PROXY TCP4 203.0.113.9 10.0.0.1 1000 80\r\n" + GET, GET) as client,
    ):
        for _ in range(2):
            assert b"X-Forwarded-For: 203.0.113.9\r\n" in read_answer(client).body


def test_whose_word_counts_for_https_is_ours_to_say_from_the_first_request_on() -> None:
    """gunicorn believes 127.0.0.1, whatever `trusted_proxies` says."""
    with serving(echoes) as edge, edge.client(GET.replace(b"\r\n\r\n", b"\r\nX-Forwarded-Proto: https\r\n\r\n") * 2) as client:
        for _ in range(2):
            assert b"X-Forwarded-Proto: http\r\n" in read_answer(client).body


def test_a_request_that_switches_becomes_a_tunnel_with_what_came_behind_it() -> None:
    def play(sock: Any, _number: int) -> None:
        stream = Stream(sock)
        while seen := read_request(stream):
            if seen.get(b"upgrade") is None:
                sock.sendall(HELLO)
                continue
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n")
            sock.sendall(stream.rest()[::-1])
            return

    asks = GET.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: own\r\n\r\n")
    with serving(play) as edge:
        for behind in (b"", GET):
            with edge.client(behind + asks + b"early", b" and late") as client:
                if behind:
                    assert read_answer(client).status == 200
                assert read_answer(client).status == 101
                client.sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
                assert client.rest() == b"etal dna ylrae"


# ---- what stays gunicorn's ----


class OtherWorker(GeventWorker):  # type: ignore[misc]
    """Somebody's own."""


def somebodys_hook(_worker: object, _request: object) -> None:
    """What is to see every request."""


def wrapped(edge: Gunicorn) -> None:
    edge.worker.wsgi = lambda environ, start_response: edge.app(environ, start_response)


def wrapped_inside(edge: Gunicorn) -> None:
    inner = edge.app.wsgi_app
    edge.app.wsgi_app = lambda environ, start_response: inner(environ, start_response)  # type: ignore[method-assign]


def hooked(edge: Gunicorn) -> None:
    edge.app.before_request(lambda: None)


def of_another_class(edge: Gunicorn) -> None:
    edge.worker.__class__ = OtherWorker


def left_to_it(edge: Gunicorn) -> None:
    """Nothing is changed."""


@pytest.mark.parametrize(
    ("change", "more"),
    [
        (wrapped, {}),
        (wrapped_inside, {}),
        (hooked, {}),
        (of_another_class, {}),
        (left_to_it, {"document": {"take_over": False}}),
        (left_to_it, {"accesslog": os.devnull}),
        (left_to_it, {"statsd_host": "127.0.0.1:9"}),
        (left_to_it, {"keepalive": 0}),
        (left_to_it, {"pre_request": somebodys_hook}),
        (left_to_it, {"proxy_protocol": "auto"}),
        (left_to_it, {"http_protocols": "h2,h1"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else ",".join(value),
)
def test_a_connection_stays_gunicorns_where_somebody_would_miss_its_loop(change: Any, more: Any) -> None:
    with serving(change=change, **more) as edge, edge.client(GET) as client:
        assert read_answer(client).get(b"server") == b"gunicorn"
        if more.get("keepalive") != 0:
            client.sock.sendall(GET)  # type: ignore[union-attr]
            assert read_answer(client).get(b"server") == b"gunicorn"
            assert edge.worker.nr == 2


def test_gunicorns_loop_finds_nothing_wrong_with_a_connection_that_it_has_back() -> None:
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    with serving(loglevel="debug") as edge:
        edge.worker.log.error_log.addHandler(handler)
        try:
            with edge.client(GET) as client:
                assert read_answer(client).status == 200
            until(lambda: edge.server.pool.free_count() == edge.server.pool.size, 20)
        finally:
            edge.worker.log.error_log.removeHandler(handler)
    assert [record.getMessage() for record in said if record.levelno > logging.DEBUG] == []


# ---- gunicorn's settings ----


@pytest.mark.parametrize(
    ("more", "raw", "status"),
    [
        ({"limit_request_line": 60}, b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * 60), 414),
        ({"limit_request_fields": 3}, b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: 1\r\n" * 3 + b"\r\n", 431),
        ({"limit_request_field_size": 50}, b"GET / HTTP/1.1\r\nHost: h\r\nA: %b\r\n\r\n" % (b"a" * 60), 431),
        ({"document": {"limits": {"target_bytes": 1024}}}, b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % (b"a" * 1024), 414),
        ({"document": {"limits": {"headers": 16}}}, b"GET / HTTP/1.1\r\nHost: h\r\n" + b"A: 1\r\n" * 16 + b"\r\n", 431),
    ],
)
def test_gunicorns_limits_hold_beside_ours_for_every_request(more: Any, raw: bytes, status: int) -> None:
    with serving(**more) as edge:
        for behind in (b"", GET):
            with edge.client(behind + raw) as client:
                if behind:
                    assert read_answer(client).status == 200
                assert read_answer(client).status == status
                client.sock.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
                assert client.rest() == b""


def test_of_both_limits_the_stricter_one_counts() -> None:
    cfg = GunicornConfig()
    ours = ServerLimits()
    assert stricter(ours, cfg) == ServerLimits(keepalive_s=2, target_bytes=4094, headers=100, line_bytes=4094, field_bytes=8190)
    for name, value in (("keepalive", 100), ("limit_request_line", 0), ("limit_request_fields", 30_000)):
        cfg.set(name, value)
    assert stricter(ours, cfg) == ServerLimits(field_bytes=8190)


def test_every_request_counts_for_max_requests() -> None:
    with serving(max_requests=3) as edge, edge.client(GET * 2) as client:
        assert [read_answer(client).status for _ in range(2)] == [200, 200]
        assert (edge.worker.nr, edge.worker.alive) == (2, True)
        client.sock.sendall(GET)  # type: ignore[union-attr]
        assert read_answer(client).status == 200
        assert (edge.worker.nr, edge.worker.alive) == (3, False)


# ---- the end ----


def test_a_worker_that_ends_closes_what_is_idle_and_answers_what_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = gevent.event.Event()
    came = gevent.event.Event()

    def play(sock: Any, number: int) -> None:
        stream = Stream(sock)
        while seen := read_request(stream):
            if seen.target == b"/late":
                came.set()
                go_on.wait(20)
            sock.sendall(HELLO)

    monkeypatch.setattr(worker_server, "LINGER_S", 0.1)
    late = GET.replace(b"/", b"/late", 1)
    with serving(play, keepalive=60) as edge, edge.client(GET) as idle, edge.client(late) as busy:
        assert read_answer(idle).status == 200
        assert came.wait(20)
        edge.begin_stop()
        assert idle.rest() == b""
        assert edge.server.closed
        assert edge.server.pool.free_count() < edge.server.pool.size  # so gunicorn waits
        go_on.set()
        answer = read_answer(busy)
        assert (answer.status, answer.body, answer.get(b"connection")) == (200, b"hello", b"close")
        assert busy.rest() == b""
        until(lambda: edge.server.pool.free_count() == edge.server.pool.size, 20)


@pytest.mark.parametrize("take_over", [True, False])
def test_a_request_on_a_connection_that_was_idle_as_the_worker_ended_is_answered(take_over: bool) -> None:
    """It met a closed connection at each end of a worker (`--max-requests`), and nobody could know whether it was taken."""
    with serving(document={"take_over": take_over}, keepalive=60) as edge, edge.client(GET) as client:
        assert read_answer(client).status == 200
        edge.begin_stop()
        gevent.sleep(0)  # whoever was to be closed is closed by now
        client.sock.sendall(GET)  # type: ignore[union-attr]
        answer = read_answer(client)
        assert (answer.status, answer.get(b"connection")) == (200, b"close")
        assert client.rest() == b""


@pytest.mark.parametrize("take_over", [True, False])
def test_a_worker_that_ends_serves_what_the_system_has_accepted_for_it(take_over: bool) -> None:
    """gunicorn closes its listener over that, and the system resets each of these connections."""
    with serving(document={"take_over": take_over}) as edge, edge.client(GET) as one:
        assert read_answer(one).status == 200
        edge.server.stop_accepting()
        with edge.client(GET) as first, edge.client(GET) as second:
            edge.begin_stop()
            for client in (first, second):
                answer = read_answer(client)
                assert (answer.status, answer.get(b"connection")) == (200, b"close")
                assert client.rest() == b""


def test_a_connection_that_is_ended_by_force_gives_its_lease_back_and_is_counted() -> None:
    """At the end of gunicorn's `graceful_timeout`."""

    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.recv(1)

    with serving(play) as edge, edge.client(GET) as client:
        until(lambda: edge.edge.pool.backends[0].in_flight() == 1, 20)
        edge.begin_stop()
        edge.server.stop(timeout=0)
        assert read_answer(client).status == 503
        assert client.rest() == b""
        until(lambda: edge.edge.pool.backends[0].in_flight() == 0, 20)
        assert [(exchange.status, exchange.error.blame) for exchange in edge.logged] == [(503, "edge")]


def test_where_descriptors_run_out_idle_connections_are_closed() -> None:
    with serving() as edge, edge.client(GET) as one, edge.client(GET) as other:
        for client in (one, other):
            assert read_answer(client).status == 200
        assert edge.server in HOLDERS._holders
        assert edge.server.close_idle(1) == 1
        assert one.rest() == b""
        other.sock.sendall(GET)  # type: ignore[union-attr]
        assert read_answer(other).status == 200


def test_where_no_limit_is_set_nothing_is_counted_on_the_way() -> None:
    with serving() as edge, edge.client(GET * 2) as client:
        assert [read_answer(client).status for _ in range(2)] == [200, 200]
        assert (edge.worker.max_requests, edge.worker.nr) == (maxsize, 0)


# ---- what docs/deployment.md says of the differences ----


def fields_of(raw: bytes) -> bytes:
    """A GET with these lines."""
    return GET.replace(b"\r\n\r\n", b"\r\n" + raw + b"\r\n\r\n")


def shows_all(sock: Any, _number: int) -> None:
    """Refuses a body before it has come, sends trailers when asked for, and says what it has seen."""
    stream = Stream(sock)
    while seen := read_request(stream, body=False):
        if seen.get(b"content-length") is not None:
            sock.sendall(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        if seen.target == b"/trailers":
            sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0\r\nX-Sum: 1\r\n\r\n")
        else:
            head = b"".join(b"%b: %b\r\n" % pair for pair in seen.headers)
            sock.sendall(b"HTTP/1.1 200 OK\r\nServer: theirs\r\nContent-Length: %d\r\n\r\n%b" % (len(head), head))


@pytest.fixture(scope="module")
def ways() -> Iterator[dict[str, Gunicorn]]:
    """The ways to serve that the table compares."""
    limits = {"limits": {"headers": 16}}
    with (
        serving(shows_all, own=True, document=limits) as own,
        serving(shows_all, document=limits) as taken,
        serving(shows_all, document={**limits, "take_over": False}) as kept,
    ):
        yield {"own": own, "taken": taken, "kept": kept}


Observed = Any
SUM = [(b"X-Sum", b"1")]
ROWS: dict[str, tuple[bytes, Callable[[Answer], Observed], tuple[Observed, Observed]]] = {
    # how a row begins: a request, what is looked for in its answer,
    # and what that is: by our own server, also under -k gevent; where gunicorn keeps its connections
    "request header `X-cAsE`": (
        fields_of(b"X-cAsE: 1"),
        lambda answer: b"X-cAsE" in answer.body,
        (True, False),
    ),
    "a request header with `_`": (
        fields_of(b"x_under: 1"),
        lambda answer: b"x_under" in answer.body,
        (True, False),
    ),
    "methods": (GET.replace(b"GET", b"get"), lambda answer: answer.status, (200, 400)),
    "`Expect: 100-continue`": (
        POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        lambda answer: (answer.status, len(answer.interim)),
        ((413, 0), (413, 1)),
    ),
    "bare LF": (
        REFUSED["bare LF"],
        lambda answer: (answer.status, answer.get(b"content-type")),
        ((400, b"application/problem+json"), (400, b"text/html")),
    ),
    "request line of 9,000 bytes": (
        GET.replace(b"/", b"/" + b"a" * 9000, 1),
        lambda answer: answer.status,
        (414, 414),
    ),
    "header `SCRIPT_NAME: /y`": (fields_of(b"SCRIPT_NAME: /y"), lambda answer: answer.status, (200, 500)),
    "limits and client timeouts": (
        fields_of(b"A: 1\r\n" * 19 + b"A: 1"),
        lambda answer: answer.status,
        (431, 200),
    ),
    "`X-Forwarded-Proto: https`": (
        fields_of(b"X-Forwarded-Proto: https"),
        lambda answer: b"X-Forwarded-Proto: https" in answer.body,
        (False, True),
    ),
    "the backend's `Server`": (GET, lambda answer: answer.get(b"server"), (b"theirs", b"gunicorn")),
    "trailers": (
        GET.replace(b"/", b"/trailers", 1),
        lambda answer: answer.trailers,
        ([(b"X-Sum", b"1")], []),
    ),
}

SHOWN_ELSEWHERE = {
    "a client that leaves": test_a_client_that_leaves_while_it_waits_is_noticed_at_once,
    "how [tunnels]": "tests/live/test_tunnel.py",
    "SIGTERM with an idle": test_a_worker_that_ends_closes_what_is_idle_and_answers_what_is_under_way,
}


@pytest.mark.parametrize("row", ROWS)
def test_what_differs_between_servers_is_what_the_table_of_the_docs_says(ways: dict[str, Gunicorn], row: str) -> None:
    raw, look, (own, kept) = ROWS[row]
    for way, behind, expected in (
        ("own", b"", own),
        ("taken", b"", own),
        ("taken", GET, own),
        ("kept", b"", kept),
        ("kept", GET, kept),
    ):
        with ways[way].client(behind + raw) as client:
            if behind:
                assert read_answer(client).status == 200
            assert look(read_answer(client)) == expected, (way, behind)


def test_every_row_of_that_table_is_shown_by_a_test() -> None:
    text = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
    table = text[text.index("| where gunicorn keeps its connections |") : text.index("With `--preload` gevent warns")]
    rows = [line[2:] for line in table.splitlines() if line.startswith("| ")][1:]
    shown = (*ROWS, *SHOWN_ELSEWHERE)
    assert [row for row in rows if not row.startswith(shown)] == []
    assert [begin for begin in shown if not any(row.startswith(begin) for row in rows)] == []
