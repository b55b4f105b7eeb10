"""nginx.conf: which location counts, as routes: an exact one, else the longest prefix, before which regular expressions go.

Each prefix, but for those with `^~`, is written with each regular expression that its paths may fit, in nginx's order.
Source: https://nginx.org/en/docs/http/ngx_http_core_module.html#location
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from smartedge.convert.conditions import Where, is_regex, meet
from smartedge.convert.draft import Document
from smartedge.convert.in_order import Rules, in_order, narrowed, tidy

_OTHERWISE: Final = re.compile(r"\[\[:|\\[GRXKQEHhZCN]|\(\?(?:[&R0-9|(]|P[>=]|-)|\(\*")
"""What PCRE knows, and Python does not, or reads in another way."""
_METHODS: Final = re.compile(r"\^?\(?([A-Z]+(?:\|[A-Z]+)*)\)?\$?")


@dataclass(frozen=True, slots=True)
class NginxLocation:
    """A location. where: its requests. rules: what is done there. stays: no expression goes before it. prefix: its path."""

    where: Where
    rules: Rules
    stays: bool = False
    prefix: str | None = None


def regex_of(modifier: str, pattern: str) -> str | None:
    """Write a regular expression of nginx as one of Python; None for one that is none there. modifier: `~` or `~*`."""
    text = re.sub(r"\(\?<([A-Za-z_]\w*)>", r"(?P<\1>", pattern)
    if _OTHERWISE.search(text):
        return None
    text = f"(?i){text}" if modifier.endswith("*") else text
    return text if is_regex(text) else None


def rules_of(places: Sequence[NginxLocation], otherwise: Document) -> Rules:
    """Give the locations of a server as rules of which the first that fits counts. otherwise: what is done outside of all."""
    patterns = [one for one in places if one.prefix is None and "path_regex" in one.where]
    exact = [one for one in places if "path_exact" in one.where]
    prefixes = [one for one in places if one not in patterns and one not in exact]
    found: Rules = []
    for one in exact:
        found += narrowed(one.where, one.rules)
    for one in sorted(prefixes, key=lambda one: -len(one.prefix or "")):
        for pattern in () if one.stays else patterns:
            if (both := meet(one.where, pattern.where)) is not None:
                found += narrowed(both, pattern.rules)
        found += narrowed(one.where, one.rules)
    for pattern in patterns:
        found += narrowed(pattern.where, pattern.rules)
    return tidy([*found, ({}, otherwise)])


def routes_of(host: Document, rules: Rules) -> list[Document]:
    """Write the rules of a server as routes."""
    hosts = host.get("host", [])
    where: Where = {"host": [hosts] if isinstance(hosts, str) else hosts} if hosts else {}
    routes = []
    for route in in_order(narrowed(where, rules)):
        needs_path = route.get("strip_prefix") or isinstance(route.get("rewrite"), str)
        routes.append({"path": "/"} | route if needs_path and "path" not in route and "path_exact" not in route else route)
    return routes


def condition_of(words: Sequence[str]) -> tuple[Where, bool] | None:
    """Say what an `if` asks, and whether it has to hold or not to; None where routes cannot say it."""
    text = " ".join(words).strip()
    if not (text.startswith("(") and text.endswith(")")):
        return None
    found = re.fullmatch(r"\$(\w+)\s*(?:(!?=|!?~\*?)\s*(.+?))?\s*", text[1:-1].strip(), re.DOTALL)
    if found is None:
        return None
    variable, sign, value = found[1], found[2] or "", (found[3] or "").strip("\"'")
    is_not = sign.startswith("!")
    where = _asked(variable, sign.lstrip("!"), value)
    return None if where is None else (where, is_not)


def _asked(variable: str, sign: str, value: str) -> Where | None:
    if variable == "request_method" and sign and (found := _METHODS.fullmatch(value)) is not None:
        is_whole = sign == "=" or (value.startswith("^") and value.endswith("$"))
        return {"method": found[1].split("|")} if is_whole else None
    if variable in ("host", "http_host", "server_name") and sign == "=" and re.fullmatch(r"[\w.-]+", value):
        return {"host": [value.lower()]}
    if variable == "remote_addr" and sign == "=" and re.fullmatch(r"[\d.]+|[0-9a-f:]+", value):
        return {"client": [value]}
    if variable in ("uri", "document_uri") and sign.startswith("~"):
        regex = regex_of(sign, value)
        return None if regex is None else {"path_regex": regex}
    kind = re.fullmatch(r"(http|arg|cookie)_(\w+)", variable)
    if kind is None or "$" in value.rstrip("$"):
        return None
    key, name = ("query" if kind[1] == "arg" else "header"), kind[2]
    before, behind = "", ""
    if kind[1] == "http":
        name = name.replace("_", "-")
    elif kind[1] == "cookie":
        before, behind, name = rf"(?:^|;)\s*{re.escape(name)}=", r"\s*(?:;|$)", "Cookie"
    if sign == "":
        return {key: {name: f"~{before}[^;]" if before else "~."}}
    if sign == "=" and value:
        return {key: {name: f"~{before}{re.escape(value)}{behind}" if before else value}}
    regex = regex_of(sign, value) if sign.startswith("~") else None
    return {key: {name: f"~{regex}"}} if regex is not None and not before else None
