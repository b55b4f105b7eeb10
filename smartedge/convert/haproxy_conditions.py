"""haproxy.cfg: what an `if` or `unless` asks, as conditions of routes; and what that makes of rules.

Source: https://docs.haproxy.org/2.6/configuration.html#7.2
"""

from __future__ import annotations

from smartedge.convert.conditions import Where, meet
from smartedge.convert.draft import Draft
from smartedge.convert.haproxy_acl import Acls, Literal, read_test, terms
from smartedge.convert.haproxy_lines import FileLine
from smartedge.convert.in_order import Term
from smartedge.convert.words import NotReadable


class Conditions:
    """Reads the conditions of one section; made by `SectionRules`. acls: the tests that have names."""

    def __init__(self, draft: Draft, acls: Acls) -> None:
        self.draft = draft
        self.acls = acls

    def read(self, line: FileLine, words: list[str], strict: bool = False, refuses: bool = False) -> list[Term] | None:
        """Read an `if` or `unless`; None where it cannot be said. `unless` is a term that nothing holds for but what it denies.

        strict: just as HAProxy reads it. refuses: what cannot be said of it holds, as far as anything is left of it.
        """
        if not words:
            return [([{}], [])]
        found = terms(words[1:])
        if found is None or words[0] not in ("if", "unless"):
            if refuses:
                refuse(line)
            self.draft.leave_out(line.number, str(line), "is no condition that is known here")
            return None
        if words[0] == "unless":
            plain: list[Where] = []
            for term in found:
                read = self.term(line, term, strict, refuses=False)
                if read is None and refuses:
                    continue  # it lets nobody through, then
                if read is None or read[1]:
                    if refuses:
                        refuse(line)
                    if read is not None:
                        self.draft.leave_out(line.number, str(line), "it denies what is denied; write it anew")
                    return None
                plain += read[0]
            if refuses and not plain:
                refuse(line)
            return [([{}], plain)]
        read_terms = [self.term(line, term, strict, refuses) for term in found]
        known = [each for each in read_terms if each is not None]
        return known or None

    def term(self, line: FileLine, literals: list[Literal], strict: bool, refuses: bool) -> Term | None:
        """Read what has to hold together; None where a part of it cannot be said, unless it refuses."""
        holds: list[Where] = [{}]
        never: list[Where] = []
        is_wider = False
        for literal in literals:
            tests = self.acls.of(literal.test)
            read: list[Where] | None = [] if tests else None
            for number, words in tests:
                at = number or line.number
                text = f"acl {literal.test} {' '.join(words)}" if number else str(line)

                def note(why: str, at: int = at, text: str = text) -> None:
                    self.draft.leave_out(at, text, why)

                one = read_test(words, strict, note)
                read = None if one is None or read is None else _merged(read + one)
            if read is None:
                if refuses:
                    is_wider = True
                    why = f"it refuses more here: {literal} cannot be said by routes, and counts as if it held"
                    self.draft.leave_out(line.number, str(line), why)
                    continue
                self.draft.leave_out(line.number, str(line), f"it goes by {literal}, which is not taken over")
                return None
            if literal.is_not:
                never += read
            else:
                holds = [both for mine in holds for theirs in read if (both := meet(mine, theirs)) is not None]
        if is_wider and {} in holds:
            refuse(line)
        return holds, never


def refuse(line: FileLine) -> None:
    """Refuse the file, of which nothing could be made that refuses enough."""
    raise NotReadable(
        f"line {line.number}: {line}: whom it refuses cannot be said by routes, and would be let in; take the line out, or "
        "write what it refuses by host, path, method, header, query or address, and convert again"
    )


def _merged(found: list[Where]) -> list[Where]:
    """Write several hosts, methods or networks as one condition."""
    (key, *more) = {key for where in found for key in where} or {""}
    if more or key not in ("host", "method", "client") or any(key not in where for where in found):
        return found
    return [{key: list(dict.fromkeys(item for where in found for item in where[key]))}]
