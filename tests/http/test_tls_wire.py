"""TLS keeps a wire's promises: deadlines, closing while somebody waits, both directions at once, honest ends."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import gevent.socket
import pytest

from smartedge.balancer.spec import TlsSpec
from smartedge.http.sweep import Sweep
from smartedge.http.tls import context_for
from smartedge.http.tls_wire import NotTls, TlsWire
from smartedge.http.wire import Wire, WireClosed, WireTimeout
from tests.certificates import context_of
from tests.peers import tcp_pair

CERTS = Path(__file__).parents[1] / "live" / "certs"
LOCALHOST = str(CERTS / "localhost.pem")
MORE_THAN_FITS = bytes(20_000_000)
"""The buffers of a connection on this machine take 10 MB at most."""
TRUSTING = TlsSpec(ca_file=str(CERTS / "ca.pem"))


class Pair:
    """A server's TLS wire and a client's, hands shaken, on one TCP connection."""

    def __init__(self, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        near, far = tcp_pair()
        client = context_for(TRUSTING)
        client.maximum_version = version
        self.server = TlsWire(near, context_of(LOCALHOST), server_side=True)
        self.client = TlsWire(far, client, server_name="localhost")
        shaking = gevent.spawn(self.server.handshake, 5.0)
        self.client.handshake(5.0)
        shaking.get(timeout=5)
        Wire.send_now(self.server, b"", 5.0)  # the tickets of TLS 1.3 are out then, too
        client.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED

    def close(self) -> None:
        self.server.close()
        self.client.close()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    made = Pair(request.param)
    yield made
    made.close()


def until(is_so: Callable[[], bool]) -> None:
    with gevent.Timeout(20):
        while not is_so():
            gevent.sleep(0.001)


def exactly(wire: Wire, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = wire.recv(5.0)
        assert piece, len(data)
        data += piece
    return data


def test_what_is_sent_arrives(pair: Pair) -> None:
    pair.client.send(b"question", 1.0)
    assert pair.server.recv(1.0) == b"question"
    pair.server.send(b"answer", 1.0)
    assert pair.client.recv(1.0, 3) == b"ans"
    assert pair.client.recv(1.0) == b"wer"
    pair.client.send(b"", 1.0)


def test_much_goes_both_ways_at_once(pair: Pair) -> None:
    data = bytes(range(256)) * 20_000
    work = [gevent.spawn(wire.send, data, 5.0) for wire in (pair.client, pair.server)]
    reads = [gevent.spawn(exactly, wire, len(data)) for wire in (pair.client, pair.server)]
    gevent.joinall(work, timeout=10, raise_error=True)
    assert [read.get(timeout=10) == data for read in reads] == [True, True]


def test_silence_ends_a_read(pair: Pair) -> None:
    with pytest.raises(WireTimeout):
        pair.server.recv(0.05)
    pair.client.send(b"late", 1.0)
    assert pair.server.recv(1.0) == b"late"


def test_a_record_that_drips_in_does_not_put_the_deadline_off(pair: Pair) -> None:
    """A byte now and then is no data: the time runs from the call."""
    record = encrypted(pair.client, b"never whole")

    def drip() -> None:
        for index in range(len(record)):
            pair.client.sock.sendall(record[index : index + 1])
            gevent.sleep(0.05)

    dripping = gevent.spawn(drip)
    began = monotonic()
    with pytest.raises(WireTimeout):
        pair.server.recv(0.2)
    assert monotonic() - began < 1.0  # the record takes three times as long
    dripping.kill()


def encrypted(wire: TlsWire, data: bytes) -> bytes:
    """What would go over the network."""
    wire._tls.write(data)
    return wire._outgoing.read()


def test_a_peer_that_takes_nothing_ends_a_write(pair: Pair) -> None:
    with pytest.raises(WireTimeout):
        pair.server.send(MORE_THAN_FITS, 0.1)


def test_closing_wakes_whoever_reads_or_writes(pair: Pair) -> None:
    reader = gevent.spawn(pair.server.recv, 60.0)
    writer = gevent.spawn(pair.server.send, MORE_THAN_FITS, 60.0)
    gevent.sleep(0.01)
    pair.server.close()
    for waiting in (reader, writer):
        with pytest.raises(WireClosed):
            waiting.get(timeout=5)
    with pytest.raises(WireClosed):
        pair.server.recv(1.0)


def test_a_new_deadline_counts_for_whoever_reads(pair: Pair) -> None:
    reader = gevent.spawn(pair.server.recv, float("inf"))
    gevent.sleep(0.01)
    pair.server.expect_within(0.05)
    with pytest.raises(WireTimeout):
        reader.get(timeout=5)


# ends


def test_a_close_says_goodbye_and_a_cut_does_not(pair: Pair) -> None:
    pair.server.close()
    assert pair.client.recv(1.0) == b""
    assert pair.client._tls.unwrap is not None
    other = Pair()
    other.server.break_off()
    other.server.close()
    with pytest.raises(ConnectionResetError):
        other.client.recv(1.0)
    other.close()


def test_a_peer_that_is_gone_without_goodbye_has_finished_all_the_same(pair: Pair) -> None:
    pair.client.sock._sock.shutdown(gevent.socket.SHUT_WR)
    assert pair.server.recv(1.0) == b""
    assert pair.server.recv(1.0) == b""


def test_one_direction_may_end_while_the_other_goes_on(pair: Pair) -> None:
    pair.client.send(b"on its way", 1.0)
    gevent.sleep(0.01)
    pair.server.send(b"last words", 1.0)
    pair.server.finish_sending()
    assert exactly(pair.client, 10) == b"last words"
    assert pair.client.recv(1.0) == b""
    pair.client.send(b", heard", 1.0)
    pair.client.finish_sending()
    assert exactly(pair.server, 17) == b"on its way, heard"
    assert pair.server.recv(1.0) == b""
    pair.server.finish_sending()


def test_ending_our_direction_while_somebody_reads_disturbs_nothing(pair: Pair) -> None:
    reader = gevent.spawn(exactly, pair.server, 5)
    gevent.sleep(0.01)
    pair.server.finish_sending()
    pair.client.send(b"hello", 1.0)
    assert reader.get(timeout=5) == b"hello"


def test_rubbish_in_the_stream_breaks_it(pair: Pair) -> None:
    pair.client.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(ssl.SSLError):
        pair.server.recv(1.0)
    with pytest.raises(OSError):
        pair.client.recv(1.0)


# idle connections


def test_an_idle_peer_is_quiet_until_it_says_something(pair: Pair) -> None:
    pair.server.send(b"x", 1.0)
    assert pair.client.recv(1.0) == b"x"
    assert pair.client.peer_is_quiet()
    pair.server.send(b"y", 1.0)
    until(lambda: not pair.client.peer_is_quiet())
    assert pair.client.recv(1.0, 1) == b"y"
    assert pair.client.peer_is_quiet()


def test_a_record_behind_the_last_is_noticed(pair: Pair) -> None:
    """It may be an answer that nobody asked for: the connection's next user must not get it."""
    first, second = encrypted(pair.server, b"mine"), encrypted(pair.server, b"not yours")
    pair.client.sock.settimeout(5)
    pair.server.sock.sendall(first + second)
    gevent.sleep(0.01)
    assert pair.client.recv(1.0) == b"minenot yours"
    third = encrypted(pair.server, b"mine")
    pair.server.sock.sendall(third + encrypted(pair.server, b"cut")[:10])
    gevent.sleep(0.01)
    assert pair.client.recv(1.0) == b"mine"
    assert pair.client.readable
    assert not pair.client.peer_is_quiet()


