"""The edge's own span in the trace of one request that is recorded."""

from __future__ import annotations


class Span:
    """The edge's own span of a request that is recorded, and the ids of its tries' spans; made by a Tracer, kept by the Request.

    traceparent: the line that tells of it, for whoever is asked on the way. parent_id: of the span that the client sent, "" for
    none. state: the tracestate, b"" for none. tries: the ids of the tries, by when the lease of each began and its backend's
    key. All ids are lower-case hexadecimal digits.
    """

    __slots__ = ("parent_id", "state", "traceparent", "tries")

    def __init__(self, traceparent: bytes, parent_id: str = "", state: bytes = b"") -> None:
        self.traceparent = traceparent
        self.parent_id = parent_id
        self.state = state
        self.tries: dict[tuple[float, str], str] = {}

    @property
    def trace_id(self) -> str:
        """The trace's."""
        return self.traceparent[16:48].decode()

    @property
    def span_id(self) -> str:
        """Its own."""
        return self.traceparent[49:65].decode()
