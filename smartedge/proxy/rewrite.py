"""Targets that routes change: another path for the backend, another place for the client. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from smartedge.http.normal_form import DOTS, host_name, is_unusual, readings
from smartedge.http.request import Request


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Which path a backend sees; made at reload, used by the `Route`.

    prefix: the route's path in normal form, without its last slash. to: what stands in for it, without a last slash, or for the
    whole path if `whole`.
    """

    prefix: bytes
    to: bytes
    whole: bool = False

    def target(self, target: bytes) -> bytes:
        """Give the target with the new path; the query stays as it came."""
        path, question, query = target.partition(b"?")
        if self.whole:
            path = self.to or b"/"
        elif path[:1] == b"/":
            path = self.to + behind(path, self.prefix)
            if path[:1] != b"/" or path[:2] == b"//":
                path = b"/" + path.lstrip(b"/")  # `//x` would be a host to many a reader
        return path + question + query


def behind(path: bytes, prefix: bytes) -> bytes:
    """Give what comes behind a prefix, byte for byte where the prefix can be found in what came.

    A path with dot segments has no such place: of that it is the normal form.
    """
    if path.startswith(prefix) and not is_unusual(path):
        return path[len(prefix) :]
    segments = path.split(b"/")
    if not any(unquote_to_bytes(segment) in DOTS for segment in segments):
        taken = prefix.count(b"/")
        at = 1
        while taken:
            taken -= bool(segments[at].partition(b";")[0])  # parameters alone are no segment, for `readings` either
            at += 1
        return b"".join(b"/%b" % segment for segment in segments[at:])
    return readings(path)[0][len(prefix) :]


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where clients are sent; made at reload, used by the `Route`. None: as they asked for it."""

    status: int
    scheme: bytes | None = None
    host: bytes | None = None
    path: bytes | None = None

    def location(self, request: Request, scheme: bytes) -> bytes:
        """Give the URL. scheme: what the client came by."""
        path, question, query = request.target.partition(b"?")
        if self.path is not None or path == b"*":
            path = self.path or b"/"
        host = self.host
        if host is None:
            host = request.said.host or b""
            if self.scheme is not None and self.scheme != scheme:
                host = host_name(host)  # the port belongs to the other scheme
        if not host:
            return b"/" + path.lstrip(b"/\\") + question + query  # of an HTTP/1.0 client; `//x` would be another host
        return b"%b://%b%b%b%b" % (self.scheme or scheme, host, path, question, query)
