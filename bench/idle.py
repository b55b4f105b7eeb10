"""Hold idle keep-alive clients on one port: `python idle.py PORT COUNT`, a process of its own.

Each asks once, then stays. Prints the number connected; at the next line on stdin, the number still open.
"""

from __future__ import annotations

import select
import socket
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def connect(port: int) -> socket.socket:
    """A connection that has had its first answer."""
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.sendall(REQUEST)
    answer = b""
    while b"x\n" not in answer:  # how the small answer ends
        piece = client.recv(65536)
        if not piece:
            raise ConnectionError(f"closed after {answer[:60]!r}")
        answer += piece
    return client


def still_open(clients: list[socket.socket]) -> int:
    """How many have not been closed by the other side."""
    poll = select.poll()
    for client in clients:
        poll.register(client, select.POLLRDHUP)
    return len(clients) - len(poll.poll(0))


if __name__ == "__main__":
    clients = [connect(int(sys.argv[1])) for _ in range(int(sys.argv[2]))]
    print(len(clients), flush=True)
    sys.stdin.readline()
    print(still_open(clients), flush=True)
