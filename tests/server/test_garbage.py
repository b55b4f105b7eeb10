"""What requests leave behind for the garbage collector: nothing, for its runs hold up every client."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import gevent
import gevent.socket
import pytest

from tests.house import running
from tests.peers import backend, head_of

REQUESTS = 60
GET = b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def answers_everything(sock: Any, _number: int) -> None:
    while head := head_of(sock):
        missing = 100_000 - len(head.partition(b"\r\n\r\n")[2]) if b"POST" in head else 0
        while missing > 0:
            missing -= len(sock.recv(65536))
        sock.sendall(OK)
        gevent.sleep(0)  # the body is a read of its own
        sock.sendall(b"ok")


def answers_at_once(sock: Any, _number: int) -> None:
    while head_of(sock):
        sock.sendall(OK + b"ok")


@pytest.mark.parametrize(
    ("request_bytes", "backends_way"),
    [(GET, answers_everything), (POST, answers_everything), (GET, answers_at_once)],
    ids=["without a body", "with one", "whole answers"],
)
def test_requests_leave_no_cycles(request_bytes: bytes, backends_way: Any) -> None:
    """They did: each request and whoever waited for its 1xx held each other, and a tenth of the CPU went into collecting them."""
    with (
        backend(backends_way) as url,
        gevent.Timeout(10),
        running(url, explain={"sample_ratio": 0}) as edge,
        contextlib.closing(edge.client()) as sock,
    ):

        def ask(times: int) -> None:
            for _ in range(times):
                sock.sendall(request_bytes)
                answer = b""
                while not answer.endswith(b"\r\n\r\nok"):
                    answer += sock.recv(65536)

        def left_behind() -> int:
            gc.collect()
            ask(REQUESTS)
            return gc.collect()

        edge.edge.forwarder.log = None  # that of the tests keeps every exchange
        ask(2)
        gc.collect()
        gc.freeze()  # what earlier tests have left need not be looked through each time
        gc.disable()
        try:
            assert min(left_behind() for _ in range(3)) < REQUESTS, "each time, so it is not what earlier tests have left"
        finally:
            gc.enable()
