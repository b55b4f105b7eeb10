"""A browser gets the site's own page, a program problem+json."""

from __future__ import annotations

import pytest

from smartedge.proxy.error_pages import ErrorPages, prefers_html

ACCEPTS = [
    (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
    (b"Text/HTML", True),
    (b"text/*;q=0.5", True),
    (b"application/json, text/html;q=0.9", False),
    (b"application/json;q=0.5, text/html;q=0.9", True),
    (b"application/problem+json", False),
    (b"*/*", False),
    (b"text/html;q=0", False),
    (b"text/html;q=x", False),
    (b"", False),
    (None, False),
]


@pytest.mark.parametrize(("accept", "html"), ACCEPTS)
def test_who_names_html_gets_it(accept: bytes | None, html: bool) -> None:
    assert prefers_html(accept) is html


def test_a_page_says_what_happened() -> None:
    pages = ErrorPages({503: b"<style>p {color: red}</style><p>{title} ({status}, {request_id}) {other}"})
    assert pages.page(503, "No backend", "id-1", b"text/html") == (
        b"<style>p {color: red}</style><p>No backend (503, id-1) {other}"
    )
    assert pages.page(502, "Bad gateway", "id-1", b"text/html") is None
    assert pages.page(503, "No backend", "id-1", b"*/*") is None


def test_of_an_accept_field_without_end_the_beginning_counts() -> None:
    assert prefers_html(b"text/html" + b"," * 60_000)
    assert not prefers_html(b"," * 60_000 + b"text/html")
