"""One request and its answer on a stream to a backend that speaks HTTP/2, and that answer as a request's way back knows it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from smartedge.balancer.errors import BackendClosed, BackendTimeout, BadAnswer, DeadlineExceeded, EdgeError
from smartedge.http import grpc
from smartedge.http.answer_fields import read_answer_fields
from smartedge.http.headers import VIA_2
from smartedge.http.problem import reason
from smartedge.http.wire import WireTimeout
from smartedge.http2 import frames as h2
from smartedge.http2.client_fields import NO_BODY, AnswerHead, answer_head, encode_request
from smartedge.http2.fields import encode_trailers
from smartedge.http2.frames import StreamError
from smartedge.http2.link import Link
from smartedge.http2.stream import Pairs, Stream, StreamEnded
from smartedge.proxy.adapter import Limits
from smartedge.proxy.answer import Answer
from smartedge.proxy.connection import MOST_INTERIMS
from smartedge.proxy.http2_upload import Http2Upload
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.upload import TOOK_NOTHING

AT_ONCE_BYTES: Final = 16384
"""A body that is here and not larger goes out with its head, if the windows are open."""


TOO_LONG: Final = "The call took longer than its client's grpc-timeout allows."


class BackendStream:
    """Sends one request and receives its answer; made by the Http2Adapter for each try, a `Conversation`.

    on_end: told when the stream is of no more use. is_call: it is one of gRPC. until: when that must have ended, None for ever.
    head: of the answer, once it is there. failure: why it was ended from elsewhere.
    """

    __slots__ = (
        "_interims",
        "_limits",
        "_link",
        "_method",
        "_on_end",
        "_upload",
        "failure",
        "head",
        "is_call",
        "stream",
        "until",
    )

    def __init__(self, request: Outbound, limits: Limits, on_end: Callable[[], None]) -> None:
        self._method = request.method  # the request itself holds this
        self._limits = limits
        self._on_end = on_end
        self._interims: list[AnswerHead] = []
        self._upload: Http2Upload | None = None
        self._link: Link | None = None
        self.head: AnswerHead | None = None
        self.failure: EdgeError | None = None
        self.stream: Stream | None = None
        self.until: float | None = None
        self.is_call = grpc.is_call(request.head)
        if self.is_call and (may_take_s := grpc.timeout_s(request.head)) is not None:
            self.until = (monotonic() if request.started is None else request.started) + may_take_s

    # ---- the request ----

    def send(self, request: Outbound, link: Link, scheme: bytes) -> None:
        """Open a stream, send the head, and begin with the body. Raises BackendClosed or BackendTimeout."""
        send_s = self._limits.idle_s
        body, data, block, trailers = request.body, b"", encode_request(request.head, scheme), b""
        whole = None if body is None else body.buffered()
        if body is not None and whole is not None:
            trailers = encode_trailers(body.trailers)
        try:
            stream, self._link = link.open_stream(), link
        except StreamEnded as error:
            raise BackendClosed(f"The connection to the backend has ended: {error}", sent=False) from None
        self.stream = stream
        stream.on_head = self._on_head
        at_once = body is None or (
            whole is not None and len(whole) <= min(AT_ONCE_BYTES, stream.send_window, link.send_window) and not trailers
        )
        if at_once and whole:
            data = whole
        try:
            stream.send_head(block, send_s, data, end=at_once)
        except WireTimeout as error:
            raise BackendTimeout(TOOK_NOTHING) from error
        except StreamEnded as error:
            raise self._error(error) from error
        except OSError:
            pass  # whoever reads finds out more
        if not at_once:
            assert body is not None
            self._upload = Http2Upload(stream, body, whole, send_s, request.on_sent, self.fail)

    # ---- the answer's head ----

    def wait(self, request: Outbound, first_byte_s: float) -> None:
        """Wait for the answer's head; raises BackendClosed, BadAnswer, BackendTimeout, DeadlineExceeded, or `failure`.

        first_byte_s: how long that may take, counted from the last byte of the request, or from the last 1xx.
        """
        stream = self.stream
        assert stream is not None
        since, was_sending = monotonic(), self._is_sending
        while True:
            while self._interims:
                _pass_interim(request, self._interims.pop(0))
                since = monotonic()
            if self.failure is not None:
                raise self.failure
            if self.head is not None:
                return
            if stream.failure is not None:
                raise self._error(stream.failure)
            if stream.has_ended:
                raise BadAnswer("The backend ended its answer without a head.")
            now = monotonic()
            if was_sending and not self._is_sending:
                since, was_sending = now, False
            left_s = inf if was_sending else since + first_byte_s - now
            self._wait_for_news(left_s, "The backend did not answer in time.", now)

    @property
    def is_leaving(self) -> bool:
        """Whether the backend has said GOAWAY."""
        return self._link is not None and self._link.going

    @property
    def _is_sending(self) -> bool:
        return self._upload is not None and not self._upload.done

    def _wait_for_news(self, left_s: float, late: str, now: float) -> None:
        stream = self.stream
        assert stream is not None
        is_last = self.until is not None and self.until - now <= left_s
        if is_last:
            assert self.until is not None
            left_s = self.until - now
        try:
            stream.wait_for_news(max(0.0, left_s))
        except WireTimeout:
            if is_last:
                raise DeadlineExceeded(TOO_LONG) from None
            raise BackendTimeout(late) from None

    def _on_head(self, pairs: Pairs) -> None:
        """Take a head (called where frames are read, so nothing here may wait); raises StreamError."""
        stream = self.stream
        assert stream is not None
        head = answer_head(pairs, self._limits.answer_head_bytes)
        if head.status >= 200:
            self.head, stream.on_head = head, None
            stream.length = 0 if self._method == b"HEAD" or head.status in NO_BODY else head.length
        elif len(self._interims) < MOST_INTERIMS:
            self._interims.append(head)
        else:
            raise StreamError(h2.PROTOCOL_ERROR, f"more than {MOST_INTERIMS} interim answers and no final one")
        stream.wake()

    def _error(self, ended: StreamEnded) -> EdgeError:
        """Give what it is to a request that its stream has ended before the answer's head."""
        if self.failure is not None:
            return self.failure
        if not ended.by_peer:
            return BadAnswer(f"The backend breaks a rule of HTTP/2: {ended}.")
        if ended.code == h2.REFUSED_STREAM:
            return BackendClosed(f"The backend has refused the request: {ended}", sent=False)
        return BackendClosed(f"The backend ended the stream without an answer: {ended}")

    # ---- the answer's body ----

    def read(self) -> bytes:
        """Wait for the next piece of the body; b"" at its end.

        Raises BadAnswer, BackendTimeout, DeadlineExceeded, or `failure`.
        """
        stream = self.stream
        assert stream is not None
        if self.until is not None and monotonic() >= self.until and not stream.has_ended:
            raise DeadlineExceeded(TOO_LONG)
        left_s = self._limits.idle_s
        while not stream.at_hand:
            try:
                self._wait_for_news(left_s, "The backend stopped in the middle of its answer.", monotonic())
            except BackendTimeout:
                left_s = stream.silence_left_s(self._limits.idle_s)
                if left_s <= 0.0:
                    raise
        try:
            return stream.read(self._limits.idle_s)
        except StreamEnded as error:
            raise self.failure or BadAnswer(f"The backend broke off its answer: {error}") from error

    # ---- the end ----

    def fail(self, error: EdgeError) -> None:
        """End the stream, and have whoever waits for its answer told why; waits for nothing."""
        self.failure = error
        if self.stream is not None:
            self.stream.reset(h2.CANCEL, "ended by the edge")
            self.stream.wake()

    def close(self) -> None:
        """Be done with it; what the backend has not sent yet, or not got, is cancelled."""
        upload, self._upload = self._upload, None  # each holds the other
        if upload is not None and not upload.done:
            upload.abandon()
        stream = self.stream
        if stream is not None:
            stream.on_head = None
            stream.reset(h2.CANCEL, "of no more use")
            stream.drop()
        self._on_end()


