"""What our own code costs per request: the whole way of a small GET, between sockets that are not there.

The kernel's part (send, recv, epoll) is left out, so the figure is steadier than one taken under load: the least of many short
runs, in microseconds. `python bench/hot_path.py --profile` prints where it goes.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[1]))

import argparse  # noqa: E402
import atexit  # noqa: E402
import cProfile  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
import pstats  # noqa: E402
import random  # noqa: E402
import tempfile  # noqa: E402
from itertools import cycle  # noqa: E402
from math import inf  # noqa: E402
from time import perf_counter  # noqa: E402

from smartedge.app import SmartEdge  # noqa: E402
from smartedge.balancer.cells import GAUGES, LAYOUT, ROW_CELLS  # noqa: E402
from smartedge.config.model import parse  # noqa: E402
from smartedge.edge.edge import Edge  # noqa: E402
from smartedge.http.wire import Wire  # noqa: E402
from smartedge.observe.access_log import LineOutput, LogStyle  # noqa: E402
from smartedge.observe.spans import SpanRecord  # noqa: E402
from smartedge.proxy import transport  # noqa: E402
from smartedge.proxy.tracer import Tracer  # noqa: E402
from smartedge.server.handler import EdgeHandler  # noqa: E402
from smartedge.server.server import EdgeServer  # noqa: E402
from smartedge.workers.membership import open_membership  # noqa: E402

REQUEST = b"GET /some/path?q=1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
PARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-00\r\n"
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 39\r\nConnection: keep-alive\r\n\r\nhello from backend one, which is small\n"
)
VARIED_REQUEST = (
    b"GET /page/%d?q=%d HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    b"Accept-Language: pt-BR,pt;q=0.9,en;q=0.8\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n"
    b"Referer: https://shop.example/page/%d\r\nCookie: session=%d; seen=%d\r\n"
    b"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\n\r\n"
)
VARIED_ANSWER = ANSWER.replace(b"Connection", b'ETag: "%d"\r\nConnection')
VARIANTS = 4096


class Done(Exception):
    """The client has had its answers."""


class FakeSocket:
    """Enough of a gevent socket for a Wire."""

    class _sock:  # noqa: N801
        recv = send = staticmethod(len)

    class _read_event:  # noqa: N801
        start = stop = staticmethod(lambda *_: None)

    def close(self) -> None:
        """Nothing to close."""


class FakeWire(Wire):
    """Answers every read at once and takes every write."""

    def __init__(self, texts: list[bytes], count: int) -> None:
        super().__init__(FakeSocket())
        self.loop.polled_at = inf  # it has always just looked at the sockets
        self.count = count
        self._next = cycle(texts).__next__

    def recv(self, timeout_s: float, size: int = 0) -> bytes:
        self.count -= 1
        if self.count < 0:
            raise Done
        return self._next()

    def send(self, data: bytes, timeout_s: float) -> None:
        pass


def share_board(edge: Edge, workers: int) -> None:
    """Count where several workers do: in the mapped file, with the rows of the others beside ours."""
    directory = tempfile.TemporaryDirectory(prefix="smartedge-bench-")
    atexit.register(directory.cleanup)
    env = {"SMARTEDGE_STATE_DIR": directory.name}
    places = [open_membership("gunicorn-1", ROW_CELLS, LAYOUT, env, logging.getLogger(), GAUGES) for _ in range(workers)]
    edge.registry.join_workers(places[0], edge.pool.backends)
    for place in places[1:]:
        place.rows_for(backend.key for backend in edge.pool.backends)
    edge.meet_workers()
    assert len(edge.edge_row.rows) == workers


def trace(edge: Edge, ratio: float) -> None:
    """Take part in traces, record this part of them, and make messages of the spans, which go nowhere."""
    from smartedge.observe.otlp import OtlpCollector
    from smartedge.observe.span_sender import BATCH, SpanSender

    collector = OtlpCollector("http://127.0.0.1:9/v1/traces", {}, "0", headers={}, timeout_s=1.0)
    collector._post = lambda _: 0
    sender = SpanSender("", collector.post, BATCH)

    def put(spans: list[SpanRecord]) -> None:
        waiting.extend(spans)
        if len(waiting) >= BATCH:  # here instead of in a greenlet of its own, so that it counts
            sender._send(waiting)
            waiting.clear()

    waiting: list[SpanRecord] = []
    sender.put = put
    edge.traces.send_to(sender)
    edge.forwarder.tracer = Tracer(ratio, random.Random(), perf_counter, records=True)


def calibrate() -> float:
    """Time a fixed piece of Python, in microseconds: a unit that means the same on a busy machine and an idle one."""
    started = perf_counter()
    lines = [b"%x: %b\r\n" % (i, b"value") for i in range(2000)]
    assert lines
    return (perf_counter() - started) * 1e6 / 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--strategy", default="round_robin")
    parser.add_argument("--backends", type=int, default=2)
    parser.add_argument(
        "--workers", type=int, default=0, help="share a board with so many workers; 0: count in memory of one's own"
    )
    parser.add_argument("--requests", type=int, default=0, help="serve so many and print nothing, for bench/instructions.py")
    parser.add_argument("--tracing", type=float, metavar="RATIO", help="take part in traces, and record so many of them")
    parser.add_argument("--parent", action="store_true", help="each request has a traceparent, which is not sampled")
    parser.add_argument("--access-log", choices=("json", "combined", "logfmt"), help="write the log in this format to /dev/null")
    parser.add_argument("--sample-ratio", type=float, help="of requests whose decisions are kept (explain.sample_ratio)")
    parser.add_argument("--varied", action="store_true", help="no two requests and no two answers are alike, as with browsers")
    options = parser.parse_args()
    request = REQUEST if not options.parent else REQUEST[:-2] + PARENT + b"\r\n"
    requests, answers = [request], [ANSWER]
    if options.varied:
        requests = [VARIED_REQUEST % (i, i + 10**8, i + 10**8, i + 10**8, i) for i in range(VARIANTS)]
        answers = [VARIED_ANSWER % (i + 10**8) for i in range(VARIANTS)]
    urls = [f"http://127.0.0.1:{20000 + i}" for i in range(options.backends)]
    edge = Edge(parse(json.dumps({"backends": urls, "strategy": options.strategy})))
    edge.began = True
    if options.sample_ratio is not None:
        edge.decisions.set_ratio(options.sample_ratio)
    if options.access_log:
        edge.access_log.write_to(LineOutput("/dev/null"), LogStyle(options.access_log))
        edge.forwarder.log = edge.access_log.write_exchange
    for number, backend in enumerate(edge.pool.backends):
        backend.learned.health.probed(True)
        adapter = backend.transport.adapter
        first = number * len(answers) // len(edge.pool.backends)
        wire = FakeWire(answers[first:] + answers[:first], 1 << 60)
        adapter._idle.append(transport.Connection(wire, adapter._dialer.way, None))
    if options.workers:
        share_board(edge, options.workers)
    if options.tracing is not None:
        trace(edge, options.tracing)
    app = SmartEdge(edge)
    server = EdgeServer(("127.0.0.1", 0), app)
    server.update_environ()

    def run(count: int) -> float:
        handler = EdgeHandler(FakeSocket(), ("127.0.0.1", 1), server.front)
        handler.incoming.wire = FakeWire(requests, count)
        started = perf_counter()
        try:
            handler.handle()
        except Done:
            pass
        return (perf_counter() - started) / count * 1e6

    if options.requests:
        run(options.requests)
        return
    run(500)
    if options.profile:
        profile = cProfile.Profile()
        profile.runcall(run, 20000)
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return
    own, unit = zip(*((run(300), calibrate()) for _ in range(100)), strict=True)
    print(f"{min(own):.2f} µs per request besides the kernel and the event loop ({min(own) / min(unit):.2f} units)")


if __name__ == "__main__":
    main()
