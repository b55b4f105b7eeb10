"""First byte in, first byte out, in both directions."""

from __future__ import annotations

import threading

import pytest

from tests.live.edges import LiveEdge, first_piece, request
from tests.live.peers import Call, Script, answers_early, continues, head, message
from tests.live.processes import wait_until

CHUNKED = b"POST /up HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n"


class Gate:
    """A backend that sends or reads one part, then waits until the test lets it go on."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.reached = threading.Event()

    def wait(self, call: Call) -> None:
        self.reached.set()
        while not self.go_on.wait(0.02) and not call.script.stopping.is_set():
            pass


# First bytes at once.


@pytest.mark.parametrize(
    ("fields", "start", "end"),
    [
        ([("Content-Type", "text/event-stream")], b"data: 1\n\n", b"data: 2\n\n"),
        ([("Content-Length", "100000")], b"first", b"x" * 99_995),
        ([("Transfer-Encoding", "chunked")], b"7\r\ndata: 1\r\n", b"7\r\ndata: 2\r\n0\r\n\r\n"),
    ],
    ids=["until-close", "length", "chunked"],
)
def test_the_first_bytes_of_an_answer_go_on_before_there_are_more(
    edge: LiveEdge, fields: list[tuple[str, str]], start: bytes, end: bytes
) -> None:
    """`stream(65536)` waits for 64 KiB where a Content-Length is set."""
    gate = Gate()

    def act(call: Call) -> None:
        call.request()
        call.send(head(200, fields) + start)
        gate.wait(call)
        call.send(end)

    with Script(act) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(request())
        first_piece(client, b"data: 1" if b"data" in start else b"first")
        assert not gate.go_on.is_set()
        gate.go_on.set()
        assert len(client.answer().body) > 5


def test_a_head_goes_on_before_the_body_begins(own: LiveEdge) -> None:
    """Event streams may say nothing for minutes after their head."""
    gate = Gate()

    def act(call: Call) -> None:
        call.request()
        call.send(head(200, [("Content-Type", "text/event-stream")]))
        gate.wait(call)
        call.send(b"data: 1\n\n")

    with Script(act) as backend, own.client(3) as client:
        own.configure(backend)
        client.send(request())
        first_piece(client, b"\r\n\r\n")
        gate.go_on.set()
        assert client.answer().body == b"data: 1\n\n"


def test_an_upload_reaches_the_backend_before_it_is_complete(edge: LiveEdge) -> None:
    seen: list[bytes] = []

    def act(call: Call) -> None:
        call.request(body=False)
        while b"part two" not in call.stream.buffer:
            seen.append(bytes(call.stream.buffer))
            if not call.stream.fill():
                return
        call.send(message(body=b"got both"))

    with Script(act) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(CHUNKED + b"8\r\npart one\r\n")
        wait_until(lambda: any(b"part one" in piece for piece in seen), 5, "the first part at the backend")
        client.send(b"8\r\npart two\r\n0\r\n\r\n")
        assert client.answer().body == b"got both"


def test_both_directions_flow_at_once(own: LiveEdge) -> None:
    """A backend that answers while it reads: what it says of each part comes back before the next part is sent."""

    def act(call: Call) -> None:
        call.request(body=False)
        call.send(head(200, [("Transfer-Encoding", "chunked")]))
        while call.stream.buffer or call.stream.fill():
            piece = call.stream.take(len(call.stream.buffer))
            call.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            if b"0\r\n\r\n" in piece:
                call.send(b"0\r\n\r\n")
                return

    with Script(act) as backend, own.client() as client:
        own.configure(backend)
        client.send(CHUNKED)
        for word in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%b\r\n" % (len(word), word))
            first_piece(client, word)
        client.send(b"0\r\n\r\n")
        assert client.answer().body.endswith(b"0\r\n\r\n")


def test_expect_100_continue_works_end_to_end_in_any_case(edge: LiveEdge) -> None:
    with Script(continues()) as backend, edge.client() as client:
        edge.configure(backend)
        for expectation in (b"100-continue", b"100-CONTINUE", b"100-Continue"):
            client.send(b"PUT / HTTP/1.1\r\nHost: e\r\nContent-Length: 4\r\nExpect: " + expectation + b"\r\n\r\n")
            assert first_piece(client, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            client.send(b"body")
            answer = client.answer()
            assert (answer.status, answer.body) == (200, b"body")


def test_a_refusal_comes_without_the_body_that_it_spares(own: LiveEdge) -> None:
    with Script(answers_early(417)) as backend, own.client() as client:
        own.configure(backend)
        client.send(b"PUT / HTTP/1.1\r\nHost: e\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.interim) == (417, [])


@pytest.mark.parametrize("read_rest", [True, False])
def test_an_answer_that_comes_before_the_upload_ends_reaches_the_client(edge: LiveEdge, read_rest: bool) -> None:
    with Script(answers_early(413, read_rest=read_rest)) as backend, edge.client() as client:
        edge.configure(backend)
        client.send(CHUNKED + b"4\r\npart\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (413, b"too soon\n")
