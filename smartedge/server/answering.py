"""From a request to the last byte of its answer, whatever carries the two: HTTP/1.1 (handler.py) or a stream (http2.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from smartedge.http.request import Request
from smartedge.server.answer import AnswerWriter
from smartedge.server.front import Front
from smartedge.server.wsgi import to_environ


def give_answer(
    request: Request,
    writer: AnswerWriter,
    front: Front,
    forward: Callable[[Request], Any],
    base_environ: Callable[[], dict[str, Any]],
) -> None:
    """Have the app answer a request, and its writer send what it says; raises what the app, the exchange and the writer raise.

    forward: is asked before the app (`AppHooks.forward`). base_environ: what the environs of all requests of this client have in
    common.
    """
    exchange = result = None
    try:
        exchange = forward(request)
        if exchange is not None:
            pieces = exchange.answer_to(writer)
        else:
            pieces = result = front.app(to_environ(request, base_environ()), writer.start_response)
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
