"""A bounded memory: a dict of what has been found out about things that come again, which forgets all of it when it is full.

To drop only what was asked for longest ago, every look-up would have to write down that it took place; so a look-up is a
dict's own, and what still comes is known again at once.
"""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def remember(known: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Keep a value under a key that is new; of a dict that holds so many already, all others go first."""
    if len(known) >= most:
        known.clear()
    known[key] = value
