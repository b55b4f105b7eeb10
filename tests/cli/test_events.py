"""The command `events`, against a balancer that answers what the test has put down."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest

from smartedge.cli import events as command
from smartedge.cli import main as cli
from smartedge.cli.event_line import event_line, stamp_of
from smartedge.cli.events import following, streamed, unix_time_of
from smartedge.cli.remote import RefusedError, RemoteEdge
from tests.small_balancer import SmallBalancer, serving

Start = Callable[..., SmallBalancer]

EJECTED = {"at": 1750000000.25, "kind": "ejected", "level": "warning", "text": "web/b2 was ejected: 5 failures in a row"}
UP = {"at": 1750000001.5, "kind": "up", "level": "info", "text": "web/b2 answers its probes"}
LINES = (
    "2025-06-15T15:06:40.250Z  ejected         web/b2 was ejected: 5 failures in a row\n"
    "2025-06-15T15:06:41.500Z  up              web/b2 answers its probes\n"
)


@pytest.fixture
def balancer() -> Iterator[Start]:
    with contextlib.ExitStack() as running:

        def start(*answers: Any) -> SmallBalancer:
            given = [answer if isinstance(answer, tuple) else (200, answer) for answer in answers]
            return running.enter_context(serving(SmallBalancer(*given)))

        yield start


def stream(*events: dict[str, Any]) -> bytes:
    """Server-sent events, numbered from 1."""
    blocks = [f"id: 0-{number}\nevent: {one['kind']}\ndata: {json.dumps(one)}\n\n" for number, one in enumerate(events, 1)]
    return ("retry: 1000\n\n:\n\n" + "".join(blocks)).encode()


def paths(server: SmallBalancer) -> list[str]:
    return [path for _, path, _ in server.asked]


def test_what_happened_is_a_line_each(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer({"events": [EJECTED, UP], "cursor": "0-2"})
    assert cli.main(["events", "--url", server.url]) == 0
    assert capsys.readouterr() == (LINES, "")
    assert paths(server) == ["/smartedge/events?limit=20"]


def test_the_flags_are_what_is_asked_for(balancer: Start) -> None:
    server = balancer({"events": [], "cursor": "0-2"})
    arguments = ["events", "--url", server.url, "--service", "a b", "--backend", "web/b2", "-n", "7"]
    assert cli.main([*arguments, "--since", "1970-01-01T00:01+00:00"]) == 0
    assert paths(server) == ["/smartedge/events?service=a+b&backend=web%2Fb2&since=60.000&limit=7"]
    assert cli.main(["events", "--url", server.url, "--since", "1970-01-01T00:01+00:00"]) == 0
    assert paths(server)[1:] == ["/smartedge/events?since=60.000&limit=1000"]


def test_as_json_it_is_the_whole_answer(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"events": [EJECTED, UP], "cursor": "0-2"}
    assert cli.main(["events", "--url", balancer(answer).url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answer


def test_names_do_nothing_to_a_terminal(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    text = '\x1b[2J \u202egnp <script> "q" 🚀\nnext'
    server = balancer({"events": [UP | {"text": text, "kind": "u\x1bp", "at": "x"}]})
    assert cli.main(["events", "--url", server.url]) == 0
    line = '?                         u\\u001bp        \\u001b[2J \\u202egnp <script> "q" 🚀\\u000anext\n'
    assert capsys.readouterr().out == line


@pytest.mark.parametrize(
    ("event", "colour"),
    [(EJECTED, 33), (UP, 32), (UP | {"kind": "reload_refused", "level": "error"}, 31), (UP | {"kind": "started"}, None)],
)
def test_on_a_terminal_the_kind_has_its_colour(event: dict[str, Any], colour: int | None) -> None:
    line = event_line(event, lambda text, style: f"<{style}>{text}")
    assert f"<{ {33: 'warn', 32: 'good', 31: 'bad', None: 'plain'}[colour] }>{event['kind']} " in line


def test_no_color_is_minded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in event_line(EJECTED, command.painted)
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[33mejected" in event_line(EJECTED, command.painted)


def test_following_goes_on_where_the_past_ended_also_over_a_restart(
    balancer: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream ends, the edge has gone for a while, comes back, and at last somebody presses Ctrl-C."""
    monkeypatch.setattr(command, "AGAIN_S", 0.0)
    past = {"events": [EJECTED], "cursor": "0-9"}
    server = balancer(past, (200, stream(UP)), (500, {"title": "Internal error"}))
    waits = iter([None, KeyboardInterrupt])

    def wait(_: float) -> None:
        if (next_one := next(waits)) is not None:
            raise next_one

    monkeypatch.setattr(command.time, "sleep", wait)
    server.answers = [(200, past), (200, stream(UP)), (200, stream(EJECTED))]
    assert cli.main(["events", "--url", server.url, "--follow", "--service", "web"]) == 130
    found = capsys.readouterr()
    assert found.out == LINES + LINES.splitlines(keepends=True)[0]
    assert found.err == ""
    assert paths(server) == [
        "/smartedge/events?service=web&limit=20",
        "/smartedge/events?service=web&after=0-9",
        "/smartedge/events?service=web&after=0-1",
    ]