def test_what_is_left_of_a_read_is_noticed(pair: Pair) -> None:
    pair.server.send(b"mine and more", 1.0)
    assert pair.client.recv(1.0, 4) == b"mine"
    assert pair.client.readable
    assert not pair.client.peer_is_quiet()
    assert pair.client.recv(1.0) == b" and more"


class CountedTls:
    """OpenSSL's object, with its reads counted."""

    def __init__(self, tls: Any) -> None:
        self._tls = tls
        self.reads = 0

    def read(self, size: int) -> Any:
        self.reads += 1
        return self._tls.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tls, name)


def test_openssl_is_asked_only_when_it_has_something(pair: Pair) -> None:
    """An empty-handed OpenSSL raises, which takes longer than it takes to decrypt a small request."""
    pair.client.send(b"one", 1.0)
    assert pair.server.recv(1.0) == b"one"
    counted: Any = CountedTls(pair.server._tls)
    pair.server._tls = counted
    for _ in range(3):
        pair.client.send(b"question", 1.0)
        assert pair.server.recv(1.0) == b"question"
    assert counted.reads == 3


def test_an_end_behind_data_is_found_by_the_next_read(pair: Pair) -> None:
    """They may come in one segment, and nothing behind them."""
    data = encrypted(pair.server, b"the last words")
    pair.server._end_our_side()
    pair.server.sock.sendall(data + pair.server._outgoing.read())
    assert pair.client.recv(5.0) == b"the last words"
    for _ in range(2):
        assert pair.client.recv(5.0) == b""


