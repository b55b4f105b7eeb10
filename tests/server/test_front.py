"""What a server asks of its app."""

from __future__ import annotations

from smartedge.balancer.errors import ClientError
from smartedge.server.front import AppHooks, Front, ServerLimits, hooks_of
from tests.house import request


def plain(_environ: object, _start_response: object) -> list[bytes]:
    return []


def test_an_app_without_hooks_is_a_plain_wsgi_app() -> None:
    hooks = Front(plain, lambda: None).hooks
    assert hooks.limits() == ServerLimits()
    assert hooks.forward(request()) is None
    assert hooks.next_request_id() != hooks.next_request_id()
    hooks.on_refused(b"192.0.2.1", ClientError("bad"), "id")
    hooks.on_stopping()


def test_an_apps_own_hooks_are_used_and_nothing_that_only_has_their_name() -> None:
    class App:
        server_hooks: object = AppHooks(on_stopping=lambda: None)

    assert hooks_of(App()) is App.server_hooks
    App.server_hooks = "something else"
    assert hooks_of(App()) == AppHooks()
