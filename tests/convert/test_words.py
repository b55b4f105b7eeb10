"""Words and blocks, as nginx and Caddy have them."""

from __future__ import annotations

import pytest

from smartedge.convert.words import NotReadable, read_blocks


def test_nginx_ends_with_semicolons() -> None:
    (http,) = read_blocks('http { # all\n  a "b c;" d;\n  e\n    f;\n}\n', by_lines=False)
    assert [(one.name, one.arguments, one.line) for one in http.block or []] == [("a", ["b c;", "d"], 2), ("e", ["f"], 3)]
    assert str(http) == "http { … }"


def test_caddy_ends_with_lines() -> None:
    options, site = read_blocks("{\n email a@b\n}\nshop.example, www.example {\n respond `a\nb` 200\n}\n", by_lines=True)
    assert (options.name, site.name, site.arguments, site.line) == ("", "shop.example,", ["www.example"], 4)
    assert [(one.name, one.arguments) for one in site.block or []] == [("respond", ["a\nb", "200"])]


def test_placeholders_and_variables_are_words() -> None:
    (redir,) = read_blocks("redir https://b{uri} permanent", by_lines=True)
    assert redir.arguments == ["https://b{uri}", "permanent"]
    (log,) = read_blocks("log_format ${a}b $c;", by_lines=False)
    assert log.arguments == ["${a}b", "$c"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a {\n b;\n", "line 1: this { is never closed"),
        ("a;\n}\n", "line 2: a } closes nothing"),
        ("a;\nb c\n", "a ; is missing behind c"),
    ],
)
def test_what_is_no_such_file_is_told(text: str, why: str) -> None:
    with pytest.raises(NotReadable, match=why.replace("{", r"\{").replace("}", r"\}")):
        read_blocks(text, by_lines=False)
