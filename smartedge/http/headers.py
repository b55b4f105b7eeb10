"""Header fields on their way through: what ends here, what goes on, what the edge must know of them. Pure functions.

Fields stay bytes from socket to socket, in their order, case and repetition (RFC 9110 section 5.3). Each message's fields are
looked at once: `RequestFields` and `AnswerFields` keep the end-to-end ones as they came and what the edge itself must know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from smartedge.http.chunked import LAST_CHUNK

VIA: Final = b"Via: 1.1 smartedge\r\n"
VIA_10: Final = b"Via: 1.0 smartedge\r\n"
VIA_2: Final = b"Via: 2 smartedge\r\n"
"""RFC 9110 section 7.6.3; a pseudonym instead of a host name."""

HOP_BY_HOP: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
"""RFC 9110 section 7.6.1, with the deprecated ones that are still seen. Of TE and Trailer goes on what the edge can keep."""

TE_TRAILERS: Final = b"TE: trailers\r\nConnection: TE\r\n"
"""How a client that takes trailers is passed on."""

FORWARDED: Final = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-server x-forwarded-prefix"
    b" x-forwarded-ssl x-forwarded-scheme x-forwarded-by x-real-ip x-client-cert-subject x-client-cert-fingerprint".split()
)
"""What a proxy in front of us says of its client: believed from `trusted_proxies` only."""

OF_CERTIFICATES: Final = frozenset((b"x-client-cert-subject", b"x-client-cert-fingerprint"))
"""Those of them that we say ourselves of a client that has shown a certificate (http/client_certificate.py)."""

_PROTECTED: Final = FORWARDED | {b"host", b"content-length", b"transfer-encoding", b"via", b"x-request-id"}
"""What `Connection` can't have removed, and what no spelling with `_` can stand for."""

_FOR_US: Final = frozenset((b"expect", b"proxy-authorization", b"x-smartedge-explain", b"x-smartedge-hello"))
"""What ends here. X-SmartEdge-Hello holds what only the edge may know (admin/hello.py); Expect is answered here;
Proxy-Authorization is for the proxy, that is for us, who never asked (RFC 9110 section 11.7.2)."""

_NOT_IN_TRAILERS: Final = (
    _PROTECTED
    | HOP_BY_HOP
    | _FOR_US
    | frozenset(b"authorization cookie set-cookie cache-control max-forwards range location vary www-authenticate".split())
)

PLAIN_CONNECTION: Final[dict[bytes, bool | None]] = {
    b"": None,
    b"keep-alive": True,
    b"close": False,
    b"upgrade": None,
    b"keep-alive, upgrade": True,
    b"te": None,
    b"te, close": False,
}
"""What `Connection` says nearly always, and whether the connection lasts by that; None where that is up to the version."""


def one_of(names: Iterable[bytes]) -> bytes:
    """Write a pattern of names, by their first letters: so a line that has none of these is passed over sooner."""
    by_letter: dict[bytes, list[bytes]] = {}
    for name in sorted(names):
        by_letter.setdefault(name[:1], []).append(name[1:])
    return b"|".join(b"%b(?:%b)" % (letter, b"|".join(rest)) for letter, rest in by_letter.items())


def _either_spelling(names: Iterable[bytes]) -> bytes:
    return one_of(names).replace(b"-", b"[-_]")


_SPECIAL: Final = _PROTECTED | HOP_BY_HOP | _FOR_US
OF_ITS_OWN: Final = frozenset((b"content-length", b"x-request-id"))
"""Those of them of which another value changes no more than what `with_told` makes of it."""

# On lower-case text, and with a literal first byte, a search through a block costs half a microsecond.
_SPECIAL_IN_REQUEST: Final = re.compile(
    rb"\n(%b):" % _either_spelling(_SPECIAL | {b"authorization", b"traceparent", b"tracestate"})
)
_NO_HOST: Final = re.compile(rb"(?im)^host:[ \t]*\r$")
_TRACE_CONTEXT: Final = re.compile(rb"\ntrace(?:parent|state):")

REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~+/=:@-]{0,127}")
HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::[0-9]{0,5})?")


Lines = tuple[tuple[bytes, bytes], ...]
"""Fields, each with its name in lower case and its whole line."""


class Said:
    """What a request's header fields say, but for the bytes that go on: requests that are alike share it (http/alike.py).

    forwarded: the fields of FORWARDED, kept apart until it is known whether the peer is believed. for_edge: there is a field
    that the edge itself must look at before the request goes on: X-SmartEdge-Explain, Authorization, which may hold the token of
    the admin pages, or our name in Via. traced: how many traceparents and tracestates are there, or were (http/trace_context.py).
    persists: as in AnswerFields. onward: what has been made of them for backends, so that it is made once (proxy/outbound.py).
    host: what the client asked for. host_is_set: the block has the Host that a route says, whatever the client and the backend
    call it. The rest: the values that the edge acts on, None when absent.
    """

    __slots__ = (
        "connection",
        "content_length",
        "expect",
        "explain",
        "for_edge",
        "forwarded",
        "host",
        "host_is_set",
        "hosts",
        "onward",
        "persists",
        "request_id",
        "traced",
        "transfer_encoding",
        "upgrade",
    )

    connection: bytes | None
    content_length: bytes | None
    expect: bytes | None
    explain: bytes | None
    for_edge: bool
    forwarded: Lines | None
    host: bytes | None
    host_is_set: bool
    hosts: int
    onward: Any
    persists: bool | None
    request_id: bytes | None
    traced: int
    transfer_encoding: bytes | None
    upgrade: bytes | None


