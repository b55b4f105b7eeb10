"""A Caddyfile: sites with `reverse_proxy`, `handle`, `handle_path`, `redir`, `respond`, and matchers about path.

Source: https://caddyserver.com/docs/caddyfile
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from smartedge.convert.conditions import KEYS, escape, goes_first, is_regex, meet, written
from smartedge.convert.draft import Document, Draft, backend_of, seconds_of
from smartedge.convert.words import Directive, NotReadable, read_blocks

_STRATEGIES: Final[dict[str, Document]] = {
    "round_robin": {"strategy": "round_robin"},
    "weighted_round_robin": {"strategy": "round_robin"},
    "least_conn": {"strategy": "least_requests"},
    "random": {"strategy": "random"},
    "random_choose": {"strategy": "least_requests"},
    "ip_hash": {"strategy": "consistent_hash", "hash": {"by": "client"}},
    "client_ip_hash": {"strategy": "consistent_hash", "hash": {"by": "client"}},
    "uri_hash": {"strategy": "consistent_hash", "hash": {"by": "path"}},
}
_SECTIONS: Final[dict[str, tuple[str, str, Callable[[str], object]]]] = {
    "health_uri": ("health", "path", str),
    "health_path": ("health", "path", str),
    "health_interval": ("health", "interval_s", seconds_of),
    "health_timeout": ("health", "timeout_s", seconds_of),
    "health_port": ("health", "port", int),
    "health_body": ("health", "body", str),
    "health_passes": ("health", "rise", int),
    "health_fails": ("health", "fall", int),
    "max_fails": ("breaker", "failures", int),
    "fail_duration": ("breaker", "open_s", seconds_of),
    "lb_try_duration": ("retry", "deadline_s", seconds_of),
}
_DONE: Final = frozenset(("log", "tls", "lb_try_interval", "flush_interval", "keepalive", "versions"))
_FORWARDED: Final = frozenset(("host", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"))


def read_caddyfile(text: str) -> Draft:
    """Make a draft of a Caddyfile. Raises NotReadable."""
    draft, blocks = Draft(), read_blocks(text, by_lines=True)
    if blocks and blocks[0].block is None:  # a single site may do without braces
        first, *rest = blocks
        blocks = [Directive(first.name, first.arguments, first.line, rest)]
    reader = _Reader(draft)
    for one in blocks:
        if one.block is None:
            draft.leave_out(one.line, str(one), "stands in no site")
        elif one.name == "":
            reader.options(one.block)
        elif one.name.startswith("("):
            draft.leave_out(one.line, str(one), "snippets are not known here; write out what it says")
        else:
            reader.site(one)
    if not draft.services and not draft.routes:
        raise NotReadable("there is no site with reverse_proxy in it")
    return draft


class _Reader:
    """Reads the sites into a draft.

    refusals, passed_on: routes of the block that is read that refuse, or lead to backends; of those with the number of refusals
    that count before them.
    """

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.matchers: dict[str, Document | None] = {}
        self.refusals: list[Document] = []
        self.passed_on: list[tuple[Document, int]] = []

    def options(self, block: Sequence[Directive]) -> None:
        for one in block:
            if one.name == "email":
                self.draft.top.setdefault("acme", {})["email"] = one.arguments[0]
            elif one.name not in _DONE:
                self.draft.leave_out(one.line, str(one), "has no counterpart here")

    def site(self, site: Directive) -> None:
        addresses = [word.rstrip(",") for word in (site.name, *site.arguments)]
        files = [one.arguments for one in site.block or [] if one.name == "tls" and len(one.arguments) == 2]
        where = self.addresses(addresses, files)
        before = len(self.draft.routes)
        self.matchers = {one.name: self.matcher(one) for one in site.block or [] if one.name.startswith("@")}
        self.block(site.block or [], where)
        for one in site.block or []:
            if one.name == "tls" and len(one.arguments) != 2:
                self.draft.leave_out(one.line, str(one), "a certificate is got from Let's Encrypt; see docs/tls.md for others")
        found = self.draft.routes[before:]
        # Caddy sorts by how narrow a matcher is, and so do routes; the one for all goes last to be read so, too.
        self.draft.routes[before:] = [*(one for one in found if len(one) > 2), *(one for one in found if len(one) <= 2)]

    def addresses(self, addresses: Sequence[str], files: Sequence[Sequence[str]]) -> Document:
        """Take the addresses of a site; files: its own certificates with their keys, in the place of those that are got."""
        hosts, secure, port = [], False, None
        for address in addresses:
            parts = urlsplit(address if "://" in address else f"//{address}")
            if parts.hostname and not re.fullmatch(r"localhost|[\d.]+", parts.hostname):
                hosts.append(parts.hostname)
                secure = secure or (parts.scheme != "http" and parts.port in (None, 443))
            port = port or parts.port
        if secure:
            self.draft.top |= {"bind": "0.0.0.0:443", "http_bind": "0.0.0.0:80"}
            if not files:
                self.draft.top.setdefault("acme", {})["agree_tos"] = True
        elif "bind" not in self.draft.top:
            self.draft.top["bind"] = f"0.0.0.0:{port or (443 if files else 80)}"
        if secure or files:
            own = [dict(zip(("certfile", "keyfile"), pair, strict=True)) for pair in files]
            self.draft.top["certificates"] = [*self.draft.top.get("certificates", []), *(own or hosts)]
        return {} if not hosts else {"host": hosts[0] if len(hosts) == 1 else hosts}

    def matcher(self, one: Directive) -> Document | None:
        tests = one.block or ([Directive(one.arguments[0], one.arguments[1:], one.line)] if one.arguments else [])
        found: Document = {}
        for test in tests:
            if test.name == "path" and len(test.arguments) == 1 and (path := _path(test.arguments[0])) is not None:
                found |= path
            elif test.name == "path" and test.arguments and "path_regex" not in found:
                found["path_regex"] = _pattern(test.arguments)
            elif test.name == "path_regexp" and test.arguments and is_regex(test.arguments[-1]) and "path_regex" not in found:
                found["path_regex"] = test.arguments[-1]
            elif test.name == "host":
                found["host"] = test.arguments[0] if len(test.arguments) == 1 else test.arguments
            elif test.name == "method":
                found["method"] = test.arguments[0] if len(test.arguments) == 1 else test.arguments
            elif test.name == "header" and len(test.arguments) == 2 and "*" not in test.arguments[1]:
                found.setdefault("header", {})[test.arguments[0]] = test.arguments[1]
            elif test.name in ("remote_ip", "client_ip"):
                found["client"] = test.arguments
            else:
                self.draft.leave_out(one.line, f"{one.name} {test}", "routes go by host, path, method, header, query and client")
                return None
        return found

    def matched(self, one: Directive) -> tuple[Document | None, list[str]]:
        """Take the matcher off a directive's arguments: what it says, None where it is not taken over, and the rest."""
        first = one.arguments[0] if one.arguments else ""
        if first.startswith("@"):
            return self.matchers.get(first), one.arguments[1:]
        if first.startswith("/") or first == "*":
            path = {} if first in ("*", "/*") else _path(first) or {"path_regex": _pattern([first])}
            return path, one.arguments[1:]
        return {}, one.arguments

    def block(self, block: Sequence[Directive], where: Document, *, in_order: bool = False, **more: Any) -> None:
        """Read a block with routes of its own, of which those that refuse come before those that pass on, whatever is narrower.

        in_order: they count as they stand there.
        """
        outer = self.refusals, self.passed_on
        self.refusals, self.passed_on = [], []
        self.directives(block, where, **more)
        self.draft.routes += [
            written(both) | {key: value for key, value in refusal.items() if key not in KEYS}
            for other, before in self.passed_on
            for refusal in self.refusals[: before if in_order else None]
            if (both := meet(_as_lists(refusal), _as_lists(other))) is not None
            and goes_first(_as_lists(other), _as_lists(refusal))
        ]
        self.refusals, self.passed_on = outer

    def directives(self, block: Sequence[Directive], where: Document, **more: Any) -> None:
        for one in block:
            if one.name in ("basic_auth", "basicauth", "forward_auth"):
                more |= self.guard(one)
        for one in sorted(block, key=lambda each: each.name != "header"):  # as Caddy does: it counts for what stands before it
            said, rest = self.matched(one)
            if said is None:
                if one.name in ("abort", "error") or (one.name == "respond" and _status(rest) >= 400):
                    why = "whom it refuses cannot be said by routes, and would be let in; take it out, and convert again"
                    raise NotReadable(f"line {one.line}: {one}: {why}")
                self.draft.leave_out(one.line, str(one), "its matcher is not taken over")
                continue
            here = where | said
            if one.name == "reverse_proxy":
                self.proxy(one, rest, here | more)
            elif one.name in ("handle", "handle_path", "route") and one.block is not None:
                strip = {"strip_prefix": True} if one.name == "handle_path" and "path" in said else {}
                self.block(one.block, here, in_order=one.name == "route", **more | strip)
            elif one.name in ("basic_auth", "basicauth", "forward_auth"):
                pass  # read above, for all that stands beside it
            elif one.name == "redir":
                self.redirect(one, rest, here)
            elif one.name in ("respond", "abort", "error"):
                if one.name != "respond" or _status(rest) >= 400:
                    here = where | _strictly(one.arguments[:1], said)  # Caddy reads a path in any case, and by letters
                self.respond(one, rest, here | {key: value for key, value in more.items() if key.endswith("_auth")})
            elif one.name == "header" and not said and len(rest) == 2 and not rest[0].startswith(("-", "+", "?", ">")):
                more["set_answer_headers"] = more.get("set_answer_headers", {}) | {rest[0]: rest[1]}
            elif one.name not in _DONE and not one.name.startswith("@"):
                self.draft.leave_out(one.line, str(one), "has no counterpart here")

    def guard(self, one: Directive) -> Document:
        """Take who may: whom Caddy asks for a password, or asks somebody else about, comes in no other way here."""
        said, rest = self.matched(one)
        if said is None or said:
            self.draft.leave_out(one.line, str(one), "it holds for all that stands beside it here; write routes for the others")
        if one.name == "forward_auth":
            return {"forward_auth": self.asked(one, rest)}
        file = "caddy.htpasswd"
        why = f'write these users to {file}, a line "user:hash" each, before the edge begins'
        if "argon2id" in rest or any(user.arguments and not user.arguments[0].startswith("$2") for user in one.block or []):
            why += "; their hashes are made anew, with `htpasswd -B`"
        self.draft.leave_out(one.line, str(one), why)
        realm = [word for word in rest if word not in ("bcrypt", "argon2id")]
        return {"basic_auth": {"file": file} | ({"realm": realm[0]} if realm else {})}

    def asked(self, one: Directive, targets: Sequence[str]) -> Document:
        words = {word.name: word.arguments for word in one.block or [] if word.arguments}
        copied = [name for word in one.block or [] if word.name == "copy_headers" for name in _names(word)]
        url, uri = _url(targets[0]) if targets else "", words.get("uri", ["/"])[0]
        told = [word for word in one.block or [] if word.name == "header_up" and word.arguments[:1] != ["Host"]]
        if len(targets) != 1 or told or not url.startswith("http") or "{" in url + uri:
            why = "one address of http is asked, with the client's own fields; until you write which one nobody comes in"
            self.draft.leave_out(one.line, str(one), why)
            url, uri = "http://127.0.0.1:9", "/"
        for word in one.block or []:
            if word.name not in ("uri", "copy_headers", *_DONE) or any(">" in name for name in _names(word)):
                self.draft.leave_out(word.line, str(word), "has no counterpart here")
        names = [name.rpartition(">")[2] for name in copied]  # of another name at least no client's own word goes on
        return {"url": url.rstrip("/") + uri} | ({"copy_headers": names} if names else {})

    def proxy(self, one: Directive, targets: Sequence[str], route: Document) -> None:
        service: Document = {}
        addresses = list(targets)
        for word in one.block or []:
            if word.name == "to":
                addresses += word.arguments
            elif word.name == "lb_policy" and word.arguments[0] in _STRATEGIES:
                service |= _STRATEGIES[word.arguments[0]]
            elif word.name == "lb_policy" and word.arguments[0] == "first":
                service["locality"] = {"failover_only": True}
            elif word.name == "lb_policy" and word.arguments[0] == "cookie":
                service["sticky"] = {"cookie": word.arguments[1] if len(word.arguments) > 1 else "lb"}
            elif word.name == "lb_policy" and word.arguments[0] == "header" and len(word.arguments) > 1:
                service |= {"strategy": "consistent_hash", "hash": {"by": f"header:{word.arguments[1]}"}}
            elif word.name == "lb_retries":
                service.setdefault("retry", {})["attempts"] = int(word.arguments[0]) + 1
            elif word.name == "health_status":
                status = word.arguments[0]
                service.setdefault("health", {})["statuses"] = [int(status) if status.isdigit() else status]
            elif word.name in _SECTIONS:
                section, key, read = _SECTIONS[word.name]
                service.setdefault(section, {})[key] = read(word.arguments[0])
            elif word.name == "header_up" and word.arguments == ["Host", "{upstream_hostport}"]:
                service["preserve_host"] = False
            elif word.name == "header_up" and (len(word.arguments) == 2 or "".join(word.arguments).startswith("-")):
                self.header_up(word, route)
            elif word.name == "header_down" and len(word.arguments) == 2:
                route["set_answer_headers"] = route.get("set_answer_headers", {}) | {word.arguments[0]: word.arguments[1]}
            elif word.name not in _DONE:
                self.draft.leave_out(word.line, str(word), "has no counterpart here")
        ranked = "locality" in service
        members = [backend_of(_url(each), priority=index if ranked and index else None) for index, each in enumerate(addresses)]
        if not members or any("{" in each for each in addresses):
            self.draft.leave_out(one.line, str(one), "backends that depend on the request are not known here")
            return
        host = route.get("host", "")
        name = f"{host if isinstance(host, str) else host[0]}{route.get('path', '')}" or "web"
        self.draft.routes.append(route | {"to": self.draft.add_service(name, {"backends": members} | service)})
        self.passed_on.append((self.draft.routes[-1], len(self.refusals)))

    def header_up(self, word: Directive, route: Document) -> None:
        name, value = (*word.arguments, "")[:2]
        value = re.sub(r"\{(?:http\.request\.remote\.host|remote_host|client_ip)\}", "{client}", value)
        if name.lower() in _FORWARDED and (name.lower() != "host" or value in ("{host}", "{hostport}", "{http.request.host}")):
            return
        if name.startswith("-"):
            route.setdefault("remove_headers", []).append(name[1:])
        elif "{" in value.replace("{client}", "").replace("{host}", ""):
            why = "values may name {host}, {client}, {request_id} and {service}; the client's own word does not go on"
            self.draft.leave_out(word.line, str(word), why)
            route.setdefault("remove_headers", []).append(name.lstrip("+?"))
        else:
            route.setdefault("add_headers" if name.startswith("+") else "set_headers", {})[name.lstrip("+")] = value

    def redirect(self, one: Directive, words: Sequence[str], where: Document) -> None:
        target, code = words[0], words[1] if len(words) > 1 else "302"
        whole = target.endswith("{uri}")
        parts = urlsplit(target.removesuffix("{uri}"))
        status = {"permanent": 301, "temporary": 302}.get(code) or (int(code) if code.isdigit() else 302)
        redirect: Document = {"status": status, "scheme": parts.scheme, "host": parts.netloc, "path": "" if whole else parts.path}
        if "{" in "".join(map(str, redirect.values())):
            self.draft.leave_out(one.line, str(one), "a target that depends on the request is not known here")
            return
        self.draft.routes.append(where | {"redirect": {key: value for key, value in redirect.items() if value}})

    def respond(self, one: Directive, words: Sequence[str], where: Document) -> None:
        status = {"respond": _status(words), "abort": 403}.get(one.name) or max(_status(words), 500 if not words else 400)
        text = next((word for word in words if not (word.isdigit() and len(word) == 3)), "")
        self.draft.routes.append(where | {"respond": {"status": status} | ({"text": text} if text else {})})
        if status >= 400:
            self.refusals.append(self.draft.routes[-1])


