"""Both ends of a tunnel: the request that asks for one, backends that switch, and WebSocket peers."""

from __future__ import annotations

import socket
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Message, Ping, Pong, Request, TextMessage

from tests.live.acts import Act, head
from tests.live.peers import Call

ASKS = b"Connection: Upgrade\r\nUpgrade: chat/1\r\n"
SWITCHES = head(101, [("Connection", "Upgrade"), ("Upgrade", "chat/1"), ("X-Kept", "yes")])
BIG = 256 * 1024


def switching(then: Act, answer: bytes = SWITCHES) -> Act:
    """Read a request, answer it with a 101, and go on with another act."""

    def act(call: Call) -> None:
        if call.request():
            call.send(answer)
            then(call)

    return act


def echoes(call: Call) -> None:
    """Send back what comes until the peer has finished, then say so."""
    while call.stream.buffer or call.stream.fill():
        call.send(call.stream.take(len(call.stream.buffer)))
    call.send(b" and goodbye")


class WebSocket:
    """A wsproto connection over a socket: the events that come, one by one."""

    def __init__(self, kind: ConnectionType, sock: socket.socket, read_ahead: bytes = b"") -> None:
        self.protocol, self.sock = WSConnection(kind), sock
        self.waiting: list[Event] = []
        if read_ahead:
            self.protocol.receive_data(read_ahead)
            self.waiting += self.protocol.events()

    def send(self, event: Event) -> None:
        self.sock.sendall(self.protocol.send(event))

    def next(self) -> Event:
        while not self.waiting:
            data = self.sock.recv(65536)
            self.protocol.receive_data(data or None)
            self.waiting += self.protocol.events()
        return self.waiting.pop(0)

    def whole(self) -> Any:
        """The next message, of however many frames and events."""
        parts: list[Any] = []
        while True:
            event = self.next()
            assert isinstance(event, Message), event
            parts.append(event.data)
            if event.message_finished:
                return parts[0][:0].join(parts)


def websocket_echo(call: Call) -> None:
    """A WebSocket server: echoes messages, answers pings and the close."""
    peer = WebSocket(ConnectionType.SERVER, call.sock, bytes(call.stream.buffer))
    while True:
        event = peer.next()
        if isinstance(event, Request):
            peer.send(AcceptConnection(subprotocol=event.subprotocols[0] if event.subprotocols else None))
        elif isinstance(event, Ping | CloseConnection):
            peer.send(event.response())
            if isinstance(event, CloseConnection):
                return
        elif isinstance(event, TextMessage):
            peer.send(TextMessage(event.data, message_finished=event.message_finished))
        elif isinstance(event, BytesMessage):
            peer.send(BytesMessage(bytes(event.data), message_finished=event.message_finished))


def connected(sock: socket.socket) -> WebSocket:
    peer = WebSocket(ConnectionType.CLIENT, sock)
    peer.send(Request(host="edge.test", target="/chat?room=1", subprotocols=["soap"]))
    accepted = peer.next()
    assert isinstance(accepted, AcceptConnection)
    assert accepted.subprotocol == "soap"
    return peer


def converse(peer: WebSocket) -> None:
    """Text, many bytes, a ping and a close: each answered as WebSocket has it (RFC 6455)."""
    peer.send(TextMessage("olá 🚀"))
    assert peer.whole() == "olá 🚀"
    big = bytes(range(256)) * (BIG // 256)
    peer.send(BytesMessage(big))
    assert peer.whole() == big
    peer.send(Ping(b"there?"))
    pong = peer.next()
    assert isinstance(pong, Pong)
    assert pong.payload == b"there?"
    peer.send(CloseConnection(1000, "done"))
    closed = peer.next()
    assert isinstance(closed, CloseConnection)
    assert closed.code == 1000
