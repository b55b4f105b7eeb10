"""From a request to the last byte of its answer, whatever carries the two: HTTP/1.1 (handler.py) or a stream (http2.py)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from smartedge.http.derivable import mypyc_attr
from smartedge.http.request import Request
from smartedge.server.answer import AnswerWriter
from smartedge.server.front import Front
from smartedge.server.wsgi import to_environ


@mypyc_attr(allow_interpreted_subclasses=True)
class Forwarded:
    """A request that needs nothing of the app, on its way: an `Exchange` (proxy/exchange.py), given by `AppHooks.forward`."""

    __slots__ = ()

    def answer_to(self, writer: AnswerWriter) -> Iterable[Any] | None:
        """Have the client answered; return what is still to be written, None when nothing is. Raises what the writer raises."""
        raise NotImplementedError

    def close(self) -> None:
        """Be done with it, whatever has become of it."""
        raise NotImplementedError


class Carrier(Protocol):
    """What carries a request: an `EdgeHandler` its connection's, a `StreamHandler` its stream's."""

    def forward(self, request: Request) -> Any:
        """Ask what answers before the app (`AppHooks.forward`)."""

    def base_environ(self) -> dict[str, Any]:
        """Make what the environs of all its requests have in common."""


def give_answer(request: Request, writer: AnswerWriter, front: Front, carrier: Carrier) -> None:
    """Have the app answer a request, and its writer send what it says; raises what the app, the exchange and the writer raise."""
    exchange: Forwarded | None = None
    result: Any = None
    try:
        exchange = carrier.forward(request)
        if exchange is not None:
            pieces = exchange.answer_to(writer)
        else:
            pieces = result = front.app(to_environ(request, carrier.base_environ()), writer.start_response)
        if pieces is not None:
            for piece in pieces:
                if piece:
                    writer.write(piece)
                else:
                    writer.send_head()
            writer.finish_answer()
    finally:
        if exchange is not None:
            exchange.close()
        elif result is not None and hasattr(result, "close"):
            result.close()