def _names(word: Directive) -> list[str]:
    """Give the names of a directive, which stand behind it or, one a line, in its braces."""
    return [*word.arguments, *(each.name for each in word.block or [])]


def _status(words: Sequence[str]) -> int:
    return next((int(word) for word in words if word.isdigit() and len(word) == 3), 200)


def _strictly(first: Sequence[str], said: Document) -> Document:
    """Write a path that stands beside a directive just as Caddy reads it."""
    path = said.get("path", said.get("path_exact"))
    if path is None or "path_regex" in said:
        return said
    pattern = first[0] if first and first[0].startswith("/") else path if "path_exact" in said else f"{path.rstrip('/')}/*"
    return {key: value for key, value in said.items() if key not in ("path", "path_exact")} | {"path_regex": _pattern([pattern])}


def _pattern(patterns: Sequence[str]) -> str:
    """Write patterns such as `/admin*` and `*.php` as one regular expression; Caddy reads them in any case."""
    texts = [".*".join(map(escape, pattern.split("*"))) for pattern in patterns]
    whole = [f"^{text}$".removesuffix(".*$").replace("^.*", "", 1) if text != ".*" else "" for text in texts]
    return f"(?i){whole[0]}" if len(whole) == 1 else f"(?i)(?:{'|'.join(whole)})"


def _as_lists(route: Document) -> Document:
    return {
        key: [route[key]] if key in ("host", "method", "client") and isinstance(route[key], str) else route[key]
        for key in KEYS
        if key in route
    }


def _path(pattern: str) -> Document | None:
    """Say what a path is in a route: exact, or a prefix where it ends in `/*`; None for other patterns."""
    if "*" not in pattern:
        return {"path_exact": pattern}
    prefix = pattern.removesuffix("*")
    if "*" in prefix or not pattern.endswith("/*"):
        return None
    return {"path": prefix.rstrip("/") or "/"}


def _url(address: str) -> str:
    if address.startswith("unix/"):
        return "unix:" + address.removeprefix("unix/")
    return address if "://" in address else f"http://{address if ':' in address else address + ':80'}"
