"""Everything at once for some seconds, by clients and backends that behave and that don't: nothing of it is left afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.edges import OWN, LiveEdge, document_of, request
from tests.live.peers import Call, Client, CutOffError, Script, WireError, answers, head, message
from tests.live.processes import ROOT, free_port, running, wait_until

WARM_UP_S, SOAK_S = 3.0, 9.0
GROWTH_BYTES = 6 << 20
LARGE = 2_000_000

EDGE = '''
"""SmartEdge, which on SIGUSR1 tells what it holds."""

from gevent import monkey

monkey.patch_all()

import gc
import json
import signal
import socket
import sys
import time
from fcntl import ioctl
from termios import FIONREAD

import gevent
import greenlet

from smartedge.cli import main as cli
from smartedge.http import pipes
from smartedge.http.sweep import Sweep
from smartedge.proxy import upload
from smartedge.proxy.connection import Connection
from smartedge.proxy.transport import EdgeAdapter
from smartedge.server.greenlets import GreenletPool
from smartedge.server.incoming import Incoming


def shown(owner, names):
    return " ".join([type(owner).__name__, *[f"{name}={getattr(owner, name, '-')!r}" for name in names.split()]])


def stack(waiting):
    """What a greenlet is at, the innermost call first."""
    frame, calls = getattr(waiting, "gr_frame", None), []
    while frame is not None:
        calls.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(calls)


def about(wire, objects):
    """Whose connection it is, between whom, and what it waits for."""
    sock = wire.sock._sock
    try:
        state, unread = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0], ioctl(sock.fileno(), FIONREAD, bytes(4))
        ends = f"{sock.getsockname()} {sock.getpeername()}"
    except OSError as error:
        state, unread, ends = 0, bytes(4), repr(error)
    until = [round(deadline - time.monotonic(), 2) for deadline in (wire.read_deadline, wire.write_deadline)]
    found = [f"{type(wire).__name__} fd {sock.fileno()} {ends} tcp state {state} unread {int.from_bytes(unread, 'little')}"]
    found.append(f"deadlines in {until} {shown(wire, 'on_idle closed readable stuck unsent sent_at _armed _tried')}")
    found += [f"{name} {stack(waiting)}" for name in ("_reader", "_writer") if (waiting := getattr(wire, name, None)) is not None]
    for owner in objects:
        if isinstance(owner, Incoming) and owner.wire is wire:
            found.append(shown(owner, "idle fresh keep_alive unread"))
            if owner.request is not None:
                found.append(shown(owner.request, "method target body waiter"))
        elif isinstance(owner, Connection) and owner.wire is wire:
            found.append(shown(owner, "reused complete status failure"))
            if owner._upload is not None:
                found.append(f"{shown(owner._upload, 'done _abandoned')} at {stack(owner._upload._greenlet)}")
            pools = [one for one in objects if isinstance(one, EdgeAdapter) and owner in one._idle]
            found += [f"idle for {time.monotonic() - owner.idle_since:.1f} s in {shown(one, 'url _closed')}" for one in pools]
            if not pools:
                found += [f"held by {type(holder).__name__}" for holder in gc.get_referrers(owner) if holder is not objects]
    return found


def tell():
    gc.collect()
    objects = gc.get_objects()
    # Those that wait in a pool to be used again are nobody's: how many there are is the most that ever ran at a time.
    # That of uploads is as old as its module, and frozen: the collector does not tell of it.
    pools = [upload._GREENLETS, *[found for found in objects if isinstance(found, GreenletPool)]]
    idle = {waiting for pool in pools for waiting in pool._idle}
    greenlets = [found for found in objects if isinstance(found, greenlet.greenlet) and not found.dead and found not in idle]
    wires = Sweep.of(gevent.get_hub()).wires
    held = {"greenlets": sorted(f"{found!r} {stack(found)}" for found in greenlets)}
    held |= {"wires": [about(wire, objects) for wire in tuple(wires)], "pipes": len(pipes._ready)}
    print("HOLDS", json.dumps(held), flush=True)


gevent.signal_handler(signal.SIGUSR1, tell)
sys.exit(cli.main(sys.argv[1:]))
'''


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[LiveEdge]:
    """An edge of our own that can be asked what it holds."""
    (tmp_path / "edge.py").write_text(EDGE)
    port = free_port()
    with Script() as nobody:
        (tmp_path / "backends.json").write_text(json.dumps(document_of(tmp_path, nobody)))
        command = [sys.executable, tmp_path / "edge.py", "run", "--bind", f"127.0.0.1:{port}"]
        env = {"PYTHONPATH": str(ROOT), "SMARTEDGE_CONFIG": "backends.json", "SMARTEDGE_STATE_DIR": str(tmp_path / "state")}
        with running(command, port, cwd=tmp_path, env=env) as process:
            yield LiveEdge(port, process, tmp_path, OWN)


def holds(edge: LiveEdge) -> dict[str, Any]:
    """Greenlets and wires of the edge, as it says itself, and its descriptors."""
    told = edge.process.output.count("HOLDS ")
    os.kill(edge.process.pid, signal.SIGUSR1)
    wait_until(
        lambda: edge.process.output.count("HOLDS ") > told and edge.process.output.endswith("\n"), 5, "an answer to SIGUSR1"
    )
    line = edge.process.output.rpartition("HOLDS ")[2].splitlines()[0]
    found: dict[str, Any] = json.loads(line)
    return {**found, "descriptors": sorted(os.listdir(f"/proc/{edge.process.pid}/fd"))}


def counted(edge: LiveEdge) -> tuple[int, int, int]:
    """How many of each; pipes that wait to be used again, two descriptors each, are nobody's."""
    found = holds(edge)
    return len(found["greenlets"]), len(found["wires"]), len(found["descriptors"]) - 2 * found["pipes"]


