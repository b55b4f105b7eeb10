"""The time as HTTP writes it."""

from __future__ import annotations

from email.utils import formatdate
from time import time

_made_at = 0
_text = b""


def http_date() -> bytes:
    """Give the time as IMF-fixdate (RFC 9110 section 5.6.7), made once a second."""
    global _made_at, _text
    now = int(time())
    if _made_at != now:
        _made_at, _text = now, formatdate(now, usegmt=True).encode()
    return _text
