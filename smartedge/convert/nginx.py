"""nginx.conf: `upstream`, and `server` with `location`, `proxy_pass` and `return`.

Which location wins is nginx's rule, and with exact paths and prefixes it is that of routes, too; a regular expression is not.
Source: https://nginx.org/en/docs/http/ngx_http_core_module.html#location
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from smartedge.convert.draft import Document, Draft, backend_of, bind_of, bytes_of, seconds_of
from smartedge.convert.words import Directive, NotReadable, read_blocks

_DONE: Final = frozenset(
    (
        *(
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
_STRATEGIES: Final = {"least_conn": "least_requests", "random": "random", "least_time": "ewma"}
_STATUSES: Final = (301, 302, 303, 307, 308)


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

    def read(self, top: Sequence[Directive]) -> None:
        for one in top:
            if one.name == "upstream" and one.block is not None and one.arguments:
                self.upstreams[one.arguments[0]] = self.upstream(one.block)
        for one in top:
            if one.name == "server" and one.block is not None:
                self.server(one.block)
            elif one.name in ("proxy_connect_timeout", "proxy_read_timeout", "client_max_body_size"):
                self.setting(one, self.draft.top)
            elif one.name == "access_log":
                self.access_log(one)
            elif one.name == "include":
                self.included(one)
            elif one.name not in _DONE and one.name != "upstream":
                self.draft.leave_out(one.line, str(one), "has no counterpart here")

    def included(self, one: Directive) -> None:
        """Note a file that is not read; what browsers call kinds of files says nothing here."""
        if not one.arguments[0].endswith("mime.types"):
            self.draft.leave_out(one.line, str(one), "is not read; convert that file, too, and put both together")

    # ---- backends ----

    def upstream(self, block: Sequence[Directive]) -> Document:
        service: Document = {"backends": []}
        for one in block:
            if one.name == "server" and one.arguments:
                service["backends"].append(self.member(one, service))
            elif one.name in _STRATEGIES:
                service["strategy"] = _STRATEGIES[one.name]
            elif one.name == "ip_hash":
                service |= {"strategy": "consistent_hash", "hash": {"by": "client"}}
            elif one.name == "hash" and one.arguments and (by := _hash_key(one.arguments[0])):
                service |= {"strategy": "consistent_hash", "hash": {"by": by}}
            elif one.name == "sticky" and one.arguments[:1] == ["cookie"] and len(one.arguments) > 1:
                service["sticky"] = {"cookie": one.arguments[1]}
            elif one.name not in _DONE:
                self.draft.leave_out(one.line, str(one), "has no counterpart here")
        return service

    def member(self, one: Directive, service: Document) -> str | Document:
        address, *rest = one.arguments
        keys: Document = {}
        for word in rest:
            name, _, value = word.partition("=")
            if name == "weight":
                keys["weight"] = int(value)
            elif name == "max_conns":
                keys["max_in_flight"] = int(value)
            elif name == "down":
                keys["state"] = "disabled"
            elif name == "backup":
                keys["priority"] = 1
            elif name == "max_fails" and value != "0":
                service.setdefault("breaker", {})["failures"] = int(value)
            elif name == "fail_timeout":
                service.setdefault("breaker", {})["open_s"] = seconds_of(value)
            elif name == "slow_start":
                service["slow_start_s"] = seconds_of(value)
            else:
                self.draft.leave_out(one.line, f"server {address} {word}", "has no counterpart here")
        return backend_of(_url(address), **keys)

    # ---- routes ----

    def server(self, block: Sequence[Directive]) -> None:
        hosts = [name for one in block if one.name == "server_name" for name in one.arguments]
        host = self.hosts(hosts, block)
        common: Document = {}
        fallback: list[Document] = []
        secure = self.listen(block)
        for one in block:
            if one.name == "location" and one.block is not None:
                self.location(one, host, common)
            elif one.name == "return":
                self.answer(one, host | common, fallback, secure=secure)
            elif one.name in ("client_max_body_size", "proxy_read_timeout", "proxy_connect_timeout"):
                self.setting(one, common if one.name == "client_max_body_size" else self.draft.top)
            elif one.name == "add_header":
                self.header(one, common)
            elif one.name == "access_log":
                self.access_log(one)
            elif one.name == "include":
                self.included(one)
            elif one.name not in _DONE | {"listen", "server_name", "ssl_certificate", "ssl_certificate_key", "ssl_protocols"}:
                self.draft.leave_out(one.line, str(one), "has no counterpart here")
        self.draft.routes += fallback

    def hosts(self, names: Sequence[str], block: Sequence[Directive]) -> Document:
        good = []
        for name in names:
            if name.startswith("~") or re.search(r"\*.*\*|[^.]\*|\*$", name):
                line = next(one.line for one in block if one.name == "server_name")
                self.draft.leave_out(line, f"server_name {name}", "a host here is a name, or *. and a name")
            elif name not in ("_", ""):
                good += [name.removeprefix("."), f"*{name}"] if name.startswith(".") else [name]
        return {} if not good else {"host": good[0] if len(good) == 1 else good}

    def listen(self, block: Sequence[Directive]) -> bool:
        """Take the addresses and certificates of a server; whether it speaks https."""
        secure = False
        for one in block:
            if one.name == "listen" and one.arguments:
                address, *rest = one.arguments
                if address.startswith("["):
                    continue  # the same port by IPv6
                is_secure = "ssl" in rest
                secure = secure or is_secure
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
        return secure

    def location(self, location: Directive, host: Document, common: Document) -> None:
        *modifier, path = location.arguments or ["/"]
        if modifier and modifier[0] in ("~", "~*"):
            why = "a path here is exact, or a prefix of whole segments; write routes for what it matches"
            self.draft.leave_out(location.line, str(location), why)
            return
        exact = modifier == ["="]
        prefix = path.rstrip("/") or "/"
        if not exact and prefix != "/" and not path.endswith("/"):
            self.draft.leave_out(
                location.line, f"location {path}", f"{path} is a segment here: it is not the beginning of {path}s"
            )
        where: Document = {"path_exact": path} if exact else {} if prefix == "/" else {"path": path}
        route: Document = host | where | common
        for one in location.block or []:
            if one.name == "proxy_pass":
                self.proxy_pass(one, route, where)
            elif one.name == "return":
                self.answer(one, route, self.draft.routes, secure=False)
                return
            elif one.name == "proxy_set_header" and len(one.arguments) > 1:
                self.set_header(one, route)
            elif one.name == "proxy_read_timeout":
                route["timeouts"] = {"first_byte_s": seconds_of(one.arguments[0])}
            elif one.name == "client_max_body_size":
                self.setting(one, route)
            elif one.name in ("add_header", "proxy_hide_header"):
                self.header(one, route)
            elif one.name in ("allow", "deny"):
                if one.arguments != ["all"]:
                    route.setdefault(one.name, []).append(one.arguments[0])
                elif one.name == "allow":
                    self.draft.leave_out(one.line, str(one), "allow holds who may; without it all may")
            elif one.name == "include":
                self.included(one)
            elif one.name not in _DONE:
                self.draft.leave_out(one.line, str(one), "has no counterpart here")
        if "to" in route:
            self.draft.routes.append(route)
        elif not any(one.name == "return" for one in location.block or []):
            self.draft.leave_out(location.line, str(location), "nothing is passed on here; SmartEdge serves no files")

    def proxy_pass(self, one: Directive, route: Document, where: Document) -> None:
        target = one.arguments[0]
        parts = urlsplit(target)
        name = parts.netloc
        if "$" in target:
            self.draft.leave_out(one.line, str(one), "a target that depends on the request is not known here")
            return
        service = self.upstreams.get(name)
        if service is None:
            address = target if target.startswith(("http://unix:", "https://unix:")) else f"{parts.scheme}://{parts.netloc}"
            service = {"backends": [_url(address)]}
        elif parts.scheme == "https":
            service = service | {"backends": [_secure(each) for each in service["backends"]]}
        route["to"] = self.draft.add_service(name, service)
        if parts.path == "/" and where.get("path", "").endswith("/"):
            route["strip_prefix"] = True
        elif parts.path not in ("", "/"):
            route["rewrite"] = parts.path

    def answer(self, one: Directive, where: Document, routes: list[Document], *, secure: bool) -> None:
        """Take a `return`: a redirect, or an answer."""
        status, target = int(one.arguments[0]) if one.arguments[0].isdigit() else 302, one.arguments[-1]
        if status in _STATUSES and (target.startswith(("http", "/"))):
            parts = urlsplit(target.replace("$request_uri", "").replace("$uri", ""))
            whole = "$request_uri" in target or "$uri" in target
            redirect: Document = {"status": status}
            if parts.scheme:
                redirect["scheme"] = parts.scheme
            if parts.netloc and parts.netloc not in ("$host", "$server_name", "$http_host"):
                redirect["host"] = parts.netloc
            if not whole and parts.path:
                redirect["path"] = parts.path
            if "$" in "".join(map(str, redirect.values())):
                self.draft.leave_out(one.line, str(one), "a target that depends on the request is not known here")
                return
            if redirect.keys() == {"status", "scheme"} and redirect["scheme"] == "https" and not secure and not where.get("path"):
                return  # http_bind does this for all
            routes.append(where | {"redirect": redirect})
        elif 200 <= status <= 599:
            text = target if len(one.arguments) > 1 else ""
            routes.append(where | {"respond": {"status": status} | ({"text": text} if text else {})})
        else:
            self.draft.leave_out(one.line, str(one), "breaks the connection off; an answer is written here")

    # ---- single settings ----

    def set_header(self, one: Directive, route: Document) -> None:
        name, value = one.arguments[0], " ".join(one.arguments[1:])
        if name.lower() in _FORWARDED:
            if name.lower() == "host" and value not in ("$host", "$http_host", "$server_name"):
                self.draft.leave_out(one.line, str(one), "preserve_host: false sends the backend's own host")
            return
        if value == "":
            route.setdefault("remove_headers", []).append(name)
        elif "$" in value.replace("$remote_addr", "").replace("$host", ""):
            self.draft.leave_out(one.line, str(one), "values may name {host}, {client}, {request_id} and {service}")
        else:
            text = value.replace("$remote_addr", "{client}").replace("$host", "{host}")
            route.setdefault("set_headers", {})[name] = text

    def header(self, one: Directive, route: Document) -> None:
        if one.name == "proxy_hide_header":
            route.setdefault("remove_answer_headers", []).append(one.arguments[0])
        elif len(one.arguments) > 1 and "$" not in one.arguments[1]:
            route["set_answer_headers"] = route.get("set_answer_headers", {}) | {one.arguments[0]: one.arguments[1]}
        else:
            self.draft.leave_out(one.line, str(one), "the value depends on the request")

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
        if one.arguments[:1] != ["off"] and one.arguments:
            self.draft.top.setdefault("access_log", one.arguments[0])


def _url(address: str) -> str:
    if "unix:" in address:
        return "unix:" + address.partition("unix:")[2].rstrip(":")
    return address if "://" in address else f"http://{address}"


def _secure(backend: Any) -> Any:
    if isinstance(backend, str):
        return backend.replace("http://", "https://", 1)
    return backend | {"url": backend["url"].replace("http://", "https://", 1)}


def _hash_key(text: str) -> str | None:
    """Say what a request is known by: the variables that have a counterpart."""
    if text in ("$remote_addr", "$binary_remote_addr"):
        return "client"
    if text in ("$uri", "$request_uri"):
        return "path"
    if found := re.fullmatch(r"\$(http|cookie)_(\w+)", text):
        return f"{'header' if found[1] == 'http' else 'cookie'}:{found[2].replace('_', '-') if found[1] == 'http' else found[2]}"
    return None
