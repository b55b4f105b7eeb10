"""A backend's answer as a request's way back knows it, whatever protocol it came by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import requests
from requests.structures import CaseInsensitiveDict

from smartedge.balancer.errors import EdgeError
from smartedge.http.answer_fields import AnswerFields
from smartedge.http.headers import pairs_of


class Conversation(Protocol):
    """One request and its answer on their way: a `Connection` of HTTP/1.1, or a `BackendStream`.

    lends: whoever reads the answer is done with a piece before asking for the next. pipes: and sends it by a plain wire.
    """

    lends: bool
    pipes: bool

    def fail(self, error: EdgeError) -> None:
        """End it, and have whoever waits for its answer told why; waits for nothing."""


class Answer(Protocol):
    """A backend's answer; made by its adapter, owned by an Attempts. `read` gives its body as it comes.

    Not a requests.Response, each of whose attributes takes its time (docs/performance.md); `as_response` gives one.
    complete: the backend has sent everything (what `read` has not given yet is here already), or the answer was closed.
    trailers: the trailer fields, once the body has been read. counts_as: the status that it counts as, for breakers and for other
    tries; another than `status_code` where gRPC has its own, which may come last. grpc_status: that, None where there is none.
    unacted: the backend says that it has not worked on the request, so that any may be sent again.
    """

    complete: bool
    fields: AnswerFields
    via: bytes
    status_code: int
    status_line: bytes
    counts_as: int
    trailers: Sequence[tuple[bytes, bytes]]

    @property
    def connection(self) -> Conversation | None: ...  # noqa: D102
    @property
    def grpc_status(self) -> int | None: ...  # noqa: D102
    @property
    def unacted(self) -> bool: ...  # noqa: D102
    @property
    def at_hand(self) -> bool:
        """Whether `read` would give something, or the end, without waiting."""

    def read(self, *_size: int) -> Any:
        """Wait for the next piece of the body; b"" at the end. Raises BadAnswer when it is cut, BackendTimeout when it stalls.

        Bytes, or a memoryview where the connection `lends`, or a Pipe where it `pipes`.
        """

    def lend(self) -> Any:
        """Give what `read` does, though it may be a view of bytes. Raises as that does."""

    def close(self) -> None:
        """Be done with the answer, though it may not have come to its end."""

    def stream(self, *_size: int, **_options: object) -> Iterator[bytes]:
        """Give the body in the pieces it came in (what requests calls on `raw`)."""

    def as_response(self) -> requests.Response:
        """Give it as requests' users know answers."""


def response_of(answer: Answer, url: str) -> requests.Response:
    """Make a requests.Response of an answer; the body is read from that one."""
    response = requests.Response()
    response.status_code = answer.status_code
    response.reason = answer.status_line[4:-2].decode("latin-1")
    response.headers = CaseInsensitiveDict(pairs_of(answer.fields.block))
    response.url = url
    response.raw = answer
    return response
