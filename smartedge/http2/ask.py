"""One question on a connection of its own, and its answer: for probes, which pool nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from smartedge.http.wire import Wire
from smartedge.http2.client_fields import AnswerHead, answer_head, encode_request
from smartedge.http2.frames import LinkError
from smartedge.http2.link import Link, LinkLimits
from smartedge.http2.receive import Receiver
from smartedge.http2.stream import Pairs, StreamEnded


class WholeAnswer(NamedTuple):
    """An answer, as `ask` gives it. body: as much of it as was asked for."""

    head: AnswerHead
    body: bytes
    trailers: Pairs


class NoHttp2Answer(Exception):
    """There is none; the text says why, for people. is_refusal: the peer speaks HTTP/2, and has refused the request."""

    def __init__(self, why: str, *, is_refusal: bool = False) -> None:
        super().__init__(why)
        self.is_refusal = is_refusal


def ask(
    wire: Wire, scheme: bytes, head: bytes, body: bytes, most_bytes: int, head_bytes: int, left_s: Callable[[], float]
) -> WholeAnswer:
    """Send a request, its head as HTTP/1.1 has it, and wait for its answer, of whose body most_bytes are read.

    left_s: how long it may still take; raises what that raises, WireTimeout, OSError, and NoHttp2Answer.
    """
    link = Link(wire, LinkLimits(streams=1, head_bytes=head_bytes), is_server=False)
    receiver = Receiver(link)
    found: list[AnswerHead] = []
    read = b""
    try:
        link.start()
        stream = link.open_stream()

        def take(pairs: Pairs) -> None:
            said = answer_head(pairs, head_bytes)
            if said.status >= 200:
                found.append(said)
                stream.on_head = None

        stream.on_head = take
        stream.send_head(encode_request(head, scheme), left_s(), body, end=True)
        while not (found and stream.is_read):
            if stream.failure is not None:
                raise NoHttp2Answer(str(stream.failure), is_refusal=stream.failure.by_peer and not link.closed)
            if found and stream.at_hand:
                read += stream.read(left_s())
                if len(read) >= most_bytes:
                    break
                continue
            if stream.has_ended:
                raise NoHttp2Answer("an answer without a head")
            data = wire.recv(left_s())
            if not data:
                raise NoHttp2Answer("connection closed " + ("in mid-answer" if found else "without an answer"))
            receiver.receive(data)
    except LinkError as error:
        raise NoHttp2Answer(f"not HTTP/2: {error}") from None
    except StreamEnded as error:
        raise NoHttp2Answer(str(error)) from None
    finally:
        link.lose(StreamEnded("It has been answered."))
    return WholeAnswer(found[0], read, stream.trailers)
