"""Header fields on their way through: what ends here, what goes on, what the edge must know of them. Pure functions.

Fields stay bytes from socket to socket, in their order, case and repetition (RFC 9110 section 5.3). Each message's fields are
looked at once: `RequestFields` and `AnswerFields` keep the end-to-end ones as they came and what the edge itself must know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

VIA = b"Via: 1.1 smartedge\r\n"
VIA_10 = b"Via: 1.0 smartedge\r\n"
VIA_2 = b"Via: 2 smartedge\r\n"
"""RFC 9110 section 7.6.3; a pseudonym instead of a host name."""

HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
"""RFC 9110 section 7.6.1, with the deprecated ones that are still seen. Of TE and Trailer goes on what the edge can keep."""

TE_TRAILERS = b"TE: trailers\r\nConnection: TE\r\n"
"""How a client that takes trailers is passed on."""

FORWARDED = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-server x-forwarded-prefix"
    b" x-forwarded-ssl x-forwarded-scheme x-forwarded-by x-real-ip x-client-cert-subject x-client-cert-fingerprint".split()
)
"""What a proxy in front of us says of its client: believed from `trusted_proxies` only."""

OF_CERTIFICATES = frozenset((b"x-client-cert-subject", b"x-client-cert-fingerprint"))
"""Those of them that we say ourselves of a client that has shown a certificate (http/client_certificate.py)."""

_PROTECTED = FORWARDED | {b"host", b"content-length", b"transfer-encoding", b"via", b"x-request-id"}
"""What `Connection` can't have removed, and what no spelling with `_` can stand for."""

_FOR_US = frozenset((b"expect", b"proxy-authorization", b"x-smartedge-explain", b"x-smartedge-hello"))
"""What ends here. X-SmartEdge-Hello holds what only the edge may know (admin/hello.py); Expect is answered here;
Proxy-Authorization is for the proxy, that is for us, who never asked (RFC 9110 section 11.7.2)."""

_NOT_IN_TRAILERS = (
    _PROTECTED
    | HOP_BY_HOP
    | _FOR_US
    | frozenset(b"authorization cookie set-cookie cache-control max-forwards range location vary www-authenticate".split())
)

PLAIN_CONNECTION = frozenset((b"", b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade", b"te", b"te, close"))


def _either_spelling(names: Iterable[bytes]) -> bytes:
    return b"|".join(sorted(names)).replace(b"-", b"[-_]")


# On lower-case text, and with a literal first byte, a search through a block costs half a microsecond.
_SPECIAL_IN_REQUEST = re.compile(
    rb"\n(%b):" % _either_spelling({*_PROTECTED - {b"via"}, *HOP_BY_HOP, *_FOR_US, b"authorization"})
)
_ONLY_HOST = [b"host"]
_HOST_AND_AUTHORIZATION = [b"authorization", b"host"]

REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~+/=:@-]{0,127}")
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::[0-9]{0,5})?")


Lines = tuple[tuple[bytes, bytes], ...]
"""Fields, each with its name in lower case and its whole line."""


