"""The short way past Flask: what our own server asks before it calls the app, for a request that is only to be forwarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from smartedge.http.request import Request
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.forward import Forwarder

PREFIX: Final = b"/smartedge/"
PERHAPS_RESERVED: Final = (b"/health", b"/api/", b"/metrics", PREFIX)
"""How targets begin that may be for the edge's own pages."""


class ShortWay:
    """Forwards requests where nobody would notice that the app is left out; made by the app, called by its server's hook.

    attributes: the app's own, among which `wsgi_app` is while middleware wraps it. begin: starts the worker's loops. is_plain:
    whether nothing is registered that Flask would call around the view; asked once, with the first request. is_reserved:
    whether a request is for the edge's own pages. Beside the app, and not in it, so that it can be compiled.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        attributes: dict[str, Any],
        begin: Callable[[], None],
        is_plain: Callable[[], bool],
        is_reserved: Callable[[Request], bool],
    ) -> None:
        self._forwarder = forwarder
        self._attributes = attributes
        self._begin = begin
        self._ask_plain = is_plain
        self._is_reserved = is_reserved
        self._began = self._is_plain = False

    def forward(self, request: Request) -> Exchange | None:
        """Forward a request; None for one that the app has to see."""
        if not self._began:
            self._begin()
            self._is_plain = self._ask_plain()
            self._began = True
        if not self._is_plain or request.said.upgrade is not None or "wsgi_app" in self._attributes:
            return None
        if request.target.startswith(PERHAPS_RESERVED) and self._is_reserved(request):
            return None
        return self._forwarder.forward(request)
