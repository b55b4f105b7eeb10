"""What an edge needs to speak the protocols that its configuration asks for."""

from __future__ import annotations

from smartedge.config.model import Config
from smartedge.edge.origin import ConfigOrigin
from smartedge.http2.installed import is_installed


def load_http2(config: Config, origin: ConfigOrigin) -> None:
    """Have HTTP/2 ready, where clients may speak it; raises ConfigError where they are to, or backends are, and can't."""
    for key, is_wanted in (("h2c", config.h2c), ("http2", config.http2)):
        if is_wanted and not is_installed():
            raise origin.unusable((key,), "needs the package hpack: pip install 'smartedge[http2]'")
    for service in config.all_services():
        for index, backend in enumerate(service.config.backends):
            if service.config.protocol_of(backend) != "http/1.1" and not is_installed():
                steps: tuple[str | int, ...] = ("backends", index, "protocol") if backend.protocol else ("protocol",)
                raise origin.unusable((*service.steps, *steps), "needs the package hpack: pip install 'smartedge[http2]'")
    if config.h2c or (config.speaks_tls and config.http2 is not False and is_installed()):
        import smartedge.server.http2  # noqa: F401 (late: its memory is for these; now, so that no client waits for it)
