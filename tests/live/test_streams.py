"""First byte in, first byte out, in both directions; little memory whatever the size; and clients that leave."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.live.edges import GEVENT, LiveEdge, first_piece, request
from tests.live.peers import (
    Call,
    CutOffError,
    Script,
    answers,
    answers_early,
    continues,
    cuts_mid_body,
    cuts_mid_chunk,
    drips,
    head,
    message,
    never_answers,
    never_reads,
    once,
    serves,
    stalls_mid_body,
)
from tests.live.processes import wait_until

BIG = 200 * 1024 * 1024
PIECE = b"0123456789abcdef" * 4096  # 64 KiB
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


def test_a_head_goes_on_before_the_body_begins(exact: LiveEdge) -> None:
    """Event streams may say nothing for minutes after their head."""
    gate = Gate()

    def act(call: Call) -> None:
        call.request()
        call.send(head(200, [("Content-Type", "text/event-stream")]))
        gate.wait(call)
        call.send(b"data: 1\n\n")

    with Script(act) as backend, exact.client(3) as client:
        exact.configure(backend)
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


def test_both_directions_flow_at_once(exact: LiveEdge) -> None:
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

    with Script(act) as backend, exact.client() as client:
        exact.configure(backend)
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


def test_a_refusal_comes_without_the_body_that_it_spares(exact: LiveEdge) -> None:
    with Script(answers_early(417)) as backend, exact.client() as client:
        exact.configure(backend)
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


# Memory.


def flood(call: Call) -> None:
    """Answer BIG bytes."""
    call.request()
    call.send(head(200, [("Content-Length", str(BIG))]))
    for _ in range(BIG // len(PIECE)):
        call.send(PIECE)


def swallow(call: Call) -> None:
    """Read BIG bytes of a body, keeping none, and say how many came."""
    request = call.request(body=False)
    assert request is not None
    size = int(request.get(b"content-length") or b"0")
    left = size - len(call.stream.take(len(call.stream.buffer)))
    while left and (data := call.sock.recv(1 << 20)):
        left -= len(data)
    call.send(message(body=b"%d" % (size - left)))


class Peak:
    """The most memory that an edge's process has had since it was last asked (proc(5), clear_refs)."""

    def __init__(self, edge: LiveEdge) -> None:
        self.pid = edge.worker_pid()
        self.edge = edge
        self.before = edge.memory_bytes()
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")

    def grown_bytes(self) -> int:
        with open(f"/proc/{self.pid}/status") as file:
            peak = int(file.read().split("VmHWM:")[1].split()[0]) * 1024
        return peak - self.before


def test_a_large_answer_passes_through_little_memory(edge: LiveEdge) -> None:
    with Script(flood) as backend, edge.client(30) as client:
        edge.configure(backend)
        edge.ask(method=b"HEAD")  # what is imported on first use is not the body's
        peak = Peak(edge)
        client.send(request())
        first_piece(client, b"\r\n\r\n")
        received = len(client.stream.buffer) - client.stream.buffer.index(b"\r\n\r\n") - 4
        while received < BIG and (data := client.sock.recv(1 << 20)):
            received += len(data)
        assert received == BIG
        assert peak.grown_bytes() < 20 * 1024 * 1024


