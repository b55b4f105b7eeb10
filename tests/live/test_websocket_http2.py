"""WebSocket over a stream of HTTP/2 to a backend of HTTP/1.1 (RFC 8441)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, TextMessage

from tests.h2_client import H2Answer, H2Client
from tests.live.acts import answers, head
from tests.live.edges import OWN, WORKER, LiveEdge, start_edge
from tests.live.peers import Script, refused_port
from tests.live.processes import wait_until
from tests.live.tunnels import BIG, echoes, switching, websocket_echo

VERSION = ("sec-websocket-version", "13")


@pytest.fixture(scope="module", params=[OWN, WORKER])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveEdge]:
    with refused_port() as nobody:
        directory = tmp_path_factory.mktemp("ws")
        with start_edge(directory, f"http://127.0.0.1:{nobody}", server=request.param, h2c=True) as edge:
            yield edge


class StreamPeer:
    """A WebSocket's frames on one stream, behind the answer that opens it."""

    def __init__(self, client: H2Client, path: str = "/chat") -> None:
        self.client, self.ws = client, Connection(ConnectionType.CLIENT)
        self.id = client.begin("CONNECT", path, [VERSION, ("sec-websocket-protocol", "talk")], end=False, protocol="websocket")
        self.read = 0

    @property
    def answer(self) -> H2Answer:
        return self.client.answers[self.id]

    def opened(self) -> int:
        self.client.until(lambda: self.answer.status or self.answer.over)
        return self.answer.status

    def send(self, event: Event) -> None:
        self.client.send(self.id, self.ws.send(event))

    def next(self) -> Event:
        while True:
            new, self.read = self.answer.body[self.read :], len(self.answer.body)
            self.ws.receive_data(new)
            for event in self.ws.events():
                return event
            assert self.client.take()


def test_a_websocket_opens_speaks_and_closes_and_others_of_its_connection_go_on(edge: LiveEdge) -> None:
    with Script(websocket_echo) as backend, edge.client() as raw:
        edge.configure(backend, h2c=True)
        client = H2Client(raw.sock)
        peer = StreamPeer(client)
        assert peer.opened() == 200
        assert peer.answer["sec-websocket-accept"] is None
        assert peer.answer["upgrade"] is None
        peer.send(TextMessage("olá"))
        assert peer.next() == TextMessage("olá")
        assert client.ask(path="/health").status == 200
        peer.send(BytesMessage(bytes(BIG)))
        got = b""
        while len(got) < BIG:
            event = peer.next()
            assert isinstance(event, BytesMessage)
            got += bytes(event.data)
        assert got == bytes(BIG)
        peer.send(CloseConnection(1000))
        assert isinstance(peer.next(), CloseConnection)
        client.answer(peer.id)
        wait_until(lambda: [one["tunnels"] for one in edge.backends()] == [0], 5, "the tunnel's end")
    line = edge.log(path="/chat")
    assert (line["status"], line["protocol"]) == (101, "HTTP/2.0")
    assert line["bytes_in"] > BIG


def test_the_backend_gets_the_get_that_it_knows_and_what_comes_first_is_carried(edge: LiveEdge) -> None:
    switches = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "x"), ("X-Kept", "yes")]
    with Script(switching(echoes, head(101, switches) + b"welcome ")) as backend, edge.client() as raw:
        edge.configure(backend, h2c=True)
        client = H2Client(raw.sock)
        peer = StreamPeer(client, "/room?x=1")
        client.send(peer.id, b"hello", end=True)
        answer = client.answer(peer.id)
        sent = backend.requests[0]
    assert (answer.status, answer["x-kept"], answer.body, answer.ended) == (200, "yes", b"welcome hello and goodbye", True)
    assert sent.startswith(b"GET /room?x=1 HTTP/1.1\r\nHost: shop.example\r\n")
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in sent
    assert sent.lower().count(b"\r\nsec-websocket-key: ") == sent.lower().count(b"\r\nconnection:") == 1


def test_a_backend_that_does_not_switch_has_just_answered(edge: LiveEdge) -> None:
    with Script(answers(403, body=b"no")) as backend, edge.client() as raw:
        edge.configure(backend, h2c=True)
        peer = StreamPeer(H2Client(raw.sock))
        answer = peer.client.answer(peer.id)
    assert (answer.status, answer.body) == (403, b"no")


def test_a_client_that_leaves_its_stream_ends_the_tunnel_at_the_backend(edge: LiveEdge) -> None:
    with Script(websocket_echo) as backend, edge.client() as raw:
        edge.configure(backend, h2c=True)
        client = H2Client(raw.sock)
        peer = StreamPeer(client)
        assert peer.opened() == 200
        client.h2.reset_stream(peer.id)
        client.flush()
        wait_until(lambda: [one["tunnels"] for one in edge.backends()] == [0], 5, "the tunnel's end")
        assert client.ask(path="/health").status == 200


def test_other_protocols_are_refused_and_so_is_a_plain_connect(edge: LiveEdge) -> None:
    with edge.client() as raw:
        client = H2Client(raw.sock)
        other = client.begin("CONNECT", "/", end=False, protocol="chat/1")
        assert client.answer(other).status == 501
        assert client.ask(path="/health").status == 200
