"""Frames of HTTP/2 as bytes (RFC 9113 sections 4 and 6), and header fields as they go into them (RFC 7541). Pure functions.

What we send uses no dynamic table, as nginx's does not: a field is always the same bytes, so it is encoded once and remembered.
What we receive is decoded by the package hpack.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client says first (section 3.4)."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
PRIORITY_UPDATE: Final = 16
"""RFC 9218 section 7.1."""

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

_CODES = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)
"""Section 7."""

ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8
"""RFC 8441 section 3."""

FRAME_BYTES: Final = 16384
"""The largest payload that everybody takes (section 4.2), and the largest that we take."""

MOST_WINDOW: Final = 2**31 - 1
_HEAD = Struct(">BHBBL")
_LONG = Struct(">L")
_SETTING = Struct(">HL")
_GOAWAY = Struct(">LL")


class LinkError(Exception):
    """The peer has broken a rule that the whole connection rests on (section 5.4.1). code: of our GOAWAY."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


class StreamError(Exception):
    """The peer has broken a rule of one stream (section 5.4.2). code: of our RST_STREAM."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame_head(kind: int, flags: int, stream_id: int, size: int) -> bytes:
    """Write the nine bytes before a payload of so many bytes."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream_id)


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Write a frame."""
    return frame_head(kind, flags, stream_id, len(payload)) + payload


def rst_stream(stream_id: int, code: int) -> bytes:
    """End a stream (section 6.4)."""
    return frame(RST_STREAM, 0, stream_id, _LONG.pack(code))


def goaway(last_stream_id: int, code: int, why: str = "") -> bytes:
    """Say that no stream behind this one is looked at (section 6.8)."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + why.encode("utf-8", "replace")[:200])


def window_update(stream_id: int, size: int) -> bytes:
    """Allow the peer so many bytes more; stream 0 is the connection (section 6.9)."""
    return frame(WINDOW_UPDATE, 0, stream_id, _LONG.pack(size))


def settings(values: dict[int, int]) -> bytes:
    """Tell the peer of our settings (section 6.5)."""
    return frame(SETTINGS, 0, 0, b"".join([_SETTING.pack(*pair) for pair in values.items()]))


def settings_in(payload: bytes) -> list[tuple[int, int]]:
    """Read the settings of a payload whose length is a multiple of six."""
    return list(_SETTING.iter_unpack(payload))


def number_in(payload: bytes) -> int:
    """Read the first four bytes of a payload, without the reserved bit."""
    return int.from_bytes(payload[:4], "big") & MOST_WINDOW


def name_of(code: int) -> str:
    """Name an error code, for people."""
    return _CODES[code] if code < len(_CODES) else str(code)


def without_padding(flags: int, payload: bytes) -> bytes:
    """Give what a padded frame carries (section 6.1); raises LinkError when there is more padding than frame."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise LinkError(PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def header_frames(stream_id: int, block: bytes, most: int, *, end: bool) -> bytes:
    """Write a header block as HEADERS, and CONTINUATION where it is longer than `most` bytes."""
    flags = END_STREAM if end else 0
    if len(block) <= most:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    frames = [frame(HEADERS, flags, stream_id, block[:most])]
    for at in range(most, len(block), most):
        frames.append(frame(CONTINUATION, END_HEADERS if at + most >= len(block) else 0, stream_id, block[at : at + most]))
    return b"".join(frames)


# ---- RFC 7541 ----

_STATIC_NAMES = (
    b":authority :method :method :path :path :scheme :scheme :status :status :status :status :status :status :status"
    b" accept-charset accept-encoding accept-language accept-ranges accept access-control-allow-origin age allow authorization"
    b" cache-control content-disposition content-encoding content-language content-length content-location content-range"
    b" content-type cookie date etag expect expires from host if-match if-modified-since if-none-match if-range"
    b" if-unmodified-since last-modified link location max-forwards proxy-authenticate proxy-authorization range referer refresh"
    b" retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via www-authenticate"
).split()
_INDEX = {name: at for at, name in reversed([*enumerate(_STATIC_NAMES, 1)])}
_WHOLE = {
    (b":method", b"GET"): 2,
    (b":method", b"POST"): 3,
    (b":path", b"/"): 4,
    (b":scheme", b"http"): 6,
    (b":scheme", b"https"): 7,
    **{(b":status", code): 8 + at for at, code in enumerate(b"200 204 206 304 400 404 500".split())},
}
"""Those that are one byte (RFC 7541 appendix A)."""

NO_TABLE: Final = b"\x20"
"""We keep no dynamic table (section 6.3); said at the start of the first block, so that no setting of the peer matters."""

_NEVER = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"))
"""What nobody on the way may put into a table, either (section 7.1.3)."""


def write_integer(value: int, bits: int, first: int) -> bytes:
    """Write a number behind a pattern of `first` in the bits above the lower ones (section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    said = bytearray((first | most,))
    value -= most
    while value >= 128:
        said.append(value & 127 | 128)
        value >>= 7
    said.append(value)
    return bytes(said)


def encode_field(name: bytes, value: bytes) -> bytes:
    """Write a field, whose name is in lower case, as a literal that goes into no table (section 6.2.2)."""
    if (whole := _WHOLE.get((name, value))) is not None:
        return bytes((0x80 | whole,))
    first = 0x10 if name in _NEVER else 0
    at = _INDEX.get(name)
    said = write_integer(at, 4, first) if at is not None else b"%c%b%b" % (first, write_integer(len(name), 7, 0), name)
    return b"%b%b%b" % (said, write_integer(len(value), 7, 0), value)
