"""Whatever comes, from clients and from backends: HTTP or the end of the connection."""

from __future__ import annotations

import random

from tests.live.edges import LiveEdge, request
from tests.live.peers import Call, Script, WireError, head, message, parse_answers, serves

CHUNKED = b"POST / HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n"


def mutations(seed: int) -> bytes:
    """A few requests with a few bytes changed, left out, doubled or put in."""
    rng = random.Random(seed)
    raw = bytearray(
        request(b"/a?b=c", headers=b"X-One: 1\r\nX-Two: 2\r\n")
        + request(b"/d", b"POST", body=b"hello")
        + CHUNKED
        + b"5\r\nhello\r\n0\r\n\r\n"
        + request(b"/e", headers=b"Connection: close\r\n")
    )
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        match rng.randrange(4):
            case 0:
                raw[at] = rng.choice(b"\r\n\0 \t:,;/0aZ\x7f\xff")
            case 1:
                del raw[at : at + rng.randint(1, 8)]
            case 2:
                raw[at:at] = raw[at : at + rng.randint(1, 40)]
            case _:
                raw[at:at] = rng.choice([b"\r\n", b"\n", b"\r\n\r\n", b" ", b"\0", b"Host: x\r\n", b"0\r\n\r\n"])
    return bytes(raw)


def test_whatever_comes_the_answer_is_http_or_a_closed_connection(own: LiveEdge) -> None:
    with Script(serves(lambda _call, seen: message(body=seen.target)), health=None) as backend:
        own.configure(backend, timeouts={"head_s": 0.3, "idle_s": 0.3, "keepalive_s": 0.3})
        for seed in range(150):
            raw = mutations(seed)
            with own.client(3) as client:
                client.send(raw)
                client.half_close()
                received = client.rest()
            try:
                for answer in parse_answers(received):
                    assert answer.status in (200, 400, 408, 417, 431, 499, 501), (seed, raw, received)
            except WireError as error:
                raise AssertionError(f"seed {seed}: {error}\n{raw!r}\n{received!r}") from error
        own.settled()
        # The backend's reader is strict: had anything malformed come through, it would have closed the connection.
        assert own.backends()[0]["failed"] == 0


def test_whatever_a_backend_says_the_client_gets_http_or_a_cut(own: LiveEdge) -> None:
    rng = random.Random(7)
    good = head(200, [("Content-Length", "5"), ("X", "y")]) + b"hello"
    chunks = head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhello\r\n0\r\n\r\n"

    def act(call: Call) -> None:
        if call.request():
            raw = bytearray(rng.choice([good, chunks]))
            for _ in range(rng.randint(1, 3)):
                at = rng.randrange(len(raw))
                raw[at : at + rng.randint(0, 2)] = rng.choice([b"", b"\r\n", b"\n", b"\0", b"x", b":", b" ", b"9"])
            call.send(bytes(raw))

    with Script(act) as backend:
        own.configure(backend, timeouts={"first_byte_s": 0.3, "idle_s": 0.3}, retry={"attempts": 1}, breaker={"failures": 1000})
        for _ in range(150):
            with own.client(3) as client:
                client.send(request())
                try:
                    assert 100 <= client.answer().status <= 999
                    assert not client.stream.buffer
                except WireError:
                    assert client.rest() == b""
        own.settled()
