"""Hundreds of damaged conversations with a real edge, by damaged backends too; afterwards it serves as if nothing had been."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable

import pytest

from tests.damage import KINDS, ODDITIES, answers_in, damaged, reference
from tests.live.edges import LiveEdge, request
from tests.live.peers import Call, CutOffError, Script, WireError, head, message, serves
from tests.live.processes import wait_until
from tests.live.wire import read_answer

SEEDS = 300
THREADS = 16
QUICK = {"head_s": 0.15, "idle_s": 0.15, "first_byte_s": 2, "keepalive_s": 0.15}
"""Clients that send less than they said are given up soon; nobody here waits for them on purpose."""

CHUNKED = b"POST /chunked HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n"

CONVERSATION = (
    request(b"/a?b=c", headers=b"X-One: 1\r\nConnection: X-One\r\n")
    + request(b"/d", b"POST", body=b"GET /inner HTTP/1.1\r\nHost: x\r\n\r\n")
    + CHUNKED
    + b"4\r\n\r\n\r\n\r\n5;e=f\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"
    + request(b"/e", b"HEAD")
    + request(b"/f", b"PUT", headers=b"Expect: 100-continue\r\n", body=b"x" * 500)
    + request(b"/g", headers=b"Connection: close\r\n")
)
ANSWERS = [
    message(headers=[("X", "y")], body=b"hello"),
    head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhello\r\n3;e=f\r\n\r\n!\r\n0\r\nTrailer: 1\r\n\r\n",
    head(103, [("Link", "</a>")]) + message(404, body=b"none"),
    head(204),
]


def some_damage(rng: random.Random, data: bytes) -> bytes:
    """One to three things wrong, of all kinds."""
    damages = [
        (rng.choice(KINDS), rng.randrange(1 << 12), rng.randrange(20), rng.choice(ODDITIES)) for _ in range(rng.randint(1, 3))
    ]
    return damaged(data, damages)


def on_threads(run: Callable[[int], None]) -> None:
    """Run it for every seed, some at a time; the first failure is raised."""
    failures: list[BaseException] = []

    def work(first: int) -> None:
        for seed in range(first, SEEDS, THREADS):
            if failures:
                return
            try:
                run(seed)
            except BaseException as error:  # pytest would only warn of it
                error.add_note(f"seed {seed}")
                failures.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.fixture
def unharmed(own: LiveEdge) -> object:
    """Whatever the test does: afterwards nothing is open, nothing has been complained of, and requests are served."""
    with Script() as backend:
        own.configure(backend, timeouts=QUICK)
        wait_until(lambda: own.ask().status == 200, 5, "an answer")
        before = len(own.descriptors())
    yield own
    own.settled()
    with Script() as backend:
        own.configure(backend, timeouts=QUICK)
        wait_until(lambda: own.ask().status == 200, 5, "an answer")
        wait_until(lambda: len(own.descriptors()) <= before, 8, f"no more than {before} descriptors")
    assert "Traceback" not in own.process.output, own.process


def test_damaged_requests_leave_no_trace(unharmed: LiveEdge) -> None:
    heard: list[str] = []

    def act(call: Call) -> None:
        try:
            while seen := call.request():
                call.send(message(body=b"" if seen.method == b"HEAD" else seen.target + b" " + seen.body))
        except CutOffError:
            pass  # by its client
        except WireError as error:
            heard.append(f"{error}: {bytes(call.stream.taken)!r}")

    with Script(act) as backend:
        unharmed.configure(backend, timeouts=QUICK, breaker={"failures": 10**6, "ratio": 1.0})

        def converse(seed: int) -> None:
            rng = random.Random(seed)
            raw = some_damage(rng, CONVERSATION)
            with unharmed.client(5) as client:
                with contextlib.suppress(ConnectionError):
                    for cut in range(0, len(raw), size := rng.choice([7, 100, 5000])):
                        client.send(raw[cut : cut + size])
                if rng.random() < 0.1:
                    client.reset()
                    return
                received = client.rest()
                try:
                    answers = answers_in(received, reference(raw))
                except WireError:
                    assert client.stream.was_reset, received  # what was cut off was not ended as if it were whole
                    return
                for answer in answers:
                    assert answer.status in {200, 400, 408, 413, 414, 417, 431, 501}, (answer, raw)

        on_threads(converse)
    assert heard == []


def test_damaged_answers_leave_no_trace(unharmed: LiveEdge) -> None:
    """A true answer follows on the same client's connection: nothing of the damaged one may come before it."""

    def act(call: Call) -> None:
        while seen := call.request():
            kind, _, seed = seen.target[1:].partition(b"/")
            if kind == b"true":
                call.send(message(headers=[("X-True", "yes")], body=b"" if seen.method == b"HEAD" else seen.target))
                continue
            rng = random.Random(int(seed))
            raw = some_damage(rng, rng.choice(ANSWERS))
            for cut in range(0, len(raw), size := rng.choice([3, 50, 5000])):
                call.send(raw[cut : cut + size])
            if rng.random() < 0.2:
                call.reset()
                return
            if rng.random() < 0.8:
                return

    with Script(act) as backend:
        unharmed.configure(
            backend, timeouts={**QUICK, "first_byte_s": 0.2}, retry={"attempts": 1}, breaker={"failures": 10**6, "ratio": 1.0}
        )

        def ask(seed: int) -> None:
            method = random.Random(seed).choice([b"GET", b"GET", b"HEAD", b"POST"])
            with unharmed.client(5) as client:
                client.send(request(b"/damaged/%d" % seed, method))
                try:
                    first = read_answer(client.stream, method)
                except CutOffError:
                    return  # visibly
                assert 200 <= first.status <= 999
                if (first.get(b"connection") or b"").lower() == b"close":
                    assert client.rest() == b""
                    return
                client.send(request(b"/true/%d" % seed))
                second = client.answer()
                if second.status not in (502, 504):
                    assert (second.get(b"x-true"), second.body) == (b"yes", b"/true/%d" % seed), (first, second)

        on_threads(ask)


def test_damage_on_both_sides_leaves_no_trace(unharmed: LiveEdge) -> None:
    def reply(call: Call, _seen: object) -> bytes:
        rng = random.Random(call.number)
        return some_damage(rng, rng.choice(ANSWERS))

    with Script(serves(reply)) as backend:
        unharmed.configure(backend, timeouts={**QUICK, "first_byte_s": 0.1}, breaker={"failures": 10**6, "ratio": 1.0})

        def converse(seed: int) -> None:
            rng = random.Random(seed)
            with unharmed.client(5) as client:
                with contextlib.suppress(ConnectionError):
                    client.send(some_damage(rng, CONVERSATION))
                if seed % 3:
                    client.half_close()
                client.rest()

        on_threads(converse)
