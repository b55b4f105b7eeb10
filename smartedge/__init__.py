"""SmartEdge: an intelligent HTTP load balancer in Python.

`create_app` is imported lazily, so that `python -m smartedge` can patch the standard library before anything else is loaded.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

__all__ = ["__version__", "create_app"]

__version__ = "0.1.0"

if TYPE_CHECKING:
    from smartedge.app import create_app


def __getattr__(name: str) -> Any:
    """Import `create_app` when it is first asked for (PEP 562)."""
    if name == "create_app":
        was_enabled = gc.isenabled()
        gc.disable()  # Next to nothing of what is imported can go again: to look through it is a tenth of a worker's start.
        try:
            from smartedge.app import create_app
        finally:
            if was_enabled:
                gc.enable()
        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
