"""Little memory whatever the size. `LARGE_BODY_BYTES=1073741824 pytest tests/live/test_large_bodies.py` sends a gigabyte."""

from __future__ import annotations

import os

from tests.live.acts import PIECE, flood
from tests.live.edges import LiveEdge, first_piece, request
from tests.live.peers import Call, Script, head, message

BIG = int(os.environ.get("LARGE_BODY_BYTES", 200 * 1024 * 1024)) // 65536 * 65536
"""How much goes through, each way."""


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
    with Script(flood(BIG)) as backend, edge.client(120) as client:
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
    with Script(swallow) as backend, edge.client(120) as client:
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
            edge.log(status=499)  # after a second of taking nothing the client is given up
            assert sent[0] < BIG / 2
            assert peak.grown_bytes() < 20 * 1024 * 1024
