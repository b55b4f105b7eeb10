"""A way to a server that can be cut: a TCP relay on a port of its own, for what happens when the network breaks."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Partition:
    """Relays connections to a port of this machine until it is cut.

    cut(): connections stay open and carry nothing, new ones are taken and carry nothing, as when packets are lost.
    heal(): all new connections are relayed.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        self._over = False
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """Lose everything from here on."""
        self._whole.clear()

    def heal(self) -> None:
        """Carry again what comes; connections that lived through the cut are reset."""
        self._reset_all()
        self._whole.set()

    def close(self) -> None:
        """End it, and every connection."""
        self._over = True
        self._whole.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._reset_all()

    def __enter__(self) -> Partition:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _reset_all(self) -> None:
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        with near:
            self._keep(near)
            self._whole.wait()
            try:
                with socket.create_connection(("127.0.0.1", self._target), 5) as far:
                    far.settimeout(None)
                    self._keep(far)
                    back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
                    back.start()
                    self._pump(near, far)
                    back.join()
                    self._forget(far)
            except OSError:
                pass
            self._forget(near)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self._whole.is_set():
                    self._whole.wait()  # what was on its way is lost with its connection
                    break
                sink.sendall(data)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            self._open.discard(sock)
