"""An app whose requests are counted where gunicorn, which counts them in its own loop, sees none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from smartedge.http.request import Request
from smartedge.server.front import hooks_of


class CountedApp:
    """An app that has `count` called for each of its requests; made by `EdgeWorker` and `TakenServer` where a worker has a limit.

    Called by a server as the app would be.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], count: Callable[[], None]) -> None:
        self._app = app
        self._count = count
        self._hooks = hooks_of(app)
        self.server_hooks = replace(self._hooks, forward=self._forward)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, and count it."""
        self._count()
        return self._app(environ, start_response)

    def _forward(self, request: Request) -> Any:
        """Count a request that does not come here, too."""
        answer = self._hooks.forward(request)
        if answer is not None:
            self._count()
        return answer
