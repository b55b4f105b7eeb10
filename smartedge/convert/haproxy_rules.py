"""haproxy.cfg: the rules of a section - who is refused, sent elsewhere, changed, and where the rest goes - in their order.

What a rule refuses is refused here, too: where its condition cannot be said by routes, more is refused, with a note; where
nothing of it can be said, the file is not converted. Source: https://docs.haproxy.org/2.6/configuration.html#4.2-http-request
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Final

from smartedge.convert.conditions import Where, meet
from smartedge.convert.draft import Document, Draft, seconds_of
from smartedge.convert.haproxy_acl import Acls, Literal, terms
from smartedge.convert.haproxy_conditions import Conditions, refuse
from smartedge.convert.haproxy_edits import edit_of
from smartedge.convert.haproxy_lines import FileLine, FileSection
from smartedge.convert.in_order import Rules, branch, tidy

_REFUSALS: Final = {"deny": 403, "tarpit": 500, "reject": 403, "silent-drop": 403}
_RATE: Final = re.compile(r"(?:sc[0-2]?_|src_)http_req_rate(?:\(([^()]*)\))?")


class SectionRules:
    """The rules of one section, as a list of which the first that fits counts.

    tables: seconds over which the stick table of a name counts requests. tracked: the table that clients are counted in.
    """

    def __init__(self, draft: Draft, section: FileSection, tables: Mapping[str, float]) -> None:
        self.draft = draft
        self.section = section
        self.tables = tables
        self.acls = Acls()
        self.said = Conditions(draft, self.acls)
        self.tracked = section.name
        for line in section.lines:
            if line.words[0] == "acl" and len(line.words) > 2:
                self.acls.add(line.number, line.words[1], line.words[2:])
            elif line.words[0] in ("http-request", "tcp-request") and "table" in line.words:
                self.tracked = line.words[line.words.index("table") + 1]

    def rules(self, to: Callable[[FileLine, str], Rules | None], last: Rules) -> Rules:
        """Give the rules. to: gives those of a backend that a line names. last: what is done with all that comes so far."""
        choices, requests = [], []
        for line in self.section.lines:
            match line.words:
                case ["use_backend", _, *_]:
                    choices.append(line)
                case ["redirect", *_]:
                    requests.append((1, line))
                case ["http-request" | "block", *_]:
                    requests.append((0, line))
                case ["tcp-request", "connection" | "content" | "session", "reject", *_]:
                    requests.append((-1, line))
                case ["reqdeny" | "reqideny" | "reqtarpit" | "reqitarpit", *_]:
                    refuse(line)
        rules = last
        for line in reversed(choices):
            _, name, *condition = line.words
            found = self.said.read(line, condition)
            goes = None if found is None else to(line, name)
            if found is not None and goes is not None:
                rules = branch(found, goes, rules)
        chosen = rules
        for _, line in reversed(sorted(requests, key=lambda each: each[0])):  # noqa: C413 - the last of each kind first
            rules = self.request(line, rules, chosen)
        monitor = next((line.words[1] for line in self.section.lines if line.words[0] == "monitor-uri"), None)
        if monitor is not None:
            rules = tidy([({"path_exact": monitor}, {"respond": {"status": 200}}), *rules])
        return self.answers(rules)

    def request(self, line: FileLine, rules: Rules, chosen: Rules) -> Rules:
        """Put a rule before those that come behind it. chosen: those that no further `http-request` stands before."""
        before = {"http-request": 1, "tcp-request": 2}.get(line.words[0], 0)
        action, words = line.words[before] if len(line.words) > before else "", line.words[before + 1 :]
        at = next((index for index, word in enumerate(words) if word in ("if", "unless")), len(words))
        words, condition = words[:at], words[at:]
        if action in _REFUSALS or action == "block":
            status = words[words.index("deny_status") + 1] if "deny_status" in words else ""
            answer: Document = {"respond": {"status": int(status) if status.isdigit() else _REFUSALS.get(action, 403)}}
            return self.refusal(line, condition, [({}, answer)], rules)
        if action == "return":
            return self.returned(line, words, condition, rules)
        if action == "auth":
            return self.auth(line, words, condition, rules)
        if action == "allow":
            found = self.said.read(line, condition, strict=True)
            return rules if found is None else branch(found, chosen, rules)
        if action == "redirect":
            return self.redirect(line, words, condition, rules)
        if action in ("track-sc0", "track-sc1", "track-sc2", "capture", "set-log-level", "set-nice", "normalize-uri"):
            if words[:1] != ["src"] and action.startswith("track"):
                self.draft.leave_out(line.number, str(line), "clients are counted by their addresses")
            return rules
        if (edit := edit_of(line, action, words, self.draft)) is None:
            return rules
        found = self.said.read(line, condition)
        if found is None:
            return rules
        own, change = edit
        within = [([both for each in holds if (both := meet(each, own)) is not None], never) for holds, never in found]
        changed = [(where, change(both, what)) for where, what in rules if (both := meet(where, own)) is not None]
        return branch(within, changed, rules)

    # ---- what refuses ----

    def refusal(self, line: FileLine, condition: list[str], then: Rules, rules: Rules) -> Rules:
        """Take a rule that refuses; more than it does where its condition cannot be said."""
        if (rate := self.rate(condition)) is not None:
            limit, rest = rate
            self.draft.leave_out(
                line.number, str(line), "it is taken over as a rate_limit: a bucket that fills all the time, and 429"
            )
            if not rest:
                self.draft.top.setdefault("rate_limit", limit)
                return rules
            limited = [(where, {"rate_limit": limit} | what) for where, what in rules]
            return self.refusal(line, ["if", *rest], limited, rules)
        found = self.said.read(line, condition, strict=True, refuses=True)
        if found is None:
            return rules
        ((_, answer),) = then if len(then) == 1 else [({}, {})]
        if answer != {"respond": {"status": 403}}:
            return branch(found, then, rules)
        for holds, never in reversed(found):
            rules = self.guarded(holds, never, rules) or branch([(holds, never)], then, rules)
        return rules

    def guarded(self, holds: list[Where], never: list[Where], rules: Rules) -> Rules | None:
        """Say by `allow` or `deny` of the routes who is refused by address, and nothing else; None where that is not all."""
        if len(never) == 1 and never[0].keys() == {"client"} and all("client" not in where for where in holds):
            clients = never[0]["client"]
            if any("allow" in what for _, what in rules):
                return None
            return branch([(holds, [])], [(where, _guarded(what, "allow", clients)) for where, what in rules], rules)
        if not never and holds and all("client" in where for where in holds):
            for where in holds:
                clients = where["client"]
                rest = {key: value for key, value in where.items() if key != "client"}
                changed = [(asked, _guarded(what, "deny", [*clients, *what.get("deny", ())])) for asked, what in rules]
                rules = branch([([rest], [])], changed, rules)
            return rules
        return None

    def rate(self, condition: list[str]) -> tuple[Document, list[str]] | None:
        """Say how often a client may come, where a condition is about that, and what else it asks."""
        found = terms(condition[1:]) if condition[:1] == ["if"] else None
        if found is None or len(found) != 1:
            return None
        for literal in found[0]:
            tests = self.acls.of(literal.test)
            if len(tests) != 1 or literal.is_not:
                continue
            words = tests[0][1]
            said = _RATE.fullmatch(words[0])
            if said is None or len(words) != 3 or words[1] not in ("gt", "ge") or not words[2].isdigit():
                continue
            arguments = (said[1] or "").split(",")
            table = next((each for each in reversed(arguments) if each and not each.isdigit()), self.tracked)
            if (period := self.tables.get(table)) is None or int(words[2]) == 0:
                continue
            most = int(words[2])
            rest: list[str] = []
            for other in found[0]:
                if other is not literal:
                    rest += ["!"] if other.is_not else []
                    rest += [other.test] if isinstance(other.test, str) else ["{", *other.test, "}"]
            per_s = most / period
            return {"per_s": int(per_s) if per_s == int(per_s) else round(per_s, 4), "burst": most}, rest
        return None

    def returned(self, line: FileLine, words: list[str], condition: list[str], rules: Rules) -> Rules:
        """Take an answer of HAProxy's own."""
        said = dict(pairwise(words))
        status = int(said["status"]) if said.get("status", "").isdigit() else 200
        answer: Document = {"status": status}
        text = said.get("string", said.get("lf-string", ""))
        if "file" in said or "errorfile" in said or "%" in said.get("lf-string", "") or "lf-file" in said:
            self.draft.leave_out(line.number, str(line), "the answer is made without its text, which is not read here")
        elif text:
            answer["text"] = text
        if "content-type" in said and text:
            answer["headers"] = {"Content-Type": said["content-type"]}
        for index, word in enumerate(words):
            if word == "hdr" and index + 2 < len(words) and "%" not in words[index + 2]:
                answer.setdefault("headers", {})[words[index + 1]] = words[index + 2]
        return self.refusal(line, condition, [({}, {"respond": answer})], rules)

    def auth(self, line: FileLine, words: list[str], condition: list[str], rules: Rules) -> Rules:
        """Ask for a password those that HAProxy asks: all that fit, but for who has shown a good one."""
        file = "haproxy.htpasswd"
        realm = words[words.index("realm") + 1] if "realm" in words else None
        guard: Document = {"basic_auth": {"file": file} | ({"realm": realm} if realm else {})}
        self.draft.leave_out(
            line.number, str(line), f'write the users of its userlist to {file}, a line "user:hash" each, before the edge begins'
        )
        guarded = [(where, what | guard) for where, what in rules]
        kept = []
        found = terms(condition[1:]) if condition else [[]]
        if found is None:
            refuse(line)
        if condition[:1] == ["unless"]:
            if all(self.is_password(literal) for term in found or [] for literal in term):
                return guarded
            refuse(line)
        for term in found or []:
            others = [literal for literal in term if not (literal.is_not and self.is_password(literal))]
            term_of = self.said.term(line, others, strict=True, refuses=True)
            kept.append(term_of if term_of is not None else ([{}], []))
        return branch(kept, guarded, rules)

    def is_password(self, literal: Literal) -> bool:
        """Whether a test is about a password."""
        tests = self.acls.of(literal.test)
        return bool(tests) and all(words[0].startswith("http_auth") for _, words in tests)

    # ---- where to ----

    def redirect(self, line: FileLine, words: list[str], condition: list[str], rules: Rules) -> Rules:
        """Take a redirect; what it cannot be made for is refused."""
        said = dict(pairwise(words))
        status = int(said["code"]) if said.get("code") in ("301", "302", "303", "307", "308") else 302
        kind = next((each for each in ("scheme", "location", "prefix") if each in said), "")
        target = said.get(kind, "")
        if kind == "scheme" and target == "https" and not self.asks_more_than_tls(condition):
            if not self.section.has("bind") or any(
                each.words[0] == "bind" and "ssl" in each.words for each in self.section.lines
            ):
                return rules  # http_bind does this for all
            return [({}, {"redirect": {"scheme": "https", "status": status}})]
        found = self.said.read(line, condition)
        if found is None:
            return rules
        redirect: Document = {"status": status}
        parts = re.fullmatch(r"(?:(https?)://([^/%]+|%\[(?:req\.)?hdr\(host\)\]))?(/[^%]*|%\[capture\.req\.uri\]|)", target)
        if kind == "scheme" and target in ("http", "https"):
            redirect["scheme"] = target
        elif kind in ("location", "prefix") and parts is not None and not (kind == "prefix" and len(parts[3]) > 1):
            redirect |= {"scheme": parts[1]} if parts[1] else {}
            redirect |= {"host": parts[2]} if parts[2] and "%" not in parts[2] else {}
            path, _, query = parts[3].partition("?")
            if kind == "location" and path != "%[capture.req.uri]":
                redirect["path"] = path or "/"
                self.draft.leave_out(
                    line.number,
                    str(line),
                    "it is taken over, but the request's query stays with it here" + (", in place of its own" if query else ""),
                )
        if redirect.keys() == {"status"}:
            why = "a target that depends on the request is not known here; until you write one, the answer is 403"
            self.draft.leave_out(line.number, str(line), why)
            return branch(found, [({}, {"respond": {"status": 403}})], rules)
        for word in ("drop-query", "append-slash", "set-cookie", "clear-cookie"):
            if word in words:
                self.draft.leave_out(line.number, str(line), f"{word} has no counterpart here")
        return branch(found, [({}, {"redirect": redirect})], rules)

    def asks_more_than_tls(self, condition: list[str]) -> bool:
        """Whether a condition is about anything but a connection without TLS."""
        found = terms(condition[1:])
        return found is not None and any(
            not all(words[0] == "ssl_fc" for _, words in self.acls.of(literal.test)) for term in found for literal in term
        )

    def answers(self, rules: Rules) -> Rules:
        """Take what is changed in the answers of backends."""
        for line in self.section.lines:
            if line.words[0] not in ("http-response", "http-after-response", "rspadd", "rspdel", "rspidel"):
                continue
            if line.words[0] == "rspadd":
                name, _, value = " ".join(line.words[1:]).partition(":")
                action, words = "add-header", [name, value.strip()]
            else:
                action, words = (line.words[1], line.words[2:]) if len(line.words) > 1 else ("", [])
            if "if" in words or "unless" in words:
                self.draft.leave_out(line.number, str(line), "what is changed in answers goes by no condition here")
                continue
            key = {"set-header": "set_answer_headers", "add-header": "add_answer_headers", "del-header": "remove_answer_headers"}
            if action not in key or (action != "del-header" and (len(words) != 2 or "%" in words[1])) or not words:
                if action not in ("set-log-level", "capture"):
                    self.draft.leave_out(line.number, str(line), "has no counterpart here")
                continue
            more = {words[0]: words[1]} if action != "del-header" else [words[0]]
            rules = [(where, _with(what, key[action], more) if "to" in what else what) for where, what in rules]
        return rules


def _guarded(what: Document, key: str, clients: list[str]) -> Document:
    return what if what.get("respond") == {"status": 403} else what | {key: clients}


def count_periods(sections: list[FileSection]) -> dict[str, float]:
    """Say over how many seconds the stick tables count requests, by the names of their sections."""
    found = {}
    for section in sections:
        for line in section.lines:
            if line.words[0] == "stick-table" and (said := re.search(r"http_req_rate\((\w+)\)", str(line))) is not None:
                found[section.name] = float(seconds_of(said[1], 0.001))
    return found


def _with(what: Document, key: str, more: dict[str, str] | list[str]) -> Document:
    """Add a change to answers to those before it; the last one about a field counts."""
    said = dict(what)
    for other in ("set_answer_headers", "add_answer_headers", "remove_answer_headers") if key != "add_answer_headers" else ():
        kept = [name for name in said.get(other, ()) if name not in more]
        if other in said:
            said[other] = kept if isinstance(said[other], list) else {name: said[other][name] for name in kept}
            if not kept:
                del said[other]
    if isinstance(more, list):
        return said | {key: [*said.get(key, ()), *more]}
    return said | {key: said.get(key, {}) | more}
