"""haproxy.cfg: `frontend`, `backend`, `listen` and `defaults` in mode http, their ACLs and rules.

HAProxy goes through rules in their order; `in_order` makes routes of them that do the same.
Source: https://docs.haproxy.org/2.6/configuration.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from smartedge.convert.draft import Draft, bind_of
from smartedge.convert.haproxy_backend import STRATEGIES, probe, read_backend, read_timeout
from smartedge.convert.haproxy_lines import FileLine, FileSection, read_sections
from smartedge.convert.haproxy_rules import SectionRules, count_periods
from smartedge.convert.in_order import Rules, in_order
from smartedge.convert.words import NotReadable

_DONE: Final = frozenset(
    (
        *("bind-process", "ca-base", "capture", "chroot", "cpu-map", "crt-base", "daemon", "description", "errorfile", "group"),
        *(
            "hard-stop-after",
            "hash-type",
            "hash-balance-factor",
            "log",
            "log-format",
            "log-format-sd",
            "log-send-hostname",
            "log-tag",
        ),
        *("maxconn", "mode", "nbproc", "nbthread", "no", "node", "option", "pidfile", "setenv", "presetenv", "spread-checks"),
        *("stats", "ulimit-n", "unique-id-format", "unique-id-header", "user", "localpeer", "master-worker", "ssl-server-verify"),
        *("acl", "default_backend", "use_backend", "http-request", "tcp-request", "redirect", "block", "http-response"),
        *("http-after-response", "rspadd", "rspdel", "rspidel", "monitor-uri", "bind", "id", "enabled", "declare"),
    )
)
"""What is done anyway, says nothing here, or is read as a rule; options that mean something are looked at before."""
_RULES: Final = ("use_backend", "default_backend", "server", "server-template", "http-request", "redirect")
_DONE_TOO: Final = re.compile(r"tune\..*|ssl-(default|dh|load|propquery|engine|mode).*|server-state-.*|lua-.*|expose-.*")


def read_haproxy(text: str) -> Draft:
    """Make a draft of haproxy.cfg. Raises NotReadable."""
    draft, sections = Draft(), read_sections(text)
    if not any(one.kind in ("backend", "listen") for one in sections):
        raise NotReadable("there is no backend and no listen in it")
    _Reader(draft, sections).read()
    return draft


class _Reader:
    """Reads the sections into a draft.

    backends: the sections that hold servers, by name. names: of their services here. of_servers: words of `default-server` in
    `defaults`.
    """

    def __init__(self, draft: Draft, sections: Sequence[FileSection]) -> None:
        self.draft = draft
        self.sections = sections
        self.backends: dict[str, FileSection] = {}
        self.names: dict[str, str] = {}
        self.rules: dict[str, Rules] = {}
        self.of_servers: list[str] = []
        self.tables = count_periods(list(sections))

    def read(self) -> None:
        fronts = []
        is_tcp = False
        for one in self.sections:
            if one.kind == "defaults":
                is_tcp = one.has("mode", "tcp") or (is_tcp and not one.has("mode"))
                self.defaults(one)
            elif one.kind in ("frontend", "backend", "listen"):
                if one.has("mode", "tcp") or (is_tcp and not one.has("mode")):
                    self.leave_out(one, "SmartEdge balances HTTP; TCP needs another program")
                    continue
                if one.kind != "frontend" and (one.has("server") or one.has("server-template") or one.has("http-request")):
                    self.backends[one.name] = one
                if one.kind != "backend":
                    fronts.append(one)
            elif one.kind in ("userlist", "resolvers", "peers", "http-errors", "ring", "traces", "mailers", "global"):
                if one.kind == "global":
                    for line in one.lines:
                        self.other(line)
            else:
                self.leave_out(one, "has no counterpart here")
        for name, one in self.backends.items():
            service, others = read_backend(one, self.of_servers, self.draft)
            self.names[name] = self.draft.add_service(name, service)
            for line in others if one.kind == "backend" else ():
                self.other(line)
        front = self.choose([one for one in fronts if not self.says_nothing(one)])
        if front is None:
            return
        for line in front.lines:
            if line.words[0] == "bind":
                self.bind(line)
            elif front.kind == "frontend" and line.words[0] == "timeout" and len(line.words) == 3:
                read_timeout(line, self.draft.top, self.draft)
            elif front.kind == "frontend" or front.name not in self.backends or not self.is_of_back(line):
                self.other(line)
        self.front(front)

    def leave_out(self, section: FileSection, why: str) -> None:
        self.draft.leave_out(section.number, f"{section.kind} {section.name}", why)

    def defaults(self, section: FileSection) -> None:
        for line in section.lines:
            match line.words:
                case ["timeout", _, _]:
                    read_timeout(line, self.draft.top, self.draft)
                case ["balance", word, *_] if word.partition("(")[0] in STRATEGIES:
                    self.draft.top |= STRATEGIES[word.partition("(")[0]]
                case ["retries", count]:
                    self.draft.top.setdefault("retry", {})["attempts"] = int(count) + 1
                case ["option", "httpchk", *rest]:
                    self.draft.top.setdefault("health", {}).update(probe(rest))
                case ["default-server", *words]:
                    self.of_servers += words
                case _:
                    self.other(line)

    # ---- fronts ----

    def says_nothing(self, front: FileSection) -> bool:
        """Whether it is a page of statistics, or the like."""
        return not any(front.has(word) for word in _RULES) or (front.has("stats", "enable") and not front.has("server"))

    def choose(self, fronts: Sequence[FileSection]) -> FileSection | None:
        """Choose the front that clients come to: there is one here, and its address without TLS sends everybody to https."""
        secure = [one for one in fronts if any(line.words[0] == "bind" and "ssl" in line.words for line in one.lines)]
        chosen = next(iter(secure or fronts), None)
        for one in fronts:
            if one is chosen:
                continue
            if secure and one not in secure:
                for line in one.lines:
                    if line.words[0] == "bind":
                        self.draft.top.setdefault("http_bind", bind_of(_address(line)))
                    elif line.words[0] in _RULES and not {"scheme", "https"} <= set(line.words):
                        why = "http_bind, the address without TLS, sends everybody to https"
                        self.draft.leave_out(line.number, str(line), why)
            else:
                self.leave_out(one, "there is one address for clients (bind); convert its front in a file of its own")
        return chosen

    def front(self, front: FileSection) -> None:
        default: Rules = [({}, {"respond": {"status": 503}})]
        name, line = front.name if front.name in self.backends and front.kind == "listen" else None, FileLine(front.number, [])
        for each in front.lines:
            if each.words[0] == "default_backend" and len(each.words) > 1:
                name, line = each.words[1], each
        if name is not None and name != front.name:
            default = self.to(line, name) or default
        elif name is not None:
            default = [({}, {"to": self.names[name]})]
        rules = SectionRules(self.draft, front, self.tables).rules(self.to, default)
        self.draft.routes += in_order(rules)

    def to(self, line: FileLine, name: str) -> Rules | None:
        """Give the rules of a backend; None, with a note, where there is none."""
        if name not in self.backends:
            why = "a backend that depends on the request is not known here" if "%" in name else f"there is no backend {name}"
            self.draft.leave_out(line.number, str(line), why)
            return None
        if name not in self.rules:
            section = self.backends[name]
            goes: Rules = [({}, {"to": self.names[name]})]
            if not (section.has("server") or section.has("server-template")):
                goes = [({}, {"respond": {"status": 503}})]
            self.rules[name] = SectionRules(self.draft, section, self.tables).rules(self.to, goes)
        return self.rules[name]

    def bind(self, line: FileLine) -> None:
        address, rest = _address(line), line.words[2:]
        if "accept-proxy" in rest:
            self.draft.leave_out(line.number, str(line), "the PROXY protocol is not read here; see trusted_proxies")
        if "ssl" in rest:
            if "bind" in self.draft.top:
                self.draft.top["http_bind"] = self.draft.top["bind"]
            self.draft.top["bind"] = bind_of(address)
            if "crt" in rest:
                path = rest[rest.index("crt") + 1]
                self.draft.top["certificates_dir" if path.endswith("/") else "certfile"] = path
            self.client_certificates(rest)
        elif "certfile" in self.draft.top or "certificates_dir" in self.draft.top:
            self.draft.top["http_bind"] = bind_of(address)
        elif "bind" not in self.draft.top:
            self.draft.top["bind"] = bind_of(address)
        elif self.draft.top["bind"] != bind_of(address):
            self.draft.leave_out(line.number, str(line), "there is one address for clients (bind)")
        if "," in line.words[1]:
            self.draft.leave_out(line.number, str(line), "there is one address for clients (bind)")

    def client_certificates(self, words: Sequence[str]) -> None:
        """Ask clients for the certificates that HAProxy asks them for."""
        said = dict(pairwise(words))
        if "ca-file" in said and said.get("verify", "none") != "none":
            self.draft.top["client_ca_file"] = said["ca-file"]
            if said["verify"] == "optional":
                self.draft.top["client_certificates"] = "optional"

    def is_of_back(self, line: FileLine) -> bool:
        """Whether a line of `listen` was read with its servers."""
        return line.words[0] in (
            *(
                "server",
                "server-template",
                "default-server",
                "balance",
                "http-check",
                "cookie",
                "stick",
                "stick-table",
                "timeout",
            ),
            *("retries", "fullconn"),
        )

    def other(self, line: FileLine) -> None:
        """What is done anyway is passed over; anything else is noted."""
        word = line.words[0]
        if word == "stick-table" and "http_req_rate" in str(line):
            return
        if word == "tcp-request" and line.words[2:3] != ["reject"]:
            if line.words[1:2] != ["inspect-delay"] and "accept" not in line.words and "track-sc0" not in line.words:
                self.draft.leave_out(line.number, str(line), "has no counterpart here")
        elif word not in _DONE and _DONE_TOO.fullmatch(word) is None:
            self.draft.leave_out(line.number, str(line), "has no counterpart here")


def _address(line: FileLine) -> str:
    """Give the first address of a `bind`, as host and port."""
    text = re.sub(r"^(ipv[46]|tcp[46]?|quic[46])@", "", line.words[1].split(",")[0]) if len(line.words) > 1 else ":80"
    host, _, port = text.rpartition(":")
    if ":" in host and not host.startswith("["):
        host = "" if host == "::" else f"[{host}]"
    return f"{'' if host == '[::]' else host}:{port}"
