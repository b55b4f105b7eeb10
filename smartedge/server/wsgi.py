"""A request as WSGI has it (PEP 3333): read from the environ of a server that is not ours, and written into the environ of ours.

Our own server makes an environ only for what its app has to see, which is Flask's pages and middleware: forwarding asks for no
more than the `Request`.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from smartedge.balancer.errors import ClientError, MethodRefused
from smartedge.http.environ_keys import GUNICORN_SOCKET, REQUEST
from smartedge.http.headers import RequestFields, pairs_of, without_length
from smartedge.http.request import Request, check_fields, origin_form
from smartedge.server.body import check_length

_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]+")

PIECE_BYTES = 131072
"""The most that one read takes from a foreign server."""


def from_environ(environ: dict[str, Any], start_response: Any = None, limit_bytes: int = 0) -> Request:
    """Read a request from the environ of a server that is not ours: gunicorn's own loop, Flask's test client.

    limit_bytes: of the body, 0 for none.
    """
    request = _head_from_environ(environ, start_response)
    fields = request.fields
    request.sock = environ.get(GUNICORN_SOCKET)
    if "wsgi.early_hints" in environ:
        tell = environ["wsgi.early_hints"]
        request.interim = lambda status, _, hints: tell(pairs_of(without_length(hints))) if status == 103 else None
    if fields.transfer_encoding is not None:
        request.fields = fields.with_block(fields.without(b"trailer"))  # WSGI has none to send on
        request.body = WsgiBody(environ["wsgi.input"], None, limit_bytes)
    elif fields.content_length is not None and fields.content_length != b"0":
        request.body = WsgiBody(environ["wsgi.input"], int(fields.content_length), limit_bytes)
    return request


def _head_from_environ(environ: dict[str, Any], start_response: Any = None) -> Request:
    """Read a request but for its body.

    gunicorn gives the raw target in RAW_URI. Its environ has each field once, repetitions joined by commas; the request behind
    its `start_response` still has them one by one, upper-case.
    """
    parsed = getattr(getattr(start_response, "__self__", None), "req", None)
    if parsed is not None and isinstance(getattr(parsed, "headers", None), list):
        pairs = [(name.title(), value) for name, value in parsed.headers]
    else:
        pairs = [(key[5:].replace("_", "-").title(), value) for key, value in environ.items() if key.startswith("HTTP_")]
        for key, name in (("CONTENT_TYPE", "Content-Type"), ("CONTENT_LENGTH", "Content-Length")):
            if environ.get(key):
                pairs.append((name, environ[key]))
    if any("\r" in value or "\n" in value or ":" in name for name, value in pairs):
        raise ClientError("A header field holds a line break.")
    block = "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("latin-1")
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw is None:
        raw = quote(environ.get("PATH_INFO", "/").encode("latin-1"), safe="/:@!$&'()*+,;=~-._") or "/"
    if environ.get("QUERY_STRING") and "?" not in raw:  # Werkzeug's test client gives a raw target without its query
        raw += "?" + environ["QUERY_STRING"]
    if not _TARGET.fullmatch(raw):
        raw = quote(raw.encode("latin-1"), safe="%/?:@!$&'()*+,;=~-._")  # a test client's target need not be one
    method = environ["REQUEST_METHOD"].encode("latin-1")
    if method == b"CONNECT":
        raise MethodRefused("CONNECT is for forward proxies.")
    target = raw.encode("latin-1")
    authority = None
    if target != b"*":
        target, authority = origin_form(target, method)
    protocol = environ.get("SERVER_PROTOCOL", "HTTP/1.1")
    if not protocol.startswith("HTTP/1."):
        raise ClientError("The request line must be 'METHOD target HTTP/1.1'.")
    http11 = protocol != "HTTP/1.0"
    if http11 and parsed is not None:
        parsed.version = (1, 1)  # RFC 9110 section 2.5: a later 1.x is served, and answered, as the last one that is known
    fields = check_fields(RequestFields(block), http11)
    if authority is not None:
        fields = fields.with_host(authority)
    request = Request(
        method,
        target,
        11 if http11 else 10,
        block,
        fields,
        (environ.get("REMOTE_ADDR") or "unix").removeprefix("::ffff:").encode("latin-1"),
        environ.get("wsgi.url_scheme") == "https",
    )
    request.hasty = True  # gunicorn takes a request that is there already without a round of the loop
    if fields.content_length is not None and not fields.content_length.isdigit():
        raise ClientError("Content-Length must be digits.")
    return request


def to_environ(request: Request, base: dict[str, Any]) -> dict[str, Any]:
    """Write a request into an environ (PEP 3333). base: what all those of its connection have in common."""
    environ: dict[str, Any] = {**base, REQUEST: request}
    path, _, query = request.target.partition(b"?")
    environ["REQUEST_METHOD"] = request.method.decode("latin-1")
    environ["SCRIPT_NAME"] = ""
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["RAW_URI"] = environ["REQUEST_URI"] = request.target.decode("latin-1")
    environ["SERVER_PROTOCOL"] = request.protocol
    for name, text in pairs_of(request.block):
        if "_" in name:
            continue  # `X_Y` and `X-Y` would share a key (RFC 3875 section 4.1.18 leaves it open; nginx drops them too).
        key = "HTTP_" + name.upper().replace("-", "_")
        if key in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
            key = key[5:]
        if key in environ:
            environ[key] += ("; " if key == "HTTP_COOKIE" else ",") + text
        else:
            environ[key] = text
    if request.said.host is not None:
        environ["HTTP_HOST"] = request.said.host.decode("latin-1")
    environ["wsgi.input"] = io.BufferedReader(BodyFile(request)) if request.body else io.BytesIO()
    environ["wsgi.input_terminated"] = True
    return environ


class BodyFile(io.RawIOBase):
    """A request body as a file, for views that read one; made by `to_environ`."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self._request = request
        self._left = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes; asks for the body first where the client waits for a 100 (RFC 9110 10.1.1)."""
        request = self._request
        if request.expects_continue and request.interim is not None:
            request.interim(100, b"100 Continue\r\n", b"")
            request.expects_continue = False
        if not self._left:
            assert request.body is not None
            self._left = request.body.read()
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count


class WsgiBody:
    """The body of a request that a foreign server read: `wsgi.input`, in pieces; made by `from_environ`. WSGI has no trailers."""

    __slots__ = ("_input", "_limit_bytes", "complete", "length", "received_bytes")

    trailers: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, stream: Any, length: int | None, limit_bytes: int = 0) -> None:
        self._input = stream
        self._limit_bytes = limit_bytes
        self.length = length
        self.complete = False
        self.received_bytes = 0
        if limit_bytes:
            self.limit(limit_bytes)

    def limit(self, most_bytes: int) -> None:
        """Take no more than so many bytes; see Body.limit."""
        self._limit_bytes = most_bytes
        check_length(self.length, most_bytes)

    def buffered(self) -> None:
        """Say that nothing is known of what has arrived."""

    def read(self) -> bytes:
        """Read the next piece; a stream that ends early is the client's doing."""
        if self.complete:
            return b""
        wanted = PIECE_BYTES if self.length is None else min(PIECE_BYTES, self.length - self.received_bytes)
        try:
            piece = self._take(wanted) if wanted else b""
        except Exception as error:  # whatever a foreign server raises for a body that is cut or malformed
            with contextlib.suppress(AttributeError):
                self._input.failed = True  # gunicorn's word for: nobody knows where the next request begins
            raise ClientError(f"The request body could not be read: {str(error) or type(error).__name__}.") from error
        self.received_bytes += len(piece)
        if self._limit_bytes:
            check_length(self.received_bytes, self._limit_bytes)
        if not piece:
            if self.length is not None and self.received_bytes < self.length:
                raise ClientError("The request body ended before its Content-Length.")
            self.complete = True
        elif self.received_bytes == self.length:
            self.complete = True
        return piece

    def lend(self, by_pipe: bool = False) -> bytes:
        """Read the next piece; nothing is lent here."""
        return self.read()

    def _take(self, wanted: int) -> bytes:
        """Read what has arrived, at least a byte: WSGI's `read` waits for all of it, the readers under gunicorn's need not."""
        reader = getattr(self._input, "reader", None)
        if reader is None:
            return self._input.read(wanted)  # type: ignore[no-any-return]
        if hasattr(reader, "length") and hasattr(reader.unreader, "max_body_chunk"):
            return _take_whole(reader, wanted)
        piece: bytes = reader.read(1)
        waiting = getattr(reader, "buf", None) or reader.unreader.buf
        return piece + reader.read(min(waiting.tell(), wanted - 1)) if piece else b""


def _take_whole(reader: Any, wanted: int) -> bytes:
    """Read past the reader, from what gunicorn holds or from the socket: going through it copies each byte four times."""
    piece: bytes = reader.unreader.read(None, wanted)
    if len(piece) > wanted:  # held already, and the next request behind it
        reader.unreader.unread(piece[wanted:])
        piece = piece[:wanted]
    reader.length -= len(piece)
    return piece
