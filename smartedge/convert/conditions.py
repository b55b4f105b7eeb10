"""What a route asks of a request, as algebra: which requests two routes both take, and whether one takes all of another's.

A condition has the keys of a route that say which requests: host, path, path_exact, path_regex, method, header, query, client;
`host`, `method` and `client` are lists here. Pure functions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final

Where = dict[str, Any]
"""A condition; {} holds for every request."""

KEYS: Final = ("host", "path", "path_exact", "path_regex", "method", "header", "query", "client")


def escape(text: str) -> str:
    """Write a text as a regular expression that finds just that, and that people can read in JSON."""
    return re.sub(r"[.^$*+?{}\[\]|()\\]", lambda found: f"\\{found[0]}" if found[0] in "^\\[]" else f"[{found[0]}]", text)


def one_of(texts: Sequence[str]) -> str:
    """Write several texts as one regular expression."""
    return escape(texts[0]) if len(texts) == 1 else f"(?:{'|'.join(map(escape, texts))})"


def is_regex(text: str) -> bool:
    """Whether the edge can look for this regular expression; what is none here may be one of PCRE's."""
    try:
        re.compile(text.encode())
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def any_of(regexes: Sequence[str]) -> str | None:
    """Write several regular expressions as one that is found where one of them is; None where that is none."""
    text = regexes[0] if len(regexes) == 1 else "|".join(f"(?:{regex})" for regex in regexes)
    return text if is_regex(text) else None


def meet(one: Where, other: Where) -> Where | None:
    """Say which requests both conditions take; None where it is known that there are none."""
    both: Where = {}
    for key, meet_of in (("host", _hosts), ("method", _lists), ("client", _networks)):
        if key in one and key in other:
            found = meet_of(one[key], other[key])
            if not found:
                return None
            both[key] = found
        elif key in one or key in other:
            both[key] = one.get(key, other.get(key))
    for key in ("header", "query"):
        fields = _fields(one.get(key, {}), other.get(key, {}))
        if fields is None:
            return None
        if fields:
            both[key] = fields
    path = _path(one, other)
    return None if path is None else both | path


def covers(one: Where, other: Where) -> bool:
    """Whether every request that `other` takes is known to be one that `one` takes, too."""
    if any(key not in other for key in one if key[:4] != "path"):
        return False  # the rest takes longer
    path: str = other.get("path_exact") or other.get("path") or ""
    if ("path_exact" in one and path != one["path_exact"]) or not _is_below(path.rstrip("/"), one.get("path", "").rstrip("/")):
        return False
    both = meet(one, other)
    return both is not None and both == meet(other, other)


def goes_first(one: Where, other: Where) -> bool:
    """Whether a request that both take goes to the route of `one`, although the other stands before it in the file."""
    hosts = [
        (_host_rank(mine), _host_rank(theirs))
        for mine in one.get("host", ("",))
        for theirs in other.get("host", ("",))
        if not mine or not theirs or _hosts([mine], [theirs])
    ]
    return any((mine, _rank(one)) < (theirs, _rank(other)) for mine, theirs in hosts)


def written(where: Where) -> Where:
    """Write a condition as people do: a list of one as its item."""
    return {
        key: where[key][0] if isinstance(where[key], list) and len(where[key]) == 1 else where[key]
        for key in KEYS
        if key in where
    }


def _host_rank(host: str) -> tuple[int, int]:
    return (2, 0) if host == "" else (1, -len(host)) if host.startswith("*.") else (0, 0)


def _rank(where: Where) -> tuple[object, ...]:
    path = where.get("path_exact", where.get("path", "").rstrip("/"))
    return (
        "path_exact" not in where,
        -len(path),
        "path_regex" not in where,
        "method" not in where,
        -len(where.get("header", ())),
        -len(where.get("query", ())),
        "client" not in where,
    )


def _hosts(one: Sequence[str], other: Sequence[str]) -> list[str]:
    found = []
    for mine in one:
        for theirs in other:
            if mine == theirs or (theirs.startswith("*.") and mine.endswith(theirs[1:])):
                found.append(mine)
            elif mine.startswith("*.") and theirs.endswith(mine[1:]):
                found.append(theirs)
    return list(dict.fromkeys(found))


def _lists(one: Sequence[str], other: Sequence[str]) -> list[str]:
    return [item for item in one if item in other]


def _networks(one: Sequence[str], other: Sequence[str]) -> list[str]:
    found = []
    for mine in one:
        for theirs in other:
            a, b = ipaddress.ip_network(mine, strict=False), ipaddress.ip_network(theirs, strict=False)
            if a.version == b.version and a.overlaps(b):
                found.append(mine if a.prefixlen >= b.prefixlen else theirs)
    return list(dict.fromkeys(found))


def _fields(one: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str] | None:
    both = dict(one)
    names = {name.lower(): name for name in one}
    for name, text in other.items():
        mine = names.get(name.lower())
        if mine is None:
            both[name] = text
        elif both[mine] != text:
            together = _texts(both[mine], text)
            if together is None:
                return None
            both[mine] = together
    return both


