"""Streams: RFC 9113 sections 5.1 (states and numbers), 5.1.2 (how many), 5.4 (errors) and 6.8 (the end of a connection)."""

from __future__ import annotations

import gevent
import pytest

from smartedge.server.front import ServerLimits
from smartedge.server.server import EdgeServer
from tests.house import until
from tests.http2.client import GET, POST, client, data, having, headers, open_headers, ping, plus, rst, window
from tests.http2.house import Case, EchoApp, serving

ASK = headers(1, GET)
POST_1 = open_headers(1, POST)
HELD = having(GET, path=b"/held")

CASES = [
    # 5.1: idle
    Case("5.1", "DATA on an idle stream", (data(1, b"x"),), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1", "DATA on an idle stream between others", (headers(5, GET), data(7, b"x")), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1", "DATA on a stream of ours", (data(2, b"x"),), "GOAWAY PROTOCOL_ERROR"),
    # 5.1: half-closed (remote)
    Case("5.1", "DATA behind the end", (headers(1, HELD), data(1, b"x")), "RST STREAM_CLOSED"),
    Case("5.1", "HEADERS behind the end", (headers(1, HELD), headers(1, GET)), "RST STREAM_CLOSED"),
    Case("5.1", "WINDOW_UPDATE behind the end", (ASK, window(1, 1)), "200"),
    # 5.1: closed
    Case("5.1", "DATA behind our own RST_STREAM", (headers(1, having(GET, path=b"bad")), data(1, b"late"), data(1, end=True)),
         "RST PROTOCOL_ERROR"),
    Case("5.1", "trailers behind our own RST_STREAM", (open_headers(1, having(GET, path=b"bad")), headers(1, ((b"x", b"y"),))),
         "RST PROTOCOL_ERROR"),
    Case("5.1", "DATA behind its own RST_STREAM", (POST_1, rst(1), data(1, b"late")), "nothing"),
    # 5.1.1: numbers
    Case("5.1.1", "an even number", (headers(2, GET),), "GOAWAY PROTOCOL_ERROR"),
    Case("5.1.1", "a number that is lower than the last", (headers(5, GET), headers(3, GET)), "GOAWAY STREAM_CLOSED"),
    Case("5.1.1", "numbers that leave others out", (ASK, headers(7, GET), headers(51, GET)), "200"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_streams(server: EdgeServer, case: Case) -> None:
    case.play(server.server_port)


@pytest.mark.parametrize("late", [data(1, b"x"), headers(1, GET)], ids=["DATA", "HEADERS"])
def test_what_comes_on_a_stream_that_both_sides_have_ended_ends_the_connection(server: EdgeServer, late: bytes) -> None:
    """5.1, closed."""
    with client(server.server_port) as one:
        assert one.ask(1).status == 200
        one.send(late)
        assert one.end() == "STREAM_CLOSED"


@pytest.mark.parametrize("late", [window(1, 1), rst(1)], ids=["WINDOW_UPDATE", "RST_STREAM"])
def test_what_may_have_been_on_its_way_when_a_stream_ended_is_ignored(server: EdgeServer, late: bytes) -> None:
    """5.1, closed."""
    with client(server.server_port) as one:
        assert one.ask(1).status == 200
        one.send(late)
        assert one.ask(3).status == 200


def test_the_largest_number_is_the_last_stream(server: EdgeServer) -> None:
    """5.1.1: a client that has used it up makes another connection."""
    with client(server.server_port) as one:
        assert one.ask(2**31 - 1).status == 200
        one.synced()


def test_streams_are_answered_side_by_side_and_not_in_order() -> None:
    """5: one does not wait for another."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, HELD))
        assert one.ask(3).status == 200
        assert one.of(1).status == 0
        app.go_on.set()
        assert one.answer(1).status == 200


def test_the_101st_stream_is_refused_and_the_others_go_on() -> None:
    """5.1.2: of a stream that is refused nothing was done, so that the client may ask again."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        assert one.settings[3] == 100
        one.send(*[headers(at, HELD) for at in range(1, 205, 2)])
        one.until(lambda: one.of(201).reset and one.of(203).reset)
        assert (one.of(201).reset, one.of(203).reset) == ("REFUSED_STREAM", "REFUSED_STREAM")
        until(lambda: app.asked == 100)
        app.go_on.set()
        assert {one.answer(at).status for at in range(1, 201, 2)} == {200}
        assert one.ask(205).status == 200
        assert app.asked == 101


def test_a_stream_that_is_refused_keeps_the_tables_of_both_sides_equal() -> None:
    """4.3: its head is decoded all the same."""
    app = EchoApp()
    named = b"\x40" + b"\x05x-one" + b"\x03two"  # goes into the table
    with serving(app) as server, client(server.server_port) as one:
        one.send(*[headers(at, HELD) for at in range(1, 201, 2)])
        one.send(headers(201, headers(1, GET)[9:] + named))
        one.until(lambda: one.of(201).reset)
        app.go_on.set()
        for at in range(1, 201, 2):
            one.answer(at)
        one.send(headers(203, headers(1, GET)[9:] + b"\xbe"))  # 62, the newest of the table
        assert b'"X_ONE": "two"' in one.answer(203).body


def test_a_streams_error_leaves_the_other_streams_alone() -> None:
    """5.4.2."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, HELD), headers(3, plus((b"connection", b"close"))), headers(5, GET))
        assert one.answer(3).reset == "PROTOCOL_ERROR"
        assert one.answer(5).status == 200
        app.go_on.set()
        assert one.answer(1).status == 200


def test_a_connections_error_says_which_stream_was_the_last() -> None:
    """5.4.1 and 6.8."""
    with serving() as server, client(server.server_port) as one:
        one.ask(1)
        one.ask(9)
        one.send(ping()[:-1] + b"8", data(0, b"x"))
        assert one.end() == "PROTOCOL_ERROR"
        assert one.goaways == [(9, "PROTOCOL_ERROR")]


def test_a_connection_that_asks_nothing_is_closed_with_a_word() -> None:
    app = EchoApp(ServerLimits(head_s=5, keepalive_s=0.1, idle_s=5))
    with serving(app) as server, client(server.server_port) as one:
        assert one.end() == "NO_ERROR"


# ---- the end ----


def test_a_stop_takes_what_is_on_its_way_ends_what_is_under_way_and_then_closes() -> None:
    """6.8: GOAWAY with the largest number first, and a second one with the last that was taken."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, HELD))
        until(lambda: app.asked)
        stopping = gevent.spawn(server.stop_gracefully, 10)
        one.until(lambda: one.goaways)
        assert one.goaways == [(2**31 - 1, "NO_ERROR")]
        assert one.ask(3).status == 200, "it was on its way when the server stopped"
        one.until(lambda: len(one.goaways) == 2)
        assert one.goaways[1] == (3, "NO_ERROR")
        one.send(headers(5, GET))
        assert one.answer(5).reset == "REFUSED_STREAM"
        assert not stopping.ready()
        app.go_on.set()
        assert one.answer(1).status == 200
        one.end()
        assert {last for last, _ in one.goaways[1:]} == {3}, "a later one says more"
        assert stopping.get() is True


def test_a_stop_closes_a_connection_that_waits_even_if_its_client_goes_on_to_say_things() -> None:
    with serving() as server, client(server.server_port) as one:
        one.ask(1)
        stopping = gevent.spawn(server.stop_gracefully, 10)

        def chatter() -> None:
            while not one.closed:
                one.send(ping())
                gevent.sleep(0.05)

        talking = gevent.spawn(chatter)
        one.end()
        assert stopping.get() is True
        talking.get()