def test_a_watched_connection_tells_when_the_peer_leaves(pair: Pair) -> None:
    told: list[bool] = []
    pair.server.on_idle = lambda: told.append(pair.server.peer_is_gone())
    pair.server.attend()
    pair.client.finish_sending()
    gevent.sleep(0.05)
    assert set(told) == {False}  # it may wait for an answer
    pair.client.break_off()
    pair.client.close()
    gevent.sleep(0.25)
    assert told[-1]


def test_what_a_peer_sends_ahead_is_no_leaving_and_is_kept(pair: Pair) -> None:
    assert not pair.server.peer_is_gone()
    pair.client.send(b"next request", 1.0)
    gevent.sleep(0.01)
    assert not pair.server.peer_is_gone()
    assert not pair.server.peer_is_quiet()
    pair.server.wait_readable(1.0)
    assert pair.server.recv(1.0, 4) == b"next"
    assert pair.server.recv(1.0) == b" request"
    pair.client.break_off()
    pair.client.close()
    gevent.sleep(0.01)
    assert pair.server.peer_is_gone()
    pair.server.close()
    assert pair.server.peer_is_gone()


def test_waiting_for_bytes_takes_none(pair: Pair) -> None:
    gevent.spawn_later(0.01, pair.client.send, b"x", 1.0)
    while not pair.server._incoming.pending and pair.server.peer_is_quiet():
        try:
            pair.server.wait_readable(1.0)
        except BlockingIOError:
            continue
    assert pair.server.recv(1.0) == b"x"


# handshakes


def server_side(context: Any = None) -> tuple[TlsWire, Any]:
    near, far = tcp_pair()
    return TlsWire(near, context or context_of(LOCALHOST), server_side=True), far


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\0", b"\x15\x03\x03\0\2\2\n"])
def test_a_client_that_does_not_speak_tls_is_found_out_and_can_be_told(said: bytes) -> None:
    wire, sock = server_side()
    sock.sendall(said)
    with pytest.raises(NotTls):
        wire.handshake(5.0)
    plain = wire.without_tls()
    plain.send(b"speak TLS", 1.0)
    assert sock.recv(100) == b"speak TLS"
    plain.close()
    assert wire not in Sweep.of(gevent.get_hub()).wires


def test_a_handshake_ends_with_its_time_however_it_drips() -> None:
    wire, sock = server_side()

    def drip() -> None:
        for byte in b"\x16\x03\x01\x02\x00" + bytes(500):
            sock.sendall(bytes([byte]))
            gevent.sleep(0.03)

    dripping = gevent.spawn(drip)
    began = monotonic()
    with pytest.raises(WireTimeout):
        wire.handshake(0.2)
    assert monotonic() - began < 1.0
    dripping.kill()
    wire.close()


def test_a_client_that_leaves_in_the_middle_is_gone() -> None:
    wire, sock = server_side()
    sock.sendall(b"\x16\x03\x01")
    sock.close()
    with pytest.raises(ConnectionError):
        wire.handshake(5.0)
    wire.close()


def test_a_handshake_that_makes_no_sense_is_told_why() -> None:
    wire, sock = server_side()
    sock.sendall(b"\x16\x03\x01\x00\x05hello")
    with pytest.raises(ssl.SSLError):
        wire.handshake(5.0)
    assert sock.recv(1) == b"\x15"
    wire.close()


def test_a_server_that_cannot_be_trusted_is_refused() -> None:
    wire, sock = server_side()
    client = TlsWire(sock, context_for(TRUSTING), server_name="other.test")
    shaking = gevent.spawn(wire.handshake, 5.0)
    with pytest.raises(ssl.SSLCertVerificationError, match=r"other\.test"):
        client.handshake(5.0)
    with pytest.raises(OSError):
        shaking.get(timeout=5) or wire.recv(5.0)
    client.close()
    wire.close()


def test_a_name_that_tls_cannot_carry_leaves_nothing_behind() -> None:
    near, far = tcp_pair()
    before = len(Sweep.of(gevent.get_hub()).wires)
    with pytest.raises(ValueError, match="hostname"):
        TlsWire(near, context_for(TRUSTING), server_name="")
    assert len(Sweep.of(gevent.get_hub()).wires) == before
    near.close()
    far.close()
