"""The normal form of a request's host and path, in which routes compare them. Pure functions.

For comparing only: what goes on to a backend is byte for byte what came. Backends do not all read a path alike: some take `%2F`
or a backslash for a slash, some resolve `..` before they merge `//`, Java's cut `;parameters` off. So an unusual path has several
readings, and whoever finds routes for it asks for each (`readings`): one that would lead to two routes leads to none, so that no
rule of one route is walked around by writing a path in another way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

from smartedge.balancer.errors import ClientError

LONGEST_NAME = 253
"""Characters of a host name (RFC 1035 section 2.3.4, without its last dot)."""

PLAIN = "!$&'()*+,=:@~"
"""What stands for itself in a segment besides letters, digits and `-._` (RFC 3986 section 3.3), without `;`."""

_not_plain = re.compile(rb"[^A-Za-z0-9._~!$&'()*+,=:@/-]").search
DOTS = (b".", b"..")
"""Dot segments (RFC 3986 section 3.3)."""

_SEPARATORS = re.compile(rb"[/\\;]")
_ODD = re.compile(rb"%[uU][0-9A-Fa-f]{4}|[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]|\xf0[\x80-\x8f][\x80-\xbf]{2}")
"""What is a character of ASCII for some readers, and none for all others: `%u002e` (IIS), UTF-8 longer than it has to be."""
MOST_SEGMENTS = 256
"""Of a path that needs readings: each takes microseconds, and 4,000 fit into a target."""
_MOST_DECODINGS = 4
"""What is still encoded after so many has no honest meaning."""


def host_name(host: bytes) -> bytes:
    """Give a Host field's value in lower case, without port and last dot; an IPv6 address keeps its brackets."""
    if host[-1:] != b"]":
        name, colon, port = host.rpartition(b":")
        if colon and (port.isdigit() or not port):
            host = name
    return host.lower().removesuffix(b".")


def is_unusual(path: bytes) -> bool:
    """Whether a path needs `readings`; any other is in normal form as it came."""
    # One regular expression for all three would take twice as long: a search for one set of bytes is a tight loop.
    return _not_plain(path) is not None or b"//" in path or b"/." in path


def readings(path: bytes) -> tuple[bytes, ...]:
    """Give the normal forms of a path, each once: the edge's own first, then those of other readers.

    In normal form, letters and digits and all that stands for itself in a path are written plainly, all else as `%XX`; there are
    no dot segments, no empty segments and no `;parameters`; the slash at the end stays. Raises ClientError for a path that holds
    a NUL, or dot segments or characters for some readers only, or too many segments.
    """
    if path[:1] != b"/":
        return (path,)  # the `*` of OPTIONS
    decoded = _decoded(path)
    if decoded.count(b"/") + decoded.count(b"\\") > MOST_SEGMENTS:
        raise ClientError(f"The path has more than {MOST_SEGMENTS} segments, and is no plain one.")
    if b"\0" in decoded:
        raise ClientError("The path holds a NUL.")
    if _ODD.search(decoded):
        raise ClientError("The path has characters that some readers only would take for others, such as '%c0%ae' or '%u002e'.")
    segments = path.split(b"/")[1:]
    dots = sum(unquote_to_bytes(segment) in DOTS for segment in segments)
    if sum(piece in DOTS for piece in _SEPARATORS.split(decoded)) != dots:
        raise ClientError("The path has a dot segment ('..') for some readers only, such as '..%2F' or '..;'.")
    if dots and (_SEPARATORS.search(decoded.replace(b"/", b"")) or decoded.count(b"/") != path.count(b"/")):
        raise ClientError("The path has dot segments ('..') beside encoded slashes, backslashes or ';'.")
    ours = _joined(_resolved(segment for segment in segments if segment), segments[-1])
    found = [ours]
    if dots and b"" in segments[:-1]:
        found.append(_joined(_resolved(segments), segments[-1]))  # RFC 3986 section 5.2.4, which merges no slashes
    if not dots:
        apart = re.split(rb"[/\\]", decoded)[1:]
        found.append(_joined((quote_from_bytes(each.partition(b";")[0], PLAIN).encode() for each in apart), apart[-1]))
    return tuple(dict.fromkeys(found))


def _decoded(path: bytes) -> bytes:
    """Decode until nothing is encoded any more; raises ClientError for what was encoded again and again."""
    for _ in range(_MOST_DECODINGS):
        before, path = path, unquote_to_bytes(path)
        if path == before:
            return path
    raise ClientError("The path is percent-encoded again and again.")


def _resolved(segments: Iterable[bytes]) -> list[bytes]:
    """Give the segments in normal form, with dot segments taken out (RFC 3986 section 5.2.4)."""
    kept: list[bytes] = []
    for segment in segments:
        plain = unquote_to_bytes(segment)
        if plain == b"..":
            del kept[-1:]
        elif plain != b".":
            name = unquote_to_bytes(segment.partition(b";")[0])
            kept.append(quote_from_bytes(name, PLAIN).encode())
    return kept


def _joined(segments: Iterable[bytes], last: bytes) -> bytes:
    """Write a path without empty segments. last: its last segment as it came; an empty one or dots leave a slash at the end."""
    text = b"".join(b"/%b" % segment for segment in segments if segment)
    return text + b"/" if not text or not last or unquote_to_bytes(last) in DOTS else text
