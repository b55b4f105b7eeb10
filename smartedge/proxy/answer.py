"""A backend's answer as a request's way back knows it, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from smartedge.balancer.errors import EdgeError
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.derivable import mypyc_attr


class Conversation(Protocol):
    """One request and its answer on their way: a `Connection` of HTTP/1.1, or a `BackendStream`."""

    def fail(self, error: EdgeError) -> None:
        """End it, and have whoever waits for its answer told why; waits for nothing."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Answer:
    """A backend's answer: an `Http1Answer` or an `Http2Answer`, made by its adapter, owned by an Attempts.

    Not a requests.Response, each of whose attributes takes its time (docs/performance.md); `session.as_response` gives one. A
    class that the two derive from and no Protocol, whose attributes compiled code would look up by their names.
    complete: the backend has sent everything (what `read` has not given yet is here already), or the answer was closed.
    trailers: the trailer fields, once the body has been read. counts_as: the status that it counts as, for breakers and for other
    tries; another than `status_code` where gRPC has its own, which may come last. grpc_status: that, None where there is none.
    unacted: the backend says that it has not worked on the request, so that any may be sent again.
    """

    __slots__ = ("complete", "counts_as", "fields", "status_code", "status_line", "trailers", "via")

    complete: bool
    counts_as: int
    fields: AnswerFields
    status_code: int
    status_line: bytes
    trailers: Sequence[tuple[bytes, bytes]]
    via: bytes

    grpc_status: int | None = None
    unacted: bool = False

    @property
    def at_hand(self) -> bool:
        """Whether `read` would give something, or the end, without waiting."""
        raise NotImplementedError

    def begin_lending(self, *, pipes: bool) -> None:
        """Hear that whoever reads is done with a piece before asking for the next; pipes: and sends it by a plain wire."""

    def read(self) -> Any:
        """Wait for the next piece of the body; b"" at the end. Raises BadAnswer when it is cut, BackendTimeout when it stalls.

        Bytes, or after `begin_lending` a memoryview or a Pipe, too.
        """
        raise NotImplementedError

    def lend(self) -> Any:
        """Give what `read` does, though it may be a view of bytes. Raises as that does."""
        return self.read()

    def close(self) -> None:
        """Be done with the answer, though it may not have come to its end."""
        raise NotImplementedError
