"""Reading requests off a client's connection: complete heads within limits of size and time, checked by RFC 9110 and 9112.

What is not HTTP is refused before anybody else sees it: the stock handler takes what a smuggler needs.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import Final

import httptools

from smartedge.balancer.errors import ClientError, ClientTimeout, ExpectationFailed, HeadersTooLarge, MethodRefused, TargetTooLong
from smartedge.http.alike import Alike, find_alike
from smartedge.http.headers import OF_ITS_OWN, RequestFields, Said, may_differ
from smartedge.http.lent import LENT_FROM_BYTES
from smartedge.http.pipes import HEAD_BYTES
from smartedge.http.request import Request, check_fields, origin_form, refused_coding
from smartedge.http.wire import RECV_BYTES, WireTimeout
from smartedge.server.body import ChunkedBody, ClientBody, LengthBody
from smartedge.server.front import Front, ServerLimits
from smartedge.server.incoming import Incoming

_KNOWN_METHODS: Final = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE PROPFIND PROPPATCH MKCOL COPY MOVE LOCK UNLOCK".split()
)
FRESH_S: Final = 1.0
"""Time that a server which stops gives a client to send the request for which it has just connected."""

_PLAIN_LINE: Final = re.compile(rb"(%b) (/[!-\"$-~]*) HTTP/1\.([01])\r\n" % b"|".join(sorted(_KNOWN_METHODS)))
"""A request line that llhttp has nothing against, with a target in origin-form (tests/server/test_reader.py asks it)."""

METHOD_BYTES: Final = 64
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
CR: Final = 13
_PRI: Final = b"PRI * HTTP/2.0\r\n\r\n"
"""How HTTP/2 begins (RFC 9113 section 3.4): to HTTP/1.1 a head like others, which nobody may serve."""

_TLS_RECORD: Final = b"\x16\x03"
"""How a client begins that takes this for a port with TLS: a handshake record of any version (RFC 8446 section 5.1)."""

AGAIN_BYTES: Final = 2048
"""A head that is no longer is kept for the case that the very same one comes again: so much an idle client may cost."""

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*")
_LATER_VERSION: Final = re.compile(rb" HTTP/1\.[2-9]")
_UNKNOWN_CODING: Final = "Request has invalid `Transfer-Encoding`"
"""llhttp's words for a coding behind which the end of the body is not known."""


class PriorKnowledge(ClientError):
    """The client has begun to speak HTTP/2 without having been asked (RFC 9113 section 3.3). early: what it has said."""

    def __init__(self, early: bytes) -> None:
        super().__init__('This port does not speak HTTP/2 without TLS ("h2c": true has it do so).')
        self.early = early


def past_empty_lines(data: bytes) -> bytes:
    """Give what stands behind the empty lines."""
    return data[_EMPTY_LINES.match(data).end() :]  # type: ignore[union-attr]