class Gone:
    """An edge that is there now and then: each of its streams is lines, or what comes instead of them."""

    def __init__(self, *streams: list[str] | Exception) -> None:
        self.streams = list(streams)
        self.asked: list[str] = []

    def follow(self, path: str) -> Iterator[str]:
        self.asked.append(path)
        found = self.streams.pop(0)
        if isinstance(found, Exception):
            raise found
        yield from found


def test_that_nobody_answers_is_said_once_until_somebody_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "AGAIN_S", 0.0)
    gone, busy = command.Stop("no balancer answers at x; start one"), RefusedError("full", {"status": 503})
    there = [":", "", "id: 0-5", 'data: {"text": "back"}', ""]
    edge: Any = Gone(gone, gone, there, gone, busy, RefusedError("refused with status 401", {"status": 401}))
    events = following(edge, {}, "0-1")
    assert next(events) == {"text": "back"}
    assert capsys.readouterr().err == "smartedge: no balancer answers at x; start one; waiting for it\n"
    with pytest.raises(RefusedError, match="401"):
        next(events)
    assert capsys.readouterr().err == "smartedge: no balancer answers at x; start one; waiting for it\n"
    assert edge.asked[-1] == "/smartedge/events?after=0-5"


def test_as_json_what_follows_is_an_object_a_line(
    balancer: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.time, "sleep", interrupt)
    server = balancer({"events": [EJECTED], "cursor": "0-9"}, (200, stream(UP)))
    assert cli.main(["events", "--url", server.url, "-f", "--json", "-n", "0"]) == 130
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [UP]


def test_what_is_lost_to_a_slow_reader_is_said() -> None:
    assert event_line({"missed": 7}) == "7 events are missing here: this terminal was too slow"


def test_a_stream_is_read_as_the_standard_has_it() -> None:
    lines = [
        "retry: 1",
        "",
        ":",
        "",
        "id: 0-1",
        "event: up",
        "data: {",
        'data: "a": 1}',
        "",
        "id:0-2",
        "data:no json",
        "",
        "event: x",
    ]
    assert [one for one in streamed(iter(lines)) if one != (None, None)] == [("0-1", {"a": 1}), ("0-2", None)]


@pytest.mark.parametrize(
    ("text", "time"),
    [("90s", 910.0), ("2m", 880.0), ("1.5min", 910.0), ("0.1h", 640.0), ("1d", 0.0), ("1970-01-01T00:01Z", 60.0)],
)
def test_a_time_is_so_long_ago_or_a_date(text: str, time: float) -> None:
    assert unix_time_of(text, 1000.0) == pytest.approx(time)


@pytest.mark.parametrize("text", ["yesterday", "5", "-5m", "5 weeks", "1970-13-01", "", "٣m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="--since is a time ago, such as 90s"):
        unix_time_of(text, 1000.0)


@pytest.mark.parametrize("count", ["-1", "1001"])
def test_a_wrong_number_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["events", "-n", count]) == 2
    assert f"-n is from 0 to 1000, not {count}" in capsys.readouterr().err


def test_a_refusal_ends_it_with_one_line(balancer: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = balancer((400, {"status": 400, "title": "Bad request", "detail": "limit must be so"}))
    assert cli.main(["events", "--url", server.url, "--follow"]) == 1
    assert capsys.readouterr().err == "smartedge: refused with status 400: Bad request: limit must be so\n"


def test_a_stamp_of_nonsense_is_a_question_mark() -> None:
    assert {stamp_of(value).strip() for value in (None, "x", 1e30, float("nan"))} == {"?"}


def test_where_nobody_answers_following_begins_with_that(capsys: pytest.CaptureFixture[str]) -> None:
    with SmallBalancer() as nobody:
        url = nobody.url
    assert cli.main(["events", "--url", url, "--follow"]) == 2
    assert capsys.readouterr().err.startswith(f"smartedge: no balancer answers at {url}")


def test_a_balancer_is_looked_for_anew_when_it_is_followed(balancer: Start) -> None:
    """It may answer somewhere else after a restart."""
    server = balancer((200, stream(UP)))
    assert next(RemoteEdge(server.url, None, None, as_json=False).follow("/smartedge/events")) == "retry: 1000"