# ---- backends ----


def act(call: Call) -> None:
    """Answer, by the target: with what was sent, with much, slowly, or not as HTTP has it."""
    while seen := call.request(body=False):
        kind = seen.target.split(b"/")[1]
        if kind == b"early":
            call.send(message(413, body=b"too soon"))
            return
        body = call.body(seen)
        said = seen.target + b" " + body
        match kind:
            case b"echo":
                call.send(head(200, [("Content-Length", str(len(said)))]) + (b"" if seen.method == b"HEAD" else said))
            case b"chunks":
                call.send(head(200, [("Transfer-Encoding", "chunked"), ("X-A", "b")]))
                if seen.method != b"HEAD":
                    call.send(b"%x\r\n%b\r\n" % (len(said), said) + b"0\r\nX-Sum: 1\r\n\r\n")
            case b"none":
                call.send(message(404, body=b"no such page"))
            case b"large":
                call.send(head(200, [("Content-Length", str(LARGE))]) + b"x" * LARGE)
            case b"drip":
                call.send(head(200, [("Content-Length", "40")]))
                for _ in range(4):
                    call.send(b"drip drip\n")
                    call.pause(0.03)
            case b"busy":  # and in no hurry to say so: by then it is asked elsewhere
                call.send(head(503, [("Content-Length", "10")]) + b"later")
                call.pause(0.05)
                call.send(b"later")
            case b"stall":
                call.stall()
                return
            case b"half":
                call.send(head(200, [("Content-Length", "100")]) + b"half")
                return
            case b"reset":
                call.send(b"HTTP/1.1 200 OK\r\nContent-")
                call.reset()
                return
            case b"garbage":
                call.send(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
                return
            case b"more":
                call.send(message(body=b"ok") + message(body=b"stray"))
            case b"hints":
                call.send(head(103, [("Link", "</a>")]) * 3 + message(body=said))
            case b"until":
                call.send(head(200, [("Connection", "close")]) + said)
                return
            case b"switch":
                call.send(head(101, [("Connection", "Upgrade"), ("Upgrade", "echo")]))
                while call.stream.buffer or call.stream.fill():
                    call.send(call.stream.take(len(call.stream.buffer)))
                return
            case _:
                return  # without a word


# ---- clients ----

WHOLE = {200, 404}
TROUBLE = {502, 503, 504}


class Load:
    """What one thread of clients does until it is told to stop; `seen` counts what came of it."""

    def __init__(self, edge: LiveEdge, seed: int) -> None:
        self.edge = edge
        self.rng = random.Random(seed)
        self.seen: Counter[str] = Counter()
        self.problems: list[str] = []
        self.number = 0

    def run(self, until: float) -> None:
        acts: list[Callable[[], None]] = [self.talks, self.talks, self.comes_and_goes, self.leaves_in_mid_request]
        acts += [self.leaves_in_mid_answer, self.uploads_slowly, self.meets_trouble, self.says_nonsense, self.tunnels]
        while time.monotonic() < until:
            chosen = self.rng.choice(acts)
            try:
                chosen()
            except CutOffError:
                self.seen["cut off"] += 1  # a backend went down in mid-answer, and the client could tell
            except (OSError, WireError, AssertionError) as error:
                self.problems.append(f"{chosen.__name__}: {error!r}")
            self.seen[chosen.__name__] += 1

    def ask(self, client: Client) -> None:
        """One request of any kind; whatever is answered with 200 must be the answer to it and to no other."""
        self.number += 1
        kind = self.rng.choice([b"echo", b"echo", b"chunks", b"none", b"hints", b"drip"])
        target = b"/%b/%d/%d" % (kind, threading.get_ident(), self.number)
        method = self.rng.choice([b"GET", b"GET", b"HEAD", b"POST", b"PUT"])
        body = b"" if method in (b"GET", b"HEAD") else os.urandom(self.rng.choice([1, 100, 100_000]))
        if kind == b"drip":
            method, body = b"GET", b""
        if kind in (b"none", b"hints") and method == b"HEAD":
            method = b"GET"
        client.send(request(target, method, body=body))
        answer = client.answer(method)
        assert answer.status in WHOLE | TROUBLE, answer
        self.seen[str(answer.status)] += 1
        if answer.status == 200 and kind != b"drip":
            assert answer.body == (b"" if method == b"HEAD" else target + b" " + body), (target, answer.raw[:300])

    def talks(self) -> None:
        with self.edge.client() as client:
            for _ in range(self.rng.randint(2, 20)):
                self.ask(client)

    def comes_and_goes(self) -> None:
        for _ in range(5):
            with self.edge.client() as client:
                self.ask(client)

    def leaves(self, client: Client) -> None:
        self.rng.choice([client.close, client.reset, client.half_close])()

    def leaves_in_mid_request(self) -> None:
        whole = request(b"/echo/x", b"POST", body=b"x" * 50_000)
        with self.edge.client() as client:
            client.send(whole[: self.rng.choice([1, 20, 60, 100, 30_000])])
            time.sleep(self.rng.choice([0, 0.01]))
            self.leaves(client)

    def leaves_in_mid_answer(self) -> None:
        with self.edge.client() as client:
            client.send(request(self.rng.choice([b"/large", b"/large", b"/drip", b"/stall", b"/echo"])))
            if self.rng.random() < 0.5:
                client.sock.settimeout(0.05)
                with contextlib.suppress(TimeoutError):
                    client.sock.recv(self.rng.choice([1, 1000, 100_000]))
            self.leaves(client)

    def uploads_slowly(self) -> None:
        with self.edge.client() as client:
            client.send(
                b"POST /%b/u HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" % self.rng.choice([b"echo", b"early"])
            )
            for _ in range(5):
                with contextlib.suppress(ConnectionError):
                    client.send(b"3\r\nabc\r\n")
                time.sleep(0.01)
            with contextlib.suppress(ConnectionError):
                client.send(b"0\r\n\r\n")
            assert client.answer(b"POST").status in {200, 413} | TROUBLE

    def meets_trouble(self) -> None:
        kind = self.rng.choice([b"busy", b"busy", b"half", b"reset", b"garbage", b"more", b"until", b"nothing", b"stall"])
        with self.edge.client() as client:
            client.send(request(b"/" + kind, self.rng.choice([b"GET", b"POST"])))
            try:
                answer = client.answer()
            except CutOffError:
                if kind == b"half":
                    return
                raise  # its backend went down
            assert answer.status in TROUBLE | ({200} if kind in (b"more", b"until") else set())
            assert answer.body != b"stray"

    def says_nonsense(self) -> None:
        with self.edge.client(3) as client:
            client.send(
                self.rng.choice(
                    [b"\0\0\r\n\r\n", b"GET /\n\n", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
                )
            )
            client.half_close()
            client.rest()

    def tunnels(self) -> None:
        with self.edge.client() as client:
            client.send(request(b"/switch", headers=b"Connection: Upgrade\r\nUpgrade: echo\r\n"))
            if client.answer().status == 101:
                client.send(b"hello")
                assert client.stream.exactly(5) == b"hello"
                self.seen["tunnels opened"] += 1
                self.leaves(client)


def reloads(edge: LiveEdge, backends: list[Script], broken: Script, seed: int, until: float) -> None:
    """Change the configuration again and again; take one of the backends down and up."""
    rng = random.Random(seed)
    while time.monotonic() < until:
        chosen = [{"id": f"s{script.port}", "url": script, "weight": rng.choice([1, 1, 3])} for script in backends]
        settings = {"strategy": rng.choice(["round_robin", "ewma"])}
        configure(edge, [*chosen[: rng.choice([1, 2, 2])], {"id": "broken", "url": broken}], **settings)
        rng.choice([broken.refuse, broken.accept])()
        assert edge.admin("/metrics").status == 200
        time.sleep(rng.uniform(0.1, 0.4))
    broken.accept()


def configure(edge: LiveEdge, backends: list[Any], **settings: Any) -> None:
    # Clients that send half a request, and backends that say nothing, are given up soon.
    timeouts = {"first_byte_s": 0.5, "idle_s": 0.5, "head_s": 0.5, "keepalive_s": 2}
    edge.configure(*backends, wait=False, timeouts=timeouts, breaker={"failures": 1000, "ratio": 1.0}, **settings)


def soak(edge: LiveEdge, backends: list[Script], broken: Script, seconds: float, seed: int) -> Counter[str]:
    """All of it for some seconds; what came of it."""
    until = time.monotonic() + seconds
    loads = [Load(edge, seed * 100 + number) for number in range(6)]
    threads = [threading.Thread(target=load.run, args=(until,)) for load in loads]
    configure(edge, [*backends, broken])
    for thread in threads:
        thread.start()
    reloads(edge, backends, broken, seed, until)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    problems = [problem for load in loads for problem in load.problems]
    assert not problems, problems[:5]
    return sum((load.seen for load in loads), Counter())


@pytest.mark.timeout(60)
def test_after_a_mixed_load_the_edge_holds_what_it_held_before(edge: LiveEdge) -> None:
    # What a client that left has asked a backend that stalls for is asked again, and may come to `nobody` when all is over. It
    # keeps no connection: one that waits in its pool for a minute would be a wire more, and no fault.
    last = answers(headers=[("Connection", "close")])
    with Script(act) as one, Script(act) as two, Script(act) as broken, Script(last) as nobody:
        soak(edge, [one, two], broken, WARM_UP_S, 1)
        edge.configure(nobody)
        edge.settled()
        # The fewest that are seen: a probe or a closing connection may be on its way at any moment.
        before = tuple(map(min, zip(*(counted(edge) for _ in range(10)), strict=True)))
        memory = edge.memory_bytes()

        seen = soak(edge, [one, two], broken, SOAK_S, 2)
        edge.configure(nobody)
        edge.settled()
        try:
            wait_until(lambda: all(map(int.__le__, counted(edge), before)), 6, "greenlets, wires and descriptors as before")
        except AssertionError as error:
            raise AssertionError(f"{error}\nbefore: {before}, {seen}\nnow: {holds(edge)}\nto nobody: {nobody.requests}") from None
        assert edge.memory_bytes() - memory < GROWTH_BYTES, seen
        assert "Traceback" not in edge.process.output
        assert edge.ask(b"/").status == 200
        assert seen["200"] > 500, seen
        assert all(seen[name] for name in ("404", "talks", "meets_trouble", "tunnels opened", "leaves_in_mid_answer")), seen