def _pass_interim(request: Outbound, head: AnswerHead) -> None:
    if request.told is not None:
        request.told.pass_interim(head.status, status_line(head.status), read_answer_fields(head.block, head.status))


def status_line(status: int) -> bytes:
    """Write the status line of an answer from its code on, for HTTP/1.1."""
    return b"%d %b\r\n" % (status, reason(status).encode())


class Http2Answer(Answer):
    """A backend's answer by HTTP/2; made by its Http2Adapter. conversation: while more of it is to come."""

    __slots__ = ("_body", "conversation", "grpc_status", "unacted")

    def __init__(self, conversation: BackendStream) -> None:
        head, stream = conversation.head, conversation.stream
        assert head is not None
        assert stream is not None
        self.conversation: BackendStream | None = conversation
        self.status_code = self.counts_as = head.status
        self.status_line = status_line(head.status)
        self.fields = read_answer_fields(head.block, head.status)
        self.via = VIA_2
        self.trailers = ()
        self.grpc_status = None
        self.complete = self.unacted = False
        self._body = b""
        if stream.has_ended:
            # It is all here: the lease ends before the client has even been served.
            self._body = conversation.read()
            self._finish(conversation, stream)

    def _finish(self, conversation: BackendStream, stream: Stream) -> None:
        self.complete = True
        self.conversation = None
        self.trailers = stream.trailers
        if conversation.is_call and self.status_code == 200:
            self._conclude(conversation, stream)
        conversation.close()

    def _conclude(self, conversation: BackendStream, stream: Stream) -> None:
        """Find out how a call has ended."""
        status = grpc.status_in(self.trailers)
        if status is None and not stream.received_bytes and conversation.head is not None:
            status = grpc.status_in(grpc.pairs_of(conversation.head.block))
            # gRPC's C core, and with it Python's, cancels what reaches a server as it stops and has not been handed out.
            self.unacted = status == grpc.UNAVAILABLE or (status == grpc.CANCELLED and conversation.is_leaving)
        self.grpc_status = grpc.UNKNOWN if status is None else status
        self.counts_as = 503 if self.unacted else grpc.COUNTS_AS.get(self.grpc_status, 500)

    @property
    def at_hand(self) -> bool:
        """Whether `read` would give something, or the end, without waiting."""
        conversation = self.conversation
        return conversation is None or conversation.stream is None or conversation.stream.at_hand

    def read(self) -> bytes:
        """Wait for the next piece of the body; b"" at the end. See `BackendStream.read`."""
        if self._body:
            body, self._body = self._body, b""
            return body
        conversation = self.conversation
        if conversation is None:
            return b""
        piece = conversation.read()
        stream = conversation.stream
        assert stream is not None
        if stream.is_read:
            self._finish(conversation, stream)
        return piece

    def close(self) -> None:
        """Be done with the answer: what has not come is cancelled."""
        conversation, self.conversation = self.conversation, None
        self.complete = True
        if conversation is not None:
            conversation.close()
