"""haproxy.cfg: its sections and their lines, as words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from smartedge.convert.words import NotReadable

_SECTIONS: Final = (
    *("global", "defaults", "frontend", "backend", "listen", "userlist", "resolvers", "peers", "cache", "program", "ring"),
    *("http-errors", "fcgi-app", "mailers", "log-forward", "crt-store", "traces", "acme"),
)


@dataclass(slots=True)
class FileLine:
    """A line. number: from 1."""

    number: int
    words: list[str]

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(slots=True)
class FileSection:
    """A section. number: of its first line."""

    kind: str
    name: str
    number: int
    lines: list[FileLine] = field(default_factory=list)

    def has(self, *words: str) -> bool:
        """Whether a line begins with these words."""
        return any(line.words[: len(words)] == list(words) for line in self.lines)


def read_sections(text: str) -> list[FileSection]:
    """Read a file. Raises NotReadable."""
    found: list[FileSection] = []
    for number, raw in enumerate(text.splitlines(), 1):
        words = _words(raw, number)
        if not words:
            continue
        if words[0] in _SECTIONS:
            found.append(FileSection(words[0], words[1] if len(words) > 1 else words[0], number))
        elif words[0].startswith(".") and re.fullmatch(r"\.(if|elif|else|endif|notice|warning|alert|diag)", words[0]):
            raise NotReadable(f"line {number}: {words[0]} is not known here: leave in the file what holds, and convert that")
        elif not found:
            raise NotReadable(f"line {number}: {words[0]} stands in no section; is this a haproxy.cfg?")
        else:
            found[-1].lines.append(FileLine(number, words))
    return found


_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}
_TOKEN: Final = re.compile(
    r"(?P<space>\s+)|(?P<comment>\#.*)|'(?P<strong>[^']*)'|\"(?P<weak>(?:\\.|[^\"\\])*)\"|(?P<word>(?:\\.|[^\s#'\"\\]|\\$)+)|(?P<other>.)"
)


def _words(line: str, number: int) -> list[str]:
    """Read a line as HAProxy does: a backslash stays, but before a space, #, quotes, $ and another one."""
    words: list[str] = []
    is_open = False
    for token in _TOKEN.finditer(line):
        kind, text = str(token.lastgroup), token[str(token.lastgroup)]
        if kind == "comment":
            break
        if kind == "other":
            raise NotReadable(f"line {number}: a quote is never closed")
        if kind != "space":
            if kind != "strong":
                text = re.sub(r"\\(x[0-9a-fA-F]{2}|[ #\\\"'$nrt])", _escaped, text)
            words[-1:] = [words[-1] + text] if is_open else [*words[-1:], text]
        is_open = kind != "space"
    return words


def _escaped(found: re.Match[str]) -> str:
    text = found[1]
    return chr(int(text[1:], 16)) if len(text) == 3 else _ESCAPES.get(text, text)
