"""What a request is known by: the key that consistent hashing hashes, and the backend that its sticky cookie names."""

from __future__ import annotations

from collections.abc import Callable

from smartedge.balancer.backend import Backend
from smartedge.http.cookies import cookies, field
from smartedge.http.request import Request
from smartedge.proxy.sticky import Sticky

IsTrusted = Callable[[bytes], bool] | None
"""Whether a peer (its address as text) is a proxy whose word is believed; None when there are none."""

KeyOf = Callable[[Request], bytes]


class Affinity:
    """What is asked of every request, worked out at reload; a plan has none when nothing is to be asked."""

    __slots__ = ("_is_trusted", "_key_of", "_sticky")

    def __init__(self, key_of: KeyOf | None, sticky: Sticky | None, is_trusted: IsTrusted) -> None:
        self._key_of = key_of
        self._sticky = sticky
        self._is_trusted = is_trusted

    def take(self, request: Request) -> tuple[bytes, str | None]:
        """Return the key (b"" for none) and the id of the backend of the sticky session; take our cookie out of the request."""
        key = b"" if self._key_of is None else self._key_of(request)
        if self._sticky is None:
            return key, None
        preferred, request.fields = self._sticky.take(request.fields)
        return key, preferred

    def answer_lines(self, request: Request, backend: Backend, preferred: str | None) -> bytes:
        """Return what the answer of this backend gets besides its own fields: a cookie, unless the client has that one."""
        if self._sticky is None or backend.id == preferred:
            return b""
        return self._sticky.line(backend.id, secure=came_by_https(request, self._is_trusted))


def key_reader(by: str, is_trusted: IsTrusted) -> KeyOf:
    """Return what reads the key from a request: "client", "path", "header:NAME" or "cookie:NAME".

    A request without that header or cookie has the key b"".
    """
    kind, _, text = by.partition(":")
    name = text.encode()
    if kind == "client":
        return lambda request: client_address(request, is_trusted)
    if kind == "path":
        return lambda request: request.target.partition(b"?")[0]
    if kind == "header":
        name = name.lower()
        return lambda request: field(request.block, name) or b""
    return lambda request: next(cookies(request.block, name), b"")


def client_address(request: Request, is_trusted: IsTrusted) -> bytes:
    """Return the client's address as text: the peer's, or the last in X-Forwarded-For that no trusted proxy has.

    Only what trusted proxies wrote is read; a client can put there what it likes to the left of that.
    """
    address = request.peer
    if is_trusted is None or request.fields.forwarded is None or not is_trusted(address):
        return address
    lines = [line[16:] for name, line in request.fields.forwarded if name == b"x-forwarded-for"]
    for hop in reversed(b",".join(lines).split(b",")):
        if hop := hop.strip():
            address = hop
            if not is_trusted(address):
                break
    return address


def came_by_https(request: Request, is_trusted: IsTrusted) -> bool:
    """Whether the client spoke https, to us or to a proxy that is believed."""
    if is_trusted is not None and request.fields.forwarded is not None and is_trusted(request.peer):
        for name, line in request.fields.forwarded:
            if name == b"x-forwarded-proto":
                return line[18:].strip().lower() == b"https"
    return request.secure
