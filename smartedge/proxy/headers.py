"""Header fields on their way through: hop-by-hop fields end here, X-Forwarded-*, Via, a request id are added. Pure functions.

Fields stay bytes from socket to socket, in their order, case and repetition (RFC 9110 section 5.3). Each message's fields are
looked at once: `RequestFields` and `AnswerFields` keep the end-to-end lines as they are and what the edge itself must know.
"""

from __future__ import annotations

import re

VIA = b"Via: 1.1 smartedge\r\n"
VIA_10 = b"Via: 1.0 smartedge\r\n"
"""RFC 9110 section 7.6.3; a pseudonym instead of a host name."""

HOP_BY_HOP = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"))
"""RFC 9110 section 7.6.1, with the deprecated ones that are still seen."""

FORWARDED = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-server x-forwarded-prefix"
    b" x-forwarded-ssl x-forwarded-scheme x-forwarded-by x-real-ip".split()
)
"""What a proxy in front of us says of its client: believed from `trusted_proxies` only."""

_PROTECTED = FORWARDED | {b"host", b"content-length", b"via", b"x-request-id"}
_PLAIN_CONNECTION = frozenset((b"", b"keep-alive", b"close", b"upgrade", b"keep-alive, upgrade", b"te", b"te, close"))

END_TO_END = 0
CONFUSABLE = -1
"""A backend that folds `_` and `-` to one name (WSGI, CGI) would take it for the real one, so it is dropped."""

_MOST_SPELLINGS = 2000

REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~+/=:@-]{0,127}")
HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(?::[0-9]{0,5})?")


class Kinds:
    """What kind of field a name is, as it is spelled; learned as spellings are met, so that no name is folded twice.

    known: kinds by spelling; who misses one there calls `learn`. Peers choose their spellings: only so many are kept.
    """

    def __init__(self, special: tuple[bytes, ...]) -> None:
        self.known: dict[bytes, int] = {}
        self._special = {name: kind for kind, name in enumerate(special, 1)}

    def learn(self, name: bytes) -> int:
        """Give the kind of a name that is not known yet."""
        low = name.lower()
        kind = self._special.get(low, END_TO_END)
        if kind == END_TO_END and b"_" in low and low.replace(b"_", b"-") in _PROTECTED:
            kind = CONFUSABLE
        if len(self.known) < _MOST_SPELLINGS and len(name) < 64:
            self.known[name] = kind
        return kind


class RequestFields:
    """What a request's header fields say.

    block: the fields as they came, `name: value CRLF` each, checked by llhttp: no folding, no bare CR or LF. lines: the
    end-to-end ones, Content-Length among them, Host not. forwarded: the fields of FORWARDED, kept apart until it is known
    whether the peer is believed. The rest: the values that the edge acts on, None when absent.
    """

    __slots__ = (
        "connection",
        "content_length",
        "expect",
        "forwarded",
        "host",
        "hosts",
        "lines",
        "request_id",
        "transfer_encoding",
        "upgrade",
    )

    def __init__(self, block: bytes) -> None:
        self.lines: list[bytes] = []
        self.forwarded: list[tuple[bytes, bytes]] | None = None
        self.hosts = 0
        self.host = self.connection = self.content_length = self.transfer_encoding = None
        self.expect = self.upgrade = self.request_id = None
        lines = self.lines
        known = _REQUEST_KINDS.known
        for line in block.splitlines(True):
            name = line[: line.index(b":")]
            try:
                kind = known[name]
            except KeyError:
                kind = _REQUEST_KINDS.learn(name)
            if kind == END_TO_END:
                lines.append(line)
            elif kind == _HOST:
                self.host = line[5:].strip()
                self.hosts += 1
            elif kind > 0:
                self._note(name.lower(), line, line[len(name) + 1 :].strip())
        if self.connection is not None and self.connection.lower() not in _PLAIN_CONNECTION:
            self.lines = without_nominated(lines, self.connection)

    host: bytes | None
    connection: bytes | None
    content_length: bytes | None
    transfer_encoding: bytes | None
    expect: bytes | None
    upgrade: bytes | None
    request_id: bytes | None

    def _note(self, low: bytes, line: bytes, value: bytes) -> None:
        if low == b"content-length":
            self.content_length = value
            self.lines.append(line)
        elif low == b"connection":
            self.connection = value if self.connection is None else self.connection + b"," + value
        elif low == b"transfer-encoding":
            before = self.transfer_encoding
            self.transfer_encoding = value if before is None else before + b"," + value
        elif low == b"expect":
            self.expect = value
        elif low == b"upgrade":
            self.upgrade = value if self.upgrade is None else self.upgrade + b", " + value
        elif low == b"x-request-id":
            self.request_id = value if REQUEST_ID.fullmatch(value) else None
        elif low == b"proxy-authorization":
            pass  # For the proxy, that is for us, who never asked (RFC 9110 section 11.7.2).
        elif low in FORWARDED:
            if self.forwarded is None:
                self.forwarded = []
            self.forwarded.append((low, line))


