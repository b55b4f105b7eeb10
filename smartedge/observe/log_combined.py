r"""The access log in the combined format of Apache and nginx, which goaccess, fail2ban and many others read.

    192.0.2.7 - - [27/Nov/2026:03:10:00 +0000] "GET /shop?page=2 HTTP/1.1" 200 44 "https://example.com/" "Mozilla/5.0"

The request is told whole, with its query. A quotation mark, a backslash, and every byte that is no printable ASCII is written
`\xHH`, as nginx does, so that nobody can end a text, or a line, from outside.
"""

from __future__ import annotations

import re
import time
from typing import Any

from smartedge.http.request import Request
from smartedge.observe.log_line import Known, OwnLine
from smartedge.proxy.exchange import Exchange

_UNSAFE = re.compile(rb'["\\\x00-\x1f\x7f-\xff]')
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_USER_AGENT, _REFERER = (re.compile(rb"^%b:[ \t]*([^\r\n]*)" % name, re.I | re.M) for name in (b"user-agent", b"referer"))


class CombinedLines:
    """Writes lines in the combined format; made and used by an AccessLog."""

    def __init__(self, client_of: Any) -> None:
        self._client_of = client_of
        self._of_request = Known(_tell)

    def stamp(self, when: float) -> str:
        """Write a Unix time as it stands in lines: in UTC, with English months."""
        at = time.gmtime(when)
        return f"[{at.tm_mday:02d}/{_MONTHS[at.tm_mon - 1]}/{at.tm_year}:{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000]"

    def of_exchange(self, stamp: str, exchange: Exchange) -> str:
        """Write the line of a request that has been forwarded, or could not be."""
        request = exchange.attempts.request
        asked = _request_line(request, exchange.asked_target or request.target)
        said = self._of_request.of(request.fields, request.block)
        client = escaped(self._client_of(request))
        return f'{client} - - {stamp} "{asked}" {exchange.status} {exchange.bytes_out} {said}\n'

    def of_own(self, stamp: str, line: OwnLine) -> str:
        """Write the line of another answer, whose length is not known here; of what was no request it has but a dash."""
        request = line.request
        asked = "-" if request is None else _request_line(request, request.target)
        said = _tell(b"" if request is None else request.block)
        return f'{escaped(line.client) or "-"} - - {stamp} "{asked}" {line.status} - {said}\n'


def escaped(value: bytes) -> str:
    r"""Give bytes as printable ASCII without quotation marks; what is neither is `\xHH`."""
    if _UNSAFE.search(value):
        value = _UNSAFE.sub(lambda found: b"\\x%02X" % found[0][0], value)
    return value.decode("ascii")


def _request_line(request: Request, target: bytes) -> str:
    return f"{escaped(request.method)} {escaped(target)} {request.protocol}"


def _tell(block: bytes) -> str:
    referer, user_agent = (_value(field, block) for field in (_REFERER, _USER_AGENT))
    return f'"{referer}" "{user_agent}"'


def _value(field: re.Pattern[bytes], block: bytes) -> str:
    found = field.search(block)
    return escaped(found[1].rstrip(b" \t")) or "-" if found is not None else "-"
