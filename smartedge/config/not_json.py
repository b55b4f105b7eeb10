"""What a text looks like that is not JSON: Python's own words for it ("expecting value") help nobody."""

from __future__ import annotations

import json
import re

_STRING = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT = re.compile(rf"{_STRING}|(//|#|/\*)")
_LITERALS = {"True": "true", "False": "false", "None": "null", "TRUE": "true", "FALSE": "false", "nil": "null"}
_YAML = re.compile(r"(---|- |[A-Za-z_][\w.-]*:(\s|$))")
_TOML = re.compile(r"(\[+[A-Za-z_][\w.-]*\]+\s*$|[A-Za-z_][\w.-]*\s*=)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z_$][\w$-]*")


def looks_like(text: str, error: json.JSONDecodeError) -> tuple[int, str]:
    """Say where the trouble is, as an index into the text, and what is written there; error: what `json` made of it."""
    at = _next(text, error.pos)
    start = _next(text, 0)
    if text[at : at + 1] == "," and error.msg.startswith("Illegal trailing comma"):
        at = _next(text, at + 1)  # Python 3.13 points at the comma, those before it at what stands behind
    found = text[at : at + 1]
    before = text[:at].rstrip()
    if at == start and not text.startswith(("{", "["), start):
        return start, _another_format(text, start)
    if at <= start + 1 and _TOML.match(text, start):
        return start, "this looks like TOML; the configuration is JSON, which begins with {"
    comment = _comment_at(text, at)
    if comment is not None:
        return comment, "JSON has no comments; take it out"
    if found == "'" or (found and before.endswith("'") and error.msg.startswith("Expecting")):
        return at, "texts stand in double quotes, not in single ones"
    if found in ("}", "]") and before.endswith(","):
        return len(before) - 1, f"a comma before {found} is one too many"
    if found == "," and before[-1:] in (",", "[", "{"):
        return at, "a comma is one too many"
    if not found:
        return at, _unended(text, error)
    if error.msg.startswith("Unterminated string"):
        return error.pos, "the text that begins here does not end; a double quote is missing"
    if error.msg.startswith("Invalid control character"):
        return error.pos, "a text must not hold a line break or a tab as it is; write \\n or \\t"
    if error.msg.startswith("Invalid \\escape"):
        return error.pos, "a backslash in a text is written twice: \\\\"
    if error.msg.startswith("Extra data"):
        return at, "the configuration has ended before this"
    word = _NAME.match(text, at)
    if word is not None and error.msg.startswith("Expecting"):
        return at, _bare(word.group(), error)
    if error.msg.startswith("Expecting ',' delimiter"):
        return at, "a comma is missing before this"
    if error.msg.startswith("Expecting ':' delimiter"):
        return at, "a colon is missing between a key and its value"
    if found == "=":
        return at, "a key and its value are parted by a colon, not by ="
    return at, error.msg[:1].lower() + error.msg[1:]


def _bare(word: str, error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Expecting property name"):
        return f"a key stands in double quotes: {json.dumps(word)}"
    if error.msg.startswith("Expecting ',' delimiter"):
        return "a comma is missing before this"
    if word in _LITERALS:
        return f"{word} is written {_LITERALS[word]} in JSON"
    return f"a text stands in double quotes: {json.dumps(word)}"


def _another_format(text: str, start: int) -> str:
    if text.startswith(("#", "//", "/*"), start):
        rest = re.sub(r"(?s:/\*.*?\*/)|(?m:^\s*(#|//).*$)", "", text).lstrip()
        if rest[:1] in ("{", "["):
            return "JSON has no comments; take it out"
        start, text = 0, rest
    if _YAML.match(text, start):
        return "this looks like YAML; the configuration is JSON, which begins with {"
    if _TOML.match(text, start):
        return "this looks like TOML; the configuration is JSON, which begins with {"
    if text.startswith("<", start):
        return "this looks like XML or HTML; the configuration is JSON, which begins with {"
    return "JSON begins with {"


def _unended(text: str, error: json.JSONDecodeError) -> str:
    if error.msg.startswith("Unterminated string"):
        return "the file ends within a text; a double quote is missing"
    plain = re.sub(_STRING, "", text)
    missing = [close for open_, close in (("{", "}"), ("[", "]")) if plain.count(open_) > plain.count(close)]
    return f"the file ends too early; {' and '.join(missing)} is missing" if missing else "the file ends too early"


def _comment_at(text: str, at: int) -> int | None:
    """Where a comment begins that is the trouble: right there, or between the last thing that was understood and there."""
    for token in _COMMENT.finditer(text):
        if token.start() > at:
            return None
        if token.group(1) and text.count("\n", token.start(), at) <= (token.group(1) == "/*") * at:
            return token.start()
    return None


def _next(text: str, at: int) -> int:
    """The next place that is not blank."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
