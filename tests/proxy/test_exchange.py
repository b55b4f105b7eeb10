"""How a request ends: its answer, its lease, and what is written down, whoever breaks off."""

from __future__ import annotations

import pytest

from smartedge.app import PassedResponse
from smartedge.balancer.cells import ABANDONED, FAILED, IN_FLIGHT
from smartedge.balancer.errors import (
    BadAnswer,
)
from smartedge.http.environ_keys import HANDLER
from smartedge.proxy.exchange import Exchange
from smartedge.server.answer import AnswerWriter
from smartedge.server.front import Front
from smartedge.server.incoming import Incoming
from tests.fakes import FakeAnswer, NoWire
from tests.house import House


def test_a_client_that_leaves_before_its_answer_has_been_read_is_499_and_no_evidence() -> None:
    house = House([FakeAnswer(200, b"he", b"llo", here=False)])
    exchange = house.ask()
    exchange({}, lambda *_: None)
    assert next(exchange) == b"he"
    exchange.close()
    exchange.close()
    assert (exchange.status, len(house.logged)) == (499, 1)
    assert house.counted(ABANDONED) == [1]
    assert house.counted(FAILED) == [0]
    assert house.counted(IN_FLIGHT) == [0]


def test_an_answer_that_nobody_began_to_read_gives_its_lease_back() -> None:
    """A HEAD or 304 under Werkzeug: a generator that never starts runs no `finally`."""
    house = House([FakeAnswer(200, b"body", here=False)])
    exchange = house.ask()
    exchange.close()
    assert house.counted(IN_FLIGHT) == [0]


def test_an_answer_that_is_cut_raises_and_counts_against_the_backend() -> None:
    house = House([FakeAnswer(200, b"he", BadAnswer("cut"), here=False)])
    exchange = house.ask()
    server = _Server(exchange)
    exchange({HANDLER: server}, server.writer.start_response)
    server.writer.send_head()
    assert server.sent.startswith(b"HTTP/1.1 200 ")
    assert next(exchange) == b"he"
    with pytest.raises(BadAnswer):
        next(exchange)
    exchange.close()
    assert (exchange.status, exchange.error) == (200, exchange.error)
    assert exchange.error is not None
    assert exchange.error.detail == "cut"
    assert house.counted(FAILED) == [1]


def test_a_foreign_server_gets_a_cut_as_a_broken_connection() -> None:
    """gunicorn logs a traceback for everything else that a WSGI app raises."""
    house = House([FakeAnswer(200, BadAnswer("cut"), here=False)])
    exchange = house.ask()
    exchange({}, lambda *_: None)
    with pytest.raises(ConnectionResetError):
        next(exchange)
    exchange.close()
    assert house.counted(FAILED) == [1]


class _Server(NoWire):
    """Our own server as an exchange has it, and the wire to its client, which is gone when a byte is to go out."""

    def __init__(self, exchange: Exchange, *, gone: bool = False) -> None:
        super().__init__()
        incoming = Incoming(self, b"1.2.3.4", secure=False)
        incoming.request = exchange.request
        self.writer = AnswerWriter(incoming, Front(None, lambda: None), 1.0)
        self.gone = gone
        self.sent = b""

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.sent += data


def test_a_client_that_is_gone_when_its_short_answer_goes_out_leaves_nothing_open() -> None:
    """The server has not been given the exchange yet, so it can't close it."""

    house = House([FakeAnswer(200, b"hello")])
    exchange = house.ask()
    server = _Server(exchange, gone=True)
    with pytest.raises(ConnectionResetError):
        exchange({HANDLER: server}, server.writer.start_response)
    assert house.counted(IN_FLIGHT) == [0]
    assert house.logged == [exchange]


def test_an_empty_piece_has_the_head_sent_when_the_body_is_not_here_yet() -> None:
    answer = FakeAnswer(200, b"data", here=False)
    answer.at_hand = False
    exchange = House([answer]).ask()
    exchange({}, lambda *_: None)
    assert [next(exchange), next(exchange)] == [b"", b"data"]


def test_a_204_has_no_length() -> None:
    for status, kept in ((204, False), (304, True), (200, True)):
        exchange = House([FakeAnswer(status, block=b"A: 1\r\nContent-Length: 0\r\nB: 2\r\n")]).ask()
        names = [name for name, _ in exchange.pairs(exchange.attempts.answer)]  # type: ignore[arg-type]
        assert names == (["A", "Content-Length", "B", "Via"] if kept else ["A", "B", "Via"])


def test_flasks_own_dispatch_adds_nothing_and_closes() -> None:
    house = House([FakeAnswer(200, b"hello", block=b"X: y\r\n", here=False)])
    response = PassedResponse(house.ask())
    assert response.headers.to_wsgi_list() == [("X", "y"), ("Via", "1.1 smartedge")]
    assert b"".join(response.get_app_iter({"REQUEST_METHOD": "GET"})) == b"hello"
    response.get_app_iter({"REQUEST_METHOD": "HEAD"}).close()
    assert house.counted(IN_FLIGHT) == [0]
