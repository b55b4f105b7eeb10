"""nginx.conf: `upstream`, and `server` with `location`, `proxy_pass` and `return`.

Which location wins is nginx's rule, and with exact paths and prefixes it is that of routes, too; for the rest see `nginx_order`.
Source: https://nginx.org/en/docs/http/ngx_http_core_module.html#location
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from smartedge.convert.conditions import KEYS, escape
from smartedge.convert.draft import Document, Draft, bind_of, bytes_of, seconds_of
from smartedge.convert.in_order import Rules
from smartedge.convert.nginx_answers import header, stated
from smartedge.convert.nginx_auth import copied_headers, forward_auth
from smartedge.convert.nginx_inherited import inherited, is_inherited
from smartedge.convert.nginx_order import NginxLocation, regex_of, routes_of, rules_of
from smartedge.convert.nginx_paths import expressions, new_path, plain_path, why_other_counts
from smartedge.convert.nginx_upstream import read_upstream, secured, url_of
from smartedge.convert.words import Directive, NotReadable, read_blocks

_DONE: Final = frozenset(
    (
        *(
            "client_body_buffer_size",
            "default_type",
            "error_log",
            "events",
            "http2",
            "keepalive",
            "keepalive_requests",
            "keepalive_timeout",
            "map",
            "multi_accept",
        ),
        *("pid", "proxy_buffer_size", "proxy_buffering", "proxy_buffers", "proxy_busy_buffers_size", "proxy_http_version"),
        *("proxy_redirect", "proxy_request_buffering", "sendfile", "server_tokens", "tcp_nodelay", "tcp_nopush", "types"),
        *("types_hash_max_size", "use", "user", "worker_connections", "worker_processes", "zone"),
    )
)
"""What is done anyway, or says nothing here. `map` is mostly that for Upgrade; another's variable is noted where it is used."""

_FORWARDED: Final = frozenset(
    ("host", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "upgrade", "connection")
)
_STAYS: Final = re.compile(
    r"accept-encoding|cookie|date|expect|te|trailer|transfer-encoding|via|forwarded|keep-alive|proxy-connection|content-length"
    r"|range|if-.*|x-request-id|x-smartedge-.*"
)
"""Fields that are no word about the client, and those of the edge's own."""
_OF_SERVERS: Final = frozenset(("listen", "server_name", "ssl_certificate", "ssl_certificate_key", "ssl_protocols"))
_KEPT_OUT: Final = frozenset(("allow", "deny", "basic_auth", "forward_auth"))
_STATEMENTS: Final = frozenset(("if", "return"))
_GUARDS: Final = re.compile(
    r"auth_jwt|secure_link|access_by_lua.*|rewrite_by_lua.*|js_access|limit_except|auth_pam|auth_ldap|modsecurity"
)
"""What refuses requests in ways that are not taken over."""
_SETTINGS: Final = ("client_max_body_size", "proxy_read_timeout", "proxy_connect_timeout")


def read_nginx(text: str) -> Draft:
    """Make a draft of nginx.conf, or of a file that it includes. Raises NotReadable."""
    draft, everything = Draft(), read_blocks(text, by_lines=False)
    top = [one for one in everything if one.name != "http"]
    for http in (one for one in everything if one.name == "http"):
        top += http.block or []
    _Reader(draft).read(top)
    if not draft.services and not draft.routes:
        raise NotReadable("there is no upstream and no proxy_pass in it")
    return draft


