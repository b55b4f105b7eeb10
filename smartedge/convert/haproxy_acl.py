"""haproxy.cfg: what an ACL tests, as conditions of routes; and which of these an `if` or `unless` puts together.

Source: https://docs.haproxy.org/2.6/configuration.html#7
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from smartedge.convert.conditions import Where, any_of, escape, one_of

Note = Callable[[str], None]

_FETCH: Final = re.compile(r"([a-z_]+?)(?:_(beg|dir|dom|end|reg|sub))?(?:\(([^()]*)\))?((?:,[a-z_]+(?:\([^()]*\))?)*)")
_HARMLESS: Final = ("lower", "url_dec", "field(1,:)", "host_only")
"""Converters that change nothing here: hosts and fields are compared as routes do it anyway."""
_PREDEFINED: Final[dict[str, list[str]]] = {
    "TRUE": ["always_true"],
    "FALSE": ["always_false"],
    "LOCALHOST": ["src", "127.0.0.1/8"],
    "METH_DELETE": ["method", "DELETE"],
    "METH_GET": ["method", "GET", "HEAD"],
    "METH_HEAD": ["method", "HEAD"],
    "METH_OPTIONS": ["method", "OPTIONS"],
    "METH_POST": ["method", "POST"],
    "METH_PUT": ["method", "PUT"],
    "METH_TRACE": ["method", "TRACE"],
}
_NOT_HERE: Final = "routes go by host, path, method, header, query and client"


@dataclass(slots=True)
class Acls:
    """The tests of one section by name, with their lines; a name that comes again is another way for it to hold."""

    tests: dict[str, list[tuple[int, list[str]]]] = field(default_factory=dict)

    def add(self, line: int, name: str, test: list[str]) -> None:
        """Take a line `acl`."""
        self.tests.setdefault(name, []).append((line, test))

    def of(self, literal: str | list[str]) -> list[tuple[int, list[str]]]:
        """Give the tests of a name, or the one that stands in braces; with line 0 where no line has it."""
        if not isinstance(literal, str):
            return [(0, literal)]
        if literal in self.tests:
            return self.tests[literal]
        return [(0, _PREDEFINED[literal])] if literal in _PREDEFINED else []


@dataclass(frozen=True, slots=True)
class Literal:
    """A test in a condition: the name of an ACL, or the words in braces; is_not: it must not hold."""

    test: str | list[str]
    is_not: bool

    def __str__(self) -> str:
        return self.test if isinstance(self.test, str) else f"{{ {' '.join(self.test)} }}"


def terms(words: Sequence[str]) -> list[list[Literal]] | None:
    """Read what stands behind `if`: all of one list have to hold, and one list is enough. None for what is no condition."""
    found: list[list[Literal]] = [[]]
    inside: list[str] | None = None
    is_not = False
    for word in words:
        if inside is not None and word == "}":
            if not inside:
                return None
            found[-1].append(Literal(inside, is_not))
            inside, is_not = None, False
        elif inside is not None:
            inside.append(word)
        elif word in ("or", "||", "OR"):
            found.append([])
        elif word == "!":
            is_not = not is_not
        elif word.lstrip("!") == "{":
            inside, is_not = [], is_not ^ (len(word) % 2 == 0)
        else:
            name = word.lstrip("!")
            found[-1].append(Literal(name, is_not ^ ((len(word) - len(name)) % 2 == 1)))
            is_not = False
    return found if inside is None and all(found) else None


def read_test(test: Sequence[str], strict: bool, note: Note) -> list[Where] | None:
    """Say when a test holds: when one of these conditions does; None where routes cannot say it.

    strict: just then; else a path may be read by segments, and a host by labels, which is noted. note: is told what differs.
    """
    found = _FETCH.fullmatch(test[0].removeprefix("req."))
    values, fold, how = list(test[1:]), False, None
    while values and re.fullmatch(r"-[a-zA-Z-]", values[0]):
        flag = values.pop(0)
        if flag == "--":
            break
        if flag == "-m" and values:
            how = values.pop(0)
        elif flag == "-i":
            fold = True
        elif flag != "-n":
            note("a test with a file of patterns is not read")
            return None
    if found is None:
        note(_NOT_HERE)
        return None
    what, by_name, name, converters = found[1], found[2], found[3] or "", (found[4] or "").lstrip(",")
    for converter in re.findall(r"[a-z_]+(?:\([^()]*\))?", converters):
        if converter not in _HARMLESS:
            note(_NOT_HERE)
            return None
        fold = fold or converter == "lower"
    how = how or by_name or "str"
    where = _read(what, how, name, values, fold, strict, note)
    if where is None:
        note("a host here is a name, or *. and a name" if what == "hdr" and name.lower() == "host" else _NOT_HERE)
    return where


def _read(what: str, how: str, name: str, values: list[str], fold: bool, strict: bool, note: Note) -> list[Where] | None:
    if what in ("always_true", "always_false") or (what == "bool" and name in ("true", "false")):
        return [{}] if what == "always_true" or name == "true" else []
    if how != "found" and not values:
        return None
    if what == "path" or (
        what in ("url", "uri", "pathq") and how in ("str", "beg") and not any("?" in value for value in values)
    ):
        return _paths(how, values, fold, strict, note)
    if what in ("hdr", "fhdr") and name.lower() == "host":
        return _hosts(how, values, strict)
    if what == "method" and how == "str":
        return [{"method": [value.upper() for value in values]}] if "CONNECT" not in values else None
    if what == "src" and how in ("str", "ip"):
        try:
            return [{"client": [str(ipaddress.ip_network(value, strict=False)) for value in values]}]
        except ValueError:
            return None
    if what in ("hdr", "fhdr") and re.fullmatch(r"[\w-]+", name):
        if how == "str" and len(values) == 1 and not fold and not strict:
            return [{"header": {name: values[0] if values[0][0] != "~" else f"~^{escape(values[0])}$"}}]
        return _field("header", name, how, values, fold, ("(?:^|,)[ \t]*", "[ \t]*(?:,|$)") if strict else ("^", "$"))
    if what == "cook" and re.fullmatch(r"[\w-]+", name) and how in ("str", "beg", "found"):
        start = f"(?:^|;)[ \t]*{escape(name)}="
        return _field("header", "Cookie", how, values, fold, (start, "[ \t]*(?:;|$)"))
    if what in ("urlp", "url_param") and name and "," not in name:
        if how == "str" and len(values) == 1 and not fold:
            return [{"query": {name: values[0] if values[0][:1] != "~" else f"~^{escape(values[0])}$"}}]
        return _field("query", name, how, values, fold, ("^", "$"))
    return None


def _paths(how: str, values: list[str], fold: bool, strict: bool, note: Note) -> list[Where] | None:
    fold = fold and re.search("[A-Za-z]", "".join(values)) is not None
    if how == "str" and not fold:
        return [{"path_exact": value} for value in values if value.startswith("/")]
    if how == "beg" and not fold and not strict:
        found: list[Where] = []
        for value in values:
            plain = value.rstrip("/")
            if plain and not value.endswith("/"):
                note(f"{plain} is a segment here: it is not the beginning of {plain}s")
            found += [{"path": plain} if plain else {}] if value.startswith("/") else []
        return found
    if how == "reg":
        pattern = any_of(values)
        return None if pattern is None else [{"path_regex": f"(?i){pattern}" if fold else pattern}]
    if how == "dir":
        values = [value.strip("/") for value in values]
    before, behind = {"str": ("^", "$"), "beg": ("^", ""), "end": ("", "$"), "sub": ("", ""), "dir": ("/", "(?:/|$)")}.get(
        how, (None, "")
    )
    if before is None:
        return None
    if [before, behind, *values] == ["^", "", "/"]:
        return [{}]
    return [{"path_regex": f"{'(?i)' if fold else ''}{before}{one_of(values)}{behind}"}]


def _hosts(how: str, values: list[str], strict: bool) -> list[Where] | None:
    """Write the names that end so: HAProxy compares letters, routes whole labels."""
    hosts: list[str] = []
    for value in values:
        name = value.lower().lstrip(".")
        if not re.fullmatch(r"[\w.-]+(:\d+)?|\[[0-9a-f:.]+\](:\d+)?", name):
            return None
        if how == "str":
            hosts.append(name)
        elif how == "end" and value.startswith("."):
            hosts.append(f"*.{name}")
        elif how in ("end", "dom") and not strict:
            hosts += [name, f"*.{name}"]
        else:
            return None
    return [{"host": hosts}]


def _field(key: str, name: str, how: str, values: list[str], fold: bool, ends: tuple[str, str]) -> list[Where] | None:
    start, end = ends
    if how == "found":
        return [{key: {name: f"~{start}"}}]
    text: str | None
    if how == "reg":
        text = any_of(values)
        if text is None:
            return None
    else:
        before, behind = {"str": (start, end), "beg": (start, ""), "end": ("", end), "sub": ("", "")}.get(how, (None, ""))
        if before is None:
            return None
        text = f"{before}{one_of(values)}{behind}"
    return [{key: {name: f"~(?i){text}" if fold else f"~{text}"}}]
