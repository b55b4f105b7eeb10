"""haproxy.cfg: what `http-request` changes in a request, as keys of a route."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from smartedge.convert.conditions import Where
from smartedge.convert.draft import Document, Draft
from smartedge.convert.haproxy_lines import FileLine

_TOLD: Final = re.compile(r"(?i)x-forwarded-(for|proto|host|port)|x-real-ip|x-request-id|forwarded|connection|upgrade")
"""What backends are told anyway, and no client may say."""
_PREFIX: Final = re.compile(r"\^?(/[\w/.~-]*?)(/?)\(\.\*\)\$?")
_REGSUB: Final = re.compile(r"%\[path,regsub\(\^?(/[\w/.~-]*?)/?,(/?)\)\]")

Edit = tuple[Where, Callable[[Where, Document], Document]]
"""Which requests are changed, and what becomes of a route that asks for such requests."""


def edit_of(line: FileLine, action: str, words: list[str], draft: Draft) -> Edit | None:
    """Give what an action does to a route; None where nothing of it is taken over, which is noted."""
    if action in ("set-header", "add-header") and len(words) >= 2:
        name, value = words[0], " ".join(words[1:])
        return _field(line, action, name, value, draft)
    if action == "del-header" and words:
        name = words[0]
        return None if _TOLD.fullmatch(name) else ({}, lambda _, what: _removed(what, name))
    if action in ("replace-path", "set-path", "replace-uri", "set-uri") and words:
        return _path(line, action, words, draft)
    draft.leave_out(line.number, str(line), "has no counterpart here")
    return None


def _field(line: FileLine, action: str, name: str, value: str, draft: Draft) -> Edit | None:
    if _TOLD.fullmatch(name):
        return None
    plain = re.sub(r"%\[src\]|%ci", "{client}", re.sub(r"%\[(?:req\.)?hdr\(host\)\]", "{host}", value))
    if "%" in plain.replace("%%", ""):
        why = "values may name {host}, {client}, {request_id} and {service}; the client's own word does not go on"
        draft.leave_out(line.number, str(line), why)
        return {}, lambda _, what: _removed(what, name)
    key = "set_headers" if action == "set-header" or name.lower() == "host" else "add_headers"

    def edit(_: Where, what: Document) -> Document:
        if "to" not in what or name in what.get("remove_headers", ()):
            return what
        return what | {key: {name: plain.replace("%%", "%")} | what.get(key, {})}

    return {}, edit


def _removed(what: Document, name: str) -> Document:
    said = {each.lower() for key in ("set_headers", "remove_headers") for each in what.get(key, ())}
    if "to" not in what or name.lower() in said:
        return what
    return what | {"remove_headers": [*what.get("remove_headers", ()), name]}


def _path(line: FileLine, action: str, words: list[str], draft: Draft) -> Edit | None:
    """Take a path that is put in place of another: a prefix of it, or a whole one."""
    prefix: str | None = None
    new = ""
    if action in ("replace-path", "replace-uri") and len(words) == 2:
        found, target = _PREFIX.fullmatch(words[0]), re.fullmatch(r"(/?[\w/.~-]*)\\1", words[1])
        if found is not None and target is not None and (found[2] == "/") == target[1].endswith("/"):
            prefix, new = found[1], target[1].rstrip("/")
    elif action == "set-path" and (said := _REGSUB.fullmatch(words[0])) is not None:
        prefix = said[1].rstrip("/")
    elif action == "set-path" and re.fullmatch(r"/[\w/.~-]*", words[0]):
        return {}, lambda _, what: what | {"rewrite": {"path": words[0]}} if "to" in what else what
    if prefix is None:
        draft.leave_out(line.number, str(line), "is no other prefix, and no whole path")
        return None

    def edit(where: Where, what: Document) -> Document:
        path = where.get("path", "").rstrip("/")
        if "to" not in what or "rewrite" in what or "strip_prefix" in what:
            return what
        if path == prefix:
            return what | ({"rewrite": new} if new else {"strip_prefix": True})
        draft.leave_out(line.number, str(line), f"it is not taken over for {where.get('path_exact', path)}")
        return what

    return {"path": prefix}, edit
