"""haproxy.cfg: `frontend`, `backend`, `listen` and `defaults` in mode http, with the ACLs that are about host, path and method.

Source: https://docs.haproxy.org/2.6/configuration.html
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from smartedge.convert.draft import Document, Draft, backend_of, bind_of, seconds_of
from smartedge.convert.haproxy_acl import HEADER, narrower, read_test, several, terms, together
from smartedge.convert.words import NotReadable

_SECTIONS: Final = ("global", "defaults", "frontend", "backend", "listen", "userlist", "resolvers", "peers", "cache", "program")
_STRATEGIES: Final[dict[str, Document]] = {
    "roundrobin": {"strategy": "round_robin"},
    "static-rr": {"strategy": "round_robin"},
    "leastconn": {"strategy": "least_requests"},
    "random": {"strategy": "random"},
    "source": {"strategy": "consistent_hash", "hash": {"by": "client"}},
    "uri": {"strategy": "consistent_hash", "hash": {"by": "path"}},
}
_DONE: Final = frozenset(
    (
        *("bind-process", "ca-base", "chroot", "crt-base", "daemon", "description", "errorfile", "group"),
        *("hash-type", "log", "maxconn", "mode", "nbproc", "nbthread", "option", "pidfile", "ssl-default-bind-ciphers"),
        *("ssl-default-bind-options", "stats", "tune.ssl.default-dh-param", "user"),
    )
)
"""What is done anyway, or says nothing here; options that mean something are looked at before."""

_OF_FRONTS: Final = ("acl", "bind", "default_backend", "http-request", "redirect", "use_backend")


@dataclass(slots=True)
class _Line:
    number: int
    words: list[str]

    def __str__(self) -> str:
        return " ".join(self.words)


@dataclass(slots=True)
class _Section:
    kind: str
    name: str
    lines: list[_Line] = field(default_factory=list)


def read_haproxy(text: str) -> Draft:
    """Make a draft of haproxy.cfg. Raises NotReadable."""
    draft, sections = Draft(), _sections(text)
    if not any(one.kind in ("backend", "listen") for one in sections):
        raise NotReadable("there is no backend and no listen in it")
    reader = _Reader(draft)
    for one in sections:
        if one.kind == "defaults":
            reader.defaults(one)
    for one in sections:
        if one.kind in ("backend", "listen"):
            reader.names[one.name] = draft.add_service(one.name, reader.backend(one))
    for one in sections:
        if one.kind in ("frontend", "listen"):
            reader.frontend(one)
        elif one.kind not in ("global", "defaults", "backend"):
            draft.leave_out(one.lines[0].number if one.lines else 1, f"{one.kind} {one.name}", "has no counterpart here")
    return draft


def _sections(text: str) -> list[_Section]:
    found: list[_Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        try:
            words = shlex.split(raw.replace(r"\r\n", "\n"), comments=True)
        except ValueError as error:
            raise NotReadable(f"line {number}: {str(error).lower()}") from None
        if not words:
            continue
        if words[0] in _SECTIONS:
            found.append(_Section(words[0], words[1] if len(words) > 1 else words[0]))
        elif not found:
            raise NotReadable(f"line {number}: {words[0]} stands in no section; is this a haproxy.cfg?")
        else:
            found[-1].lines.append(_Line(number, words))
    return found


class _Reader:
    """Reads the sections into a draft.

    names: those of its services, by those of the file. of_servers: words of `default-server` in `defaults`. rules: the routes
    of one frontend so far.
    """

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.names: dict[str, str] = {}
        self.of_servers: list[str] = []
        self.rules: list[Document] = []

    def defaults(self, section: _Section) -> None:
        for line in section.lines:
            match line.words:
                case ["timeout", _, _]:
                    self.timeout(line, self.draft.top)
                case ["balance", word] if word in _STRATEGIES:
                    self.draft.top |= _STRATEGIES[word]
                case ["retries", count]:
                    self.draft.top.setdefault("retry", {})["attempts"] = int(count) + 1
                case ["option", "httpchk", *rest]:
                    self.draft.top.setdefault("health", {}).update(_probe(rest))
                case ["default-server", *words]:
                    self.of_servers += words
                case _:
                    self.other(line)

    def backend(self, section: _Section) -> Document:
        service: Document = {}
        members: list[str | Document] = []
        of_servers = list(self.of_servers)
        for line in section.lines:
            match line.words:
                case ["server", _, address, *rest]:
                    members.append(self.server(line, address, [*of_servers, *rest]))
                case ["default-server", *words]:
                    of_servers += words
                case ["balance", word, *_] if word in _STRATEGIES:
                    service |= _STRATEGIES[word]
                case ["balance", word] if found := HEADER.fullmatch(word):
                    service |= {"strategy": "consistent_hash", "hash": {"by": f"header:{found[1]}"}}
                case ["option", "httpchk", *rest]:
                    service.setdefault("health", {}).update(_probe(rest))
                case ["http-check", "expect", "status", status]:
                    service.setdefault("health", {})["statuses"] = [int(status) if status.isdigit() else status]
                case ["http-check", "send", *rest] if "uri" in rest:
                    service.setdefault("health", {})["path"] = rest[rest.index("uri") + 1]
                    if "hdr" in rest[:-2] and rest[rest.index("hdr") + 1].lower() == "host":
                        service["health"]["host"] = rest[rest.index("hdr") + 2]
                case ["cookie", name, *_]:
                    service["sticky"] = {"cookie": name}
                case ["timeout", _, _]:
                    self.timeout(line, service)
                case ["retries", count]:
                    service.setdefault("retry", {})["attempts"] = int(count) + 1
                case ["fullconn", *_]:
                    self.draft.leave_out(line.number, str(line), 'max_in_flight: "adaptive" finds out what a backend can do')
                case _ if section.kind == "listen" and line.words[0] in _OF_FRONTS:
                    pass  # of its front
                case _:
                    self.other(line)
        return {"backends": members} | service

    def server(self, line: _Line, address: str, rest: Sequence[str]) -> str | Document:
        keys: Document = {"id": line.words[1]}
        scheme, words = "http", iter(rest)
        for word in words:
            if word == "weight":
                keys["weight"] = min(int(next(words, "1")), 1000)
            elif word == "maxconn":
                keys["max_in_flight"] = int(next(words, "0"))
            elif word == "backup":
                keys["priority"] = 1
            elif word == "disabled":
                keys["state"] = "disabled"
            elif word == "ssl":
                scheme = "https"
            elif word == "verify":
                if next(words, "") == "none":
                    keys["tls"] = keys.get("tls", {}) | {"verify": False}
            elif word in ("ca-file", "sni", "crt"):
                value = next(words, "")
                key = {"ca-file": "ca_file", "crt": "cert_file"}.get(word)
                if key is not None:
                    keys["tls"] = keys.get("tls", {}) | {key: value}
                elif (found := re.fullmatch(r"str\((.+)\)", value)) is not None:
                    keys["tls"] = keys.get("tls", {}) | {"server_name": found[1]}
            elif word in ("inter", "fall", "rise"):
                value = next(words, "")
                key = {"inter": "interval_s"}.get(word, word)
                keys.setdefault("health", {})[key] = seconds_of(value, 0.001) if word == "inter" else int(value)
            elif word in ("cookie", "fastinter", "downinter", "on-marked-down", "resolvers", "init-addr", "alpn", "proto"):
                next(words, "")  # done in another way: cookies are made, probes hurry, names are looked up again
            elif word not in ("check", "check-ssl", "send-proxy", "no-check"):
                self.draft.leave_out(line.number, f"server {line.words[1]} {word}", "has no counterpart here")
            elif word == "send-proxy":
                self.draft.leave_out(line.number, f"server {line.words[1]} {word}", "the PROXY protocol is not sent")
        url = f"unix:{address.removeprefix('unix@')}" if address.startswith(("/", "unix@")) else f"{scheme}://{address}"
        return backend_of(url, **keys)

    def frontend(self, section: _Section) -> None:
        acls: dict[str, Document | None] = {}
        default: str | None = section.name if section.kind == "listen" else None
        last: _Line | None = None
        self.rules = []
        for line in section.lines:
            match line.words:
                case ["bind", *_]:
                    self.bind(line)
                case ["acl", name, *test]:
                    self.acl(line, name, test, acls)
                case ["use_backend", name, *condition]:
                    if (where := self.condition(line, condition, acls)) is not None:
                        self.route(line, name, where)
                case ["default_backend", name]:
                    default, last = name, line
                case ["http-request", "redirect", *rest]:
                    self.redirect(line, rest, acls)
                case ["redirect", *rest]:
                    self.redirect(line, rest, acls)
                case ["http-request", "set-header", name, value] if "%" not in value:
                    self.draft.leave_out(line.number, str(line), f'give each route "set_headers": {{"{name}": "{value}"}}')
                case ["timeout", _, _]:
                    self.timeout(line, self.draft.top)
                case _ if section.kind == "listen" and line.words[0] not in _OF_FRONTS:
                    pass  # said with its back
                case _:
                    self.other(line)
        if default is not None:
            self.route(last or _Line(1, []), default, {})

    def route(self, line: _Line, name: str, where: Document) -> None:
        if name not in self.names:
            self.draft.leave_out(line.number, str(line), f"there is no backend {name}")
            return
        route = where | {"to": self.names[name]}
        if any(narrower(route, one) for one in self.rules):
            why = "it is taken over, but here the narrower route wins, where in HAProxy an earlier rule does"
            self.draft.leave_out(line.number, str(line), why)
        self.rules.append(route)
        self.draft.routes.append(route)

    def bind(self, line: _Line) -> None:
        address, rest = line.words[1], line.words[2:]
        if "ssl" in rest:
            if "bind" in self.draft.top:
                self.draft.top["http_bind"] = self.draft.top["bind"]
            self.draft.top["bind"] = bind_of(address)
            if "crt" in rest:
                path = rest[rest.index("crt") + 1]
                self.draft.top["certificates_dir" if path.endswith("/") else "certfile"] = path
        elif "certfile" in self.draft.top or "certificates_dir" in self.draft.top:
            self.draft.top["http_bind"] = bind_of(address)
        elif "bind" not in self.draft.top:
            self.draft.top["bind"] = bind_of(address)
        else:
            self.draft.leave_out(line.number, str(line), "there is one address for clients (bind)")

    def acl(self, line: _Line, name: str, test: Sequence[str], acls: dict[str, Document | None]) -> None:
        """Take a test. A name that comes again is another way for it to hold, in HAProxy."""
        found = read_test(test, lambda why: self.draft.leave_out(line.number, str(line), why))
        if name in acls:
            before, both = acls[name], found
            acls[name] = None
            if before is not None and both is not None and before.keys() == both.keys() <= {"host", "method", "client"}:
                (key,) = both
                acls[name] = {key: [*several(before[key]), *several(both[key])]}
            elif found is not None:
                self.draft.leave_out(line.number, str(line), f"{name} holds in several ways, which are several routes")
        else:
            acls[name] = found

    def condition(self, line: _Line, words: Sequence[str], acls: dict[str, Document | None]) -> Document | None:
        """Put the conditions of a rule together; None where one of them is not taken over."""
        if not words:
            return {}
        tests = terms(words[1:])
        if words[0] != "if" or tests is None:
            self.draft.leave_out(
                line.number, str(line), "a route has all of its conditions, and none that is denied; write it anew"
            )
            return None
        found: Document = {}
        for test in tests:
            if isinstance(test, str):
                part = acls.get(test)
            else:  # an ACL without a name
                part = read_test(test, lambda why: self.draft.leave_out(line.number, str(line), why))
            if part is None:
                name = test if isinstance(test, str) else f"{{ {' '.join(test)} }}"
                self.draft.leave_out(line.number, str(line), f"it goes by {name}, which is not taken over")
                return None
            both = together(found, part)
            if both is None:
                self.draft.leave_out(line.number, str(line), "two of its conditions are about the same thing")
                return None
            found = both
        return found

    def redirect(self, line: _Line, words: Sequence[str], acls: dict[str, Document | None]) -> None:
        kind, target, *rest = [*words, "", ""][:2] + list(words[2:])
        status = int(rest[rest.index("code") + 1]) if "code" in rest else 302
        if kind == "scheme" and target == "https":
            if "http_bind" not in self.draft.top:
                self.draft.leave_out(line.number, str(line), "http_bind, the address without TLS, sends everybody to https")
            return
        condition = list(rest[rest.index("if") :]) if "if" in rest else []
        where = self.condition(line, condition, acls)
        if where is None:
            return
        found = re.fullmatch(r"(?:(https?)://([^/%]+))?(/[^%]*)?", target)
        if kind not in ("location", "prefix") or found is None:
            self.draft.leave_out(line.number, str(line), "a target that depends on the request is not known here")
            return
        parts = {"scheme": found[1], "host": found[2], "path": found[3] if kind == "location" else None}
        self.draft.routes.append(where | {"redirect": {"status": status} | {key: one for key, one in parts.items() if one}})

    def timeout(self, line: _Line, place: Document) -> None:
        _, what, text = line.words
        key = {
            "connect": "connect_s",
            "server": "first_byte_s",
            "tunnel": "tunnel_idle_s",
            "http-request": "head_s",
            "http-keep-alive": "keepalive_s",
            "client": "idle_s",
        }.get(what)
        try:
            seconds = seconds_of(text, 0.001)
        except ValueError as error:
            self.draft.leave_out(line.number, str(line), str(error))
            return
        if what == "queue":
            place.setdefault("limits", {})["queue_s"] = seconds
        elif what == "check":
            place.setdefault("health", {})["timeout_s"] = seconds
        elif key is None:
            self.draft.leave_out(line.number, str(line), "has no counterpart here")
        else:
            place.setdefault("timeouts", {})[key] = seconds

    def other(self, line: _Line) -> None:
        """What is done anyway is passed over; anything else is noted."""
        words = line.words
        if words[0] == "mode" and words[1:] == ["tcp"]:
            self.draft.leave_out(line.number, str(line), "SmartEdge balances HTTP; TCP needs another program")
        elif words[0] not in _DONE:
            self.draft.leave_out(line.number, str(line), "has no counterpart here")


def _probe(words: Sequence[str]) -> Document:
    """Read what stands behind `option httpchk`: [METHOD] PATH [VERSION, and fields behind it]."""
    if not words:
        return {"path": "/", "method": "OPTIONS"}
    found: Document = {"path": next((word for word in words if word.startswith("/")), "/")}
    if words[0] in ("HEAD", "OPTIONS", "POST"):
        found["method"] = words[0]
    if (host := re.search(r"(?i)\shost: *(\S+)", " ".join(words))) is not None:
        found["host"] = host[1]
    return found
