"""What an edge needs to speak the protocols that its configuration asks for."""

from __future__ import annotations

from smartedge.config.model import Config
from smartedge.edge.origin import ConfigOrigin
from smartedge.http2.installed import is_installed
from smartedge.process.http2_needed import lacking_http2


def load_http2(config: Config, origin: ConfigOrigin) -> None:
    """Have HTTP/2 ready, where clients may speak it; raises ConfigError where they are to, or backends are, and can't."""
    for steps, message in lacking_http2(config):
        raise origin.unusable(steps, message)
    if config.h2c or (config.speaks_tls and config.http2 is not False and is_installed()):
        import smartedge.server.http2  # noqa: F401 (late: its memory is for these; now, so that no client waits for it)
