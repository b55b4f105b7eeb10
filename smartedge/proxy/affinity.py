"""What a request is known by: the key that consistent hashing hashes, and the backend that its sticky cookie names.

The cookie is the HMAC-SHA256 of the backend's id under the edge's secret, and of its service's name where that is not
`default`. Without the secret it tells nothing of the backend, and none can be made; and what is not the cookie of a backend means
that one is picked again. Where the secret is replaced in time, cookies of the old ones are good for as long as those are kept,
and whoever brings one gets another.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Sequence
from hmac import compare_digest, digest
from typing import Final

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import SESSION_REQUESTS
from smartedge.balancer.places import Place
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.http.cookies import cookies, take_cookie
from smartedge.http.forwarded import IsTrusted, came_by_https, client_address, key_field
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.proxy.client_places import ClientPlaces

KeyOf = Callable[[Request], bytes]

_PURPOSE: Final = b"smartedge sticky session\0"
"""Goes before the id, so that no other use of the same secret can give a cookie away."""

_SELECTOR: Final = 16
"""Characters by which a cookie is looked up. How long a look-up takes may tell something of these (96 bits); the other 27
(160 bits) are compared in constant time, and without all of them these are worth nothing."""


class Sticky:
    """The sticky cookies of a service's backends; made by the edge at reload, owned by an Affinity.

    name: of the cookie. secrets: newest first; cookies are made with that. max_age_s: how long the client keeps it, None for its
    session. path, domain, same_site ("lax", "strict" or "none"): which requests bring it back, None for the host that was asked
    alone. secure: whether it comes back by https alone, None for what the client came by. service: whose backends they are;
    what one gave says nothing to others.
    """

    def __init__(
        self,
        name: str,
        secrets: Sequence[bytes],
        backend_ids: Collection[str],
        max_age_s: int | None = None,
        path: str = "/",
        domain: str | None = None,
        same_site: str = "lax",
        secure: bool | None = None,
        service: str = DEFAULT_SERVICE,
    ) -> None:
        self._name = name.encode()
        self._secret = secrets[0]
        self._service = service
        attributes = f"Path={path}"
        if domain is not None:
            attributes += f"; Domain={domain}"
        if max_age_s is not None:
            attributes += f"; Max-Age={max_age_s}"
        self._attributes = f"{attributes}; HttpOnly; SameSite={same_site.capitalize()}".encode()
        self._secure = secure
        made = [{backend_id: _cookie(secret, service, backend_id) for backend_id in backend_ids} for secret in secrets]
        self._cookie_of = made[0]
        self._known = {cookie[:_SELECTOR]: (cookie, backend_id) for each in made for backend_id, cookie in each.items()}
        self._takes_old = len(made) > 1

    def take_cookie(self, fields: RequestFields) -> tuple[str | None, RequestFields]:
        """Return the id of the backend that a request's cookie names, and the fields without it: no backend gets to see one."""
        said, block = take_cookie(fields.block, self._name)
        if block is fields.block:
            return None, fields
        named = (self._backend_id(cookie) for cookie in said)
        return next(filter(None, named), None), fields.with_block(block)

    def is_new(self, backend_id: str, block: bytes) -> bool:
        """Whether a request whose cookie named this backend brought that of the newest secret. block: its fields as they came."""
        return not self._takes_old or self._cookie_of[backend_id] in block

    def cookie_line(self, backend_id: str, *, secure: bool) -> bytes:
        """Return the field that gives the client a backend's cookie. secure: it came by https, and is to come back so only.

        Not for scripts, and, unless the operator wants that, not sent along from other sites' forms and frames (RFC 6265bis
        section 4.1.2).
        """
        if self._secure is not None:
            secure = self._secure
        return b"Set-Cookie: %b=%b; %b%b\r\n" % (
            self._name,
            self._cookie_of.get(backend_id)
            or _cookie(self._secret, self._service, backend_id),  # it may have come by a reload meanwhile
            self._attributes,
            b"; Secure" if secure else b"",
        )

    def _backend_id(self, cookie: bytes) -> str | None:
        right, backend_id = self._known.get(cookie[:_SELECTOR], (b"", None))
        return backend_id if compare_digest(cookie, right) else None


class Affinity:
    """What is asked of every request; made by the edge at reload, part of a ServicePolicy, which has none if nothing is asked."""

    __slots__ = ("_is_trusted", "_key_of", "_places", "_sticky")

    def __init__(
        self, key_of: KeyOf | None, sticky: Sticky | None, is_trusted: IsTrusted, places: ClientPlaces | None = None
    ) -> None:
        self._key_of = key_of
        self._sticky = sticky
        self._is_trusted = is_trusted
        self._places = places

    def read(self, request: Request) -> tuple[bytes, str | None, Place | None]:
        """Return the key (b"" for none), the id of the backend of the sticky session, and where the client is.

        None stands for no session, and for a client at the edge. Takes our cookie out of the request.
        """
        key = b"" if self._key_of is None else self._key_of(request)
        origin = None if self._places is None else self._places.place_of(request)
        if self._sticky is None:
            return key, None, origin
        preferred, request.fields = self._sticky.take_cookie(request.fields)
        return key, preferred, origin

    def answer_lines(self, request: Request, backend: Backend, preferred: str | None) -> bytes:
        """Return what the answer of this backend gets besides its own fields: a cookie, unless the client has that one."""
        if self._sticky is None:
            return b""
        if backend.id == preferred:
            backend.learned.cells[SESSION_REQUESTS] += 1
            if self._sticky.is_new(backend.id, request.block):
                return b""
        return self._sticky.cookie_line(backend.id, secure=came_by_https(request, self._is_trusted))


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
        return lambda request: key_field(request, name) or b""
    return lambda request: next(cookies(request.block, name), b"")


def _cookie(secret: bytes, service: str, backend_id: str) -> bytes:
    named = backend_id if service == DEFAULT_SERVICE else f"{service} {backend_id}"
    return urlsafe_b64encode(digest(secret, _PURPOSE + named.encode(), "sha256")).rstrip(b"=")
