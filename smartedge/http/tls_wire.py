"""TLS over a Wire: the same promises, whichever side we are.

OpenSSL works on two buffers in memory and never sees the socket (`ssl.MemoryBIO`), so a TLS connection is watched, timed out and
closed exactly as a plain one is. gevent's SSLSocket can do none of the three while another greenlet waits on it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Final

from smartedge.http.certificates import Certificate, ServerSide
from smartedge.http.wire import AT_ONCE_BYTES, RECV_BYTES, Wire, WireClosed, WireTimeout
from smartedge.http.wire_errors import NotTls

__all__ = ["NotTls", "TlsWire"]

EARLY_BYTES: Final = 65536
"""How much of what a peer sends ahead is decrypted before anybody reads it."""

GOODBYE_S: Final = 1.0
"""How long our side's end may take to be sent, in seconds."""

_HANDSHAKE_RECORD: Final = b"\x16"


class TlsWire(Wire):
    """A TLS connection, used by at most one reader and one writer greenlet at a time; begins with `handshake`.

    sock: a connected socket without TLS. server_name: asked for and checked, by clients.
    Only writers send. What OpenSSL wants to say while it reads (the answer to a key update) goes out before the next data,
    which RFC 8446 section 4.6.3 leaves time for; else reader and writer could get into each other's records.
    """

    __slots__ = ("_early", "_has_more", "_incoming", "_outgoing", "_tls", "_torn", "_until")

    def __init__(
        self,
        sock: Any,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_name: str | None = None,
        urgent: bool = False,
    ) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side, server_hostname=server_name)
        super().__init__(sock, urgent=urgent)
        self._early = b""
        self._has_more = False  # OpenSSL has bytes, or the end, of what has arrived before
        self._torn = False
        self._until = inf

    def handshake(self, timeout_s: float) -> None:
        """Agree on keys, within `timeout_s` seconds in all.

        Raises WireTimeout, NotTls when a client speaks something else, ssl.SSLError, or ConnectionError when the peer is gone.
        """
        deadline = monotonic() + timeout_s
        first = self._tls.server_side
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(max(0.001, deadline - monotonic()))
            except ssl.SSLError:
                self._say()  # The alert tells the peer why.
                raise
            else:
                self._flush(max(0.001, deadline - monotonic()))
                if isinstance(self._tls, ServerSide):
                    self._tls.hello = b""
                self._has_more = bool(self._incoming.pending)
                return
            data = Wire.recv(self, max(0.001, deadline - monotonic()))
            if not data:
                raise ConnectionResetError("the peer left during the TLS handshake")
            if first and data[:1] != _HANDSHAKE_RECORD:
                raise NotTls("the client does not speak TLS")
            first = False
            if isinstance(self._tls, ServerSide):
                self._tls.hello += data
            self._incoming.write(data)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """What the client was shown; empty where somebody else's context shows it, or nothing is known."""
        found: tuple[Certificate, ...] = getattr(self._tls.context, "certificates", ())
        return found

    @property
    def facts(self) -> tuple[str | None, str | None, str | None]:
        """Give version, cipher and the name that a client has asked for, of a connection that has shaken hands."""
        cipher = self._tls.cipher()
        return self._tls.version(), None if cipher is None else cipher[0], getattr(self._tls, "asked_for", None)

    @property
    def protocol(self) -> str | None:
        """What both sides have agreed to speak (RFC 7301); None where the client has offered nothing that we do."""
        return self._tls.selected_alpn_protocol()

    @property
    def resumed(self) -> bool:
        """Whether the handshake went on with an earlier session (RFC 8446 section 2.2)."""
        return bool(self._tls.session_reused)

    def peer_certificate(self) -> tuple[dict[str, Any], bytes] | None:
        """Give the client's certificate as Python reads it, and its bytes (DER); None without one that was checked."""
        der = self._tls.getpeercert(binary_form=True)
        return None if der is None else (self._tls.getpeercert() or {}, der)

    def without_tls(self) -> Wire:
        """Give the socket back as a plain wire, to tell a client that does not speak TLS; this one is of no use then."""
        self.loop.wires.discard(self)
        if self._armed:
            self._io.stop()
        return Wire(self.sock)

    # ---- reading ----

    def recv(self, timeout_s: float, size: int = RECV_BYTES) -> bytes:
        """Wait for bytes as `Wire.recv` does; b"" also when the peer ended without saying so (most do)."""
        if self.closed:
            raise WireClosed("the connection is closed")
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        self._until = monotonic() + timeout_s
        if self._has_more:  # else OpenSSL would raise, which takes longer than to decrypt a small request
            piece = self._decrypt(size)
            if piece is not None:
                return piece
            timeout_s = max(0.001, self._until - monotonic())
        while True:
            if data := Wire.recv(self, timeout_s):
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
            piece = self._decrypt(size)
            if piece is not None:
                return piece
            timeout_s = max(0.001, self._until - monotonic())

    def _decrypt(self, size: int) -> bytes | None:
        """Give all that has arrived, up to `size`; b"" at the end, None when that is nothing yet.

        What is left behind it, be it part of a record, makes the wire `readable`: a pooled connection with that must not be
        used again.
        """
        tls, incoming = self._tls, self._incoming
        pieces: list[bytes] = []
        self._has_more = False
        while True:
            try:
                piece = tls.read(size)
            except ssl.SSLWantReadError:
                self.readable = self.readable or bool(pieces)
                break
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                piece = b""
            except ssl.SSLError:
                self._say()
                raise
            if not piece:
                self._has_more = True  # told by the next read where something has come before it
                break
            # A record's bytes that did not fit stay with OpenSSL; it takes the next record from `incoming` when it is asked.
            is_all = not incoming.pending and (len(piece) < size or not tls.pending())
            if is_all and not pieces:
                return piece
            pieces.append(piece)
            size -= len(piece)
            if is_all:
                break
            if not size:
                self.readable = self._has_more = True
                break
        return b"".join(pieces) if pieces or self._has_more else None

    def expect_within(self, timeout_s: float) -> None:
        """Give whoever reads now a new deadline."""
        if self._reader is not None:
            self._until = monotonic() + timeout_s
        super().expect_within(timeout_s)

    def peer_is_quiet(self) -> bool:
        """Look for a close or bytes that nobody asked for: any byte on an idle TLS connection ends its use."""
        if self._early or self._incoming.pending or self._tls.pending():
            return False
        return super().peer_is_quiet()

    # ---- writing ----

    def send(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Send all of `data` as `Wire.send` does."""
        if len(data) >= AT_ONCE_BYTES:
            self.send_now(data, timeout_s)
        else:
            self._tls.write(data)  # takes all of it: there is no socket to be full
            try:
                Wire.send(self, self._outgoing.read(), timeout_s)
            except BaseException:
                self._torn = True
                raise

    def send_now(self, data: bytes | bytearray | memoryview, timeout_s: float) -> None:
        """Send all of `data` as `Wire.send_now` does."""
        left = memoryview(data)
        while left:
            self._tls.write(left[:RECV_BYTES])
            left = left[RECV_BYTES:]
            self._flush(timeout_s, Wire.send_now)

    def _put_off(self, data: bytes) -> None:
        """Send this as `Wire._put_off` does."""
        if not self._torn and not self._outgoing.pending:
            self._tls.write(data)
            super()._put_off(self._outgoing.read())

    def _flush(self, timeout_s: float, send: Callable[[Wire, bytes, float], None] = Wire.send) -> None:
        """Send the records that OpenSSL has made, with one of Wire's own two."""
        try:
            while self._outgoing.pending:
                send(self, self._outgoing.read(), timeout_s)
        except BaseException:
            self._torn = True
            raise

    def finish_sending(self) -> None:
        """Tell the peer that nothing more comes; it may go on sending (RFC 8446 section 6.1)."""
        if self.closed or self._torn or self._failure is not None or self._writer is not None:
            return
        while piece := self._decrypt_quietly():
            self._early += piece  # OpenSSL takes data that it finds while it ends our side for an error.
        self._end_our_side()
        try:
            self._flush(GOODBYE_S)
        except (OSError, WireTimeout):
            return
        super().finish_sending()

    def _decrypt_quietly(self) -> bytes | None:
        try:
            return self._decrypt(EARLY_BYTES)
        except OSError:
            return None

    def _end_our_side(self) -> None:
        try:
            self._tls.unwrap()
        except (OSError, ValueError):
            pass  # It wants to wait for the peer's own end, which is the reader's affair; or there is nothing to end.

    def _say(self) -> None:
        """Send what OpenSSL has to say at the end, if the socket takes it soon and no writer is in the middle of a record."""
        if self._writer is None and not self._torn and self._outgoing.pending:
            if not self._waiting:
                self.loop.sending.append(self)
            self._waiting += self._outgoing.read()
            self._torn = True

    # ---- the end ----

    def break_off(self) -> None:
        """Have `close` reset the connection and say no goodbye."""
        self._torn = True
        super().break_off()

    def close(self) -> None:
        """Close as `Wire.close` does, saying so to the peer unless something is missing (RFC 9112 section 9.8)."""
        if not self.closed and self._writer is None and not self._torn and self._failure is None:
            self._end_our_side()
            self._say()
        super().close()