def test_a_large_upload_passes_through_little_memory(edge: LiveEdge) -> None:
    with Script(swallow) as backend, edge.client(30) as client:
        edge.configure(backend)
        peak = Peak(edge)
        client.send(b"PUT /up HTTP/1.1\r\nHost: edge.test\r\nContent-Length: %d\r\n\r\n" % BIG)
        for _ in range(BIG // len(PIECE)):
            client.send(PIECE)
        assert client.answer().body == b"%d" % BIG
        assert peak.grown_bytes() < 20 * 1024 * 1024


def test_a_client_that_reads_slowly_slows_the_backend_down(edge: LiveEdge) -> None:
    sent = [0]

    def act(call: Call) -> None:
        call.request()
        call.send(head(200, [("Content-Length", str(BIG))]))
        for _ in range(BIG // len(PIECE)):
            call.send(PIECE)
            sent[0] += len(PIECE)

    with Script(act) as backend:
        edge.configure(backend, timeouts={"idle_s": 1})
        peak = Peak(edge)
        with edge.client() as client:
            client.send(request())
            first_piece(client, b"0123")
            if edge.server == GEVENT:  # gunicorn waits for its client as long as that likes
                wait_until(lambda: sent[0] and sent[0] == (backend.stopping.wait(0.3), sent[0])[1], 5, "standstill")
            else:
                edge.log(status=499)  # after a second of taking nothing the client is given up
            assert sent[0] < BIG / 2
            assert peak.grown_bytes() < 20 * 1024 * 1024


# Clients that leave.


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_while_it_waits_frees_the_backend(exact: LiveEdge, how: str) -> None:
    with Script(never_answers()) as backend:
        exact.configure(backend, health={"interval_s": 60})
        client = exact.client()
        client.send(request(b"/waiting"))
        wait_until(lambda: backend.requests, 5, "the request at the backend")
        assert exact.backends()[0]["in_flight"] == 1
        getattr(client, how)()
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close the backend's connection")
        exact.settled()
        line = exact.log(path="/waiting")
        assert (line["status"], line["bytes_out"]) == (499, 0)
        told = exact.backends()[0]
        assert (told["failed"], told["abandoned"], told["breaker"]) == (0, 1, "closed")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_the_middle_of_its_answer_frees_the_backend(edge: LiveEdge, how: str) -> None:
    with Script(flood) as backend:
        edge.configure(backend, health={"interval_s": 60})
        client = edge.client()
        client.send(request(b"/leaving"))
        first_piece(client, b"0123")
        getattr(client, how)()
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close the backend's connection")
        edge.settled()
        assert edge.log(path="/leaving")["status"] == 499
        told = edge.backends()[0]
        assert (told["failed"], told["abandoned"]) == (0, 1)


def test_a_client_that_leaves_a_silent_stream_frees_the_backend(exact: LiveEdge) -> None:
    with Script(stalls_mid_body()) as backend:
        exact.configure(backend, health={"interval_s": 60}, timeouts={"idle_s": 30})
        client = exact.client()
        client.send(request(b"/stream"))
        first_piece(client, b"half")
        client.close()
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close the backend's connection")
        assert exact.log(path="/stream")["status"] == 499


def test_a_client_that_leaves_in_the_middle_of_its_upload_cuts_the_request(edge: LiveEdge) -> None:
    """The backend must not take what came for the whole."""
    ends: list[bool] = []

    def act(call: Call) -> None:
        try:
            call.request()
            ends.append(True)
        except CutOffError:
            ends.append(False)

    with Script(act) as backend:
        edge.configure(backend, health={"interval_s": 60})
        client = edge.client()
        client.send(CHUNKED + b"4\r\npart\r\n")
        wait_until(lambda: backend.open_connections == 1, 5, "the upload at the backend")
        client.close()
        wait_until(lambda: ends, 5, "the end at the backend")
        assert ends == [False]
        edge.settled()
        assert edge.log(path="/up")["status"] in (400, 499)
        assert edge.backends()[0]["failed"] == 0


def test_a_chunked_upload_that_is_malformed_cuts_the_request(exact: LiveEdge) -> None:
    with Script(answers()) as backend:
        exact.configure(backend)
        got = exact.raw(CHUNKED + b"4\r\npart\r\nzz\r\n")
        assert got.startswith(b"HTTP/1.1 400 ")
        assert backend.requests == []
        exact.settled()
        assert exact.backends()[0]["failed"] == 0


# Answers that break off.


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("act", [cuts_mid_body, cuts_mid_chunk])
def test_a_cut_answer_cuts_the_client_and_never_ends_cleanly(edge: LiveEdge, act: Callable[..., object], reset: bool) -> None:
    with Script(act(reset=reset)) as backend, edge.client() as client:  # type: ignore[arg-type]
        edge.configure(backend)
        client.send(request(b"/cut"))
        with pytest.raises(CutOffError):
            client.answer()
        edge.settled()
        line = edge.log(path="/cut")
        assert line["status"] == 200
        assert line["error"]
        assert edge.backends()[0]["failed"] == 1


def test_a_cut_answer_to_http_1_0_ends_with_a_reset_because_a_close_would_be_its_end(exact: LiveEdge) -> None:
    with Script(cuts_mid_chunk(b"half")) as backend, exact.client() as client:
        exact.configure(backend)
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        client.rest()
        assert client.stream.was_reset


def test_an_answer_that_stalls_is_cut_after_idle_s_and_sent_to_nobody_else(edge: LiveEdge) -> None:
    """requests raises ConnectionError for a stall in mid-body, as for a refused connection: a POST would run twice."""
    with Script(stalls_mid_body()) as one, Script(stalls_mid_body()) as other, edge.client() as client:
        edge.configure(one, other, timeouts={"idle_s": 0.5})
        client.send(request(method=b"POST", body=b"order"))
        with pytest.raises(CutOffError):
            client.answer(b"POST")
        edge.settled()
        assert len(one.requests) + len(other.requests) == 1


def test_a_head_that_drips_is_given_up_after_first_byte_s(edge: LiveEdge) -> None:
    """requests' timeouts are for each read: a backend that drips is read for ever."""
    with Script(drips(every_s=0.05)) as backend:
        edge.configure(backend, timeouts={"first_byte_s": 0.5}, retry={"attempts": 1})
        assert edge.ask().status == 504


def test_an_upload_that_the_backend_does_not_take_ends_after_idle_s(edge: LiveEdge) -> None:
    with Script(never_reads()) as backend, edge.client() as client:
        edge.configure(backend, timeouts={"idle_s": 0.5, "first_byte_s": 0.5}, limits={"body_bytes": 0})
        client.send(b"POST / HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n" % BIG)
        sender = threading.Thread(target=send_until_it_breaks, args=(client,))
        sender.start()
        assert client.answer().status == 504
        client.close()
        sender.join(10)


def send_until_it_breaks(client: object) -> None:
    try:
        for _ in range(BIG // len(PIECE)):
            client.send(PIECE)  # type: ignore[attr-defined]
    except OSError:
        pass


def test_a_slow_upload_is_not_the_backends_silence(edge: LiveEdge) -> None:
    """first_byte_s counts from the last byte of the request, not from the first."""
    with Script(serves(lambda _call, request: message(body=request.body))) as backend, edge.client() as client:
        edge.configure(backend, timeouts={"first_byte_s": 0.3, "idle_s": 5})
        client.send(CHUNKED)
        for _ in range(4):
            backend.stopping.wait(0.2)
            client.send(b"4\r\npart\r\n")
        client.send(b"0\r\n\r\n")
        answer = client.answer()
        assert (answer.status, answer.body) == (200, b"part" * 4)


def test_an_answer_without_a_length_to_http_1_0_ends_with_the_connection(edge: LiveEdge) -> None:
    with Script(once(head(200, [("Connection", "close")]) + b"all of it")) as backend:
        edge.configure(backend)
        got = edge.raw(b"GET / HTTP/1.0\r\nHost: e\r\n\r\n")
        assert got.endswith(b"\r\n\r\nall of it")
        assert b"chunked" not in got.lower()


def test_descriptors_and_leases_are_as_before_after_all_this(edge: LiveEdge) -> None:
    """A little soak: answers, cuts, stalls and clients that leave, and nothing is left of them."""
    one = {"connections_per_backend": 1}  # or a burst that comes late leaves as many idle connections behind as it had
    with Script(answers()) as good, Script(cuts_mid_body()) as bad, Script(never_answers()) as silent:
        edge.configure(good, limits=one)
        edge.ask()
        before = edge.descriptors()
        for _ in range(20):
            edge.configure(good, bad, silent, timeouts={"first_byte_s": 0.3}, limits=one, wait=False)
            clients = [edge.client() for _ in range(10)]
            for client in clients:
                client.send(request())
            for client in clients:
                client.reset()
        edge.settled()
        edge.configure(good, limits=one)
        edge.ask()
        try:
            wait_until(lambda: len(edge.descriptors()) <= len(before) + 1, 5)  # the one that asks comes and goes
        except AssertionError:
            raise AssertionError(f"from {before} to {edge.descriptors()}") from None
