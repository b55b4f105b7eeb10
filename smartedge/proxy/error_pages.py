"""Pages of a site's own for the edge's own errors. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

_HTML = ("text/html", "application/xhtml+xml", "text/*")
_JSON = ("application/problem+json", "application/json")
MOST_KINDS = 32
"""Of an Accept field so many are looked at: browsers name eight, and 60 kB of commas would take a third of a second."""
_NAMED = re.compile(rb"\{(status|title|request_id)\}")


class ErrorPages:
    """HTML by status; made at reload, asked when a route answers with an error of the edge's own.

    In a page, {status}, {title} and {request_id} are those of the error.
    """

    __slots__ = ("_pages",)

    def __init__(self, pages: Mapping[int, bytes]) -> None:
        self._pages = dict(pages)

    def page(self, status: int, title: str, request_id: str, accept: bytes | None) -> bytes | None:
        """Give the page for an error, None if there is none or the client would rather have problem+json."""
        page = self._pages.get(status)
        if page is None or not prefers_html(accept):
            return None
        values = {b"status": b"%d" % status, b"title": title.encode(), b"request_id": request_id.encode("latin-1")}
        return _NAMED.sub(lambda found: values[found[1]], page)


def prefers_html(accept: bytes | None) -> bool:
    """Whether an Accept field (RFC 9110 section 12.5.1) names HTML, and no JSON before it. Programs send `*/*` alone."""
    best = {"html": 0.0, "json": 0.0}
    for part in (accept or b"").decode("latin-1").lower().split(",", MOST_KINDS)[:MOST_KINDS]:
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        weight = float(quality) if re.fullmatch(r"[01](\.[0-9]{0,3})?", quality) else 0.0
        for name, kinds in (("html", _HTML), ("json", _JSON)):
            if kind in kinds:
                best[name] = max(best[name], weight)
    return best["html"] > 0 and best["html"] >= best["json"]