class _Reader:
    """Reads one file into a draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.upstreams: dict[str, Document] = {}
        self.default: Directive | None = None
        self.secure = False

    def read(self, top: Sequence[Directive]) -> None:
        self.find_default([one for one in top if one.name == "server" and one.block is not None])
        outer = [one for one in top if one.name not in _SETTINGS]  # those are settings of the whole
        for one in top:
            if one.name == "upstream" and one.block is not None and one.arguments:
                self.upstreams[one.arguments[0]] = read_upstream(one.block, _DONE, self.draft)
        for one in top:
            if one.name == "server" and one.block is not None:
                self.server(one, inherited(outer, one.block))
            elif one.name in _SETTINGS:
                self.setting(one, self.draft.top)
            elif one.name == "access_log":
                self.access_log(one)
            elif one.name == "include":
                self.included(one)
            elif one.name not in _DONE and one.name != "upstream" and not is_inherited(one):
                self.draft.leave_out(one.line, str(one), "has no counterpart here")

    def find_default(self, servers: Sequence[Directive]) -> None:
        """Find the server that takes what names none: the one that says so, else the first on the address."""
        self.secure = any("ssl" in one.arguments for server in servers for one in server.block or [] if one.name == "listen")
        first = next((one for one in servers if self.addresses(one)), None)
        rivals = [one for one in servers if first is not None and self.addresses(one) & self.addresses(first)]
        says_so = (
            server
            for server in rivals
            if any("default_server" in one.arguments for one in server.block or [] if one.name == "listen")
        )
        self.default = next(says_so, first)

    def addresses(self, server: Directive) -> set[str]:
        """Say where a server listens: those with TLS alone, if the file has any."""
        listens = [one.arguments for one in server.block or [] if one.name == "listen" and one.arguments] or [["80"]]
        return {bind_of(address) for address, *rest in listens if "ssl" in rest or not self.secure}

    def included(self, one: Directive) -> None:
        """Note a file that is not read; what browsers call kinds of files says nothing here."""
        if not one.arguments[0].endswith("mime.types"):
            self.draft.leave_out(one.line, str(one), "is not read; convert that file, too, and put both together")

    # ---- routes ----

    def server(self, server: Directive, block: Sequence[Directive]) -> None:
        host = self.hosts([name for one in block if one.name == "server_name" for name in one.arguments], block)
        self.listen(block)
        if server is self.default:
            host = {}
        elif not host and self.default is not None and self.addresses(server) & self.addresses(self.default):
            self.draft.leave_out(server.line, str(server), "no request comes here: another server takes what names none")
            return
        if self.secure and not any("ssl" in one.arguments for one in block if one.name == "listen"):
            self.without_tls(block)
            return
        places: list[NginxLocation] = []
        named = {one.arguments[0]: one.block for one in block if one.name == "location" and one.arguments and one.block}
        for one in block:
            if one.name == "location" and one.block is not None:
                places += self.location(one, block, named)
            elif one.name == "proxy_connect_timeout":
                self.setting(one, self.draft.top)
            elif one.name == "access_log":
                self.access_log(one)
            elif one.name == "include":
                self.included(one)
            elif one.name not in _DONE | _OF_SERVERS | _STATEMENTS and not is_inherited(one):
                self.draft.leave_out(one.line, str(one), "has no counterpart here")
        statements = [one for one in block if one.name in _STATEMENTS]
        has_root = any(one.where in ({}, {"path": "/"}) for one in places)
        if statements or any("path_regex" in one.where or len(one.rules) > 1 for one in places):
            rules = rules_of(places, {"respond": {"status": 404}} if host or places else {})
            rules = stated(statements, rules, self.draft, self.secure, [one for one in block if one.name == "add_header"])
            self.draft.routes += [route for route in routes_of(host, rules) if route.keys() - set(KEYS)]
        else:
            self.draft.routes += [host | one.where | what for one in places for _, what in one.rules]
            if host and places and not has_root and self.default is not None:
                self.draft.routes.append(host | {"respond": {"status": 404}})

    def without_tls(self, block: Sequence[Directive]) -> None:
        """Note what a server without TLS does, where all are sent to the one with it."""
        for one in block:
            inside = [one, *(one.block or [])] if one.name == "location" else [one]
            said = [each for each in inside if each.name in ("proxy_pass", "return", "if", "deny")]
            if not all("https://" in str(each) and each.name == "return" for each in said):
                self.draft.leave_out(one.line, str(one), "http_bind, the address without TLS, sends everybody to https")

    def hosts(self, names: Sequence[str], block: Sequence[Directive]) -> Document:
        good = []
        for name in names:
            if name.startswith("~") or re.search(r"\*.*\*|[^.]\*|\*$", name):
                line = next(one.line for one in block if one.name == "server_name")
                self.draft.leave_out(line, f"server_name {name}", "a host here is a name, or *. and a name")
            elif name not in ("_", ""):
                good += [name.removeprefix("."), f"*{name}"] if name.startswith(".") else [name]
        return {} if not good else {"host": good[0] if len(good) == 1 else good}

    def listen(self, block: Sequence[Directive]) -> None:
        """Take the addresses and certificates of a server."""
        for one in block:
            if one.name == "listen" and one.arguments:
                address, *rest = one.arguments
                if address.startswith("["):
                    continue  # the same port by IPv6
                is_secure = "ssl" in rest
                key = "bind" if is_secure or "bind" not in self.draft.top else "http_bind"
                if is_secure and "bind" in self.draft.top and self.draft.top["bind"] != bind_of(address):
                    self.draft.top.setdefault("http_bind", self.draft.top["bind"])
                if key == "bind" or "certfile" in self.draft.top:
                    self.draft.top[key] = bind_of(address)
                elif self.draft.top["bind"] != bind_of(address):
                    self.draft.leave_out(one.line, str(one), "there is one address for clients (bind)")
        certs = [one.arguments[0] for one in block if one.name == "ssl_certificate"]
        keys = [one.arguments[0] for one in block if one.name == "ssl_certificate_key"]
        for cert, key in zip(certs, keys, strict=False):
            if "certfile" not in self.draft.top:
                self.draft.top |= {"certfile": cert, "keyfile": key}
            elif self.draft.top["certfile"] != cert:
                self.draft.top.setdefault("certificates", []).append({"certfile": cert, "keyfile": key})

    def location(
        self, location: Directive, outer: Sequence[Directive], named: Mapping[str, Sequence[Directive]]
    ) -> list[NginxLocation]:
        *modifier, path = location.arguments or ["/"]
        if path.startswith("@"):
            return []  # read where it is named
        exact, regex = modifier == ["="], None
        if modifier and modifier[0] in ("~", "~*"):
            plain = plain_path(modifier[0], path)
            is_apart = plain is not None and (plain[1] or plain[0].endswith("/") or len(expressions(outer)) == 1)
            if plain is not None and is_apart and why_other_counts(location, *plain, outer) is None:
                path, exact = plain
            elif (regex := regex_of(modifier[0], path)) is None:
                why = "its regular expression is none here; write it anew, and convert again"
                raise NotReadable(f"line {location.line}: {location}: {why}")
        prefix = path.rstrip("/") or "/"
        if regex is None and not exact and prefix != "/" and not path.endswith("/"):
            self.draft.leave_out(
                location.line, f"location {path}", f"{path} is a segment here: it is not the beginning of {path}s"
            )
        where: Document = {"path_exact": path} if exact else {} if prefix == "/" else {"path": path}
        if regex is not None:
            where, path = {"path_regex": regex}, "/"
        route: Document = dict(where)
        shut: int | None = None
        block = inherited(outer, self.tried(location.block or [], named))
        copied = copied_headers(block)
        for one in block:
            if one.name == "proxy_pass":
                self.proxy_pass(one, route, path, [each for each in block if each.name == "proxy_set_header"])
            elif one.name == "proxy_set_header" and len(one.arguments) > 1:
                if one.arguments[1] not in copied:
                    self.set_header(one, route)
            elif one.name == "proxy_read_timeout":
                route["timeouts"] = {"first_byte_s": seconds_of(one.arguments[0])}
            elif one.name == "client_max_body_size":
                self.setting(one, route)
            elif one.name in ("add_header", "proxy_hide_header"):
                header(one, route, self.draft)
            elif one.name == "internal":
                shut = 404
            elif one.name == "include":
                self.included(one)
            elif _GUARDS.fullmatch(one.name):
                self.draft.leave_out(one.line, str(one), "who may is not known here; until you write it, the route is shut")
                shut = 403
            elif one.name not in _DONE | _STATEMENTS and one.name != "rewrite" and not is_inherited(one):
                self.draft.leave_out(one.line, str(one), "has no counterpart here")
        rewrites = [one for one in block if one.name == "rewrite"]
        if rewrites and not new_path(rewrites, route, path):
            for one in rewrites:
                self.draft.leave_out(one.line, str(one), "is no other prefix, or path, with break")
        if not self.asked(block, outer, copied, route):
            shut = shut or 403
        if self.access([one for one in block if one.name in ("allow", "deny")], route):
            shut = shut or 403
        self.password(block, route)
        rules: Rules = []
        if shut is not None:
            rules = [({}, {"respond": {"status": shut}})]
        elif "to" in route:
            rules = [({}, {key: value for key, value in route.items() if key not in KEYS})]
            where = {key: value for key, value in route.items() if key in KEYS}
        statements = [one for one in block if one.name in _STATEMENTS]
        is_answered = any(one.name == "return" for one in statements)
        if not rules and not is_answered:
            self.draft.leave_out(location.line, str(location), "nothing is passed on here; SmartEdge serves no files")
            if not _KEPT_OUT & route.keys() and not statements:
                return []
            rules = [({}, {"respond": {"status": 403}})]
        elif not rules:
            rules = [({}, {"respond": {"status": 404}})]
        edits = {key: route[key] for key in ("set_answer_headers", "allow", "deny") if key in route}
        rules = [
            (asked, edits | what if is_answered else what) for asked, what in stated(statements, rules, self.draft, self.secure)
        ]
        start = None if exact or regex is not None else path
        place = NginxLocation(where, rules, modifier == ["^~"], start)
        if start is None or start.endswith("/") or not (_KEPT_OUT & route.keys() or shut is not None or statements):
            return [place] if rules else []
        letters = {"path_regex": f"^{escape(start)}"}  # nginx goes by letters: what it guards beyond the segment stays shut
        if shut is not None:
            return [NginxLocation(letters, rules, place.stays, start)]
        return [place, NginxLocation(letters, [({}, {"respond": {"status": 403}})], place.stays, start)]

    def tried(self, block: Sequence[Directive], named: Mapping[str, Sequence[Directive]]) -> Sequence[Directive]:
        """Put a named location in the place of the `try_files` that ends in it."""
        for one in block:
            if one.name == "try_files" and (more := named.get(one.arguments[-1])) is not None:
                self.draft.leave_out(one.line, str(one), "SmartEdge serves no files: everything is passed on")
                return [*(each for each in block if each is not one), *more]
        return block

    def access(self, rules: Sequence[Directive], route: Document) -> bool:
        """Take who may; whether it is nobody. In nginx the first rule that fits counts, here `deny` goes before `allow`."""
        allowed: list[str] = []
        for one in rules:
            if one.arguments == ["all"]:
                if one.name == "deny" and allowed:
                    route["allow"] = allowed
                return one.name == "deny" and not allowed
            if one.name == "allow":
                allowed.append(one.arguments[0])
            else:
                route.setdefault("deny", []).append(one.arguments[0])
                if allowed:
                    self.draft.leave_out(one.line, str(one), "deny goes before allow here, whatever the order")
        return False

    def asked(self, block: Sequence[Directive], outer: Sequence[Directive], copied: Mapping[str, str], route: Document) -> bool:
        """Take who is asked about a request; False where that cannot be taken over, for then nobody may."""
        one = next((each for each in block if each.name == "auth_request" and each.arguments), None)
        if one is None or one.arguments[0] == "off":
            return True
        said = forward_auth(one.arguments[0], lambda found: inherited(outer, found.block or []), outer, self.upstreams)
        if isinstance(said, str):
            self.draft.leave_out(one.line, str(one), f"{said}; until you write who may, the route is shut")
            return False
        route["forward_auth"] = said | ({"copy_headers": sorted(copied.values())} if copied else {})
        return True

    def password(self, block: Sequence[Directive], route: Document) -> None:
        said = {one.name: one.arguments[0] for one in block if one.name.startswith("auth_basic") and one.arguments}
        if said.get("auth_basic", "off") != "off" and "auth_basic_user_file" in said:
            route["basic_auth"] = {"file": said["auth_basic_user_file"], "realm": said["auth_basic"]}

    def proxy_pass(self, one: Directive, route: Document, path: str, headers: Sequence[Directive]) -> None:
        target = one.arguments[0]
        parts = urlsplit(target)
        name = parts.netloc
        if "$" in target:
            self.draft.leave_out(one.line, str(one), "a target that depends on the request is not known here")
            return
        own_host = all(each.arguments[0].lower() != "host" or each.arguments[-1] == "$proxy_host" for each in headers)
        service = self.upstreams.get(name)
        if service is None:
            address = target if target.startswith(("http://unix:", "https://unix:")) else f"{parts.scheme}://{parts.netloc}"
            service = {"backends": [url_of(address)]} | ({"preserve_host": False} if own_host else {})
        else:
            if parts.scheme == "https":
                service = service | {"backends": [secured(each) for each in service["backends"]]}
            if own_host:
                route.setdefault("set_headers", {})["Host"] = name
        if parts.scheme == "https":
            self.draft.leave_out(one.line, str(one), "the backend's certificate is checked here, unless its tls.verify is false")
        route["to"] = self.draft.add_service(name, service)
        if parts.path == "" or parts.path == path or parts.netloc.startswith("unix:"):
            return
        if "path_exact" in route:
            route["rewrite"] = parts.path
        elif parts.path == "/":
            route["strip_prefix"] = True
        else:
            route |= {"path": path, "rewrite": parts.path}
        if "path" in route and path.endswith("/") != parts.path.endswith("/"):
            self.draft.leave_out(one.line, str(one), "what is behind the path is put behind a slash here")

    # ---- single settings ----

    def set_header(self, one: Directive, route: Document) -> None:
        name, value = one.arguments[0], " ".join(one.arguments[1:])
        if name.lower() in _FORWARDED:
            if name.lower() == "host" and "$" not in value and value:
                route.setdefault("set_headers", {})["Host"] = value
            elif name.lower() == "host" and value not in ("$host", "$http_host", "$server_name", "$proxy_host"):
                self.draft.leave_out(one.line, str(one), "preserve_host: false sends the backend's own host")
            return
        if value == "":
            route.setdefault("remove_headers", []).append(name)
        elif value.lower() == f"$http_{name.lower().replace('-', '_')}":
            pass  # as the client says it
        elif "$" in value.replace("$remote_addr", "").replace("$host", ""):
            self.draft.leave_out(one.line, str(one), "values may name {host}, {client}, {request_id} and {service}")
            if not _STAYS.fullmatch(name.lower()):  # no client's word stands for nginx's own
                route["remove_headers"] = sorted({*route.get("remove_headers", ()), name})
        else:
            text = value.replace("$remote_addr", "{client}").replace("$host", "{host}")
            route.setdefault("set_headers", {})[name] = text

    def setting(self, one: Directive, place: Document) -> None:
        text = one.arguments[0] if one.arguments else ""
        try:
            if one.name == "client_max_body_size":
                if place is self.draft.top:
                    place.setdefault("limits", {})["body_bytes"] = bytes_of(text)
                elif bytes_of(text):
                    place["body_bytes"] = bytes_of(text)
            else:
                key = {"proxy_connect_timeout": "connect_s", "proxy_read_timeout": "first_byte_s"}[one.name]
                self.draft.top.setdefault("timeouts", {})[key] = seconds_of(text)
        except ValueError as error:
            self.draft.leave_out(one.line, str(one), str(error))

    def access_log(self, one: Directive) -> None:
        if one.arguments and one.arguments[0].startswith("syslog:"):
            self.draft.leave_out(one.line, str(one), "the log goes to a file, or to standard output")
        elif one.arguments[:1] != ["off"] and one.arguments and "access_log" not in self.draft.top:
            self.draft.top |= {"access_log": one.arguments[0], "access_log_format": "combined"}
