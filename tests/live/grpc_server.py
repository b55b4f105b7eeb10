"""A server of gRPC in a process of its own, for the live tests: python grpc_server.py NAME PORT [CERTIFICATE KEY].

Its messages are plain bytes, so nothing is generated. It says `ready PORT` once it listens; SIGTERM ends it as Kubernetes would:
GOAWAY, and a few seconds for what is under way.

    /test.T/Unary     gives NAME, a colon, and what it was sent; metadata x-say comes back as trailers x-said
    /test.T/Many      as many messages as it is told, each its number
    /test.T/Sum       all that it was sent in one
    /test.T/PingPong  each message back at once, with a "!"
    /test.T/Fail      the status of that number, with a message that has to be escaped
    /test.T/Sick      UNAVAILABLE of the server whose NAME is a, NAME of others
    /test.T/FailLate  a message, and then that status
    /test.T/Hang      nothing, until the call is over; then a line `cancelled`
    /test.T/Slow      the answer after as many seconds
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

STATUSES = {code.value[0]: code for code in grpc.StatusCode}


class Service:
    """What the methods do."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()

    def unary(self, said: bytes, context: Any) -> bytes:
        found = dict(context.invocation_metadata())
        context.send_initial_metadata((("x-name", self.name.decode()), ("x-peer", context.peer())))
        if "x-say" in found:
            context.set_trailing_metadata((("x-said", found["x-say"]), ("x-bytes-bin", b"\0\xff")))
        return self.name + b":" + said

    def many(self, said: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(said)):
            yield b"%d" % number

    def sum(self, said: Iterator[bytes], context: Any) -> bytes:
        return b"".join(said)

    def ping_pong(self, said: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for one in said:
            yield one + b"!"

    def fail(self, said: bytes, context: Any) -> bytes:
        context.abort(STATUSES[int(said)], "não: 100%")
        return b""

    def sick(self, said: bytes, context: Any) -> bytes:
        if self.name == b"a":
            context.abort(grpc.StatusCode.UNAVAILABLE, "sick")
        return self.name

    def fail_late(self, said: bytes, context: Any) -> Iterator[bytes]:
        yield b"first"
        context.abort(STATUSES[int(said)], "late")

    def hang(self, said: bytes, context: Any) -> bytes:
        over = threading.Event()
        context.add_callback(over.set)
        # Calls have threads of their own: a line and its end are one write, or those of two calls get mixed up.
        print("hangs\n", end="", flush=True)
        over.wait()
        print("cancelled\n", end="", flush=True)
        return b""

    def slow(self, said: bytes, context: Any) -> bytes:
        print("works\n", end="", flush=True)
        time.sleep(float(said))
        return self.name


def handlers(service: Service) -> Any:
    return grpc.method_handlers_generic_handler(
        "test.T",
        {
            "Unary": grpc.unary_unary_rpc_method_handler(service.unary),
            "Many": grpc.unary_stream_rpc_method_handler(service.many),
            "Sum": grpc.stream_unary_rpc_method_handler(service.sum),
            "PingPong": grpc.stream_stream_rpc_method_handler(service.ping_pong),
            "Fail": grpc.unary_unary_rpc_method_handler(service.fail),
            "Sick": grpc.unary_unary_rpc_method_handler(service.sick),
            "FailLate": grpc.unary_stream_rpc_method_handler(service.fail_late),
            "Hang": grpc.unary_unary_rpc_method_handler(service.hang),
            "Slow": grpc.unary_unary_rpc_method_handler(service.slow),
        },
    )


def main(name: str, port: str, *tls: str) -> None:
    server = grpc.server(ThreadPoolExecutor(32), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((handlers(Service(name)),))
    if tls:
        certificate, key = (Path(one).read_bytes() for one in tls)
        bound = server.add_secure_port(f"127.0.0.1:{port}", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(5))
    server.start()
    print("ready", bound, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(*sys.argv[1:])
