"""Header fields on their way through: what ends here, what goes on, what the edge must know of them. Pure functions.

Fields stay bytes from socket to socket, in their order, case and repetition (RFC 9110 section 5.3). Each message's fields are
looked at once: `RequestFields` and `AnswerFields` keep the end-to-end ones as they came and what the edge itself must know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from copy import copy
from operator import attrgetter
from typing import Any, Final

VIA = b"Via: 1.1 smartedge\r\n"
VIA_10 = b"Via: 1.0 smartedge\r\n"
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

_PLAIN_CONNECTION = frozenset((b"", b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade", b"te", b"te, close"))


def _either_spelling(names: Iterable[bytes]) -> bytes:
    return b"|".join(sorted(names)).replace(b"-", b"[-_]")


# On lower-case text, and with a literal first byte, a search through a block costs half a microsecond.
_SPECIAL_IN_REQUEST = re.compile(
    rb"\n(%b):" % _either_spelling({*_PROTECTED - {b"via"}, *HOP_BY_HOP, *_FOR_US, b"authorization"})
)
_SPECIAL_IN_ANSWER = re.compile(rb"\n(%b):[ \t]*([^\r]*)\r" % b"|".join({*HOP_BY_HOP, b"content-length", b"date"}))
_ONLY_HOST = [b"host"]
_HOST_AND_AUTHORIZATION = [b"authorization", b"host"]

REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~+/=:@-]{0,127}")
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::[0-9]{0,5})?")


_RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE | re.MULTILINE)


class _SlotsOfRequestFields:
    """The slots that RequestFields has, frozen, and in the making."""

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
        "persists",
        "request_id",
        "traced",
        "transfer_encoding",
        "upgrade",
    )

    block: bytes
    connection: bytes | None
    content_length: bytes | None
    expect: bytes | None
    explain: bytes | None
    for_edge: bool
    forwarded: tuple[tuple[bytes, bytes], ...] | None
    host: bytes | None
    hosts: int
    persists: bool | None
    request_id: bytes | None
    traced: int
    transfer_encoding: bytes | None
    upgrade: bytes | None


_values_of = attrgetter(*_SlotsOfRequestFields.__slots__)


class RequestFields(_SlotsOfRequestFields):
    """What a request's header fields say; made by the server's reader, carried by the `Request`.

    Frozen: the requests of a connection share it as long as they send the same fields.

    block: the end-to-end fields, `name: value CRLF` each, Host and Content-Length among them; made of the fields as they came,
    which llhttp has checked: no folding, no bare CR or LF. forwarded: the fields of FORWARDED, kept apart until it is known
    whether the peer is believed. for_edge: there is a field that the edge itself must look at before the request goes on:
    X-SmartEdge-Explain, Authorization, which may hold the token of the admin pages, or our name in Via. traced: how many
    traceparents and tracestates are there, or were (http/trace_context.py). persists: as in AnswerFields.
    The rest: the values that the edge acts on, None when absent.
    Whoever changes what a request says gives it fields of its own: `with_block`, `with_others`, `with_host`, `without_upgrade`.
    """

    __slots__ = ()

    def __new__(cls, block: bytes) -> RequestFields:  # noqa: D102
        made = _RequestFieldsInTheMaking()
        made.read(block)
        return _frozen(made)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} of fields that requests share can't be set")

    def with_block(self, block: bytes) -> RequestFields:
        """Give fields of which other ones go on."""
        return self._with(block=block)

    def with_others(self, names: frozenset[bytes], lines: bytes) -> RequestFields:
        """Give fields with these lines in place of all whose name, `folded`, is one of these, whoever said them."""
        kept = [line for line in self.block.splitlines(True) if folded(line[: line.find(b":")]) not in names]
        forwarded = tuple(one for one in self.forwarded or () if one[0] not in names)
        return self._with(block=b"".join([*kept, lines]), forwarded=forwarded or None)

    def with_host(self, authority: bytes) -> RequestFields:
        """Give fields with the authority of an absolute-form target for Host (RFC 9112 section 3.2.2)."""
        return self._with(block=b"Host: %b\r\n%b" % (authority, self.without(b"host")), host=authority)

    def with_certificate(self, lines: bytes) -> RequestFields:
        """Give fields that tell of the client's certificate; whatever was said of one before does not count."""
        kept = tuple(one for one in self.forwarded or () if one[0] not in OF_CERTIFICATES)
        return self._with(block=self.block + lines, forwarded=kept or None)

    def without_upgrade(self) -> RequestFields:
        """Give fields that offer no other protocol."""
        return self._with(upgrade=None)

    def _with(self, **changes: Any) -> RequestFields:
        made = _RequestFieldsInTheMaking()
        # Written out, this takes a third of the time of a loop: a request whose trace the edge goes on with has other fields.
        made.block, made.connection, made.content_length, made.expect, made.explain, made.for_edge, *others = _values_of(self)
        made.forwarded, made.host, made.hosts, made.persists, made.request_id, made.traced, *others = others
        made.transfer_encoding, made.upgrade = others
        for name, value in changes.items():
            setattr(made, name, value)
        if "block" in changes:
            made.traced = _count_traced(b"\n" + made.block.lower())
        return _frozen(made)

    def without_host(self) -> bytes:
        """Give the block without Host."""
        return self.without(b"host")

    def without(self, name: bytes) -> bytes:
        """Give the block without the fields of a name, in lower case."""
        start = name + b":"
        return b"".join(line for line in self.block.splitlines(True) if line[: len(start)].lower() != start)