class RequestFields:
    """What a request's header fields say; made by the server's reader, carried by the `Request`.

    Frozen: the requests of a connection share it as long as they send the same fields.

    block: the end-to-end fields, `name: value CRLF` each, Host and Content-Length among them; made of the fields as they came,
    which llhttp has checked: no folding, no bare CR or LF. forwarded: the fields of FORWARDED, kept apart until it is known
    whether the peer is believed. for_edge: there is a field that the edge itself must look at before the request goes on:
    X-SmartEdge-Explain, Authorization, which may hold the token of the admin pages, or our name in Via. traced: how many
    traceparents and tracestates are there, or were (http/trace_context.py). persists: as in AnswerFields. onward: what has been
    made of them for backends, so that it is made once (proxy/outbound.py). The rest: the values that the edge acts on, None when
    absent.
    Whoever changes what a request says gives it fields of its own: `with_block`, `with_others`, `with_host`, `without_upgrade`.
    """

    __slots__ = (
        "block",
        "connection",
        "content_length",
        "expect",
        "explain",
        "for_edge",
        "forwarded",
        "host",
        "hosts",
        "onward",
        "persists",
        "request_id",
        "traced",
        "transfer_encoding",
        "upgrade",
    )

    def __init__(self, block: bytes, said: _Said | None = None) -> None:
        low = b"\n" + block.lower()
        if said is None:
            said = _Said()
            special = _SPECIAL_IN_REQUEST.findall(low)
            said.for_edge = b"authorization" in special or b" smartedge" in low
            if special == _ONLY_HOST or (said.for_edge and sorted(special) == _HOST_AND_AUTHORIZATION):
                # The usual GET: nothing to take out.
                start = low.index(b"\nhost:")
                said.host = block[start + 5 : low.index(b"\r", start)].strip()
                said.hosts = 1
            else:
                block = said.read(block)
        self.onward: Any = None
        self.block: Final[bytes] = block
        self.traced: Final[int] = low.count(b"\ntraceparent:") + low.count(b"\ntracestate:")
        self.connection: Final[bytes | None] = said.connection
        self.content_length: Final[bytes | None] = said.content_length
        self.expect: Final[bytes | None] = said.expect
        self.explain: Final[bytes | None] = said.explain
        self.for_edge: Final[bool] = said.for_edge
        self.forwarded: Final[Lines | None] = said.forwarded
        self.host: Final[bytes | None] = said.host
        self.hosts: Final[int] = said.hosts
        self.persists: Final[bool | None] = said.persists
        self.request_id: Final[bytes | None] = said.request_id
        self.transfer_encoding: Final[bytes | None] = said.transfer_encoding
        self.upgrade: Final[bytes | None] = said.upgrade

    def with_block(self, block: bytes) -> RequestFields:
        """Give fields of which other ones go on."""
        return RequestFields(block, _Said(self))

    def with_others(self, names: frozenset[bytes], lines: bytes) -> RequestFields:
        """Give fields with these lines in place of all whose name, `folded`, is one of these, whoever said them."""
        kept = [line for line in self.block.splitlines(True) if folded(line[: line.find(b":")]) not in names]
        return self._without_said(b"".join([*kept, lines]), names)

    def with_host(self, authority: bytes) -> RequestFields:
        """Give fields with the authority of an absolute-form target for Host (RFC 9112 section 3.2.2)."""
        said = _Said(self)
        said.host = authority
        return RequestFields(b"Host: %b\r\n%b" % (authority, self.without(b"host")), said)

    def with_certificate(self, lines: bytes) -> RequestFields:
        """Give fields that tell of the client's certificate; whatever was said of one before does not count."""
        return self._without_said(self.block + lines, OF_CERTIFICATES)

    def without_upgrade(self) -> RequestFields:
        """Give fields that offer no other protocol."""
        said = _Said(self)
        said.upgrade = None
        return RequestFields(self.block, said)

    def _without_said(self, block: bytes, names: frozenset[bytes]) -> RequestFields:
        """Give fields of which this block goes on, and nothing counts that a proxy may have said under these names."""
        said = _Said(self)
        said.forwarded = tuple([one for one in self.forwarded or () if one[0] not in names]) or None
        return RequestFields(block, said)

    def without_host(self) -> bytes:
        """Give the block without Host."""
        return self.without(b"host")

    def without(self, name: bytes) -> bytes:
        """Give the block without the fields of a name, in lower case."""
        start = name + b":"
        return b"".join([line for line in self.block.splitlines(True) if line[: len(start)].lower() != start])


