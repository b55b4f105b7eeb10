"""Flow control: RFC 9113 sections 5.2, 6.5.3 and 6.9, both ways."""

from __future__ import annotations

import pytest

from smartedge.server.server import EdgeServer
from tests.house import until
from tests.http2.client import (
    END,
    GET,
    LARGEST,
    PADDED,
    POST,
    Client,
    Fields,
    client,
    data,
    frame,
    having,
    headers,
    open_headers,
    settings,
    window,
)
from tests.http2.house import Case, EchoApp, serving

POST_1 = open_headers(1, POST)
WINDOW = 262144
"""Ours, of a stream."""

CASES = [
    Case("6.9.1", "the connection's window over 2 GiB", (window(0, LARGEST),), "GOAWAY FLOW_CONTROL_ERROR"),
    Case("6.9.1", "a stream's window over 2 GiB", (POST_1, window(1, LARGEST)), "RST FLOW_CONTROL_ERROR"),
    Case("6.9.1", "a window of exactly 2 GiB - 1", (POST_1, window(1, LARGEST - 65535), data(1, end=True)), "200"),
    Case("6.9.2", "a new first window takes an old one over 2 GiB", (POST_1, window(1, LARGEST - 65535), settings((4, 65536))),
         "GOAWAY FLOW_CONTROL_ERROR"),
]  # fmt: skip


def bytes_of(size: int) -> Fields:
    """A request whose answer is so long."""
    return having(GET, path=b"/bytes/%d" % size)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows(server: EdgeServer, case: Case) -> None:
    case.play(server.server_port)


def has_come(one: Client, stream: int, size: int) -> None:
    """Wait until so much of a body has come, and see that it is no more."""
    one.until(lambda: len(one.of(stream).body) >= size)
    one.synced()
    assert len(one.of(stream).body) == size


# ---- what we send ----


def test_no_more_is_sent_than_the_first_window_of_a_stream_allows(server: EdgeServer) -> None:
    """6.9.2: 65,535 bytes, where the client has not said otherwise."""
    with client(server.server_port, opens=False) as one:
        one.send(window(0, 1 << 20), headers(1, bytes_of(200_000)))
        has_come(one, 1, 65535)
        one.send(window(1, 1))
        has_come(one, 1, 65536)
        one.send(window(1, 200_000))
        assert len(one.answer(1).body) == 200_000


def test_no_more_is_sent_than_the_connections_window_allows(server: EdgeServer) -> None:
    """6.9.1: over all streams."""
    with client(server.server_port, (4, 1 << 20), opens=False) as one:
        one.send(headers(1, bytes_of(60_000)), headers(3, bytes_of(60_000)))
        one.until(lambda: sum(len(one.of(at).body) for at in (1, 3)) >= 65535)
        one.synced()
        assert sum(len(one.of(at).body) for at in (1, 3)) == 65535
        one.send(window(0, 54_465))
        assert [len(one.answer(at).body) for at in (1, 3)] == [60_000, 60_000]


def test_a_first_window_of_nothing_holds_bodies_and_no_heads(server: EdgeServer) -> None:
    """6.9.2, and a stream's window opened byte by byte."""
    with client(server.server_port, (4, 0), opens=False) as one:
        one.send(headers(1, bytes_of(5)), headers(3, having(GET, path=b"/status/204")))
        assert (one.answer(3).status, one.answer(3).ended) == (204, True)
        one.until(lambda: one.of(1).status == 200)
        has_come(one, 1, 0)
        for size in range(1, 6):
            one.send(window(1, 1))
            has_come(one, 1, size)
        assert one.answer(1).frames == [1, 1, 1, 1, 1]


def test_a_first_window_that_grows_lets_waiting_streams_go_on(server: EdgeServer) -> None:
    """6.9.2: it holds for streams that are open, too."""
    with client(server.server_port, (4, 10), opens=False) as one:
        one.send(headers(1, bytes_of(30)))
        has_come(one, 1, 10)
        one.send(settings((4, 25)))
        has_come(one, 1, 25)
        one.send(settings((4, 100)))
        assert len(one.answer(1).body) == 30


def test_a_first_window_that_shrinks_makes_windows_negative(server: EdgeServer) -> None:
    """6.9.2: what was sent too much is earned back first."""
    with client(server.server_port, (4, 100), opens=False) as one:
        one.send(headers(1, bytes_of(300)))
        has_come(one, 1, 100)
        one.send(settings((4, 20)))  # -80 now
        one.send(window(1, 80))
        has_come(one, 1, 100)
        one.send(window(1, 7))
        has_come(one, 1, 107)
        one.send(window(1, 1000))
        assert len(one.answer(1).body) == 300


