"""What a client may have the edge do for nothing: each attack as it was published, until the connection is ended and counted."""

from __future__ import annotations

from collections.abc import Callable

import gevent
import gevent.event
import pytest

from smartedge.balancer.cells import IN_FLIGHT
from smartedge.server.front import ServerLimits
from tests.house import until
from tests.http2.client import (
    ACK,
    END,
    END_HEADERS,
    GET,
    LARGEST,
    PADDED,
    POST,
    PREFACE,
    Client,
    block,
    client,
    continuation,
    data,
    frame,
    goaway,
    having,
    headers,
    literal,
    open_headers,
    ping,
    plus,
    priority,
    rst,
    settings,
    window,
)
from tests.http2.house import EchoApp, serving, through
from tests.peers import head_of

HELD = having(GET, path=b"/held")
HELD_POST = having(POST, path=b"/held")
CALM = "ENHANCE_YOUR_CALM"


# ---- floods of frames: kind, what comes before, and the frame ----

FLOODS = {
    "PING (CVE-2019-9512)": ("ping", b"", ping()),
    "answers to no PING": ("ping", b"", frame(6, ACK, 0, bytes(8))),
    "SETTINGS (CVE-2019-9515)": ("settings", b"", settings((4, 65535))),
    "empty SETTINGS": ("settings", b"", settings()),
    "ACKs of SETTINGS": ("settings", b"", frame(4, ACK, 0)),
    "PRIORITY (CVE-2019-9513)": ("priority", b"", priority(1, 3)),
    "PRIORITY_UPDATE": ("priority", b"", frame(16, 0, 0, bytes(3) + b"\x01u=1")),
    "windows of the connection": ("window_update", b"", window(0, 1)),
    "windows of a stream": ("window_update", headers(1, HELD), window(1, 1)),
    "windows of a stream that is over": ("window_update", headers(1, HELD) + rst(1), window(1, 1)),
    "empty DATA (CVE-2019-9518)": ("empty_data", open_headers(1, HELD_POST), data(1)),
    "DATA of nothing but padding": ("empty_data", open_headers(1, HELD_POST), frame(0, PADDED, 1, b"\x00")),
    "unknown frames": ("unknown", b"", frame(0xEE, 0, 0, b"x")),
    "GOAWAY": ("goaway", headers(1, HELD), goaway()),
    "resets of a stream that is over": ("reset", headers(1, HELD), rst(1)),
    "DATA behind a reset": ("closed_stream", open_headers(1, HELD_POST) + rst(1), data(1, b"x")),
    "heads behind a reset": ("closed_stream", open_headers(1, HELD_POST) + rst(1), headers(1, b"")),
}


@pytest.mark.parametrize("name", FLOODS)
def test_frames_that_are_no_work_end_the_connection_after_two_thousand(name: str) -> None:
    kind, before, flood = FLOODS[name]
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(before)
        one.send(*[flood] * 1500)
        assert one.ask(11).status == 200, "1,500 at once are no reason"
        one.send(*[flood] * 3000)
        assert (one.end(), app.excess) == (CALM, [kind])
        app.go_on.set()


# ---- requests that are taken back: what a client does for each ----

TAKEN_BACK = {
    "rapid reset (CVE-2023-44487)": lambda at: headers(at, GET) + rst(at),
    "MadeYouReset (CVE-2025-8671): a window of nothing": lambda at: headers(at, GET) + window(at, 0),
    "MadeYouReset: a window of too much": lambda at: headers(at, GET) + window(at, LARGEST),
    "MadeYouReset: DATA behind the end": lambda at: headers(at, GET) + data(at, b"x"),
    "MadeYouReset: HEADERS behind the end": lambda at: headers(at, GET) + headers(at, GET),
    "MadeYouReset: PRIORITY of four bytes": lambda at: headers(at, GET) + frame(2, 0, at, bytes(4)),
    "MadeYouReset: a stream that depends on itself": lambda at: headers(at, GET) + priority(at, at),
    "MadeYouReset: trailers that are not the end": lambda at: open_headers(at, POST) + headers(at, b"", END_HEADERS),
    "requests that are none": lambda at: headers(at, plus((b"connection", b"x"))),
}


