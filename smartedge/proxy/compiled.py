"""Whether what a request passes through was compiled (setup.py) or runs as plain Python: the same files, alike in all they do."""

from __future__ import annotations

from importlib.util import find_spec


def is_compiled() -> bool:
    """Look where Python would take one of these modules from; none is imported for that."""
    spec = find_spec("smartedge.proxy.forward")
    return spec is not None and not str(spec.origin).endswith(".py")
