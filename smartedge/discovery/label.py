"""Names that others gave, as ids: plain characters, and not too many."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 64
_PLAIN = re.compile(r"[A-Za-z0-9._-]+")


def label_of(text: str) -> str:
    """Make an id of any text: `10.0.0.1:8000` becomes `10.0.0.1-8000`; a digest tells long ones apart that begin alike."""
    plain = text if _PLAIN.fullmatch(text) else "-".join(_PLAIN.findall(text))
    if plain and len(plain) <= _LONGEST and plain != "none":
        return plain
    return f"{plain[: _LONGEST - 9]}-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