class RequestFields(Said):
    """A request's header fields and what they say; made by the server's reader, carried by the `Request`.

    Frozen: the requests of a connection share it as long as they send the same fields.

    block: the end-to-end fields, `name: value CRLF` each, Host and Content-Length among them; made of the fields as they came,
    which llhttp has checked: no folding, no bare CR or LF.
    Whoever changes what a request says gives it fields of its own: `with_block`, `with_others`, `with_host`, `without_upgrade`.
    """

    __slots__ = ("block",)

    def __init__(self, block: bytes, like: RequestFields | None = None) -> None:
        """Look at a block; or have this one go on, and all else be said that other fields say."""
        self.block = block
        self.onward = None
        if like is not None:
            self.connection = like.connection
            self.content_length = like.content_length
            self.expect = like.expect
            self.explain = like.explain
            self.for_edge = like.for_edge
            self.forwarded = like.forwarded
            self.host = like.host
            self.host_is_set = like.host_is_set
            self.hosts = like.hosts
            self.persists = like.persists
            self.request_id = like.request_id
            self.traced = like.traced
            self.transfer_encoding = like.transfer_encoding
            self.upgrade = like.upgrade
            return
        self.traced = self.hosts = 0
        self.for_edge = self.host_is_set = False
        self.connection = self.content_length = self.expect = self.explain = self.host = None
        self.forwarded = self.persists = self.request_id = self.transfer_encoding = self.upgrade = None
        given_up: dict[bytes, bytes] = {}
        pieces = []
        low = b"\n" + block.lower()  # so a line begins at one place in the block, and its line feed's in here
        passed = 0
        for found in _SPECIAL_IN_REQUEST.finditer(low):
            begin = found.start()
            end = low.index(b"\n", begin + 1)
            name = found[1]
            if name == b"host":
                self.host = block[begin + 5 : end].strip()
                self.hosts += 1
            elif not self._keeps(name, block[begin:end], given_up):
                pieces.append(block[passed:begin])
                passed = end
        if passed:
            pieces.append(block[passed:])
            block = b"".join(pieces)
            block = self._without_connection(block, given_up)
        self.block = block

    def _without_connection(self, block: bytes, given_up: dict[bytes, bytes]) -> bytes:
        """Take out what Connection names, and put in what the edge can keep of the fields that end here.

        A method of its own: mypy takes what `__init__` has set to None for None to its end, and mypyc leaves out what follows.
        """
        connection = self.connection
        if connection is not None:
            low = connection.lower()
            if low in PLAIN_CONNECTION:
                self.persists = PLAIN_CONNECTION[low]
            else:
                said = tokens(connection)
                self.persists = False if b"close" in said else True if b"keep-alive" in said else None
                block = b"".join(without_nominated(block.splitlines(True), connection))
        if given_up:
            # What the edge can keep of two fields that end here.
            if b"trailers" in tokens(given_up.get(b"te")):  # RFC 9110 section 10.1.4: who sends TE names it in Connection
                block += TE_TRAILERS
            if self.transfer_encoding is not None:
                block += announced_trailers(given_up.get(b"trailer", b""))
        return block

    def with_block(self, block: bytes) -> RequestFields:
        """Give fields of which other ones go on."""
        made = RequestFields(block, self)
        made.traced = len(_TRACE_CONTEXT.findall(b"\n" + block.lower()))
        return made

    def with_values(self, block: bytes) -> RequestFields:
        """Give fields of which other ones go on, in which only values differ (http/alike.py)."""
        made = RequestFields(block, self)
        made.onward = self.onward  # made of the host and of what other proxies said: those are the same
        return made

    def with_told(self, block: bytes, told: dict[bytes, bytes]) -> RequestFields | None:
        """Give such fields where values of OF_ITS_OWN differ, too: told. None for a Content-Length that is no number."""
        made = self.with_values(block)
        if (value := told.get(b"content-length")) is not None:
            made.content_length = length_of(value)
            if made.content_length is None:
                return None
        if (value := told.get(b"x-request-id")) is not None:
            made.request_id = _request_id(value.strip())
        return made

    def with_others(self, names: frozenset[bytes], lines: bytes) -> RequestFields:
        """Give fields with these lines in place of all whose name, `folded`, is one of these, whoever said them."""
        kept = [line for line in self.block.splitlines(True) if folded(line[: line.find(b":")]) not in names]
        made = self._without_said(b"".join([*kept, lines]), names)
        if b"host" in names:
            made.host_is_set = _NO_HOST.search(lines) is None  # `{host}` of who asks for none
        return made

    def with_host(self, authority: bytes) -> RequestFields:
        """Give fields with the authority of an absolute-form target for Host (RFC 9112 section 3.2.2)."""
        made = self.with_block(b"Host: %b\r\n%b" % (authority, self.without(b"host")))
        made.host = authority
        return made

    def with_certificate(self, lines: bytes) -> RequestFields:
        """Give fields that tell of the client's certificate; whatever was said of one before does not count."""
        return self._without_said(self.block + lines, OF_CERTIFICATES)

    def without_upgrade(self) -> RequestFields:
        """Give fields that offer no other protocol."""
        made = self.with_block(self.block)
        made.upgrade = None
        return made

    def _without_said(self, block: bytes, names: frozenset[bytes]) -> RequestFields:
        """Give fields of which this block goes on, and nothing counts that a proxy may have said under these names."""
        made = self.with_block(block)
        made.forwarded = tuple([one for one in self.forwarded or () if one[0] not in names]) or None
        return made

    def without(self, name: bytes) -> bytes:
        """Give the block without the fields of a name, in lower case."""
        start = name + b":"
        return b"".join([line for line in self.block.splitlines(True) if line[: len(start)].lower() != start])

    def _keeps(self, low: bytes, line: bytes, given_up: dict[bytes, bytes]) -> bool:
        """Look at one field with a special name, in lower case; False when it ends here."""
        value = line[len(low) + 1 :].strip()
        if low == b"connection":
            self.connection = value if self.connection is None else self.connection + b"," + value
            return False
        if low == b"content-length":
            self.content_length = value
        elif low == b"authorization":
            self.for_edge = True
        elif low == b"via":
            self.for_edge = self.for_edge or b"smartedge" in value.lower()
        elif low == b"traceparent" or low == b"tracestate":
            self.traced += 1
        elif low == b"x-request-id":
            self.request_id = _request_id(value)
            return False
        elif low in FORWARDED:
            self.forwarded = (*(self.forwarded or ()), (low, line))
            return False
        elif low in HOP_BY_HOP or low in _FOR_US:
            if low == b"transfer-encoding":
                before = self.transfer_encoding
                self.transfer_encoding = value if before is None else before + b"," + value
            elif low == b"upgrade":
                self.upgrade = value if self.upgrade is None else self.upgrade + b", " + value
            elif low == b"expect":
                self.expect = value
            elif low == b"x-smartedge-explain":
                self.explain, self.for_edge = value, True
            elif low == b"te" or low == b"trailer":
                given_up[low] = given_up.get(low, b"") + b"," + value
            return False
        elif b"_" in low and low.replace(b"_", b"-") in _PROTECTED:
            return False  # A backend that folds both to one name (WSGI, CGI) would take it for the real one.
        return True


