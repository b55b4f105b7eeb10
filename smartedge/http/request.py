"""One client request, as bytes: its line, its fields, its body, and a body that can be sent again."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from smartedge.balancer.errors import ClientError, CodingRefused, EdgeError
from smartedge.http.headers import HOST, RequestFields, Said
from smartedge.http.pipes import Pipe
from smartedge.http.span import Span

if TYPE_CHECKING:
    from smartedge.http.certificates import Certificate

PROTOCOLS: Final = {10: "HTTP/1.0", 11: "HTTP/1.1", 20: "HTTP/2.0"}
"""A Request's versions, as logs and CGI write them."""

_CODING: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Body(Protocol):
    """A request body that arrives while it is read: a ClientBody or StreamBody of our own server, a WsgiBody, a Replay.

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

    def limit(self, most_bytes: int) -> None:
        """Take no more than so many bytes in all; raises PayloadTooLarge, now or later."""

    def read(self) -> bytes:
        """Wait for the next piece; b"" at the end. Raises ClientError, ClientTimeout, ClientGone or PayloadTooLarge."""

    def lend(self, by_pipe: bool = False) -> bytes | memoryview | Pipe:
        """Wait for the next piece as `read` does; it is good until the next one is asked for.

        by_pipe: who asks sends what it gets by a plain wire, and may be given a Pipe.
        """


class RequestWaiter(Protocol):
    """Who waits on behalf of a request: its `Attempts`. An object, for a bound method takes as long as a call."""

    def give_up(self, why: EdgeError) -> None:
        """Wait no longer: the client has left, or the edge stops (called in the hub, so nothing here may wait)."""


class Request:
    """A request line and its fields, as bytes; made by server/reader.py, or by server/wsgi.py of a foreign server's environ.

    method, target: as they came, the target in origin-form or `*`. version: 10, 11, or 20 for HTTP/2. peer: the client's
    address as text. secure: it came over TLS. body: None when there is none. interim: sends a 1xx to the client, or None
    where the server can't. waiter: who waits on its behalf, and is told that there is
    nobody to wait for. hasty: it came together with the one before, so the event loop has not run between the two. sock: our end
    of the client's connection, for whoever must know who is at the other; None where the server does not tell. certificates:
    what the client was shown, tls: version, cipher and server name; set by our own server over TLS alone. traceparent: the
    line that tells backends of its trace, b"" where the edge takes no part in it (`proxy.tracer`). span: the edge's own, if
    it is recorded. said: what its fields say. goes_on: their bytes, as `RequestFields.block`. The two are apart because
    requests that are alike have the first in common (http/alike.py); who wants both together asks for `fields`, and sets those.
    known_block: the fields as they came, the very bytes of the request before if that had the same; None where `differs`.
    """

    __slots__ = (
        "_begin",
        "_head",
        "body",
        "certificates",
        "expects_continue",
        "goes_on",
        "hasty",
        "interim",
        "known_block",
        "method",
        "peer",
        "said",
        "secure",
        "sock",
        "span",
        "target",
        "tls",
        "traceparent",
        "version",
        "waiter",
    )

    _begin: int
    _head: bytes
    certificates: Sequence[Certificate]
    tls: tuple[str | None, str | None, str | None]

    def __init__(
        self, method: bytes, target: bytes, version: int, block: bytes, fields: RequestFields, peer: bytes, secure: bool
    ) -> None:
        self.method = method
        self.target = target
        self.version = version
        self.known_block: bytes | None = block
        self.said: Said = fields
        self.goes_on = fields.block
        self.peer = peer
        self.secure = secure
        self.body: Body | None = None
        self.expects_continue = False
        self.hasty = False
        self.interim: Callable[[int, bytes, bytes], None] | None = None
        self.sock: Any = None
        self.traceparent = b""
        self.span: Span | None = None
        self.waiter: RequestWaiter | None = None

    def differs(self, goes_on: bytes, head: bytes, begin: int) -> None:
        """Be one of which only values differ from another's, whose fields it has been given; begin: of the fields in the head."""
        self.goes_on, self.known_block = goes_on, None
        self._head, self._begin = head, begin

    @property
    def block(self) -> bytes:
        """The header fields as they came."""
        block = self.known_block
        return self._head[self._begin : -2] if block is None else block

    @property
    def fields(self) -> RequestFields:
        """What its header fields are and say; where requests share what they say, this one gets fields of its own."""
        said = self.said
        assert isinstance(said, RequestFields)
        if said.block is not self.goes_on:
            said = said.with_values(self.goes_on)
            self.said = said
        return said

    @fields.setter
    def fields(self, fields: RequestFields) -> None:
        self.said = fields
        self.goes_on = fields.block

    @property
    def protocol(self) -> str:
        """What it came by, as logs and CGI write it."""
        return PROTOCOLS[self.version]


def check_fields(fields: RequestFields, http11: bool) -> RequestFields:
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
    """A request body that can be sent again while it is small; made and owned by an `Attempts`, read by connections.

    What was read of the `body` is kept, up to `cap_bytes`; beyond that nothing is.
    """

    __slots__ = ("_cap_bytes", "_is_reading", "_kept", "_position", "body", "length")

    def __init__(self, body: Body, cap_bytes: int) -> None:
        self.body = body
        self.length = body.length
        self._cap_bytes = cap_bytes
        self._kept: list[bytes] | None = []
        self._position = 0
        self._is_reading = False

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

    def limit(self, most_bytes: int) -> None:
        """Take no more than so many bytes from the client."""
        self.body.limit(most_bytes)

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
        self._is_reading = True
        try:
            piece = self.body.read()
        except BaseException:
            self._kept = None  # Stopped in the middle of a read: what was on its way is lost.
            raise
        finally:
            self._is_reading = False
        if piece:
            if self.body.received_bytes > self._cap_bytes:
                self._kept = None
            else:
                kept.append(piece)
                self._position += 1
        return piece

    def lend(self, by_pipe: bool = False) -> bytes | memoryview | Pipe:
        """Give the next piece, good until the next one is asked for: what is kept can't be lent, what is too long is not kept."""
        if self._kept is not None:
            if self.length is None or self.length <= self._cap_bytes:
                return self.read()
            self._kept = None
        return self.body.lend(by_pipe)

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

    @property
    def can_rewind(self) -> bool:
        """Whether it can be sent again. Not while an upload waits for more of it: that is about to be stopped in mid-read."""
        return self._kept is not None and not self._is_reading

    def rewind(self) -> bool:
        """Go back to the first byte; False when that is no longer possible."""
        if not self.can_rewind:
            return False
        self._position = 0
        return True
