"""haproxy.cfg: what an ACL tests, as conditions of a route.

Source: https://docs.haproxy.org/2.6/configuration.html#7
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final

from smartedge.convert.draft import Document

_ACLS: Final = {
    "path": "path_exact",
    "path_beg": "path",
    "path_dir": "path",
    "hdr(host)": "host",
    "hdr_dom(host)": "host",
    "hdr_end(host)": "host",
    "method": "method",
    "src": "client",
}
HEADER: Final = re.compile(r"hdr\(([\w-]+)\)")
"""A field of a request."""
_ELSEWHERE: Final = {
    "path -m beg": "path_beg",
    "path -m dir": "path_dir",
    "hdr(host) -m end": "hdr_end(host)",
    "hdr(host) -m dom": "hdr_dom(host)",
}
"""Tests that have a name of their own, by how they are written, too."""


def read_test(test: Sequence[str], note: Callable[[str], None]) -> Document | None:
    """Say what a test is in a route; None where it is not taken over. note: called with what is to be told."""
    what, *words = [word.removeprefix("req.") for word in test]
    values = [word for word in words if word not in ("-i", "--")]
    if values[:1] == ["-m"]:
        how, values = values[1:2], values[2:]
        what = what if how == ["str"] else _ELSEWHERE.get(f"{what} -m {''.join(how)}", "")
    key, header = _ACLS.get(what), HEADER.fullmatch(what)
    flags = any(value.startswith("-") for value in values)
    if key == "host" and values and not flags:
        hosts = [host for value in values for host in _hosts(what, value)]
        return {"host": hosts[0] if len(hosts) == 1 else hosts}
    if key in ("path", "path_exact") and len(values) == 1 and not flags:
        (path,) = values
        if what == "path_beg" and not path.endswith("/"):
            note(f"{path} is a segment here: it is not the beginning of {path}s")
        return {key: path.rstrip("/") or "/"} if key == "path" else {key: path}
    if key in ("method", "client") and values and not flags:
        return {key: values[0] if len(values) == 1 else values}
    if key is None and header is not None and len(values) == 1 and not flags:
        return {"header": {header[1]: f"~(?i)^{re.escape(values[0])}$" if "-i" in words else values[0]}}
    why = "several paths are several routes" if key else "routes go by host, path, method, header, query and client"
    note(why)
    return None


def _hosts(what: str, value: str) -> list[str]:
    """Write the names that end so: HAProxy compares letters, routes whole labels."""
    name = value.lstrip(".")
    if what == "hdr(host)":
        return [value]
    return [f"*.{name}"] if value.startswith(".") and what == "hdr_end(host)" else [name, f"*.{name}"]


def several(value: str | Sequence[str]) -> Sequence[str]:
    """Write a condition of one value or of many as many."""
    return [value] if isinstance(value, str) else value


def narrower(one: Document, other: Document) -> bool:
    """Say whether the route `one` takes a request that fits both, and sends it elsewhere, although `other` comes first."""
    hosts = [several(where.get("host", ())) for where in (one, other)]
    paths = [_path_of(where) for where in (one, other)]
    if one["to"] == other["to"] or (all(hosts) and not set(hosts[0]) & set(hosts[1])):
        return False
    return (paths[0].startswith(paths[1]) or paths[1].startswith(paths[0])) and _rank(one) > _rank(other)


def _rank(where: Document) -> tuple[bool, bool, int, bool, bool]:
    """Say how exact conditions are, as routes go by it; wildcards count as hosts."""
    return ("host" in where, "path_exact" in where, len(_path_of(where)), "method" in where, "header" in where)


def _path_of(where: Document) -> str:
    return str(where.get("path_exact") or where.get("path", ""))


def terms(words: Sequence[str]) -> list[str | list[str]] | None:
    """Read what stands behind `if`: names of ACLs, and tests in braces; None where one is denied, or another would do (`or`)."""
    found: list[str | list[str]] = []
    inside: list[str] | None = None
    for word in words:
        if word == "}" and inside:
            found.append(inside)
            inside = None
        elif inside is not None:
            inside.append(word)
        elif word == "{":
            inside = []
        elif word in ("or", "||") or word.startswith(("!", "{")):
            return None
        else:
            found.append(word)
    return found if inside is None else None


def together(one: Document, other: Document) -> Document | None:
    """Put conditions together that both hold; None where a route cannot have both."""
    both = one | other
    for key in one.keys() & other.keys():
        if key == "header" and not one[key].keys() & other[key].keys():
            both[key] = one[key] | other[key]
        elif one[key] != other[key]:
            return None
    return both if not {"path", "path_exact"} <= both.keys() else None
