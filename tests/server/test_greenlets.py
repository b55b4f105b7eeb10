"""Greenlets that are used again, with and without a limit."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import gevent
import pytest
from gevent import getcurrent
from gevent.event import AsyncResult, Event
from gevent.pool import Pool

from smartedge.server import greenlets
from smartedge.server.greenlets import GreenletPool, LimitedGreenletPool
from smartedge.server.server import EdgeServer
from smartedge.testing.loop_thread import LoopThread
from tests.house import until
from tests.peers import App, talk

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
CLOSE = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with gevent.Timeout(5):
        yield


def test_a_greenlet_of_a_thread_that_has_ended_does_nothing_more() -> None:
    """Uploads of all edges in a process have one pool: the second edge in a thread of its own waited for ever to send a body."""
    pool = GreenletPool()

    def run() -> int:
        done: AsyncResult[int] = AsyncResult()
        pool.spawn(lambda: done.set(threading.get_ident()))
        return int(done.get(timeout=3))

    for _ in range(3):
        loop = LoopThread()
        try:
            assert loop.call(run) == loop.call(run) != threading.get_ident()
        finally:
            loop.stop()
    assert run() == threading.get_ident()


@pytest.mark.parametrize("pool", [GreenletPool(), LimitedGreenletPool(3)])
def test_a_greenlet_that_is_done_does_the_next_work(pool: GreenletPool) -> None:
    seen: list[object] = []
    for number in range(3):
        pool.spawn(lambda number: seen.append((number, getcurrent())), number)
        gevent.sleep(0.01)
    assert [number for number, _ in seen] == [0, 1, 2]  # type: ignore[misc]
    assert len({greenlet for _, greenlet in seen}) == 1  # type: ignore[misc]


def test_what_raises_takes_nothing_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    pool, done = LimitedGreenletPool(1), Event()
    pool.spawn(lambda: 1 / 0)
    pool.spawn(done.set)
    assert done.wait(1)
    gevent.sleep(0)
    assert pool.free_count() == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_limited_greenlet_pool_counts_as_a_pool_does() -> None:
    """What gunicorn's gevent worker asks when it stops: `server.pool.free_count() != server.pool.size`."""
    pool, go = LimitedGreenletPool(2), Event()
    assert (pool.size, pool.free_count(), pool.full()) == (2, 2, False)
    pool.spawn(go.wait)
    assert (pool.free_count(), pool.full()) == (1, False)
    pool.spawn(go.wait)
    assert (pool.free_count(), pool.full()) == (0, True)
    go.set()
    gevent.sleep(0.01)
    assert (pool.free_count(), pool.full()) == (2, False)


@pytest.mark.parametrize("spawn", [Pool(1), 1])
def test_a_server_that_is_given_a_pool_takes_no_more_connections_than_it_allows(spawn: object) -> None:
    answered, go = [], Event()

    def view(environ: object, start_response: object) -> list[bytes]:
        answered.append(1)
        go.wait()
        start_response("200 OK", [("Content-Length", "2")])  # type: ignore[operator]
        return [b"ok"]

    server = EdgeServer(("127.0.0.1", 0), App(view), spawn=spawn)
    server.start()
    try:
        assert isinstance(server.pool, LimitedGreenletPool)
        clients = [gevent.spawn(talk, server, CLOSE) for _ in range(3)]
        gevent.sleep(0.05)
        assert len(answered) == 1
        assert server.pool.free_count() == 0
        go.set()
        assert all(b"200 OK" in client.get() for client in clients)
        assert len(answered) == 3
        gevent.sleep(0.01)
        assert server.pool.free_count() == server.pool.size
    finally:
        server.stop(timeout=0)


def test_stopping_a_server_ends_the_connections_that_a_pool_would_have_killed() -> None:
    def view(environ: object, start_response: object) -> list[bytes]:
        Event().wait()
        return []

    server = EdgeServer(("127.0.0.1", 0), App(view), spawn=Pool(2))
    server.start()
    client = gevent.spawn(talk, server, GET)
    gevent.sleep(0.05)
    server.stop(timeout=0.05)
    assert client.get() == b""


@pytest.mark.parametrize("pool", [GreenletPool(), LimitedGreenletPool(2)])
def test_a_greenlet_that_cannot_begin_is_an_error_for_who_wants_it_and_takes_no_place(
    pool: GreenletPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: it ended in the loop, unheard of; its client was reset, and counted as connected for ever."""

    def no_memory() -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(greenlets, "require_memory", no_memory)
        for _ in range(3):
            with pytest.raises(MemoryError):
                pool.spawn(lambda: None)
    done = Event()
    pool.spawn(done.set)
    assert done.wait(1)


def test_a_client_without_a_greenlet_is_told_why_and_the_next_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory() -> None:
        raise MemoryError

    def view(environ: object, start_response: object) -> list[bytes]:
        start_response("200 OK", [("Content-Length", "2")])  # type: ignore[operator]
        return [b"ok"]

    server = EdgeServer(("127.0.0.1", 0), App(view))
    server.start()
    try:
        with monkeypatch.context() as patch:
            patch.setattr(greenlets, "require_memory", no_memory)
            answer = talk(server, CLOSE)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"Retry-After: 1\r\n" in answer
        assert b"200 OK" in talk(server, CLOSE)
        until(lambda: server.connections == 0)
    finally:
        server.stop(timeout=0)
