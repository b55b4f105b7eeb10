"""Words and blocks of the files of nginx and Caddy: both are words, quotes, comments, and braces around more of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

_TOKEN = re.compile(
    r"""(?P<space>[^\S\n]+)|(?P<comment>(?<!\S)\#[^\n]*)|(?P<line>\n)|(?P<quoted>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)"""
    r"""|(?P<brace>[{}](?=[\s;}]|$))|(?P<end>;)|(?P<word>(?:\\.|\$\{\w*\}|\{[^\s{};]+\}|[^\s;{}"'`\\])+)|(?P<other>.)""",
    re.DOTALL,
)


class NotReadable(ValueError):
    """The file is none of its kind; the text says where, and what is wrong."""


@dataclass(slots=True)
class Directive:
    """A word with its arguments, and what stands in braces behind it. line: of the word, from 1. block: None without braces."""

    name: str
    arguments: list[str]
    line: int
    block: list[Self] | None = None

    def __str__(self) -> str:
        return " ".join([self.name, *self.arguments]) + (" { … }" if self.block is not None else "")


def read_blocks(text: str, *, by_lines: bool) -> list[Directive]:
    """Read a file. by_lines: a directive ends with its line, as in a Caddyfile; else by a semicolon. Raises NotReadable."""
    top: list[Directive] = []
    open_blocks: list[tuple[list[Directive], int]] = [(top, 0)]
    words: list[tuple[str, int]] = []
    line = 1

    def end(block: list[Directive] | None = None) -> None:
        if words:
            (name, at), *rest = words
            open_blocks[-1][0].append(Directive(name, [word for word, _ in rest], at, block))
        elif block is not None:
            open_blocks[-1][0].append(Directive("", [], line, block))
        words.clear()

    for match in _TOKEN.finditer(text):
        kind, found = match.lastgroup, match.group()
        if kind in ("word", "quoted", "other"):
            if found == "\\":
                continue
            words.append((_unquoted(found) if kind == "quoted" else found, line))
        elif kind == "end" or (kind == "line" and by_lines):
            end()
        elif kind == "brace" and found == "{":
            block: list[Directive] = []
            end(block)
            open_blocks.append((block, line))
        elif kind == "brace":
            end()
            if len(open_blocks) == 1:
                raise NotReadable(f"line {line}: a }} closes nothing")
            open_blocks.pop()
        line += found.count("\n")
    if len(open_blocks) > 1:
        raise NotReadable(f"line {open_blocks[-1][1]}: this {{ is never closed")
    if words and not by_lines:
        raise NotReadable(f"line {words[-1][1]}: a ; is missing behind {words[-1][0]}")
    end()
    return top


def _unquoted(text: str) -> str:
    return text[1:-1] if text[0] == "`" else re.sub(r"\\(.)", r"\1", text[1:-1])
