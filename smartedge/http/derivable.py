"""How mypyc (setup.py) is told that classes which are not compiled may derive from one that is: else none can."""

from __future__ import annotations

try:
    from mypy_extensions import mypyc_attr as mypyc_attr
except ImportError:  # it is there where something is compiled, and nobody else needs it
    from collections.abc import Callable
    from typing import TypeVar

    Class = TypeVar("Class")

    def mypyc_attr(**_attributes: object) -> Callable[[Class], Class]:  # type: ignore[misc]
        """Do nothing."""
        return lambda one: one
