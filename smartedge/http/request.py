"""One client request, in its two shapes: our `Request`, bytes as they came, and WSGI's environ, made only when somebody asks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from urllib.parse import quote, unquote_to_bytes

from smartedge.balancer.errors import ClientError, CodingRefused, MethodRefused
from smartedge.http.headers import HOST, RequestFields, pairs_of, without_length
from smartedge.http.wsgi_body import WsgiBody

_CODING = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET = re.compile(r"[\x21-\x7e\x80-\xff]+")

KEY = "smartedge.request"
"""The environ key under which a request travels."""

HANDLER = "smartedge.handler"
"""And the one of our own server's connection, which holds what all its requests' environs share."""


class Body(Protocol):
    """A request body that arrives while it is read.

    length: bytes in all, or None when it is chunked. complete: nothing is left to read. received_bytes: read so far.
    trailers: the fields behind a chunked one, once it is complete.
    """

    @property
    def length(self) -> int | None: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102
    @property
    def received_bytes(self) -> int: ...  # noqa: D102
    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]: ...  # noqa: D102

    def buffered(self) -> bytes | None:
        """Give what has arrived already if that is the whole body, else None (nothing is taken then)."""

    def read(self) -> bytes:
        """Wait for the next piece; b"" at the end. Raises ClientError, ClientTimeout, ClientGone or PayloadTooLarge."""


class Request:
    """A request line and its fields, as bytes; made by the server (`server.py`) or from a foreign server's environ.

    method, target: as they came, the target in origin-form or `*`. version: 10 or 11. peer: the client's address as text.
    secure: it came over TLS. body: None when there is none. interim: sends a 1xx to the client, or None where the server
    can't. block: the header fields as they came. on_gone: set by whoever wants to know that the client left while it waits.
    hasty: it came together with the one before, so the event loop has not run between the two. sock: our end of the client's
    connection, for whoever must know who is at the other; None where the server does not tell.
    """

    __slots__ = (
        "block",
        "body",
        "expects_continue",
        "fields",
        "hasty",
        "interim",
        "method",
        "on_gone",
        "peer",
        "secure",
        "sock",
        "target",
        "version",
    )

    def __init__(
        self, method: bytes, target: bytes, version: int, block: bytes, fields: RequestFields, peer: bytes, secure: bool
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.block = block
        self.fields = fields
        self.peer = peer
        self.secure = secure
        self.body: Body | None = None
        self.expects_continue = False
        self.hasty = False
        self.interim: Callable[[int, bytes, bytes], None] | None = None
        self.sock: Any = None
        self.on_gone: Callable[[], None] | None = None


def checked(fields: RequestFields, http11: bool) -> RequestFields:
    """Refuse a request without one host to route by (RFC 9112 section 3.2), or with a body whose end is a matter of opinion."""
    if fields.hosts != 1 and (http11 or fields.hosts):
        raise ClientError("A request has exactly one Host field (RFC 9112 section 3.2).")
    if fields.host and not HOST.fullmatch(fields.host):
        raise ClientError("The Host field is not a host.")
    if fields.transfer_encoding is not None and (fields.transfer_encoding.lower() != b"chunked" or not http11):
        raise refused_coding(fields.transfer_encoding, http11)
    return fields


def refused_coding(value: bytes, http11: bool) -> ClientError:
    """Say what is wrong with a Transfer-Encoding: 501 for a coding that is unknown, 400 where the end of the body is unclear."""
    codings = [coding.partition(b";")[0].strip(b" \t").lower() for coding in value.split(b",")]
    if http11 and b"chunked" not in codings[:-1] and all(_CODING.fullmatch(coding) for coding in codings):
        return CodingRefused("The only transfer coding that is understood is 'chunked'.")
    return ClientError("The only transfer coding that is understood is a single 'chunked', in HTTP/1.1.")


def origin_form(target: bytes, method: bytes = b"GET") -> tuple[bytes, bytes | None]:
    """Turn a request target into origin-form (RFC 9112 section 3.2): the target and, from absolute-form, the authority.

    `OPTIONS http://host` asks about the server, not about its root: its target is `*` (section 3.2.4).

    The path and query are not touched: `%2F`, `//`, `/../` and a bare `?` go on byte for byte. Raises ClientError for
    a target that is none.
    """
    if b"#" in target:
        raise ClientError("The request target holds a fragment ('#'), which is not sent to servers.")
    if target[:1] == b"/":
        return target, None
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise ClientError("The request target must begin with '/', 'http://' or 'https://'.")
    cut = min((i for i in (rest.find(b"/"), rest.find(b"?")) if i >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if not HOST.fullmatch(authority):
        raise ClientError("The request target has no valid host.")
    if not path and method == b"OPTIONS":
        return b"*", authority
    return path if path[:1] == b"/" else b"/" + path, authority


class Replay:
    """A body that can be sent again as long as it has been small: what was read is kept, up to `cap_bytes`."""

    __slots__ = ("_cap_bytes", "_kept", "_position", "body", "length")

    def __init__(self, body: Body, cap_bytes: int) -> None:
        self.body = body
        self.length = body.length
        self._cap_bytes = cap_bytes
        self._kept: list[bytes] | None = []
        self._position = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is left to read, from the client or from what was kept."""
        return self.body.complete and (self._kept is None or self._position == len(self._kept))

    @property
    def received_bytes(self) -> int:
        """How much the client has sent so far."""
        return self.body.received_bytes

    @property
    def trailers(self) -> Sequence[tuple[bytes, bytes]]:
        """The fields behind it, once it is complete."""
        return self.body.trailers

    def buffered(self) -> bytes | None:
        """Give the whole body if it is here."""
        if self._position or self._kept is None:
            return None
        if not self._kept:
            whole = self.body.buffered()
            if whole is None:
                return None
            if len(whole) > self._cap_bytes:
                self._kept = None
                return whole
            self._kept = [whole]
        elif not self.body.complete:
            return None
        self._position = len(self._kept)
        return b"".join(self._kept)

    def read(self) -> bytes:
        """Give the next piece: what was kept first."""
        kept = self._kept
        if kept is None:
            return self.body.read()
        if self._position < len(kept):
            self._position += 1
            return kept[self._position - 1]
        try:
            piece = self.body.read()
        except BaseException:
            self._kept = None  # Stopped in the middle of a read: what was on its way is lost.
            raise
        if piece:
            if self.body.received_bytes > self._cap_bytes:
                self._kept = None
            else:
                kept.append(piece)
                self._position += 1
        return piece

    @property
    def spent(self) -> bool:
        """Whether it was too large to be kept, or broke off: it can be sent no second time."""
        return self._kept is None

    def twin(self) -> Replay | None:
        """Give the same body from its first byte, for another try at the same time; None unless it is all here and kept."""
        if self._kept is None or not self.body.complete:
            return None
        twin = Replay(self.body, self._cap_bytes)
        twin._kept = self._kept
        return twin

    def rewind(self) -> bool:
        """Go back to the first byte; False when that is no longer possible."""
        if self._kept is None:
            return False
        self._position = 0
        return True


