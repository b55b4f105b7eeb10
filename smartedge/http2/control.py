"""What those frames mean that carry nothing of a message: settings, pings, priorities, GOAWAY (RFC 9113 section 6, RFC 9218)."""

from __future__ import annotations

import re
from collections.abc import Callable
from time import monotonic

from smartedge.http2 import frames as h2
from smartedge.http2.frames import LinkError, StreamError
from smartedge.http2.link import Link
from smartedge.http2.stream import Stream

_URGENCY = re.compile(rb"(?:^|,)\s*u=([0-7])\s*(?:,|;|$)")


def set_urgency(stream: Stream, value: bytes) -> None:
    """Take what a Priority field says (RFC 9218 section 4.1); what it does not say, or nobody understands, changes nothing."""
    if (found := _URGENCY.search(value)) is not None:
        stream.urgency = int(found[1])


def control_frames(link: Link) -> dict[int, Callable[[int, int, bytes], None]]:
    """Give what takes each kind for this connection: flags, stream and payload. They raise LinkError and StreamError."""
    control = _Control(link)
    return {
        h2.PRIORITY: control.on_priority,
        h2.SETTINGS: control.on_settings,
        h2.PING: control.on_ping,
        h2.GOAWAY: control.on_goaway,
        h2.PRIORITY_UPDATE: control.on_priority_update,
    }


class _Control:
    """Takes them for one Link; kept by its Receiver."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise LinkError(h2.PROTOCOL_ERROR, "SETTINGS on a stream")
        if len(payload) % 6 or (flags & h2.ACK and payload):
            raise LinkError(h2.FRAME_SIZE_ERROR, "SETTINGS of a length that it cannot have")
        link = self._link
        link.calm.take("settings", monotonic())
        if flags & h2.ACK:
            return
        for name, value in h2.settings_in(payload):
            self._set(name, value)
        link.say(h2.frame(h2.SETTINGS, h2.ACK, 0))
        link.peer_settled.set()

    def _set(self, name: int, value: int) -> None:
        link = self._link
        if name == h2.INITIAL_WINDOW_SIZE:
            if value > h2.MOST_WINDOW:
                raise LinkError(h2.FLOW_CONTROL_ERROR, "a window of 2 GiB and more")
            more, link.first_window = value - link.first_window, value
            for stream in link.streams.values():
                stream.send_window += more
                if stream.send_window > h2.MOST_WINDOW:
                    raise LinkError(h2.FLOW_CONTROL_ERROR, "a window of 2 GiB and more")
                if stream.opened is not None:
                    stream.opened.set()
        elif name == h2.MAX_FRAME_SIZE:
            if not h2.FRAME_BYTES <= value < 2**24:
                raise LinkError(h2.PROTOCOL_ERROR, "a frame size that is not allowed")
            link.frame_bytes = min(value, 65536)
        elif name == h2.ENABLE_PUSH:
            if value > 1 or (value and not link.is_server):
                raise LinkError(h2.PROTOCOL_ERROR, "ENABLE_PUSH is 0 or 1, and 0 of a server")
        elif name == h2.MAX_CONCURRENT_STREAMS:
            link.peer_streams = value
        elif name == h2.ENABLE_CONNECT_PROTOCOL and value > 1:
            raise LinkError(h2.PROTOCOL_ERROR, "ENABLE_CONNECT_PROTOCOL is 0 or 1")

    def on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise LinkError(h2.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise LinkError(h2.FRAME_SIZE_ERROR, "PING has eight bytes")
        link = self._link
        link.calm.take("ping", monotonic())
        if not flags & h2.ACK:
            link.say(h2.frame(h2.PING, h2.ACK, 0, payload))

    def on_priority(self, _flags: int, stream_id: int, payload: bytes) -> None:
        """Check what is deprecated (section 5.3.2), and mind it no further."""
        if stream_id == 0:
            raise LinkError(h2.PROTOCOL_ERROR, "PRIORITY on the connection")
        self._link.calm.take("priority", monotonic())
        if len(payload) != 5:
            if stream_id in self._link.streams:
                raise StreamError(h2.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
            raise LinkError(h2.FRAME_SIZE_ERROR, "PRIORITY has five bytes")
        if h2.number_in(payload) == stream_id:
            if stream_id in self._link.streams:
                raise StreamError(h2.PROTOCOL_ERROR, "a stream that depends on itself")
            raise LinkError(h2.PROTOCOL_ERROR, "a stream that depends on itself")

    def on_priority_update(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or not self._link.is_server:
            raise LinkError(h2.PROTOCOL_ERROR, "PRIORITY_UPDATE where it may not be")
        if len(payload) < 4:
            raise LinkError(h2.FRAME_SIZE_ERROR, "PRIORITY_UPDATE has four bytes or more")
        self._link.calm.take("priority", monotonic())
        if not (at := h2.number_in(payload)):
            raise LinkError(h2.PROTOCOL_ERROR, "PRIORITY_UPDATE of the connection")
        stream = self._link.streams.get(at)
        if stream is not None:
            set_urgency(stream, payload[4:])

    def on_goaway(self, _flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise LinkError(h2.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise LinkError(h2.FRAME_SIZE_ERROR, "GOAWAY has eight bytes")
        self._link.calm.take("goaway", monotonic())
        self._link.go(h2.number_in(payload))
