"""Whether there is what HTTP/2 needs: the package hpack, of the extra `smartedge[http2]`."""

from functools import cache
from importlib.util import find_spec


@cache
def is_installed() -> bool:
    """Say so, without importing it."""
    return find_spec("hpack") is not None
