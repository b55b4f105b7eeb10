"""The page in the browser, `/smartedge/`: its files as they lie in `static/`, and a table for browsers without JavaScript.

The files are for everybody and tell nothing; what the page shows it asks for, under the rule of all admin pages. It may load
nothing from elsewhere, and run nothing that does not lie here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from flask import Response, request

from smartedge.admin.live import PIECE, LiveDocument
from smartedge.admin.page import READ, Page
from smartedge.balancer.errors import EdgeError
from smartedge.workers.periodic import give_way

STATIC: Final = Path(__file__).with_name("static")

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "svg": "image/svg+xml",
}

POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # no text becomes markup: innerHTML and its kin throw
        "trusted-types 'none'",
    )
)
"""Content-Security-Policy (CSP level 3, Trusted Types): our own files only, nothing inline, in nobody's frame."""

GUARDS: Final = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

WITHOUT: Final = {
    "en": {
        "without": "With JavaScript this page is live, draws and explains. Without it these tables are new every ten seconds.",
        "token": "The numbers are for those who may administer this edge: turn JavaScript on, and give the token when asked.",
        "figures": "{available} of {total} backends in service · {rate} requests/s · strategy {strategy}",
    },
    "pt": {
        "without": "Com JavaScript esta página é ao vivo, desenha e explica. Sem ele, as tabelas se renovam a cada dez segundos.",
        "token": "Os números são para quem pode administrar este edge: ligue o JavaScript e informe o token quando for pedido.",
        "figures": "{available} de {total} backends em serviço · {rate} requisições/s · estratégia {strategy}",
    },
}
"""The words that only a browser without JavaScript shows; all others are in `static/texts.*.json`."""

PLAIN_COLUMNS: Final = (
    "id",
    "state",
    "health",
    "breaker",
    "why_not",
    "share_ratio",
    "in_flight",
    "requests_per_s",
    "failed_per_s",
    "p50_s",
    "p99_s",
    "check_detail",
)
"""What the table without JavaScript shows of a backend, beside its service."""


class UnknownFile(EdgeError):
    """The page has no such file."""

    status = 404
    title = "Not found"
    blame = "client"


def dashboard_pages(live: LiveDocument, is_allowed: Callable[[], bool]) -> tuple[Page, ...]:
    """Return the page and its files. is_allowed: whether who asks may see the numbers, also without JavaScript."""

    def dashboard() -> Response:
        language = request.accept_languages.best_match(WITHOUT) or "en"
        words = texts(language) | WITHOUT[language]
        plain = plain_table(json.loads(live.newest().plain), words) if is_allowed() else f"<p>{escape(words['token'])}</p>"
        text = Template(static_file("page.html").decode()).substitute(
            language=language, title="SmartEdge", without=escape(words["without"]), plain=plain
        )
        headers = GUARDS | {"Cache-Control": "no-store", "Vary": "Accept-Language, Authorization"}
        return Response(text, 200, headers, content_type=TYPES["html"])

    def dashboard_file(name: str) -> Response:
        data = static_file(name)
        response = Response(data, 200, GUARDS | {"Cache-Control": "no-cache"}, content_type=TYPES[name.rpartition(".")[2]])
        response.set_etag(hashlib.sha256(data).hexdigest()[:16])
        response.make_conditional(request)
        return response

    return (
        Page("/smartedge/", READ, True, dashboard),
        Page("/smartedge/static/<name>", READ, True, dashboard_file),
    )


@cache
def static_names() -> frozenset[str]:
    """Return the names of the page's files."""
    return frozenset(file.name for file in STATIC.iterdir() if file.is_file())


def static_file(name: str) -> bytes:
    """Return one of the page's files; raises UnknownFile for all other names, so that none leads elsewhere."""
    if name not in static_names() or name.rpartition(".")[2] not in TYPES:
        raise UnknownFile("The page has no such file.")
    return (STATIC / name).read_bytes()


@cache
def texts(language: str) -> dict[str, str]:
    """Return the page's texts in a language, by their keys."""
    found: dict[str, str] = json.loads(static_file(f"texts.{language}.json"))
    return found


def plain_table(document: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Write the live document as tables that need no JavaScript: one for each service."""
    place = {name: index for index, name in enumerate(document["columns"])}
    parts = []
    for name, service in document["services"].items():
        rows = [row for row in document["backends"] if row[place["service"]] == name]
        head = "".join(f'<th scope="col">{escape(words[f"column_{column}"])}</th>' for column in PLAIN_COLUMNS)
        body = ""
        for number, row in enumerate(rows, 1):
            body += f"<tr>{''.join(_cells(row, place, words))}</tr>\n"
            if number % PIECE == 0:
                give_way()
        figures = words["figures"].format(
            available=service["available"],
            total=service["total"],
            rate=service["recent"]["requests_per_s"],
            strategy=service["strategy"],
        )
        parts.append(
            f"<h2><bdi>{escape(name)}</bdi></h2><p>{escape(figures)}</p>\n"
            f'<div class="plain"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        )
    return "\n".join(parts)


def _cells(row: list[Any], place: Mapping[str, int], words: Mapping[str, str]) -> Iterable[str]:
    for column in PLAIN_COLUMNS:
        text = escape(_shown(column, row[place[column]], words))
        kind = "th scope=row" if column == "id" else "td"
        yield f"<{kind}><bdi>{text}</bdi></{kind[:2]}>"


def _shown(column: str, value: Any, words: Mapping[str, str]) -> str:
    if value is None:
        return "–"
    if column.endswith("_ratio"):
        return f"{value:.1%}"
    if column in ("p50_s", "p99_s"):
        return f"{value * 1000:.1f} ms"
    return words.get(f"word_{value}", str(value)) if isinstance(value, str) else str(value)
