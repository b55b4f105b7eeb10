"""Where a configuration asks for HTTP/2 and its package is not there; asked by `check` and `run`, and at a reload."""

from __future__ import annotations

from collections.abc import Iterator

from smartedge.config.model import Config
from smartedge.http2.installed import is_installed

MISSING = "needs the package hpack: pip install 'smartedge[http2]'"


def lacking_http2(config: Config) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the place of each key that asks for HTTP/2, and what to do; nothing where the package is there.

    A service is named once, at its own key or at that of its first backend with one.
    """
    if is_installed():
        return
    for key, is_wanted in (("h2c", config.h2c), ("http2", config.http2)):
        if is_wanted:
            yield (key,), MISSING
    for service in config.all_services():
        for index, backend in enumerate(service.config.backends):
            if service.config.protocol_of(backend) != "http/1.1":
                yield (*service.steps, *(("backends", index, "protocol") if backend.protocol else ("protocol",))), MISSING
                break
