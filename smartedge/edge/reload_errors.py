"""Why a reload was refused, each with its status and title (RFC 9457)."""

from __future__ import annotations

from smartedge.balancer.errors import EdgeError


class ReloadError(EdgeError):
    """A reload that was refused; nothing has changed, in memory or on disk. (A wrong text is a ConfigError.)"""

    title = "Reload failed"


class PreconditionFailed(ReloadError):
    """The configuration is not the one that If-Match asks for (RFC 9110 section 13.1.1); `etag` is that of ours."""

    status = 412
    title = "Precondition failed"
    blame = "client"

    def __init__(self, etag: str) -> None:
        super().__init__(f'the configuration is another one than If-Match asks for: its ETag is "{etag}"')
        self.etag = etag


class ConfigNotReadable(ReloadError):
    """There is no file to read the configuration from."""

    status = 400
    title = "Configuration not readable"
    blame = "client"


class NotPersisted(ReloadError):
    """The file could not be replaced, so the configuration was not applied either."""

    title = "Configuration not persisted"


class NotShared(ReloadError):
    """The other workers could not be told, or are being told of another one, so this one was not applied either."""

    status = 503
    title = "Configuration not shared"
