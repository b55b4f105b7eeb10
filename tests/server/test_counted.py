from __future__ import annotations

from typing import Any

from smartedge.server.counted import CountedApp
from smartedge.server.front import AppHooks
from tests.house import request


def test_each_request_of_a_counted_app_is_counted_once_whoever_answers_it() -> None:
    """Regression: EdgeWorker did not mind `--max-requests`."""

    class App:
        server_hooks = AppHooks(forward=lambda request: [b"forwarded"] if request.target == b"/" else None)

        def __call__(self, environ: dict[str, Any], start_response: object) -> list[bytes]:
            return [environ["body"]]

    counted: list[bool] = []
    app = CountedApp(App(), lambda: counted.append(True))
    forward = app.server_hooks.forward
    assert forward(request(target=b"/for-the-app")) is None  # it will be called for that
    assert counted == []
    assert forward(request()) == [b"forwarded"]
    assert counted == [True]
    assert app({"body": b"1"}, None) == [b"1"]
    assert counted == [True, True]