@pytest.mark.parametrize("name", TAKEN_BACK)
def test_requests_that_are_taken_back_end_the_connection_after_five_hundred(name: str) -> None:
    """Fifty at a time: of a hundred and more the rest is refused before anybody works on it."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        for batch in range(1, 1001, 100):
            one.send(*[TAKEN_BACK[name](at) for at in range(batch, batch + 100, 2)])
            one.synced()
        assert app.excess == [], "500 at once are no reason"
        send_until_closed(one, TAKEN_BACK[name], 1001)
        assert (one.end(), app.excess) == (CALM, ["reset"])


def send_until_closed(one: Client, flood: Callable[[int], bytes], first: int) -> None:
    """Send it for fifty streams at a time. It takes more of them the longer that lasts, for seconds fill the bucket, too."""
    for batch in range(first, first + 10_000, 100):
        before = len(one.pings)
        one.send(*[flood(at) for at in range(batch, batch + 100, 2)], ping(b"synced??"))
        one.until(lambda before=before: one.closed or len(one.pings) > before)
        if one.closed:
            return


@pytest.mark.parametrize("name", TAKEN_BACK)
def test_all_at_once_they_end_it_too(name: str) -> None:
    """Those whose client has left count against the hundred as long as somebody works on them."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(*[TAKEN_BACK[name](at) for at in range(1, 8001, 2)])
        assert one.end() in (CALM, "FRAME_SIZE_ERROR", "PROTOCOL_ERROR")
        assert app.asked <= 600


@pytest.mark.parametrize("paid", [data(1, b"x"), frame(0, PADDED, 1, b"\x00")], ids=["DATA of a byte", "DATA of nothing"])
def test_nothing_but_answers_pays_for_requests_that_are_taken_back(paid: bytes) -> None:
    """Frames of bodies filled the one bucket that there was: two of ten bytes bought a reset, for ever."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(open_headers(1, POST))
        send_until_closed(one, lambda at: paid * 2 + headers(at, GET) + rst(at), 3)
        assert (one.end(), app.excess) == (CALM, ["reset"])


def test_a_client_that_takes_back_every_third_request_is_none_of_these() -> None:
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        for at in range(1, 3900, 6):
            one.send(headers(at, GET), headers(at + 2, GET), headers(at + 4, GET), rst(at + 4))
            assert one.answer(at + 2).status == one.answer(at).status == 200
        assert app.excess == []


def test_streams_whose_client_has_left_count_until_their_work_has_ended() -> None:
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(*[headers(at, HELD) + rst(at) for at in range(1, 201, 2)])
        one.synced()
        until(lambda: app.asked == 100)
        assert one.ask(201).reset == "REFUSED_STREAM"
        app.go_on.set()
        (incoming,) = server.front.open
        until(lambda: incoming.idle)
        assert one.ask(203).status == 200


def test_requests_to_a_backend_that_hangs_end_there_when_they_are_taken_back() -> None:
    """No more connections than streams, and none is left behind."""
    open_now = most = 0

    def play(sock: object, _number: int) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        head_of(sock)
        sock.recv(1)  # type: ignore[attr-defined]
        open_now -= 1

    with through(play) as (edge, one):
        for at in range(1, 401, 2):
            one.send(headers(at, GET))
            if at % 40 == 39:
                until(lambda: edge.counted(IN_FLIGHT) == 20 and open_now == 20)
                one.send(*[rst(done) for done in range(at - 38, at + 1, 2)])
                until(lambda: edge.counted(IN_FLIGHT) == 0 and open_now == 0)
        assert most == 20
        one.synced()


# ---- heads ----


def test_a_flood_of_continuations_ends_the_connection() -> None:
    """CVE-2024-27316: it never says END_HEADERS, and nobody counts."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, block(GET), END), *[continuation(1, b"", 0)] * 1000)
        assert (one.end(), app.excess) == (CALM, ["continuation"])


def test_a_block_that_does_not_end_is_not_gathered() -> None:
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, block(GET), END), *[continuation(1, b"\x00" * 16384, 0)] * 60)
        assert (one.end(), app.excess) == (CALM, ["continuation"])