def from_environ(environ: dict[str, Any], start_response: Any = None, limit_bytes: int = 0) -> Request:
    """Read a request from the environ of a server that is not ours: gunicorn's own loop, Flask's test client.

    gunicorn gives the raw target in RAW_URI. Its environ has each field once, repetitions joined by commas; the request behind
    its `start_response` still has them one by one, upper-case. limit_bytes: of the body, 0 for none.
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
    fields = checked(RequestFields(block), http11)
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
    request.sock = environ.get("gunicorn.socket")
    request.hasty = True  # gunicorn takes a request that is there already without a round of the loop
    if "wsgi.early_hints" in environ:
        tell = environ["wsgi.early_hints"]
        request.interim = lambda status, _, hints: tell(pairs_of(without_length(hints))) if status == 103 else None
    if fields.transfer_encoding is not None:
        request.fields = fields.with_block(fields.without(b"trailer"))  # WSGI has none to send on
        request.body = WsgiBody(environ["wsgi.input"], None, limit_bytes)
    elif fields.content_length is not None and fields.content_length != b"0":
        if not fields.content_length.isdigit():
            raise ClientError("Content-Length must be digits.")
        request.body = WsgiBody(environ["wsgi.input"], int(fields.content_length), limit_bytes)
    return request


def complete_environ(environ: dict[str, Any]) -> None:
    """Fill a lean environ of our own server up to what PEP 3333 asks for; does nothing to one that is complete."""
    request: Request | None = environ.get(KEY)
    if request is None or "PATH_INFO" in environ:
        return
    if HANDLER in environ:
        environ.update(environ[HANDLER].base_environ())
    path, _, query = request.target.partition(b"?")
    environ["REQUEST_METHOD"] = request.method.decode("latin-1")
    environ["SCRIPT_NAME"] = ""
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ["RAW_URI"] = environ["REQUEST_URI"] = request.target.decode("latin-1")
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if request.version == 11 else "HTTP/1.0"
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
    if request.fields.host is not None:
        environ["HTTP_HOST"] = request.fields.host.decode("latin-1")
    environ["wsgi.input"] = io.BufferedReader(BodyFile(request)) if request.body else io.BytesIO()
    environ["wsgi.input_terminated"] = True


class BodyFile(io.RawIOBase):
    """A request body as a file, for views that read one."""

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
