"""Regression: whoever forgot that JSON has no comments or trailing commas read "expecting value", or nothing that helped."""

from __future__ import annotations

import pytest

from smartedge.config.model import ConfigError, parse

START = '{\n  "backends": ['


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"backends": ["http://a:1",]}', "line 1, column 27: a comma before ] is one too many"),
        ('{"backends": ["http://a:1"],\n}', "line 1, column 28: a comma before } is one too many"),
        ('{"backends": ["http://a:1"],, "x": 1}', "line 1, column 29: a comma is one too many"),
        ('{"backends": [,"http://a:1"]}', "line 1, column 15: a comma is one too many"),
        ('{\n  // mine\n  "backends": ["http://a:1"]}', "line 2, column 3: JSON has no comments; take it out"),
        ('{\n  "backends": ["http://a:1"] # mine\n}', "line 2, column 30: JSON has no comments; take it out"),
        ('{\n  "backends": ["http://a:1"], // mine\n "panic": "all"}', "line 2, column 31: JSON has no comments; take it out"),
        ('# mine\n{"backends": ["http://a:1"]}', "line 1, column 1: JSON has no comments; take it out"),
        ('/* mine\n of two lines */ {"backends": ["http://a:1"]}', "line 1, column 1: JSON has no comments; take it out"),
        ("{'backends': ['http://a:1']}", "line 1, column 2: texts stand in double quotes, not in single ones"),
        ("{\"backends\": ['http://a:1']}", "line 1, column 15: texts stand in double quotes, not in single ones"),
        ("backends:\n  - http://a:1\n", "line 1, column 1: this looks like YAML; the configuration is JSON, which begins with {"),
        ("---\nbackends: [x]", "line 1, column 1: this looks like YAML; the configuration is JSON, which begins with {"),
        ("# mine\nbackends:\n- x", "line 1, column 1: this looks like YAML; the configuration is JSON, which begins with {"),
        ('backends = ["http://a:1"]', "line 1, column 1: this looks like TOML; the configuration is JSON, which begins with {"),
        ('[health]\npath = "/"', "line 1, column 1: this looks like TOML; the configuration is JSON, which begins with {"),
        ("<html></html>", "line 1, column 1: this looks like XML or HTML; the configuration is JSON, which begins with {"),
        ('{backends: ["http://a:1"]}', 'line 1, column 2: a key stands in double quotes: "backends"'),
        ('{"backends": [http://a:1]}', 'line 1, column 15: a text stands in double quotes: "http"'),
        ('{"backends": ["http://a:1"], "access_log": True}', "line 1, column 44: True is written true in JSON"),
        ('{"backends": ["http://a:1"], "admin_bind": None}', "line 1, column 44: None is written null in JSON"),
        ('{"backends": ["http://a:1" "http://b:1"]}', "line 1, column 28: a comma is missing before this"),
        ('{"backends": ["http://a:1"]\n "strategy": "ewma"}', "line 2, column 2: a comma is missing before this"),
        ('{"backends" ["http://a:1"]}', "line 1, column 13: a colon is missing between a key and its value"),
        ('{"backends": ["http://a:1"]', "line 1, column 28: the file ends too early; } is missing"),
        ('{"backends": ["http://a:1"', "line 1, column 27: the file ends too early; } and ] is missing"),
        ('{"backends": ["http://a:1]}', "line 1, column 15: the text that begins here does not end; a double quote is missing"),
        (
            '{"backends": ["http://a:1"]} }',
            "line 1, column 30: the configuration has ended before this",
        ),
        ('{"backends": ["C:\\x"]}', "line 1, column 18: a backslash in a text is written twice: \\\\"),
    ],
)
def test_it_is_said_what_it_looks_like_and_where(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert str(caught.value) == f"backends.json: is not JSON at {said}"