class RequestReader:
    """Reads the requests of one client's connection, one after the other; owned by its `EdgeHandler`.

    wants_no_body: what was refused is a HEAD, whose answer ends with its head (RFC 9110 section 9.3.2).
    """

    __slots__ = (
        "_alike",
        "_alike_fields",
        "_front",
        "_incoming",
        "_known_block",
        "_known_bytes",
        "_known_end",
        "_known_fields",
        "_last_goes_on",
        "_last_head",
        "_last_line",
        "_limits",
        "_most_fields",
        "_most_line",
        "wants_no_body",
    )

    def __init__(self, incoming: Incoming, front: Front, limits: ServerLimits) -> None:
        self._incoming = incoming
        self._front = front
        self._limits = limits
        self._known_block = b""
        self._known_end, self._known_bytes = b"\n\n", 0
        self._known_fields: RequestFields | None = None
        self._last_head, self._last_line = b"", (b"", b"", 11)  # of the last request with these fields
        # What is longer has a closer look taken at it.
        self._most_line = min(limits.target_bytes, limits.line_bytes or limits.target_bytes)
        self._most_fields = limits.field_bytes or limits.head_bytes
        self._alike: Alike | None = None
        self._alike_fields: RequestFields | None = None
        self._last_goes_on = b""
        self.wants_no_body = False

    def read_request(self) -> Request | None:
        """Read the next request's head; None when the client is done. Raises ClientError for what is refused."""
        incoming = self._incoming
        data = incoming.unread
        if data and data[0] == CR:
            data = past_empty_lines(data)
        hasty = bool(data) and data != b"\r"
        if not hasty:
            incoming.idle = True
            stopping = self._front.stopping and not self._front.lingers
            if stopping and not incoming.fresh:
                return None
            try:
                data += incoming.wire.recv(FRESH_S if stopping else self._limits.keepalive_s, incoming.head_read)
                if data and data[0] == CR:
                    data = self._past_empty_lines(data)
            except WireTimeout:
                return None
            incoming.idle = False
            if not data:
                return None
        try:
            return self._read_head(data, hasty)
        except ClientError:
            self.wants_no_body = data.lstrip(b"\r\n")[:5] == b"HEAD "
            raise

    def _past_empty_lines(self, data: bytes) -> bytes:
        """Read on while nothing but empty lines has come: many a client ends a POST with one (RFC 9112 section 2.2)."""
        deadline = monotonic() + self._limits.keepalive_s
        while not (data := past_empty_lines(data)) or data == b"\r":
            more = self._incoming.wire.recv(max(0.001, deadline - monotonic()))
            if not more:
                return b""
            data += more
        return data

    def _read_head(self, data: bytes, hasty: bool) -> Request | None:
        """Make a Request of what has come, once its head is complete; raises ClientError for what is none."""
        incoming, limits = self._incoming, self._limits
        fields = self._known_fields
        if data == self._last_head and fields is not None:
            # Whoever polls asks for the same thing again and again: 5,900 instructions less of 110,000 (docs/performance.md).
            incoming.unread = b""
            method, target, version = self._last_line
            request = Request(method, target, version, self._known_block, fields, incoming.peer, incoming.secure)
        else:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                data, end = self._read_slowly(data)
                if not data:
                    return None
            end += 4
            if len(data) == end:
                incoming.unread = b""
                head = data
            else:
                incoming.unread = data[end:]
                head = data[:end]
            if end > limits.head_bytes:
                raise HeadersTooLarge(f"The request head is longer than {limits.head_bytes} bytes.")
            line = None
            line_end = end - self._known_bytes
            if line_end <= self._most_line and head.endswith(self._known_end):
                # Most programs send the same fields with every request: they have been checked (docs/performance.md).
                line = _PLAIN_LINE.fullmatch(head, 0, line_end)
            if line is not None and fields is not None:
                method, target, minor = line.groups()
                version = 11 if minor == b"1" else 10
                request = Request(method, target, version, self._known_block, fields, incoming.peer, incoming.secure)
                if end <= AGAIN_BYTES:
                    self._last_head, self._last_line = head, (method, target, version)
            else:
                request = self._read_alike(head) or self._read_whole(head)
        said = request.said
        request.hasty = hasty
        incoming.request = request
        incoming.fresh = False
        incoming.keep_alive = request.version == 11 if said.persists is None else said.persists
        if said.transfer_encoding is not None or said.content_length is not None:
            self._add_body(request, said)
        return request

    def _read_slowly(self, data: bytes) -> tuple[bytes, int]:
        """Read on until the head is complete, within head_s and head_bytes; (b"", 0) when the client gave up."""
        limits = self._limits
        deadline = monotonic() + limits.head_s
        while True:
            data = past_empty_lines(data)
            end = data.find(b"\r\n\r\n")
            if end >= 0:
                return data, end
            line_end = data.find(b"\r\n")
            if (line_end if line_end >= 0 else len(data)) > limits.target_bytes + 100:
                raise TargetTooLong(f"The request target is longer than {limits.target_bytes} bytes.")
            if len(data) > limits.head_bytes:
                raise HeadersTooLarge(f"The request head is longer than {limits.head_bytes} bytes.")
            if b"\n" in data.replace(b"\r\n", b"") or b"\0" in data:
                if data[:2] == _TLS_RECORD:
                    raise ClientError("This port does not speak TLS: ask for http://, or give it a certificate.")
                raise ClientError("Lines of a request end with CR LF.")
            try:
                more = self._incoming.wire.recv(max(0.001, deadline - monotonic()))
            except WireTimeout:
                raise ClientTimeout(f"The request head did not arrive within {limits.head_s:g} s.") from None
            if not more:
                return b"", 0
            data += more

    def _read_alike(self, head: bytes) -> Request | None:
        """Make a Request of a head whose fields differ from the last ones' in values only (http/alike.py); None for another."""
        alike, fields = self._alike, self._alike_fields
        if alike is None or fields is None:
            return None
        line, end = _PLAIN_LINE.match(head), len(head)
        if line is None or (begin := line.end()) > self._most_line or end - begin > self._most_fields:
            return None
        read = alike.read(head, begin, end)
        if read is None:
            return None
        goes_on, told = read
        if told:
            fields = fields.with_told(goes_on, told)
            if fields is None:
                return None
        if goes_on == self._last_goes_on:  # it has come twice, and may come again
            self._know(head[begin:], head[begin:-2], fields.with_values(goes_on))
        self._last_goes_on = goes_on
        method, target, minor = line.groups()
        incoming = self._incoming
        request = Request(method, target, 11 if minor == b"1" else 10, b"", fields, incoming.peer, incoming.secure)
        request.differs(goes_on, head, begin)
        return request

    def _read_whole(self, head: bytes) -> Request:
        """Check a head (RFC 9112 sections 2 to 6) and make a Request of it; raises ClientError for what is none."""
        line = _PLAIN_LINE.match(head)
        if line is not None:
            method, target, minor = line.groups()
            http11, begin = minor == b"1", line.end()
        else:
            head, method, target, http11, begin = self._unusual_line(head)
        limits = self._limits
        if len(target) > limits.target_bytes:
            raise TargetTooLong(f"The request target is longer than {limits.target_bytes} bytes.")
        if begin - 2 > limits.line_bytes > 0:
            raise TargetTooLong(f"The request line is longer than {limits.line_bytes} bytes.")
        if line is None and b" " in target:
            raise ClientError("The request target holds a space.")
        rest = head[begin:]
        block = rest[:-2]
        fields = self._like_first(block) if line is not None and self._known_fields is None else None
        if fields is None:
            fields = self._read_fields(head, method, rest, http11)
            if self._known_fields is None and line is not None and not self._incoming.certificate_lines:
                self._front.know(block, limits, fields)
        if fields.hosts == 1 and fields.transfer_encoding is None:  # a coding will do or not depending on the version
            self._know(rest, block, fields)
        if line is None and (target[:1] != b"/" or b"#" in target):
            if target == b"*":
                if method != b"OPTIONS":
                    raise ClientError("Only OPTIONS has the target '*'.")
            else:
                target, authority = origin_form(target, method)
                if authority is not None:
                    fields = fields.with_host(authority)
        incoming = self._incoming
        return Request(method, target, 11 if http11 else 10, block, fields, incoming.peer, incoming.secure)

    def _know(self, rest: bytes, block: bytes, fields: RequestFields) -> None:
        """Know from now on what the fields say that stand there, with the empty line (rest) and without (block)."""
        self._known_block, self._known_fields = block, fields
        self._known_end, self._known_bytes = rest, len(rest)
        self._last_head = b""

    def _read_fields(self, head: bytes, method: bytes, rest: bytes, http11: bool) -> RequestFields:
        """Check a whole head and read its fields; find out where they differ from the known ones, if in values only.

        rest: what stands behind the request line.
        """
        block = rest[:-2]
        try:
            # llhttp checks and no more: making a parser for one head takes 0.2 µs and leaves no state to go wrong.
            if method in _KNOWN_METHODS:
                httptools.HttpRequestParser(None).feed_data(head)
            else:
                self._check_unknown_method(head, method)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            if str(error) == _UNKNOWN_CODING:
                coding = RequestFields(block).transfer_encoding or b""
                raise refused_coding(coding, http11) from None
            raise ClientError(f"Malformed request: {error}.") from None
        self._check_fields(block)
        fields, known = RequestFields(block), self._known_fields
        if known is None or fields.host != known.host or fields.hosts != 1 or fields.transfer_encoding is not None:
            check_fields(fields, http11)
        elif fields.forwarded is None and known.forwarded is None:
            fields.onward = known.onward  # made of the host and what other proxies said, and nothing else of the fields
        if self._incoming.certificate_lines:
            fields = fields.with_certificate(self._incoming.certificate_lines)
        if known is not None and fields.hosts == 1 and fields.transfer_encoding is None:
            alike = find_alike(rest, fields.block, self._known_end, self._alike, may_differ, OF_ITS_OWN)
            if alike is not self._alike:
                self._alike, self._alike_fields = alike, fields
        return fields

    def _like_first(self, block: bytes) -> RequestFields | None:
        """Give the fields of a connection's first request, if another one began with the same; None where nothing is known."""
        known = self._front.known_blocks.get(block)
        if known is None or self._incoming.certificate_lines:
            return None
        if known[0] is not self._limits and known[0] != self._limits:
            return None  # a reload has changed what a client may send
        return RequestFields(known[1].block, known[1])  # its own: what is kept in them for a connection is that one's alone

    def _unusual_line(self, head: bytes) -> tuple[bytes, bytes, bytes, bool, int]:
        """Read a request line that is not _PLAIN_LINE: give the head to go on with, method, target, whether 1.1, and its end."""
        if head == _PRI:
            raise PriorKnowledge(head + self._incoming.unread)
        line_end = head.index(b"\r\n")
        space = head.find(b" ", 0, line_end)
        start = max(line_end - 9, space + 1)  # of the version
        method, target, version = head[:space], head[space + 1 : start], head[start:line_end]
        if space < 1 or (version != b" HTTP/1.1" and version != b" HTTP/1.0"):
            if space < 1 or not _LATER_VERSION.fullmatch(version):
                raise ClientError("The request line must be 'METHOD target HTTP/1.1'.")
            # RFC 9110 section 2.5: a later minor version is served as the last one that is known.
            version = b" HTTP/1.1"
            head = head[: line_end - 9] + version + head[line_end:]
        return head, method, target, version == b" HTTP/1.1", line_end + 2

    def _check_unknown_method(self, head: bytes, method: bytes) -> None:
        """Have llhttp check a head whose method may be one that it does not know: it has a closed list, and HTTP has none."""
        if not _TOKEN.fullmatch(method):
            raise ClientError("The request method is not a token.")
        if len(method) > METHOD_BYTES:
            raise ClientError(f"The request method is longer than {METHOD_BYTES} bytes.")
        if method == b"CONNECT":
            raise MethodRefused("CONNECT is for forward proxies.")
        httptools.HttpRequestParser(None).feed_data(b"POST" + head[len(method) :])

    def _check_fields(self, block: bytes) -> None:
        """Refuse too many fields, and one that is too long."""
        limits = self._limits
        if block.count(b"\n") > limits.headers:
            raise HeadersTooLarge(f"The request has more than {limits.headers} header fields.")
        if limits.field_bytes and len(block) > limits.field_bytes and max(map(len, block.split(b"\r\n"))) > limits.field_bytes:
            raise HeadersTooLarge(f"A header field is longer than {limits.field_bytes} bytes.")

    def _add_body(self, request: Request, said: Said) -> None:
        """Give a request its body; raises ClientError for one that is too long, or that waits for what is not understood."""
        if said.transfer_encoding is not None:
            body: ClientBody = ChunkedBody(self._incoming, self._limits)
        else:
            length = int(said.content_length or b"0")  # llhttp has made sure that it is one number.
            if length == 0:
                return
            body = LengthBody(self._incoming, length, self._limits)
            self._incoming.head_read = RECV_BYTES if length < LENT_FROM_BYTES else HEAD_BYTES
        request.body = body
        if said.expect is not None and request.version == 11:
            if said.expect.lower() != b"100-continue":
                raise ExpectationFailed("The only expectation that is understood is '100-continue'.")
            request.expects_continue = True