class AnswerFields:
    """What an answer's header fields say: `lines` as in RequestFields (Content-Length and Date among them), and the framing."""

    __slots__ = ("chunked", "connection", "content_length", "dated", "keep_alive", "lines")

    def __init__(self, block: bytes) -> None:
        lines: list[bytes] = []
        length = chunked = connection = keep_alive = None
        dated = False
        known = _ANSWER_KINDS.known
        for line in block.splitlines(True):
            name = line[: line.index(b":")]
            try:
                kind = known[name]
            except KeyError:
                kind = _ANSWER_KINDS.learn(name)
            if kind <= END_TO_END:
                lines.append(line)
            elif kind == _CONTENT_LENGTH:
                length = int(line[15:])  # llhttp has made sure that there is one, and that it is a number.
                lines.append(line)
            elif kind == _DATE:
                dated = True
                lines.append(line)
            elif kind == _CONNECTION:
                value = line[11:].strip()
                connection = value if connection is None else connection + b"," + value
            elif kind == _TRANSFER_ENCODING:
                value = line[18:].strip().lower()
                chunked = value if chunked is None else chunked + b"," + value
            elif kind == _KEEP_ALIVE:
                keep_alive = line[11:]
        if connection is not None and connection not in _PLAIN_CONNECTION and connection.lower() not in _PLAIN_CONNECTION:
            lines = without_nominated(lines, connection)
        self.lines = lines
        self.content_length = length
        self.chunked = chunked
        self.connection = connection
        self.keep_alive = keep_alive
        self.dated = dated

    content_length: int | None
    chunked: bytes | None
    connection: bytes | None
    keep_alive: bytes | None


_HOST = 1
_REQUEST_KINDS = Kinds(
    (b"host", b"content-length", b"expect", b"x-request-id", b"proxy-authorization", *sorted(HOP_BY_HOP), *sorted(FORWARDED))
)
_CONTENT_LENGTH, _DATE, _CONNECTION, _TRANSFER_ENCODING, _KEEP_ALIVE = 1, 2, 3, 4, 5
_ANSWER_KINDS = Kinds(
    (
        *(b"content-length", b"date", b"connection", b"transfer-encoding", b"keep-alive"),
        *sorted(HOP_BY_HOP - {b"connection", b"transfer-encoding", b"keep-alive"}),
    )
)


def pairs_of(lines: list[bytes]) -> list[tuple[str, str]]:
    """Give header lines as WSGI has them: name and value as text (PEP 3333: latin-1)."""
    pairs = []
    for line in lines:
        name, _, value = line.decode("latin-1").partition(":")
        pairs.append((name, value.strip(" \t\r\n")))
    return pairs


def without_nominated(lines: list[bytes], connection: bytes) -> list[bytes]:
    """Drop the fields that `Connection` names (RFC 9110 section 7.6.1), but none that framing, routing or trust rest on."""
    nominated = {token.strip(b" \t").lower() for token in connection.split(b",")} - _PROTECTED
    return [line for line in lines if line[: line.index(b":")].lower() not in nominated]


def tokens(value: bytes | None) -> set[bytes]:
    """Split a comma-separated field value into its lower-case members."""
    return {token.strip(b" \t").lower() for token in value.split(b",")} if value else set()


def forwarded_lines(fields: RequestFields, peer: bytes, scheme: bytes, trusted: bool) -> bytes:
    """Say for whom the request is made: X-Forwarded-For, -Host and -Proto (the de-facto standard; RFC 7239 tells of it).

    peer: the client's address as text. trusted: the peer is one of `trusted_proxies`, so what it says of its own client is
    kept and extended; from anybody else it is replaced.
    """
    host = fields.host or b""
    if not trusted or fields.forwarded is None:
        return b"X-Forwarded-For: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Proto: %b\r\n" % (
            peer,
            host,
            scheme,
        )
    chain = [line[16:].strip(b" \t\r\n") for low, line in fields.forwarded if low == b"x-forwarded-for"]
    lines = [b"X-Forwarded-For: %b\r\n" % b", ".join([*filter(None, chain), peer])]
    said = {low for low, _ in fields.forwarded}
    if b"x-forwarded-host" not in said:
        lines.append(b"X-Forwarded-Host: %b\r\n" % host)
    if b"x-forwarded-proto" not in said:
        lines.append(b"X-Forwarded-Proto: %b\r\n" % scheme)
    lines += [line for low, line in fields.forwarded if low != b"x-forwarded-for"]
    return b"".join(lines)


def keep_alive_s(value: bytes | None) -> float | None:
    """Read the backend's `Keep-Alive: timeout=N` in seconds (RFC 2068 section 19.7.1.1), or None when it gives none."""
    match = re.search(rb"timeout\s*=\s*\"?(\d{1,6})", value or b"", re.IGNORECASE)
    return float(match[1]) if match else None