class _Said:
    """What RequestFields are made of: nothing at first, or what others say; changed until they are made."""

    __slots__ = (
        "connection",
        "content_length",
        "expect",
        "explain",
        "for_edge",
        "forwarded",
        "host",
        "hosts",
        "persists",
        "request_id",
        "transfer_encoding",
        "upgrade",
    )

    def __init__(self, like: RequestFields | None = None) -> None:
        self.connection: bytes | None = None if like is None else like.connection
        self.content_length: bytes | None = None if like is None else like.content_length
        self.expect: bytes | None = None if like is None else like.expect
        self.explain: bytes | None = None if like is None else like.explain
        self.for_edge: bool = False if like is None else like.for_edge
        self.forwarded: Lines | None = None if like is None else like.forwarded
        self.host: bytes | None = None if like is None else like.host
        self.hosts: int = 0 if like is None else like.hosts
        self.persists: bool | None = None if like is None else like.persists
        self.request_id: bytes | None = None if like is None else like.request_id
        self.transfer_encoding: bytes | None = None if like is None else like.transfer_encoding
        self.upgrade: bytes | None = None if like is None else like.upgrade

    def read(self, block: bytes) -> bytes:
        """Find out what fields say; return those that go on."""
        given_up = {b"te": b"", b"trailer": b""}
        lines = [line for line in block.splitlines(True) if self._keeps(line, given_up)]
        if self.connection is not None:
            said = tokens(self.connection)
            self.persists = False if b"close" in said else True if b"keep-alive" in said else None
            if self.connection.lower() not in PLAIN_CONNECTION:
                lines = without_nominated(lines, self.connection)
        # What the edge can keep of two fields that end here.
        if b"trailers" in tokens(given_up[b"te"]):  # RFC 9110 section 10.1.4: whoever sends TE names it in Connection
            lines.append(TE_TRAILERS)
        if self.transfer_encoding is not None:
            lines.append(announced_trailers(given_up[b"trailer"]))
        return b"".join(lines)

    def _keeps(self, line: bytes, given_up: dict[bytes, bytes]) -> bool:
        """Look at one field; False when it ends here."""
        name, _, value = line.partition(b":")
        low, value = name.lower(), value.strip()
        if low == b"host":
            self.host = value
            self.hosts += 1
        elif low == b"content-length":
            self.content_length = value
        elif low == b"x-request-id":
            self.request_id = value if REQUEST_ID.fullmatch(value) else None
            return False
        elif low in FORWARDED:
            self.forwarded = (*(self.forwarded or ()), (low, line))
            return False
        elif low in HOP_BY_HOP or low in _FOR_US:
            if low == b"connection":
                self.connection = value if self.connection is None else self.connection + b"," + value
            elif low == b"transfer-encoding":
                before = self.transfer_encoding
                self.transfer_encoding = value if before is None else before + b"," + value
            elif low == b"upgrade":
                self.upgrade = value if self.upgrade is None else self.upgrade + b", " + value
            elif low == b"expect":
                self.expect = value
            elif low == b"x-smartedge-explain":
                self.explain, self.for_edge = value, True
            elif low in given_up:
                given_up[low] += b"," + value
            return False
        elif b"_" in low and low.replace(b"_", b"-") in _PROTECTED:
            return False  # A backend that folds both to one name (WSGI, CGI) would take it for the real one.
        return True


def announced_trailers(value: bytes) -> bytes:
    """Write Trailer with those of its names that may go on as trailers (RFC 9110 section 6.6.2), b"" without any."""
    names = [name for name in (part.strip(b" \t") for part in value.split(b",")) if name and _may_trail(folded(name))]
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


def last_chunk(trailers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """End a chunked body, with those of its trailer fields that may go on.

    None that would change framing, routing, trust, conditions or what the body is: whoever reads them into the header section
    would be deceived (RFC 9110 section 6.5.1).
    """
    return b"0\r\n%b\r\n" % b"".join([b"%b: %b\r\n" % pair for pair in kept_trailers(trailers)])


def kept_trailers(trailers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Give those trailer fields that may go on."""
    return [(name, value) for name, value in trailers if _may_trail(folded(name))]


def folded(name: bytes) -> bytes:
    """Give a field's name as those read it who fold case, and `_` to `-`."""
    return name.lower().replace(b"_", b"-")


def _may_trail(name: bytes) -> bool:
    return name not in _NOT_IN_TRAILERS and not name.startswith((b"content-", b"if-"))


def without_length(block: bytes) -> bytes:
    """Give a block without Content-Length, which a 1xx or a 204 has not (RFC 9110 section 8.6)."""
    return b"".join(line for line in block.splitlines(True) if line[:15].lower() != b"content-length:")


def tokens(value: bytes | None) -> set[bytes]:
    """Split a comma-separated field value into its lower-case members."""
    return {token.strip(b" \t").lower() for token in value.split(b",")} if value else set()
