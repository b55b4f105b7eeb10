"""X-Forwarded-For, -Host and -Proto, and Forwarded (RFC 7239): what trusted proxies say of the client, and what we tell backends.

Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from smartedge.http.cookies import field
from smartedge.http.headers import FORWARDED, HOST, OF_CERTIFICATES, Lines, Said
from smartedge.http.request import Request

IsTrusted = Callable[[bytes], bool] | None
"""Whether a peer (its address as text) is a proxy whose word is believed; None when there are none."""


MOST_HOPS: Final = 64
"""Proxies that a client may be behind; who writes more addresses than that writes them to keep us busy."""


def plain_address(text: bytes) -> bytes:
    """Give an address as a peer's is written: some proxies put a port behind it, brackets around it, or IPv4 into IPv6."""
    if text[:1] == b"[":
        text = text[1:].partition(b"]")[0]
    elif text.count(b":") == 1:
        text = text.partition(b":")[0]
    return text[7:] if text[:7].lower() == b"::ffff:" and b"." in text else text


def forwarded_lines(fields: Said, peer: bytes, scheme: bytes, trusted: bool, standard: bool = False) -> bytes:
    """Say for whom the request is made: X-Forwarded-For, -Host and -Proto, and with `standard` Forwarded (RFC 7239) too.

    peer: the client's address as text. trusted: the peer is one of `trusted_proxies`, so what it says of its own client is
    kept and extended; from anybody else it is replaced.
    """
    host = b"X-Forwarded-Host: %b\r\n" % fields.host if fields.host else b""
    ours = _forwarded(fields.host, peer, scheme) if standard else b""
    if not trusted or fields.forwarded is None:
        return b"X-Forwarded-For: %b\r\n%bX-Forwarded-Proto: %b\r\n%b" % (peer, host, scheme, ours)
    chain = [line[16:].strip() for low, line in fields.forwarded if low == b"x-forwarded-for"]
    lines = [b"X-Forwarded-For: %b\r\n" % b", ".join([*filter(None, chain), peer])]
    said = {low for low, _ in fields.forwarded}
    if b"x-forwarded-host" not in said:
        lines.append(host)
    if b"x-forwarded-proto" not in said:
        lines.append(b"X-Forwarded-Proto: %b\r\n" % scheme)
    if standard and (before := _translated(fields.forwarded, chain)) is not None:
        ours = b"Forwarded: %b, %b" % (before, ours[11:]) if before else ours
        lines += [line for low, line in fields.forwarded if low not in (b"x-forwarded-for", b"forwarded")]
    else:
        lines += [line for low, line in fields.forwarded if low != b"x-forwarded-for"]
    return b"".join([*lines, ours])


def told_of_client(request: Request, is_trusted: IsTrusted, standard: bool = False) -> bytes:
    """Say for whom this request is made, as `forwarded_lines`; what its peer says is kept if it is one that is believed."""
    trusted = is_trusted is not None and is_trusted(request.peer)
    return forwarded_lines(request.said, request.peer, b"https" if request.secure else b"http", trusted, standard)


def client_address(request: Request, is_trusted: IsTrusted) -> bytes:
    """Return the client's address as text: the peer's, or the last in X-Forwarded-For that no trusted proxy has.

    Only what trusted proxies wrote is read; a client can put there what it likes to the left of that.
    """
    address = request.peer
    if is_trusted is None or request.said.forwarded is None or not is_trusted(address):
        return address
    lines = [line[16:] for name, line in request.said.forwarded if name == b"x-forwarded-for"]
    for hop in reversed(b",".join(lines).rsplit(b",", MOST_HOPS)[-MOST_HOPS:]):
        if hop := hop.strip():
            address = plain_address(hop)
            if not is_trusted(address):
                break
    return address


def came_by_https(request: Request, is_trusted: IsTrusted) -> bool:
    """Whether the client spoke https, to us or to a proxy that is believed."""
    if is_trusted is not None and request.said.forwarded is not None and is_trusted(request.peer):
        for name, line in request.said.forwarded:
            if name == b"x-forwarded-proto":
                return line[18:].strip().lower() == b"https"
    return request.secure


def told(request: Request, name: bytes, is_trusted: IsTrusted) -> bytes | None:
    """Give a field's first value, None without one; the name is given in lower case.

    What only proxies say, and what we say of a client's certificate, is what a backend is told: no client's own word.
    """
    if name not in FORWARDED:
        return field(request.block, name)
    return field(request.goes_on + told_of_client(request, is_trusted), name)


def key_field(request: Request, name: bytes) -> bytes | None:
    """Give the first value of a field that requests are told apart by: any client's own word, but of its certificate."""
    return told(request, name, None) if name in OF_CERTIFICATES else field(request.block, name)


def _forwarded(host: bytes | None, peer: bytes, scheme: bytes) -> bytes:
    """Write our element of Forwarded as a line of its own: lines of one name are one list (RFC 9110 section 5.3)."""
    return b"Forwarded: for=%b%b;proto=%b\r\n" % (_node(peer), b';host="%b"' % host if host else b"", scheme)


def _node(address: bytes) -> bytes:
    """Write an address as RFC 7239 section 6 has it: one of IPv6 has brackets, and so quotes; what is none is unknown."""
    if _ADDRESS.fullmatch(address):
        return b'"[%b]"' % address if b":" in address else address
    return b"_unix" if address == b"unix" else b"unknown"


def _translated(said: Lines, chain: list[bytes]) -> bytes | None:
    """Give the elements of Forwarded for what a trusted proxy says of its clients by X-Forwarded-For, -Host and -Proto.

    RFC 7239 section 7.4. Host and scheme are what the first of them, the client, has asked for. None where the proxy knows
    Forwarded itself: what it says stays. It does not where that ends with another address than X-Forwarded-For, for then it has
    passed on what its client wrote.
    """
    hops = [hop.strip() for hop in b",".join(chain).rsplit(b",", MOST_HOPS)[-MOST_HOPS:] if hop.strip()]
    names = {low for low, _ in said}
    if b"forwarded" in names:
        last = _FOR.findall(b",".join([line[10:] for low, line in said if low == b"forwarded"]))
        if not hops or (last and plain_address(last[-1].strip(b'"')) == plain_address(hops[-1])):
            return None
    first = b""
    for name, key, pattern in ((b"x-forwarded-host", b';host="%b"', HOST), (b"x-forwarded-proto", b";proto=%b", _SCHEME)):
        value = next((line[len(name) + 1 :].partition(b",")[0].strip() for low, line in said if low == name), b"")
        if pattern.fullmatch(value):
            first += key % value
    if first and not hops:
        hops = [b"unknown"]
    nodes = [b"for=" + _node(plain_address(hop)) for hop in hops]
    return b", ".join([nodes[0] + first, *nodes[1:]]) if nodes else b""


_FOR: Final = re.compile(rb'(?i)(?<![^;,\s])for=("[^"]*"|[^;,\s]*)')
_ADDRESS: Final = re.compile(rb"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*|[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*")
