"""Through a whole edge to a backend and back: what of HTTP/2 a backend sees, and what a client sees of HTTP/1.1."""

from __future__ import annotations

import json
from typing import Any

import gevent
import gevent.event

from smartedge.balancer.cells import IN_FLIGHT
from tests.h2_peer import H2Server, h2_backend
from tests.house import running, until
from tests.http2.client import GET, POST, client, data, having, headers, open_headers, plus, rst
from tests.http2.house import through
from tests.live.wire import Stream, read_body, read_request
from tests.peers import head_of, says

LONG = 10_000_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Echo:
    """A backend that keeps requests, and answers each with ok."""

    def __init__(self) -> None:
        self.requests: list[Any] = []

    def __call__(self, sock: Any, _number: int) -> None:
        stream = Stream(sock)
        while (request := read_request(stream)) is not None:
            self.requests.append(request)
            sock.sendall(OK)


def test_a_backend_sees_one_cookie_one_host_and_by_what_it_came() -> None:
    echo = Echo()
    with through(echo) as (edge, one):
        one.ask(1, plus((b"cookie", b"a=1"), (b"cookie", b"b=2"), of=having(GET, authority=b"shop.example")))
        (request,) = echo.requests
        assert (request.get(b"cookie"), request.get(b"host")) == (b"a=1; b=2", b"shop.example")
        assert (request.get(b"via"), request.version) == (b"2 smartedge", b"HTTP/1.1")
        assert edge.ended()[0].request.protocol == "HTTP/2.0"


def test_trailers_of_a_request_go_on_behind_its_chunks() -> None:
    echo = Echo()
    with through(echo) as (_, one):
        one.send(
            open_headers(1, plus((b"trailer", b"x-sum"), of=POST)),
            data(1, b"abc"),
            headers(1, ((b"x-sum", b"7"), (b"host", b"e"))),
        )
        assert one.answer(1).status == 200
        (request,) = echo.requests
        assert (request.body, request.framing, request.trailers) == (b"abc", "chunked", [(b"x-sum", b"7")])


def test_trailers_of_an_answer_go_on() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    answer = head + b"3\r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n"
    with through(says(answer)) as (_, one):
        got = one.ask(1, plus((b"te", b"trailers")))
        assert (got.body, got.trailers, got.ended, got.get("transfer-encoding")) == (b"abc", [("x-sum", "7")], True, None)


def test_early_hints_go_on_and_nothing_of_101() -> None:
    """RFC 9113 section 8.1, RFC 8297."""
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK
    with through(says(answer)) as (_, one):
        got = one.ask(1)
        assert (got.interim, got.status) == ([(103, {"link": "</a.css>"}), (102, {})], 200)


def test_100_comes_when_the_backend_says_so_and_not_for_a_body_that_is_there() -> None:
    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert sock.recv(100)
        sock.sendall(OK)

    expects = plus((b"expect", b"100-continue"), (b"content-length", b"4"), of=POST)
    with through(play) as (_, one):
        one.send(open_headers(1, expects))
        one.until(lambda: one.of(1).interim)
        one.send(data(1, b"body", end=True))
        got = one.answer(1)
        assert (got.status, got.interim) == (200, [(100, {})])


def test_a_field_of_a_connection_that_a_backend_sends_ends_at_the_edge() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nUpgrade: h3\r\nX-UP: 1\r\n"
    answer += b"Content-Length: 0\r\n\r\n"
    with through(says(answer)) as (_, one):
        got = one.ask(1)
        assert (got.status, got.get("x-up")) == (200, "1")
        assert not {"connection", "x-hop", "keep-alive", "upgrade"} & {name for name, _ in got.fields}


def test_an_answer_that_breaks_off_is_reset_and_the_connection_goes_on() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    with through(says(answer)) as (_, one):
        got = one.ask(1)
        assert (got.status, got.body, got.ended, got.reset) == (200, b"half", False, "INTERNAL_ERROR")
        assert one.ask(3).status == 200


def test_who_has_a_whole_answer_before_its_request_is_complete_has_not_left() -> None:
    with through(says(OK)) as (edge, one):
        one.send(open_headers(1, POST), data(1, b"a piece"))
        one.until(lambda: one.of(1).reset)
        got = one.of(1)
        assert (got.status, got.body, got.ended, got.reset) == (200, b"ok", True, "NO_ERROR")
        (exchange,) = edge.ended()
        assert (exchange.status, exchange.error) == (200, None)


def test_a_client_that_only_listens_has_not_stopped_and_nor_has_a_backend() -> None:
    """One says nothing for three times idle_s while the other does, and then the other way round."""

    def play(server: H2Server, _number: int) -> None:
        server.until(lambda: server.bodies.get(1) == b"watch")
        server.h2.send_headers(1, [(":status", "200")])
        for _ in range(9):
            server.h2.send_data(1, b"news")
            server.flush()
            gevent.sleep(0.1)
        server.request()
        server.h2.send_data(1, b"%d" % len(server.bodies[1]), end_stream=True)
        server.flush()
        server.until(lambda: False)

    with (
        h2_backend(play) as url,
        running(url, h2c=True, protocol="h2c", timeouts={"idle_s": 0.3}) as edge,
        client(edge.server.server_port) as one,
    ):
        one.send(open_headers(1, POST), data(1, b"watch"))
        one.until(lambda: one.of(1).body == b"news" * 9 or one.of(1).ended)
        for _ in range(9):
            gevent.sleep(0.1)
            one.send(data(1, b"more"))
        one.send(data(1, b"", end=True))
        got = one.answer(1)
        assert (got.status, bytes(got.body), got.ended) == (200, b"news" * 9 + b"41", True)


