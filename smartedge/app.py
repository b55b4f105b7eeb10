"""The Flask app: admin pages first, the catch-all route last; and the short way to it.

Flask's full dispatch costs as much as the rest of a small request together (docs/performance.md). It is left out where nobody
would notice: when the path is not one of ours, no hook is registered and no middleware wraps `wsgi_app`. Otherwise every request
goes Flask's own way, to the same view.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from typing import Any

import flask
from werkzeug.routing import BaseConverter

from smartedge.admin.blueprint import make_admin
from smartedge.admin.one_way_rule import OneWayRule
from smartedge.balancer.errors import ClientError
from smartedge.config.model import Config, ConfigError, admin_token, config_path
from smartedge.edge import collector
from smartedge.edge.client_counters import excess_counter, handshake_counter, stream_counter
from smartedge.edge.cluster_start import ClusterStart, join_running, load_for_start
from smartedge.edge.edge import Edge
from smartedge.edge.follower import running_config
from smartedge.edge.short_way import PERHAPS_RESERVED, PREFIX, ShortWay
from smartedge.http import problem
from smartedge.http.environ_keys import ADMIN, HANDLER, REQUEST, REQUEST_ID, SOCKET
from smartedge.http.request import Request
from smartedge.http.resources import TooFewDescriptors, require_descriptors
from smartedge.process.admin_door import AdminDoor
from smartedge.process.http_door import HttpDoor
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.foreign import ForeignClient, RefusalBody, can_take_over
from smartedge.server.front import AppHooks
from smartedge.server.wsgi import from_environ
from smartedge.workers.identity import Succession
from smartedge.workers.process import when_serving

RESERVED = frozenset((b"/health", b"/api/reload", b"/api/status", b"/metrics"))
CATCH_ALL = "forward"


class AnyPath(BaseConverter):
    """Matches whatever is left of a path; the stock `path` converter refuses `//` and line breaks."""

    regex = "(?s:.*?)"
    part_isolating = False


class SmartEdge(flask.Flask):
    """The Flask app, one a worker; made by `create_app`, called by the server for each request. edge: holds all that it runs."""

    def __init__(self, edge: Edge) -> None:
        super().__init__("smartedge", static_folder=None, template_folder=None)
        self.edge = edge
        short_way = ShortWay(
            edge.forwarder,
            vars(self),
            edge.begin_serving,
            is_plain=lambda: self._is_plain,
            is_reserved=lambda request: self.is_reserved(request, for_admin=False),
        )
        self.server_hooks = AppHooks(
            limits=lambda: edge.server_limits,
            next_request_id=edge.ids.next,
            on_refused=edge.on_refused,
            on_stopping=edge.on_stopping,
            on_handshake=handshake_counter(edge.edge_row),
            on_stream=stream_counter(edge.edge_row, lambda request: self.is_reserved(request, for_admin=False)),
            on_excess=excess_counter(edge.edge_row),
            hsts=lambda: edge.hsts,
            h2c=lambda: edge.config.h2c,
            forward=short_way.forward,
        )
        self.url_map.converters["anypath"] = AnyPath
        self.url_map.merge_slashes = False
        self.register_blueprint(make_admin(edge))
        for websocket in (False, True):
            self.url_map.add(OneWayRule("/<anypath:path>", endpoint=CATCH_ALL, methods=None, websocket=websocket))
            self.url_map.add(OneWayRule("/", endpoint=CATCH_ALL, methods=None, websocket=websocket))
        self.view_functions[CATCH_ALL] = self.forward_view

    def wsgi_app(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Forward, the short way if there is nothing in Flask's; see the module's head."""
        if not self.edge.began:
            self.edge.begin_serving()
        request: Request | None = environ.get(REQUEST)
        if request is None:
            try:
                request = environ[REQUEST] = from_environ(environ, start_response, self.edge.server_limits.body_bytes)
                if request.said.upgrade is not None and not can_take_over(environ):
                    request.fields = request.fields.without_upgrade()
            except ClientError as error:
                request_id = self.edge.ids.next()
                self.edge.on_refused(environ.get("REMOTE_ADDR", "unix").encode("latin-1"), error, request_id)
                status, fields, body = problem.answer(error, request_id)
                start_response(f"{status} {problem.reason(status)}", fields)
                return RefusalBody(body, ForeignClient(environ, start_response))
        for_admin = ADMIN in environ
        if self._is_passed_on(request, for_admin):
            return self.edge.forwarder.forward(request)(environ, start_response)
        if self.is_reserved(request, for_admin):
            environ[REQUEST_ID], environ[SOCKET] = self.edge.ids.of(request), request.sock
            start_response = self._logged(environ, request, start_response)
        return super().wsgi_app(environ, start_response)

    def _logged(self, environ: dict[str, Any], request: Request, start_response: Any) -> Any:
        """Have an answer of the admin pages in the access log, under the request id that its problems name."""

        def start(status: str, *rest: Any) -> Any:
            code = int(status[:3])
            self.edge.access_log.write_admin(request, environ[REQUEST_ID], code)
            return start_response(f"{code} {problem.reason(code)}", *rest)  # Werkzeug shouts its reasons

        return start

    def _is_passed_on(self, request: Request, for_admin: bool = False) -> bool:
        """Whether nobody would notice that a request does not go through Flask."""
        return self._is_plain and not self.is_reserved(request, for_admin)

    def is_bare(self) -> bool:
        """Whether nothing of somebody else's is around the app or in it."""
        return self._is_plain and "wsgi_app" not in self.__dict__

    def is_reserved(self, request: Request, for_admin: bool) -> bool:
        """Whether a path is one of the edge's own, as it stands on the wire: `/%68ealth` is the backend's.

        With an admin listener of its own, the traffic port has no reserved paths and the admin port no others.

        for_admin: it came to that listener.
        """
        if self.edge.admin_apart:
            return for_admin
        target = request.target
        if not target.startswith(PERHAPS_RESERVED):
            return False
        return target.partition(b"?")[0] in RESERVED or target.startswith(PREFIX)

    def dispatch_request(self) -> Any:
        """Call the view; what is not reserved is the catch-all's, whatever Werkzeug makes of method and path."""
        request, environ = flask.request, flask.request.environ
        if not self.is_reserved(environ[REQUEST], ADMIN in environ):
            return self.view_functions[CATCH_ALL](path="")
        if environ[REQUEST].target in (b"/", b"/smartedge"):  # at a listener for admins only
            return flask.redirect("smartedge/")
        if request.url_rule is None or request.url_rule.endpoint == CATCH_ALL:
            body = problem.body(404, "Not found", "The edge has no such page.", environ[REQUEST_ID])
            return flask.Response(body, 404, content_type=problem.CONTENT_TYPE)
        return super().dispatch_request()

    def forward_view(self, path: str = "") -> PassedResponse:
        """Forward any method and path that is not ours: the catch-all."""
        return PassedResponse(self.edge.forwarder.forward(flask.request.environ[REQUEST]))

    @cached_property
    def _is_plain(self) -> bool:
        """Whether nothing is registered that Flask's own dispatch would call around the catch-all.

        Flask refuses to take hooks after its first request, so this is asked once, at that moment.
        """
        self._got_first_request = True
        by_scope = (
            self.before_request_funcs,
            self.after_request_funcs,
            self.teardown_request_funcs,
            self.url_value_preprocessors,
        )
        signals = (flask.request_started, flask.request_finished, flask.request_tearing_down, flask.got_request_exception)
        own_view = self.view_functions[CATCH_ALL] == self.forward_view
        return (
            own_view
            and not any(functions.get(None) for functions in by_scope)
            and not self.teardown_appcontext_funcs
            and not any(signal.receivers for signal in signals)
        )