def test_a_body_of_nothing_needs_no_window(server: EdgeServer) -> None:
    """6.9: an empty DATA with END_STREAM may be sent at any time."""
    with client(server.server_port, (4, 0), opens=False) as one:
        assert one.ask(1, bytes_of(0)).ended


def test_no_frame_is_larger_than_the_client_takes(server: EdgeServer) -> None:
    """4.2 and 6.5.2; one that takes more gets them as they come."""
    for said, most in ((16384, 16384), (20_000, 20_000), (2**24 - 1, 65536)):
        with client(server.server_port, (5, said), (4, 1 << 20)) as one:
            got = one.ask(1, bytes_of(300_000))
            assert (len(got.body), max(got.frames) <= most) == (300_000, True)


def test_a_client_that_opens_its_windows_for_every_frame_takes_a_body_of_any_length(server: EdgeServer) -> None:
    """It sends two frames for each of ours, which is no flood: 3,700 of them here."""
    with client(server.server_port) as one:
        assert len(one.ask(1, bytes_of(30_000_000)).body) == 30_000_000


def test_a_client_that_opens_its_windows_several_times_for_a_frame_is_no_flood_either(server: EdgeServer) -> None:
    """HAProxy does: by what its own client has taken, in pieces of any size."""
    with client(server.server_port) as one:
        one.pieces = 4
        assert len(one.ask(1, bytes_of(10_000_000)).body) == 10_000_000


# ---- what we receive ----


def test_windows_are_opened_as_a_body_is_read(server: EdgeServer) -> None:
    """5.2: half of a window at a time."""
    with client(server.server_port) as one:
        one.send(open_headers(1, having(POST, path=b"/held")))
        sent = 0
        while sent + 16384 <= WINDOW:
            one.send(data(1, b"x" * 16384))
            sent += 16384
        one.synced()
        assert 1 not in one.windows, "nobody has read it"
    with client(server.server_port) as one:
        one.send(open_headers(1, POST))
        for _ in range(5):
            one.send(data(1, b"x" * 16384))
        one.send(data(1, end=True))
        assert one.answer(1).status == 200


def test_a_byte_beyond_a_streams_window_ends_the_stream() -> None:
    """6.9.1."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(open_headers(1, having(POST, path=b"/held")), *[data(1, b"x" * 16384)] * 16)
        one.synced()
        one.send(data(1, b"x"))
        assert one.answer(1).reset == "FLOW_CONTROL_ERROR"
        app.go_on.set()
        assert one.ask(3).status == 200


def test_a_byte_beyond_the_connections_window_ends_the_connection() -> None:
    """6.9.1: ours is 1 MiB, four streams' worth."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        for stream in (1, 3, 5, 7):
            one.send(open_headers(stream, having(POST, path=b"/held")), *[data(stream, b"x" * 16384)] * 16)
        one.synced()
        one.send(open_headers(9, having(POST, path=b"/held")), data(9, b"x"))
        assert one.end() == "FLOW_CONTROL_ERROR"
        app.go_on.set()


def test_padding_counts_and_is_given_back() -> None:
    """6.9.1: the whole payload counts. A stream of nothing but padding would run dry after 1,024 frames."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(open_headers(1, having(POST, path=b"/held")))
        for _ in range(50):
            one.send(*[frame(0, PADDED, 1, b"\xff" + b"x" + bytes(255))] * 100)
            one.synced()
        one.send(frame(0, PADDED | END, 1, b"\x00x"))
        app.go_on.set()
        got = one.answer(1)
        assert (got.status, got.body.count(b"x") >= 5000) == (200, True)
        assert one.windows[1] > 1_000_000


@pytest.mark.parametrize("how", ["early answer", "reset by us", "behind the end"])
def test_what_nobody_reads_is_given_back_to_the_connections_window(how: str) -> None:
    """5.2.2 and 6.9: else a connection ends up with a window that nothing opens."""
    app = EchoApp()
    fields = {"early answer": having(POST, path=b"/early"), "reset by us": having(POST, path=b"bad"), "behind the end": POST}[how]
    with serving(app) as server, client(server.server_port) as one:
        given = one.windows[0]
        for round_ in range(12):
            stream = 2 * round_ + 1
            one.send(headers(stream, fields) if how == "behind the end" else open_headers(stream, fields))
            one.send(*[data(stream, b"x" * 16384)] * 16)
            one.answer(stream) if how != "behind the end" else one.synced()
        until(lambda: True)
        one.synced()
        assert one.windows[0] - given >= 11 * 262144 - 262144
        assert one.ask(99).status == 200