class _RequestFieldsInTheMaking(_SlotsOfRequestFields):
    """RequestFields while they are read off a block: its class is changed to the frozen one before anybody else sees it."""

    __slots__ = ()

    def read(self, block: bytes) -> None:
        """Find out what the fields say."""
        self.connection = self.content_length = self.transfer_encoding = self.forwarded = None
        self.expect = self.explain = self.upgrade = self.request_id = self.persists = None
        low = b"\n" + block.lower()
        special = _SPECIAL_IN_REQUEST.findall(low)
        self.for_edge = b"authorization" in special or b" smartedge" in low
        self.traced = _count_traced(low)
        if special == _ONLY_HOST or (self.for_edge and sorted(special) == _HOST_AND_AUTHORIZATION):
            # The usual GET: nothing to take out.
            start = low.index(b"\nhost:")
            self.host = block[start + 5 : low.index(b"\r", start)].strip()
            self.hosts = 1
            self.block = block
            return
        self.host = None
        self.hosts = 0
        given_up = {b"te": b"", b"trailer": b""}
        lines = [line for line in block.splitlines(True) if self._keeps(line, given_up)]
        if self.connection is not None:
            said = tokens(self.connection)
            self.persists = False if b"close" in said else True if b"keep-alive" in said else None
            if self.connection.lower() not in _PLAIN_CONNECTION:
                lines = without_nominated(lines, self.connection)
        # What the edge can keep of two fields that end here.
        if b"trailers" in tokens(given_up[b"te"]):  # RFC 9110 section 10.1.4: whoever sends TE names it in Connection
            lines.append(TE_TRAILERS)
        if self.transfer_encoding is not None:
            lines.append(announced_trailers(given_up[b"trailer"]))
        self.block = b"".join(lines)

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


def _count_traced(low: bytes) -> int:
    return low.count(b"\ntraceparent:") + low.count(b"\ntracestate:")


def _frozen(made: _RequestFieldsInTheMaking) -> RequestFields:
    """Let nobody change it from here on. Both classes have the same slots, and a class costs no more than a flag."""
    made.__class__ = RequestFields  # type: ignore[assignment]
    return made  # type: ignore[return-value]


class AnswerFields:
    """What an answer's header fields say; made by `parse_head`, carried by the `Answer`.

    block: as in RequestFields, with Date and Content-Length in it; the rest is the framing.

    Answers with the same head share it, so nothing here is ever set again. announces: a Trailer is among them. persists: whether
    the connection may be used again, as far as `Connection` says so; None where that is up to the version.
    """

    __slots__ = ("announces", "block", "chunked", "content_length", "dated", "keep_alive", "persists")

    def __init__(self, block: bytes, status: int = 200) -> None:
        length: int | None = None
        chunked: bytes | None = None
        connection: bytes | None = None
        keep_alive: bytes | None = None
        upgrade = trailer = b""
        dated = False
        ending = 0
        low = b"\n" + block.lower()
        for name, value in _SPECIAL_IN_ANSWER.findall(low):
            if name == b"content-length":
                length = int(value)  # llhttp has made sure that there is one, and that it is a number.
            elif name == b"date":
                dated = True
            else:
                ending += 1
                value = value.rstrip()
                if name == b"connection":
                    connection = value if connection is None else connection + b"," + value
                elif name == b"transfer-encoding":
                    chunked = value if chunked is None else chunked + b"," + value
                elif name == b"keep-alive":
                    keep_alive = value
        if ending == 1 and connection in _PLAIN_CONNECTION:
            # The usual `Connection: keep-alive`, and nothing else to take out.
            start = low.index(b"\nconnection:")
            block = block[:start] + block[low.index(b"\n", start + 1) :]
        elif ending:
            lines = []
            for line in block.splitlines(True):
                name, _, value = line.partition(b":")
                name = name.lower()
                if name == b"upgrade":
                    upgrade += line
                elif name == b"trailer":
                    trailer += b"," + value.strip()
                elif name not in HOP_BY_HOP:
                    lines.append(line)
            if connection is not None and connection not in _PLAIN_CONNECTION:
                lines = without_nominated(lines, connection)
            if status == 426:
                lines.append(upgrade)  # RFC 9110 section 15.5.22: it says what to, and the server adds it to Connection
            trailer = announced_trailers(trailer) if chunked is not None else b""
            block = b"".join([*lines, trailer])
        self.block: Final[bytes] = block
        self.chunked: Final[bytes | None] = chunked
        self.content_length: Final[int | None] = length
        self.keep_alive: Final[bytes | None] = keep_alive
        self.dated: Final[bool] = dated
        said = connection or b""
        self.persists: Final[bool | None] = False if b"close" in said else True if b"keep-alive" in said else None
        self.announces: Final[bool] = bool(trailer)

    def with_block(self, block: bytes) -> AnswerFields:
        """Give fields of which other ones go on; the framing stays."""
        made = copy(self)
        object.__setattr__(made, "block", block)
        return made

    def without_trailer(self) -> bytes:
        """Give the block for a client that gets no trailers."""
        return b"".join(line for line in self.block.splitlines(True) if line[:8].lower() != b"trailer:")


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
    lines = [b"%b: %b\r\n" % (name, value) for name, value in trailers if _may_trail(folded(name))]
    return b"0\r\n%b\r\n" % b"".join(lines)


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


def keep_alive_s(value: bytes | None) -> float | None:
    """Read the backend's `Keep-Alive: timeout=N` in seconds (RFC 2068 section 19.7.1.1), or None when it gives none."""
    match = re.search(rb"timeout\s*=\s*\"?(\d{1,6})", value or b"", re.IGNORECASE)
    return float(match[1]) if match else None


def retry_after(fields: AnswerFields) -> float | None:
    """Read an answer's Retry-After in seconds (RFC 9110 section 10.2.3; dates are passed over)."""
    match = _RETRY_AFTER.search(fields.block)
    return float(match[1]) if match else None
