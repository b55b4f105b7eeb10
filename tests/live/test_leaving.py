"""Clients that leave and answers that break off: the other side hears of it, and nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from tests.live.acts import PIECE, flood
from tests.live.edges import LiveEdge, first_piece, request
from tests.live.peers import (
    Call,
    CutOffError,
    Script,
    answers,
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

CHUNKED = b"POST /up HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n"
BIG = 200 * 1024 * 1024


# Clients that leave.


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("behind", [b"", b"\r\n"], ids=["", "behind unread bytes"])
def test_a_client_that_leaves_while_it_waits_frees_the_backend(own: LiveEdge, behind: bytes, how: str) -> None:
    """One that only closed (Ctrl-C of curl, a closed tab) kept its backend for a minute, or was answered and logged as 200."""
    with Script(never_answers()) as backend:
        own.configure(backend, health={"interval_s": 60})
        client = own.client()
        client.send(request(b"/waiting"))
        wait_until(lambda: backend.requests, 5, "the request at the backend")
        assert own.backends()[0]["in_flight"] == 1
        client.send(behind)
        getattr(client, how)()
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close the backend's connection")
        own.settled()
        line = own.log(path="/waiting")
        assert (line["status"], line["bytes_out"]) == (499, 0)
        told = own.backends()[0]
        assert (told["failed"], told["abandoned"], told["breaker"]) == (0, 1, "closed")


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_in_the_middle_of_its_answer_frees_the_backend(edge: LiveEdge, how: str) -> None:
    with Script(flood(BIG)) as backend:
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


def test_a_client_that_leaves_a_silent_stream_frees_the_backend(own: LiveEdge) -> None:
    with Script(stalls_mid_body()) as backend:
        own.configure(backend, health={"interval_s": 60}, timeouts={"idle_s": 30})
        client = own.client()
        client.send(request(b"/stream"))
        first_piece(client, b"half")
        client.reset()
        wait_until(lambda: backend.open_connections == 0, 5, "the edge to close the backend's connection")
        assert own.log(path="/stream")["status"] == 499


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


def test_a_chunked_upload_that_is_malformed_cuts_the_request(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        got = own.raw(CHUNKED + b"4\r\npart\r\nzz\r\n")
        assert got.startswith(b"HTTP/1.1 400 ")
        assert backend.requests == []
        own.settled()
        assert own.backends()[0]["failed"] == 0


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


def test_a_cut_answer_to_http_1_0_ends_with_a_reset_because_a_close_would_be_its_end(own: LiveEdge) -> None:
    with Script(cuts_mid_chunk(b"half")) as backend, own.client() as client:
        own.configure(backend)
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
