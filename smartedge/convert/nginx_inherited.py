"""nginx.conf: what a block has from the one around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from smartedge.convert.words import Directive

_INHERITED: Final = (
    ("proxy_set_header",),
    ("add_header",),
    ("proxy_hide_header",),
    ("allow", "deny"),
    ("auth_basic",),
    ("auth_basic_user_file",),
    ("auth_request",),
    ("auth_request_set",),
    ("client_max_body_size",),
    ("proxy_read_timeout",),
)
"""What a block has from the one around it, unless it says anything of the same group itself."""


def inherited(outer: Sequence[Directive], inner: Sequence[Directive]) -> list[Directive]:
    """Put in front of a block what it has from the one around it."""
    missing = [names for names in _INHERITED if not any(one.name in names for one in inner)]
    return [*(one for names in missing for one in outer if one.name in names), *inner]


def is_inherited(one: Directive) -> bool:
    """Whether it counts for the blocks inside, too."""
    return any(one.name in names for names in _INHERITED)
