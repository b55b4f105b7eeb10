"""Bytes between two connections: both ways, in order, to either side's end, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from time import monotonic
from typing import Any

import gevent
import gevent.socket
import pytest

from smartedge.http.wire import Wire
from smartedge.proxy.tunnel import BACKEND_BROKE, CLIENT_BROKE, EDGE_ENDED, Tunnel, Tunnels
from smartedge.proxy.websocket import GOING_AWAY
from tests.peers import tcp_pair


def reset(sock: Any) -> None:
    sock.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()


class Rig:
    """A tunnel that runs, and the outer end of each of its sides."""

    def __init__(
        self,
        idle_s: float = 60.0,
        half_s: float = 5.0,
        early: bytes = b"",
        welcome: bytes = b"",
        *,
        is_websocket: bool = False,
    ) -> None:
        self.client, client_side = tcp_pair()
        self.backend, backend_side = tcp_pair()
        self.wires = Wire(client_side), Wire(backend_side)
        self.counted = [0, 0]
        self.tunnel = Tunnel(*self.wires, idle_s, half_s, self.count, is_websocket=is_websocket)
        self.greenlet = gevent.spawn(self.tunnel.run, early, welcome)

    def count(self, bytes_in: int, bytes_out: int) -> None:
        self.counted[0] += bytes_in
        self.counted[1] += bytes_out

    def ended(self) -> str:
        """Wait for its end; why."""
        self.greenlet.get(timeout=5)
        assert all(wire.closed for wire in self.wires)
        return self.tunnel.why

    def close(self) -> None:
        self.greenlet.kill()
        self.client.close()
        self.backend.close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        assert piece, data
        data += piece
    return data


def everything(sock: Any) -> bytes:
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return data


# carrying


def test_bytes_go_both_ways_and_are_counted_on_their_way(rig: Rig) -> None:
    rig.client.sendall(b"to the backend")
    assert exactly(rig.backend, 14) == b"to the backend"
    rig.backend.sendall(b"back")
    assert exactly(rig.client, 4) == b"back"
    gevent.sleep(0)
    assert (rig.tunnel.bytes_in, rig.tunnel.bytes_out) == (14, 4)
    assert rig.counted == [14, 4]


def test_what_came_before_goes_first() -> None:
    rig = Rig(early=b"early ", welcome=b"welcome ")
    rig.client.sendall(b"later")
    rig.backend.sendall(b"home")
    assert exactly(rig.backend, 11) == b"early later"
    assert exactly(rig.client, 12) == b"welcome home"
    rig.close()


def test_much_goes_both_ways_at_once(rig: Rig) -> None:
    data = bytes(range(256)) * 20_000
    senders = [gevent.spawn(sock.sendall, data) for sock in (rig.client, rig.backend)]
    readers = [gevent.spawn(exactly, sock, len(data)) for sock in (rig.client, rig.backend)]
    gevent.joinall(senders, timeout=10, raise_error=True)
    assert [reader.get(timeout=10) == data for reader in readers] == [True, True]


def test_a_side_that_takes_nothing_holds_up_its_peer_only(rig: Rig) -> None:
    sender = gevent.spawn(rig.client.sendall, bytes(50_000_000))
    rig.backend.sendall(b"still")
    assert exactly(rig.client, 5) == b"still"
    assert not sender.ready()
    assert rig.tunnel.bytes_in < 50_000_000
    sender.kill()


# the end


@pytest.mark.parametrize("first", ["client", "backend"])
def test_each_side_may_finish_while_the_other_goes_on(rig: Rig, first: str) -> None:
    one, other = (rig.client, rig.backend) if first == "client" else (rig.backend, rig.client)
    one.sendall(b"the end")
    one.shutdown(gevent.socket.SHUT_WR)
    assert everything(other) == b"the end"
    other.sendall(b"not yet")
    other.shutdown(gevent.socket.SHUT_WR)
    assert everything(one) == b"not yet"
    assert rig.ended() == ""


@pytest.mark.parametrize(("who", "why"), [("client", CLIENT_BROKE), ("backend", BACKEND_BROKE)])
def test_a_break_is_passed_on_as_a_break(rig: Rig, who: str, why: str) -> None:
    one, other = (rig.client, rig.backend) if who == "client" else (rig.backend, rig.client)
    gevent.sleep(0)
    reset(one)
    with pytest.raises(ConnectionResetError):
        other.recv(1)
    assert rig.ended() == why


def test_a_side_that_is_gone_when_it_is_written_to_breaks_it(rig: Rig) -> None:
    rig.backend.shutdown(gevent.socket.SHUT_WR)
    assert rig.client.recv(1) == b""
    reset(rig.backend)
    with contextlib.suppress(ConnectionError):
        while not rig.greenlet.ready():
            rig.client.sendall(bytes(1000))
            gevent.sleep(0.001)
    assert rig.ended() == BACKEND_BROKE


def test_it_can_be_ended_from_outside_once(rig: Rig) -> None:
    gevent.sleep(0)
    rig.tunnel.end("enough")
    rig.tunnel.end("again")
    assert everything(rig.client) == everything(rig.backend) == b""
    assert rig.ended() == "enough"


def test_a_server_that_closes_its_side_ends_it(rig: Rig) -> None:
    gevent.sleep(0)
    rig.wires[0].close()
    assert rig.ended() == EDGE_ENDED
    assert everything(rig.backend) == b""


def test_a_killed_greenlet_leaves_nothing_open(rig: Rig) -> None:
    gevent.sleep(0)
    rig.greenlet.kill()
    assert everything(rig.client) == everything(rig.backend) == b""
    assert rig.ended() == EDGE_ENDED


def test_a_fault_of_ours_leaves_nothing_open(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a bug")

    rig.tunnel._count = fails
    rig.backend.sendall(b"x")
    assert rig.ended() == EDGE_ENDED
    assert "a bug" in capsys.readouterr().err  # gevent reports it


# idleness


def test_it_is_overdue_after_idle_s_without_a_byte_either_way() -> None:
    rig = Rig(idle_s=10.0)
    gevent.sleep(0)
    began = monotonic()
    assert not rig.tunnel.overdue(began + 9.9)
    assert rig.tunnel.overdue(began + 10.1)
    gevent.sleep(0.05)
    rig.backend.sendall(b"x")
    assert exactly(rig.client, 1) == b"x"
    assert not rig.tunnel.overdue(began + 10.04)
    rig.close()


def test_with_one_side_left_it_is_overdue_sooner() -> None:
    rig = Rig(idle_s=10.0, half_s=2.0)
    rig.client.shutdown(gevent.socket.SHUT_WR)
    assert everything_until_end(rig.backend) == b""
    now = monotonic()
    assert not rig.tunnel.overdue(now + 1.5)
    assert rig.tunnel.overdue(now + 2.5)
    rig.close()


def everything_until_end(sock: Any) -> bytes:
    data = everything(sock)
    gevent.sleep(0)
    return data


def test_one_side_alone_never_has_longer_than_both() -> None:
    rig = Rig(idle_s=1.0, half_s=60.0)
    rig.client.shutdown(gevent.socket.SHUT_WR)
    everything_until_end(rig.backend)
    assert rig.tunnel.overdue(monotonic() + 1.1)
    rig.close()


# all of them


class Open:
    """A tunnel as the collection of them sees it."""

    def __init__(self, overdue: bool = False) -> None:
        self.idle_s = 60.0
        self.is_overdue, self.why = overdue, ""

    def overdue(self, _: float) -> bool:
        return self.is_overdue

    def leave(self, why: str) -> None:
        self.why = why


def collection(**made: Open) -> Tunnels:
    tunnels = Tunnels()
    for key, one in made.items():
        tunnels.add(one, key)  # type: ignore[arg-type]
    return tunnels


def test_those_in_which_nothing_moves_are_ended() -> None:
    busy, idle = Open(), Open(overdue=True)
    collection(a=busy, b=idle).end_overdue(0.0)
    assert (busy.why, idle.why) == ("", "Not a byte went either way for 60 s.")


def test_those_of_one_backend_are_ended() -> None:
    one, other = Open(), Open()
    tunnels = collection(a=one, b=other)
    assert tunnels.end_of("a", "gone")
    assert (one.why, other.why) == ("gone", "")
    tunnels.remove(one)  # type: ignore[arg-type]
    assert not tunnels.end_of("a", "gone")
    assert len(tunnels) == 1


def test_at_the_edges_end_all_are_ended_those_too_that_came_late() -> None:
    early, late = Open(), Open()
    tunnels = collection(a=early)
    tunnels.end_all_after(0.01)
    tunnels.add(late, "b")  # type: ignore[arg-type]
    assert early.why == ""
    gevent.sleep(0.03)
    assert (early.why, late.why) == (EDGE_ENDED, EDGE_ENDED)


@pytest.mark.parametrize(
    ("sent", "told"),
    [(b"", True), (b"\x81\x02hi", True), (b"\x81\x05hel", False), (b"\x88\x02\x03\xe8", False)],
    ids=["nothing yet", "a frame", "a part of one", "a close"],
)
def test_a_client_of_websocket_is_told_that_the_edge_goes_away_between_two_frames(sent: bytes, told: bool) -> None:
    """It saw a connection that broke (1006), and could not tell a stop from trouble of the network."""
    rig, tunnels = Rig(is_websocket=True), Tunnels()
    tunnels.add(rig.tunnel, "b")
    rig.backend.sendall(sent)
    assert exactly(rig.client, len(sent)) == sent
    assert tunnels.end_of("b", "its backend was removed")
    assert rig.client.recv(100) == (GOING_AWAY if told else b"")
    assert rig.client.recv(100) == b""
    assert rig.ended() == "its backend was removed"
    rig.close()
