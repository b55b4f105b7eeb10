"""Sticky sessions: a cookie that names the client's backend, to the edge alone.

The cookie is the HMAC-SHA256 of the backend's id under the edge's secret. Without the secret it tells nothing of the
backend, and none can be made; and what is not the cookie of a backend means that one is picked again.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from hmac import compare_digest, digest
from typing import Final

from smartedge.http.cookies import take_cookie
from smartedge.http.headers import RequestFields

_PURPOSE: Final = b"smartedge sticky session\0"
"""Goes before the id, so that no other use of the same secret can give a cookie away."""

_SELECTOR: Final = 16
"""Characters by which a cookie is looked up. How long a look-up takes may tell something of these (96 bits); the other 27
(160 bits) are compared in constant time, and without all of them these are worth nothing."""


class Sticky:
    """The cookies of the backends with these ids.

    name: of the cookie. max_age_s: how long the client keeps it, None for its session. path, domain, same_site ("lax",
    "strict" or "none"): which requests bring it back, None for the host that was asked alone. secure: whether it comes back
    by https alone, None for what the client came by.
    """

    def __init__(
        self,
        name: str,
        secret: bytes,
        backend_ids: Iterable[str],
        max_age_s: int | None = None,
        path: str = "/",
        domain: str | None = None,
        same_site: str = "lax",
        secure: bool | None = None,
    ) -> None:
        self._name = name.encode()
        self._secret = secret
        attributes = f"Path={path}"
        if domain is not None:
            attributes += f"; Domain={domain}"
        if max_age_s is not None:
            attributes += f"; Max-Age={max_age_s}"
        self._attributes = f"{attributes}; HttpOnly; SameSite={same_site.capitalize()}".encode()
        self._secure = secure
        self._cookie_of = {backend_id: _cookie(secret, backend_id) for backend_id in backend_ids}
        self._known = {cookie[:_SELECTOR]: (cookie, backend_id) for backend_id, cookie in self._cookie_of.items()}

    def take(self, fields: RequestFields) -> tuple[str | None, RequestFields]:
        """Return the id of the backend that a request's cookie names, and the fields without it: no backend gets to see one."""
        said, block = take_cookie(fields.block, self._name)
        if block is fields.block:
            return None, fields
        named = (self._backend_id(cookie) for cookie in said)
        return next(filter(None, named), None), fields.with_block(block)

    def line(self, backend_id: str, *, secure: bool) -> bytes:
        """Return the field that gives the client a backend's cookie. secure: it came by https, and is to come back so only.

        Not for scripts, and, unless the operator wants that, not sent along from other sites' forms and frames (RFC 6265bis
        section 4.1.2).
        """
        if self._secure is not None:
            secure = self._secure
        return b"Set-Cookie: %b=%b; %b%b\r\n" % (
            self._name,
            self._cookie_of.get(backend_id) or _cookie(self._secret, backend_id),  # it may have come by a reload meanwhile
            self._attributes,
            b"; Secure" if secure else b"",
        )

    def _backend_id(self, cookie: bytes) -> str | None:
        right, backend_id = self._known.get(cookie[:_SELECTOR], (b"", None))
        return backend_id if compare_digest(cookie, right) else None


def _cookie(secret: bytes, backend_id: str) -> bytes:
    return urlsafe_b64encode(digest(secret, _PURPOSE + backend_id.encode(), "sha256")).rstrip(b"=")
