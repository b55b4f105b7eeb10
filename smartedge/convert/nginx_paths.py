"""nginx.conf: regular expressions that are an exact path or a prefix, and a `rewrite` that puts another prefix in its place.

Source: https://nginx.org/en/docs/http/ngx_http_core_module.html#location
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from smartedge.convert.draft import Document
from smartedge.convert.words import Directive

_LITERAL: Final = r"(/(?:[\w/~%-]|\\[./_~-])*)"
_PLAIN: Final = re.compile(rf"\^{_LITERAL}(\$|\(/\|\$\)|\(\?:/\|\$\)|\.\*\$?|\(\.\*\)\$?|)")
_PREFIX: Final = re.compile(rf"\^{_LITERAL}\((/?)\.\*\)\$?")
_NEW: Final = re.compile(r"([^$?\s]*)\$1")


def plain_path(modifier: str, pattern: str) -> tuple[str, bool] | None:
    """Say which path a regular expression is, and whether just that; None for all others. modifier: `~` or `~*`."""
    found = _PLAIN.fullmatch(pattern)
    if found is None:
        return None
    path, tail = found[1].replace("\\", ""), found[2]
    if modifier == "~*" and re.search(r"[A-Za-z]", path):
        return None
    if tail in ("(/|$)", "(?:/|$)") and path.endswith("/"):
        return None
    return path, tail == "$"


def expressions(block: Sequence[Directive]) -> list[Directive]:
    """Give the locations of a server that have a regular expression."""
    return [one for one in block if one.name == "location" and one.arguments and one.arguments[0].startswith("~")]


def why_other_counts(location: Directive, path: str, exact: bool, block: Sequence[Directive]) -> str | None:
    """Say why a regular expression that is a path is no route here: in nginx another location counts before it, or after it.

    In nginx an expression goes before prefixes, longer ones among them, but for those with `^~`, and the first one counts; here
    the longest prefix does. block: of the server.
    """
    is_later = False
    for one in block:
        if one is location:
            is_later = True
        elif one.name == "location" and one.arguments and not one.arguments[-1].startswith("@"):
            *modifier, other = one.arguments
            if modifier and modifier[0] in ("~", "~*"):
                earlier = None if is_later else plain_path(modifier[0], other)
                hides = earlier is not None and (path == earlier[0] if earlier[1] else path.startswith(earlier[0]))
            elif modifier == ["="]:
                hides = exact and other == path
            elif modifier == ["^~"]:
                hides = path.startswith(other)
            else:
                hides = not exact and other.rstrip("/").startswith(path.rstrip("/")) and path.rstrip("/") != ""
            if hides:
                return f"here another path counts than in nginx, where there is {one}; write a route for what it matches"
    return None


def new_path(rewrites: Sequence[Directive], route: Document, path: str) -> bool:
    """Take the `rewrite` of a location; False, and nothing is done, for what is none of a prefix, or not the last (`break`)."""
    if len(rewrites) != 1 or len(rewrites[0].arguments) != 3 or rewrites[0].arguments[2] != "break":
        return False
    pattern, target, _ = rewrites[0].arguments
    if not target.startswith(("/", "$1")):
        return False
    if "path_exact" in route:
        if plain_path("~", pattern) != (path, True) or "$" in target or "?" in target:
            return False
        route["rewrite"] = target
        return True
    found, new = _PREFIX.fullmatch(pattern), _NEW.fullmatch(target)
    if found is None or new is None:
        return False
    before, to = found[1].replace("\\", ""), new[1]
    if found[2] == "" and before.endswith("/"):  # ^/api/(.*) and /new/$1
        if not to.endswith("/"):
            return False
    elif found[2] == "/":  # ^/api(/.*) and /new$1
        if to.endswith("/"):
            return False
    else:
        return False
    if before.rstrip("/") != path.rstrip("/"):
        return False
    route.pop("strip_prefix", None)  # which proxy_pass has said: nginx passes over its path then
    route.pop("rewrite", None)
    if path.rstrip("/") == "":
        if to.rstrip("/"):
            route |= {"path": "/", "rewrite": to}
    elif to.rstrip("/") == "":
        route["strip_prefix"] = True
    else:
        route["rewrite"] = to
    return True
