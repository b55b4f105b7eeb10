from __future__ import annotations

from typing import Any

from smartedge.server.front import AppHooks
from smartedge.worker import CountedApp
from tests.house import request


def test_an_app_that_is_counted_says_when_it_is_enough_and_is_the_app_for_the_rest() -> None:
    """Regression: EdgeWorker did not mind `--max-requests`."""

    class App:
        server_hooks = AppHooks(forward=lambda request: [b"forwarded"] if request.target == b"/" else None)

        def __call__(self, environ: dict[str, Any], start_response: object) -> list[bytes]:
            return [environ["body"]]

    enough: list[bool] = []
    counted = CountedApp(App(), 3, lambda: enough.append(True))
    forward = counted.server_hooks.forward
    assert forward(request(target=b"/for-the-app")) is None
    assert forward(request()) == [b"forwarded"]
    for number in range(4):
        assert counted({"body": b"%d" % number}, None) == [b"%d" % number]
        assert len(enough) == (number >= 1)
