"""The time as HTTP writes it."""

from __future__ import annotations

from email.utils import formatdate
from time import time

_date_made_at = 0
_date = b""


def http_date() -> bytes:
    """Give the time as IMF-fixdate (RFC 9110 section 5.6.7), made once a second."""
    global _date_made_at, _date
    now = int(time())
    if _date_made_at != now:
        _date_made_at, _date = now, formatdate(now, usegmt=True).encode()
    return _date
