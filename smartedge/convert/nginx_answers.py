"""nginx.conf: what nginx answers itself - `return`, and an `if` with one in it - and fields of answers.

Source: https://nginx.org/en/docs/http/ngx_http_rewrite_module.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from smartedge.convert.draft import Document, Draft
from smartedge.convert.in_order import Rules, branch
from smartedge.convert.nginx_order import condition_of
from smartedge.convert.words import Directive, NotReadable

_STATUSES: Final = (301, 302, 303, 307, 308)


def stated(statements: Sequence[Directive], rules: Rules, draft: Draft, secure: bool, headers: Sequence[Directive] = ()) -> Rules:
    """Put the `if` and `return` of a block before what else it says.

    secure: there is TLS, and an address without it that sends everybody there. headers: `add_header` of the block. Raises
    NotReadable for an `if` of which it cannot be said whom it refuses.
    """
    for one in reversed(statements):
        if one.name == "return":
            fields: Document = {}
            for each in headers:
                header(each, fields, draft)
            what = answer(one, fields, draft, secure)
            rules = rules if what is None else [({}, what)]
            continue
        answers = [each for each in one.block or [] if each.name in ("return", "deny")]
        asked = condition_of(one.arguments)
        if not answers:
            draft.leave_out(one.line, str(one), "only a return is known in it here")
        elif asked is None:
            refuses = answers[0].name == "deny" or (answers[0].arguments[0].isdigit() and int(answers[0].arguments[0]) >= 400)
            if refuses:
                why = "whom it refuses cannot be said by routes, and would be let in; take it out, and convert again"
                raise NotReadable(f"line {one.line}: {one}: {why}")
            draft.leave_out(one.line, str(one), "what it asks is nothing that routes go by")
        else:
            where, is_not = asked
            shut: Document = {"respond": {"status": 403}}
            what = shut if answers[0].name == "deny" else answer(answers[0], {}, draft, secure)
            if what is not None:
                rules = branch([([{}], [where]) if is_not else ([where], [])], [({}, what)], rules)
    return rules


def answer(one: Directive, where: Document, draft: Draft, secure: bool) -> Document | None:
    """Take a `return`: a redirect, or an answer; None where it says nothing here. where: more keys of its route."""
    status, target = int(one.arguments[0]) if one.arguments[0].isdigit() else 302, one.arguments[-1]
    if status in _STATUSES or not one.arguments[0].isdigit():
        whole = target.endswith(("$request_uri", "$uri"))
        parts = urlsplit(target.removesuffix("$request_uri").removesuffix("$uri").removeprefix("$scheme:"))
        redirect: Document = {"status": status}
        if parts.scheme:
            redirect["scheme"] = parts.scheme
        if parts.netloc and parts.netloc not in ("$host", "$server_name", "$http_host"):
            redirect["host"] = parts.netloc
        if not whole:
            redirect["path"] = parts.path or "/"
        if "$" in "".join(map(str, redirect.values())) or redirect.keys() == {"status"} or parts.query:
            why = "a target that depends on the request is not known here; until you write one, the answer is 403"
            draft.leave_out(one.line, str(one), why)
            return where | {"respond": {"status": 403}}
        if redirect.keys() == {"status", "scheme"} and secure and "path" not in where:
            return None  # http_bind does this for all
        if not whole:
            draft.leave_out(one.line, str(one), "it is taken over, but the request's query stays with it here")
        return where | {"redirect": redirect}
    if 200 <= status <= 599:
        text = target if len(one.arguments) > 1 else ""
        if "$" in text:
            draft.leave_out(one.line, str(one), "a text that depends on the request is not known here")
        return where | {"respond": {"status": status} | ({"text": text} if text else {})}
    draft.leave_out(one.line, str(one), "is no answer; until you write one, it is 403")
    return where | {"respond": {"status": 403}}


def header(one: Directive, route: Document, draft: Draft) -> None:
    """Take a field of answers."""
    if one.name == "proxy_hide_header":
        route.setdefault("remove_answer_headers", []).append(one.arguments[0])
    elif len(one.arguments) > 1 and "$" not in one.arguments[1]:
        route["set_answer_headers"] = route.get("set_answer_headers", {}) | {one.arguments[0]: one.arguments[1]}
    else:
        draft.leave_out(one.line, str(one), "the value depends on the request")