class PassedResponse(flask.Response):
    """An exchange as Flask's own dispatch wants it, for apps with hooks: nothing added, and closed whatever happens.

    Werkzeug adds a Content-Type and never closes the body of a HEAD or a 304.
    """

    default_mimetype = None
    autocorrect_location_header = False
    automatically_set_content_length = False

    def __init__(self, exchange: Exchange) -> None:
        answer = exchange.attempts.answer
        if answer is not None:
            super().__init__(exchange, exchange.status_line(answer), exchange.pairs(answer), direct_passthrough=True)
        else:
            assert exchange.own_answer is not None
            status, fields, _ = exchange.own_answer
            super().__init__(exchange, f"{status} {problem.reason(status)}", fields, direct_passthrough=True)
        self._exchange = exchange

    def __call__(self, environ: Any, start_response: Any) -> Any:
        """Answer as a WSGI app does; what Flask's hooks did to the head of a 101 has no effect."""
        if self._exchange.switches or self._exchange.is_for_nobody:
            return self._exchange(environ, start_response)
        body = super().__call__(environ, start_response)
        if HANDLER not in environ:
            self._exchange.belongs_to(ForeignClient(environ, start_response))
        return body

    def get_app_iter(self, environ: Any) -> Any:
        """Give the exchange itself: its `close` is what WSGI servers call."""
        return self._exchange


@collector.put_off()
def create_app(
    config: Config | None = None,
    *,
    path: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    token: str | None = None,
    front: Any = None,
    cluster: ClusterStart | None = None,
    succession: Succession | None = None,
) -> SmartEdge:
    """Build the app from a Config, or from SMARTEDGE_CONFIG (else `backends.json`) and the other SMARTEDGE_* variables.

    Listens nowhere and probes nothing: the loops start when this process begins to serve, before its first request. In a cluster
    etcd is asked for the configuration. path: where `config` came from, for reloads. cluster: how it was loaded in a cluster.
    front: what workers share of TLS (http/server_tls.py). succession: from which program this one takes over.
    Raises ConfigError with everything that is wrong; while gunicorn begins, that and too few descriptors as `cannot_begin` says.
    """
    begins_in_gunicorn = "gunicorn.arbiter" in sys.modules and "SERVER_SOFTWARE" in os.environ
    if config is None:
        path = config_path(path, os.environ)
        try:
            if begins_in_gunicorn:
                require_descriptors()
            if (config := running_config(os.environ)) is not None:
                cluster = join_running(path, os.environ, overrides)
            else:
                config, cluster = load_for_start(path, os.environ, overrides)
            token = admin_token(os.environ)
        except (ConfigError, TooFewDescriptors) as error:
            if begins_in_gunicorn:
                raise cannot_begin(error) from error
            raise
    edge = Edge(config, config_path=path, overrides=overrides, token=token, front=front, cluster=cluster, succession=succession)
    app = SmartEdge(edge)
    if "gunicorn.arbiter" in sys.modules:
        from smartedge.process.take_over import take_over

        edge.doors = HttpDoor(app), AdminDoor(app)
        when_serving(partial(take_over, app))  # first: the next takes so long that the loop would accept meanwhile
    when_serving(edge.begin_serving)
    return app


def cannot_begin(error: Exception) -> Exception:
    """Make of an error what gunicorn says in one line before it ends: AppImportError of a worker, RuntimeError of an arbiter."""
    from gunicorn.errors import AppImportError

    class CannotBegin(AppImportError, RuntimeError):  # type: ignore[misc]
        """The edge cannot begin; the arbiter loads the app with `--preload`."""

    return CannotBegin(f"smartedge: {error}")