def _texts(one: str, other: str) -> str | None:
    if one.startswith("~") and other.startswith("~"):
        return "~" + _both(one[1:], other[1:])
    plain, asked = (other, one) if one.startswith("~") else (one, other)
    if asked.startswith("~"):
        return plain if re.search(asked[1:], plain) else None
    return None


def _both(*regexes: str) -> str:
    """Write a regular expression that is found where all of these are."""
    parts = sorted({_part(each) for regex in regexes for each in _atoms(regex)})
    return "(?s)^" + "".join(f"(?={part})" for part in parts)


def _part(regex: str) -> str:
    if regex.startswith("(?i)"):
        return f".*(?i:{regex[4:]})"
    if "|" in _outside(regex):
        return f".*(?:{regex})"
    return regex[1:] if regex.startswith("^") else f".*{regex}"


def _atoms(regex: str) -> list[str]:
    """Take apart what `_both` has put together."""
    parts = _lookaheads(regex[5:]) if regex.startswith("(?s)^(?=") else None
    if parts is None:
        return [regex]
    found = []
    for part in parts:
        if part.startswith(".*(?i:"):
            found.append(f"(?i){part[6:-1]}")
        elif part.startswith(".*(?:") and part.endswith(")") and "|" in _outside(part[5:-1]):
            found.append(part[5:-1])
        else:
            found.append(part[2:] if part.startswith(".*") else f"^{part}")
    return found


def _lookaheads(text: str) -> list[str] | None:
    """Take a row of `(?=...)` apart; None where there is anything else."""
    found, depth, start = [], 0, 0
    for token in re.finditer(r"\\.|\[\^?\]?[^\]]*\]|.", text, re.DOTALL):
        if token[0] == "(":
            depth += 1
            if depth == 1:
                start = token.start()
        elif token[0] == ")":
            depth -= 1
            if depth == 0:
                if not text.startswith("(?=", start):
                    return None
                found.append(text[start + 3 : token.start()])
        elif depth == 0:
            return None
    return found if depth == 0 else None


def _outside(regex: str) -> str:
    """Leave out of a regular expression what stands in parentheses and brackets."""
    outside = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "", regex)
    while (inner := re.sub(r"\([^()]*\)", "", outside)) != outside:
        outside = inner
    return outside


# ---- paths ----


def _path(one: Where, other: Where) -> Where | None:
    exact = {where["path_exact"] for where in (one, other) if "path_exact" in where}
    prefixes = {where["path"].rstrip("/") for where in (one, other) if where.get("path", "/") != "/"}
    found: Where = {}
    if exact:
        path = exact.pop()
        if exact or not all(_is_below(path, prefix) for prefix in prefixes):
            return None
        regexes = [where["path_regex"] for where in (one, other) if "path_regex" in where]
        return {"path_exact": path} if all(re.search(regex, path) for regex in regexes) else None
    if prefixes:
        path = max(prefixes, key=len)
        if not all(_is_below(path, prefix) for prefix in prefixes):
            return None
        found["path"] = next(w["path"] for w in (one, other) if w.get("path", "").rstrip("/") == path)
    all_of = [atom for where in (one, other) if "path_regex" in where for atom in _atoms(where["path_regex"])]
    regexes = list(dict.fromkeys(all_of))
    kept = []
    for regex in regexes:
        start, is_all = _literal(regex)
        if "path" in found:
            path = found["path"].rstrip("/")
            if not (f"{path}/".startswith(start) or start.startswith(f"{path}/")):
                return None
            if is_all and path.startswith(start):
                continue
        kept.append(regex)
    for regex in tuple(kept):
        start, is_all = _literal(regex)
        for each in kept:
            begins, _ = _literal(each)
            if not (begins.startswith(start) or start.startswith(begins)):
                return None
            if is_all and each is not regex and begins.startswith(start) and regex in kept:
                kept.remove(regex)
    endings = [ends for regex in kept if (ends := _endings(regex)) is not None]
    for first, second in combinations(endings, 2):
        if not any(a.endswith(b) or b.endswith(a) for a in first for b in second):
            return None
    if kept:
        found["path_regex"] = kept[0] if len(kept) == 1 else _both(*kept)
    return found


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _literal(regex: str) -> tuple[str, bool]:
    """Say how each path begins in which a regular expression is found, and whether all of them that begin so are meant."""
    found = re.match(r"\^((?:[\w/~%-]|\\[./_~-]|\[[.]\])*)", regex)
    if found is None:
        return "", False
    if "|" in _outside(regex):
        return "", False
    start, rest = re.sub(r"\\|\[|\]", "", found[1]), regex[found.end() :]
    return (start[:-1] if rest[:1] in ("*", "?", "{") and rest else start), rest == ""


def _endings(regex: str) -> list[str] | None:
    """Say how each path ends in which a regular expression is found, where that is all it says; None for others."""
    found = re.fullmatch(r"(?:\(\?:|\()?((?:[\w/-]|\[[.]\]|\\[./-]|\|)+)(\)?)\$", regex)
    if found is None or ("|" in found[1] and not found[2]):
        return None
    return re.sub(r"\\|\[|\]", "", found[1]).split("|")
