"""Carries routes out: finds the one of a request, has its guard decide, changes request and answer, and picks the service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random

from smartedge.balancer.errors import ClientError, Misdirected, NoRoute, Unauthorized
from smartedge.http.certificates import covers
from smartedge.http.cookies import field
from smartedge.http.forwarded import IsTrusted, came_by_https
from smartedge.http.headers import pairs_of
from smartedge.http.normal_form import host_name
from smartedge.http.own_answer import OwnAnswer, own_answer
from smartedge.http.request import Request
from smartedge.proxy.affinity import key_reader
from smartedge.proxy.attempts import HedgedSend
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.header_edits import EditValues
from smartedge.proxy.mirror import Mirror
from smartedge.proxy.route import Route
from smartedge.proxy.routes import RouteTable
from smartedge.proxy.service import Service, ServicePolicy


class Router:
    """What the `Forwarder` asks where a configuration has routes; made at reload, and replaced whole by the next.

    services: by name, all that the routes name. is_trusted: as in `Hop`. mirror: sends copies.
    """

    def __init__(
        self,
        routes: Iterable[Route],
        services: Mapping[str, Service],
        rng: Random,
        is_trusted: IsTrusted,
        mirror: Mirror,
    ) -> None:
        self._client_of = key_reader("client", is_trusted)
        self.table = RouteTable(routes, self._client_of)
        self._services = services
        self._rng = rng
        self._is_trusted = is_trusted
        self._mirror = mirror
        self._policies: dict[tuple[str, str], tuple[ServicePolicy, ServicePolicy]] = {}

    def run(self, exchange: Exchange, race: HedgedSend) -> None:
        """Carry out the route of a request; raises the EdgeError that its client is to be told. race: see `Attempts.run`."""
        attempts = exchange.attempts
        request = attempts.request
        route = self.table.find(request)
        if route is None:
            raise _no_route(request)
        exchange.route = route
        name = None if route.to is None else route.to.only
        if name is not None:
            exchange.routed_to, attempts.service = name, self._services[name]
        answer = None if route.guard is None else route.guard.admit(request, self._client_of)
        if answer is None and route.to is None:
            answer = self._own_answer(route, request)
        if answer is not None:
            exchange.answer_here(self._edited(answer, exchange, route))
            return
        assert route.to is not None
        if route.body_bytes and request.body is not None:
            request.body.limit(route.body_bytes)
        if name is None:
            name = exchange.routed_to = self._side(route, request)
            attempts.service = self._services[name]
        service = attempts.service
        attempts.policy = service.policy
        if route.policy is not None:
            attempts.policy = self._policy(route, service)
            attempts.first_byte_s = route.policy.first_byte_s
        if route.rewrite is not None:
            exchange.asked_target = request.target
            request.target = route.rewrite.target(request.target)
        if route.request_edits is not None:
            request.fields = route.request_edits.edit_request(request.fields, lambda: self._values(exchange))
            if route.request_edits.has_traceparent:
                request.traceparent = b""
        if route.mirror is None:
            exchange.run(race)
        else:
            name, ratio = route.mirror
            try:
                exchange.run(race)
            finally:  # what fails here may be what the other service is to be tried with
                if self._rng.random() < ratio:
                    self._mirror.send(attempts, self._services[name])
        if route.answer_edits is not None and attempts.answer is not None:
            block = route.answer_edits.edit_block(attempts.answer.fields.block, lambda: self._values(exchange))
            attempts.answer.fields = attempts.answer.fields.with_block(block)

    def failed(self, exchange: Exchange) -> None:
        """Give an error of the edge's own the look that its route asks for."""
        route, error, answer = exchange.route, exchange.error, exchange.own_answer
        if route is None or error is None or answer is None:
            return
        status, fields, body = answer
        if isinstance(error, Unauthorized):
            fields = [*fields, ("WWW-Authenticate", error.challenge)]
        if route.error_pages is not None:
            page = route.error_pages.page(
                status, error.title, exchange.attempts.request_id, field(exchange.request.block, b"accept")
            )
            if page is not None:
                kept = [(name, value) for name, value in fields if name not in ("Content-Type", "Content-Length")]
                _, fields, body = own_answer(status, [*kept, ("Vary", "Accept")], page, "text/html; charset=utf-8")
        exchange.own_answer = self._edited((status, fields, body), exchange, route)

    def _own_answer(self, route: Route, request: Request) -> OwnAnswer:
        if route.redirect is None:
            assert route.respond is not None
            return route.respond
        scheme = b"https" if came_by_https(request, self._is_trusted) else b"http"
        location = route.redirect.location(request, scheme).decode("latin-1")
        return own_answer(route.redirect.status, [("Location", location)], b"")

    def _side(self, route: Route, request: Request) -> str:
        """Pick one of several services; who has not what people are known by is known by his address."""
        assert route.to is not None
        if route.key_of is None:
            return route.to.by_chance(self._rng)
        return route.to.by_key(route.key_of(request) or self._client_of(request))

    def _policy(self, route: Route, service: Service) -> ServicePolicy:
        """Give the policy of a route for a service, made once for each that a reload brings."""
        assert route.policy is not None
        kept = self._policies.get((route.id, service.name))
        if kept is None or kept[0] is not service.policy:
            kept = self._policies[route.id, service.name] = service.policy, route.policy.over(service.policy)
        return kept[1]

    def _edited(self, answer: OwnAnswer, exchange: Exchange, route: Route) -> OwnAnswer:
        if route.answer_edits is None:
            return answer
        status, fields, body = answer
        block = "".join(f"{name}: {value}\r\n" for name, value in fields).encode("latin-1")
        return status, pairs_of(route.answer_edits.edit_block(block, lambda: self._values(exchange))), body

    def _values(self, exchange: Exchange) -> EditValues:
        request = exchange.request
        return EditValues(
            request.said.host or b"",
            self._client_of(request),
            exchange.attempts.request_id.encode("latin-1"),
            (exchange.routed_to or "").encode(),
        )


def _no_route(request: Request) -> ClientError:
    """Say that no route takes a request, or that its TLS connection was made for other hosts."""
    host = host_name(request.said.host or b"").decode("latin-1").strip("[]")
    shown = getattr(request, "certificates", ())
    if host and shown and not covers(shown, host):
        return Misdirected("No route takes this request, and the certificate of its connection is for other hosts.")
    return NoRoute("No route of the edge takes this request.")