def test_a_small_block_that_unfolds_to_a_large_head_ends_the_connection() -> None:
    """The HPACK bomb (CVE-2016-6581): a field of 4,000 bytes goes into the table, and a byte says it again."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, block(GET) + literal(b"x", b"y" * 3900, 0x40)))
        one.answer(1)
        one.send(headers(3, block(GET) + b"\xbe" * 1000))
        assert (one.end(), app.excess) == (CALM, ["header_list"])


@pytest.mark.parametrize(
    "field", [b"\xbe", literal(b"y", b""), b"\x1f\x2f\x00"], ids=["a reference", "a literal", "a name by reference"]
)
def test_a_head_of_very_many_fields_ends_the_connection_and_of_too_many_its_stream(field: bytes) -> None:
    """Each costs a byte or three of theirs, and some µs of ours."""
    app = EchoApp(ServerLimits(headers=50))
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, block(GET) + literal(b"x", b"", 0x40)))
        assert one.answer(1).status == 200
        one.send(headers(3, block(GET) + field * (200 - len(GET))))
        assert one.answer(3).status == 431
        one.send(headers(5, block(GET) + field * (201 - len(GET))))
        assert (one.end(), app.excess) == (CALM, ["header_list"])


QUICK = ServerLimits(head_s=0.2, keepalive_s=5, idle_s=0.2)
SLOW_HEADS = {
    "a block without its end": headers(1, block(GET), END),
    "half a frame": headers(1, GET)[:20],
    "nothing but the beginning of its head": headers(1, GET)[:4],
}


@pytest.mark.parametrize("what", SLOW_HEADS)
def test_a_head_that_does_not_come_to_its_end_in_time_ends_the_connection(what: str) -> None:
    app = EchoApp(QUICK)
    with serving(app) as server, client(server.server_port) as one:
        one.send(SLOW_HEADS[what])
        assert (one.end(), app.excess) == (CALM, ["slow_head"])


def test_a_head_that_drips_is_late_too() -> None:
    app = EchoApp(QUICK)
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, b"", END))

        def drip() -> None:
            for at in range(60):
                one.send(continuation(1, block(GET)[at : at + 1], 0))
                gevent.sleep(0.02)

        dripping = gevent.spawn(drip)
        assert (one.end(), app.excess) == (CALM, ["slow_head"])
        dripping.kill()


@pytest.mark.parametrize("said", [PREFACE[:10], PREFACE, PREFACE + settings()[:5]], ids=str)
def test_a_connection_that_does_not_begin_is_closed(said: bytes) -> None:
    with serving(EchoApp(QUICK)) as server, client(server.server_port, raw=True) as one:
        one.send(said)
        one.end()


def test_heads_that_come_in_pieces_all_the_time_are_not_late() -> None:
    """Each read ended within a HEADERS frame; the time of the first one counted for all."""
    app = EchoApp(QUICK)
    with serving(app) as server, client(server.server_port) as one:
        rest = b""
        for at in range(1, 101, 2):
            whole = headers(at, GET)
            one.send(rest + whole[:20])
            rest = whole[20:]
            gevent.sleep(0.01)
        one.send(rest)
        assert one.answer(99).status == 200


# ---- bodies ----


@pytest.mark.parametrize("sent", [b"", data(1, b"some")], ids=["nothing", "some"])
def test_a_body_that_stops_ends_its_stream_and_not_the_connection(sent: bytes) -> None:
    with serving(EchoApp(QUICK)) as server, client(server.server_port) as one:
        one.send(open_headers(1, POST), sent)
        got = one.answer(1)
        assert (got.status, got.reset) in ((408, ""), (408, "NO_ERROR"))
        assert one.ask(3).status == 200


def test_a_client_that_opens_no_window_has_its_streams_ended_and_the_rest_goes_on() -> None:
    app = EchoApp(QUICK)
    with serving(app) as server, client(server.server_port, (4, 0), opens=False) as one:
        one.send(*[headers(at, having(GET, path=b"/bytes/1000000")) for at in range(1, 201, 2)])
        assert {one.answer(at).reset for at in range(1, 201, 2)} == {"INTERNAL_ERROR"}
        one.send(settings((4, 65535)))
        assert one.ask(201).status == 200


def test_a_client_that_takes_what_others_send_has_no_stream_ended() -> None:
    """A window for the whole connection that is always a little open: whoever has to wait for its turn has not stalled.

    The last of 20 waits for 20 openings, longer than idle_s. What counts is the time between two: a loaded machine may take some.
    """
    app = EchoApp(ServerLimits(idle_s=0.6))
    with serving(app) as server, client(server.server_port, (4, 1 << 20), opens=False) as one:
        one.send(*[headers(at, having(GET, path=b"/bytes/40000")) for at in range(1, 41, 2)])
        while not all(one.of(at).ended for at in range(1, 41, 2)):
            one.send(window(0, 20_000))
            gevent.sleep(0.045)
            one.synced()
            assert not any(got.reset for got in one.streams.values()), one


# ---- a client that never reads ----


def test_a_client_that_reads_nothing_is_not_read_either() -> None:
    """Heads of answers need no window: without a limit they would be held, as many as it asks for. Nothing of them is lost."""
    app = EchoApp()
    count = 2000
    with serving(app) as server, client(server.server_port, recv_bytes=4096) as one:
        (incoming,) = server.front.open
        link = incoming.leave.__self__.link  # type: ignore[union-attr]

        def ask() -> None:
            for at in range(1, 2 * count, 40):
                one.send(*[headers(even, having(GET, path=b"/wide/3000")) for even in range(at, at + 40, 2)])
                until(lambda asked=at // 2 + 20: app.asked >= asked, 60)

        asking = gevent.spawn(ask)
        before = -1
        while app.asked != before:
            before = app.asked
            gevent.sleep(0.2)
        assert 0 < app.asked < count, "it went on being read"
        assert sum(map(len, link._pending)) < 262144 + 100 * 3100
        one.until(lambda: sum(got.ended for got in one.streams.values()) == count, 30)
        assert {got.status for got in one.streams.values()} == {204}
        asking.get()
        assert app.excess == []


def test_a_client_that_reads_nothing_while_it_floods_is_let_go() -> None:
    app = EchoApp()
    with serving(app) as server, client(server.server_port, recv_bytes=4096) as one:
        one.send(*[ping()] * 10_000)
        until(lambda: app.excess == ["ping"])
        assert one.end() == CALM