def test_a_tunnel_that_the_backend_ends_has_not_been_broken_by_its_client() -> None:
    """A server that closes a WebSocket has said so, and its client has agreed."""
    gone: list[bytes] = []

    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye")
        sock.shutdown(1)
        gone.append(sock.recv(10))

    opens = plus((b":protocol", b"websocket"), of=having(GET, method=b"CONNECT"))
    with through(play) as (edge, one):
        one.send(open_headers(1, opens))
        got = one.answer(1)
        assert (got.status, bytes(got.body), got.ended) == (200, b"bye", True)
        (exchange,) = edge.ended()
        assert (exchange.status, exchange.error) == (101, None)
    assert gone == [b""], "an end, no reset"


def test_a_client_that_leaves_its_stream_ends_the_request_at_the_backend() -> None:
    """And the connection lives on: another stream's request is none of its business."""
    gone = gevent.event.Event()

    def play(sock: Any, number: int) -> None:
        head_of(sock)
        if number == 1:
            assert sock.recv(1) == b""
            gone.set()
        sock.sendall(OK)

    with through(play) as (edge, one):
        one.send(headers(1, GET))
        until(lambda: edge.counted(IN_FLIGHT) == 1)
        one.send(rst(1))
        assert gone.wait(5)
        until(lambda: edge.counted(IN_FLIGHT) == 0)
        assert one.ask(3).status == 200
        assert [exchange.status for exchange in edge.ended(2)] == [499, 200]


def test_what_a_stop_cuts_is_the_edges_doing_and_its_clients_are_told_so() -> None:
    """They were logged and counted as 499, the client left."""

    def play(sock: Any, _number: int) -> None:
        if head_of(sock).startswith(b"GET /begun"):
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        sock.recv(1)

    with through(play) as (edge, one):
        one.send(headers(1, GET), headers(3, having(GET, path=b"/begun")), open_headers(5, POST), data(5, b"some"))
        until(lambda: edge.counted(IN_FLIGHT) == 3)
        one.until(lambda: one.of(3).body)
        assert edge.server.stop_gracefully(0.05) is False
        assert (one.answer(1).status, one.answer(5).status) == (503, 503)
        assert one.answer(3).ended is False
        assert one.end()
        by_target = sorted((exchange.status, exchange.error.blame, exchange.error.title) for exchange in edge.ended(3))
        assert by_target == [(200, "edge", "Edge stopped"), *[(503, "edge", "Edge stopped")] * 2]


def test_a_connection_that_ends_ends_all_its_requests() -> None:
    hung = gevent.event.Event()

    def play(sock: Any, _number: int) -> None:
        head_of(sock)
        hung.wait(5)

    with through(play) as (edge, one):
        one.send(*[headers(at, GET) for at in range(1, 21, 2)])
        until(lambda: edge.counted(IN_FLIGHT) == 10)
        one.sock.close()
        until(lambda: edge.counted(IN_FLIGHT) == 0)
        hung.set()


def test_a_body_goes_on_as_fast_as_the_backend_takes_it_and_no_faster() -> None:
    """The window is what the edge holds; the client waits for the rest."""
    go_on = gevent.event.Event()

    def play(sock: Any, _number: int) -> None:
        stream = Stream(sock)
        request = read_request(stream, body=False)
        go_on.wait(5)
        assert request is not None
        read_body(stream, request)
        sock.sendall(OK)

    with through(play) as (_, one):
        one.send(open_headers(1, plus((b"content-length", b"%d" % LONG), of=POST)))
        sent = 0

        def upload() -> None:
            nonlocal sent
            while left := LONG - sent:
                room = min(262144 + one.windows.get(1, 0), 65535 + one.windows[0]) - sent
                if room:
                    size = min(16384, room, left)
                    one.send(data(1, b"x" * size, end=size == left))
                    sent += size
                else:
                    one.read()

        uploading = gevent.spawn(upload)
        before = -1
        while before != sent:
            before = sent
            gevent.sleep(0.1)
        assert sent < 9_000_000, "it went on though nobody took it"
        go_on.set()
        uploading.get(timeout=10)
        assert one.answer(1).status == 200


def test_a_reload_leaves_streams_and_connections_alone() -> None:
    """Nothing is said to a client; its next stream meets the new configuration."""
    go_on = gevent.event.Event()

    def play(sock: Any, _number: int) -> None:
        while head_of(sock):
            go_on.wait(5)
            sock.sendall(OK)

    with through(play) as (edge, one):
        one.send(headers(1, GET))
        until(lambda: edge.counted(IN_FLIGHT) == 1)
        document = {"backends": [edge.backend.url], "h2c": True, "routes": [{"path": "/new", "redirect": {"path": "/"}}]}
        edge.edge.reload(json.dumps(document).encode())
        assert one.ask(3, having(GET, path=b"/new")).status in (301, 302, 307, 308)
        assert (one.goaways, one.of(1).status) == ([], 0)
        go_on.set()
        assert one.answer(1).body == b"ok"
