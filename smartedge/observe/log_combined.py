r"""The access log in the combined format of Apache and nginx, which goaccess, fail2ban and many others read.

    192.0.2.7 - - [27/Nov/2026:03:10:00 +0000] "GET /shop?page=2 HTTP/1.1" 200 44 "https://example.com/" "Mozilla/5.0"

The request is told whole, with its query. A quotation mark, a backslash, and every byte that is no printable ASCII is written
`\xHH`, as nginx does, so that nobody can end a text, or a line, from outside.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from smartedge.http.request import Request
from smartedge.observe.log_asked import AskedLines, agent_and_referer
from smartedge.observe.log_line import Known, OwnLine
from smartedge.proxy.exchange import Exchange

_UNSAFE = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class CombinedLines(AskedLines):
    """Writes lines in the combined format; made and used by an AccessLog."""

    def __init__(self, client_of: Callable[[Request], bytes]) -> None:
        super().__init__(client_of)
        self._escaped = Known(_escaped_or_dash)

    def stamp(self, when: float) -> str:
        """Write a Unix time as it stands in lines: in UTC, with English months."""
        at = time.gmtime(when)
        return f"[{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000]"

    def lines(self, stamp: str, ended: Sequence[Exchange | OwnLine]) -> list[str]:
        """Write the lines of what has ended."""
        return [self._of_own(stamp, one) if isinstance(one, OwnLine) else self._of_exchange(stamp, one) for one in ended]

    def _of_exchange(self, stamp: str, exchange: Exchange) -> str:
        request = exchange.attempts.request
        onward = request.said.onward
        asked = None if onward is None else onward.logged
        if asked is None or asked.block is not request.known_block or asked.method != request.method or asked.by is not self:
            asked = self._ask(request)
        target = exchange.asked_target or request.target
        if target != asked.target:
            asked.target, asked.before = target, _request_line(request, target)
        return f"{asked.client}{stamp}{asked.before}{exchange.status} {exchange.bytes_out}{asked.agent}"

    def _of_own(self, stamp: str, line: OwnLine) -> str:
        """Write the line of another answer, whose length is not known here; of what was no request it has but a dash."""
        request = line.request
        asked = ' "-" ' if request is None else _request_line(request, request.target)
        said = self._tell(b"" if request is None else request.block)
        return f"{escaped(line.client) or '-'} - - {stamp}{asked}{line.status} -{said}"

    def _tell_client(self, request: Request) -> str:
        return f"{escaped(self._client_of(request))} - - "

    def _tell_agent(self, request: Request) -> str:
        return self._tell(request.block)

    def _tell(self, block: bytes) -> str:
        agent, referer = agent_and_referer(block, only_first=True)
        return f' "{self._escaped[referer]}" "{self._escaped[agent]}"\n'


def escaped(value: bytes) -> str:
    r"""Give bytes as printable ASCII without quotation marks; what is neither is `\xHH`."""
    if _UNSAFE.search(value):
        value = _UNSAFE.sub(lambda found: b"\\x%02X" % found[0][0], value)
    return value.decode()


def _request_line(request: Request, target: bytes) -> str:
    return f' "{escaped(request.method)} {escaped(target)} {request.protocol}" '


def _escaped_or_dash(value: bytes | None) -> str:
    return escaped(value) if value else "-"