def length_of(value: bytes) -> bytes | None:
    """Give the digits of a Content-Length, None where there are others, or so many that a parser has to say what they mean."""
    value = value.strip()
    return value if value.isdigit() and len(value) < 16 else None


def _request_id(value: bytes) -> bytes | None:
    """Give the value of an X-Request-Id, None where it is none that may be taken over."""
    return value if REQUEST_ID.fullmatch(value) else None


def may_differ(name: bytes) -> bool:
    """Say whether another value of a request's field, its name in lower case, changes no more than `with_told` takes over."""
    return name in OF_ITS_OWN or folded(name) not in _SPECIAL


def announced_trailers(value: bytes) -> bytes:
    """Write Trailer with those of its names that may go on as trailers (RFC 9110 section 6.6.2), b"" without any."""
    names = [name for name in (part.strip(b" \t") for part in value.split(b",")) if name and _may_trail(name)]
    return b"Trailer: %b\r\n" % b", ".join(names) if names else b""


def pairs_of(block: bytes) -> list[tuple[str, str]]:
    """Give header fields as WSGI has them: name and value as text (PEP 3333: latin-1)."""
    pairs = []
    for line in block.splitlines():
        name, _, value = line.decode("latin-1").partition(":")
        pairs.append((name, value.strip(" \t")))
    return pairs


def without_nominated(lines: list[bytes], connection: bytes) -> list[bytes]:
    """Drop the fields that `Connection` names (RFC 9110 section 7.6.1), but none that framing, routing or trust rest on."""
    nominated = {token.strip(b" \t").lower() for token in connection.split(b",")} - _PROTECTED
    return [line for line in lines if line[: line.index(b":")].lower() not in nominated]


def last_chunk(trailers: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """End a chunked body, with those of its trailer fields that may go on.

    None that would change framing, routing, trust, conditions or what the body is: whoever reads them into the header section
    would be deceived (RFC 9110 section 6.5.1).
    """
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % pair for pair in kept_trailers(trailers)])


def kept_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Give those trailer fields that may go on."""
    return [(name, value) for name, value in trailers if _may_trail(name)]


def folded(name: bytes) -> bytes:
    """Give a field's name as those read it who fold case, and `_` to `-`."""
    return name.lower().replace(b"_", b"-")


def _may_trail(name: bytes) -> bool:
    name = folded(name)
    return name not in _NOT_IN_TRAILERS and not name.startswith((b"content-", b"if-"))


def without_length(block: bytes) -> bytes:
    """Give a block without Content-Length, which a 1xx or a 204 has not (RFC 9110 section 8.6)."""
    return b"".join(line for line in block.splitlines(True) if line[:15].lower() != b"content-length:")


def tokens(value: bytes | None) -> set[bytes]:
    """Split a comma-separated field value into its lower-case members."""
    return {token.strip(b" \t").lower() for token in value.split(b",")} if value else set()
