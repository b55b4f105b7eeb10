"""Routes carried out: who is let in, what changes on the way there and back, and which service gets a request."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from random import Random
from typing import Any

import gevent
import pytest

from smartedge.balancer.cells import MIRRORED, MIRRORS_DROPPED, OK
from smartedge.balancer.errors import BackendTimeout, ConnectFailed, PayloadTooLarge
from smartedge.http.answer_fields import read_answer_fields
from smartedge.http.certificates import Certificate, PemFiles
from smartedge.http.own_answer import own_answer
from smartedge.proxy.affinity import key_reader
from smartedge.proxy.basic_auth import BasicAuth
from smartedge.proxy.error_pages import ErrorPages
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.forward_auth import ForwardAuth
from smartedge.proxy.guard import Guard
from smartedge.proxy.header_edits import HeaderEdits
from smartedge.proxy.mirror import MOST_COPIES, Mirror
from smartedge.proxy.networks import Networks
from smartedge.proxy.outbound import Hop
from smartedge.proxy.rewrite import Redirect, Rewrite
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import RouteMatch
from smartedge.proxy.route_policy import RoutePolicy
from smartedge.proxy.router import Router
from smartedge.proxy.split import Split
from smartedge.proxy.tracer import Tracer
from tests.fakes import FakeAnswer, Pieces
from tests.house import House, policy_of, request, served, until
from tests.policies import retry_policy

WEB = Split([("web", 1)])


class Routed:
    """A forwarder with routes, and the services web and api, each with one backend that does what it is told."""

    def __init__(self, *routes: Route, web: Any = (), api: Any = ()) -> None:
        self.web, self.api = House(list(web)), House(list(api))
        self.api.service.name, self.web.service.name = "api", "web"
        self.forwarder = self.web.forwarder
        services = {"web": self.web.service, "api": self.api.service}
        self.mirror = Mirror(self.web.edge_row, self.forwarder.next_id)
        self.forwarder.router = Router(routes, services, Random(5), None, self.mirror)

    def ask(self, target: bytes = b"/", method: bytes = b"GET", **more: Any) -> Exchange:
        return self.forwarder.forward(request(method, target, **more))

    @property
    def head(self) -> bytes:
        """The head of the only request that came to a backend of web."""
        (outbound,) = self.web.transports[0].sent
        return outbound.head


def route(**parts: Any) -> Route:
    parts = {"match": RouteMatch(), "to": WEB} | parts
    return Route(parts.pop("id", "the route"), parts.pop("match"), **parts)


def pairs(exchange: Exchange) -> dict[str, str]:
    assert exchange.own_answer is not None
    return dict(exchange.own_answer[1])


def test_a_request_goes_to_the_service_of_its_route_as_it_came() -> None:
    routed = Routed(
        route(id="api", match=RouteMatch(path=b"/api"), to=Split([("api", 1)])),
        route(),
        web=[FakeAnswer(200, b"web")],
        api=[FakeAnswer(200, b"api")],
    )
    exchange = routed.ask(b"/x/%2e%2e/api/a%20b/c?d", fields=b"X-A: 1\r\n")
    assert served(exchange) == (200, b"api")
    assert exchange.route is not None
    assert (exchange.route.id, exchange.attempts.service.name) == ("api", "api")
    assert routed.api.transports[0].sent[0].head.startswith(b"GET /x/%2e%2e/api/a%20b/c?d HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n")
    assert served(routed.ask(b"/apis")) == (200, b"web")


def test_what_no_route_takes_is_not_found_and_no_backend_hears_of_it() -> None:
    routed = Routed(route(match=RouteMatch(hosts=(b"shop.example",))))
    exchange = routed.ask()
    status, body = served(exchange)
    assert status == 404
    assert b"No route of the edge takes this request." in body
    assert pairs(exchange)["Content-Type"] == "application/problem+json"
    assert exchange.route is None
    assert routed.web.asked() == [0]


@pytest.mark.parametrize(
    ("host", "shown", "status"),
    [
        (b"other.example", ("shop.example",), 421),
        (b"shop.example:8443", ("shop.example",), 404),
        (b"www.shop.example", ("*.shop.example",), 404),
        (b"other.example", (), 404),
        (b"[::1]", ("::1",), 404),
    ],
)
def test_a_host_that_the_tls_connection_was_not_made_for_is_misdirected(host: bytes, shown: tuple[str, ...], status: int) -> None:
    routed = Routed(route(match=RouteMatch(hosts=(b"known.example",))))
    asked = request(block=b"Host: %b\r\n" % host, secure=True)
    if shown:
        asked.certificates = [Certificate(PemFiles("a.pem"), shown, "RSA", 0.0, 1.0, b"")]
    assert served(routed.forwarder.forward(asked))[0] == status


def test_a_path_that_leads_to_two_routes_is_refused() -> None:
    routed = Routed(route(), route(match=RouteMatch(path=b"/admin"), id="admin"))
    assert served(routed.ask(b"/admin%2fusers"))[0] == 400
    assert routed.web.asked() == [0]


def test_the_edge_itself_redirects_and_responds() -> None:
    moved = Redirect(301, host=b"shop.example", scheme=b"https")
    edits = HeaderEdits([("X-Said-By", "{service}{host}")])
    routed = Routed(
        route(id="old", match=RouteMatch(path=b"/old"), to=None, redirect=moved),
        route(to=None, respond=own_answer(503, [("Retry-After", "60")], b"Back soon."), answer_edits=edits),
    )
    exchange = routed.ask(b"/old/x?y=1")
    assert served(exchange) == (301, b"")
    assert pairs(exchange) == {"Location": "https://shop.example/old/x?y=1", "Content-Length": "0"}
    exchange = routed.ask(b"/x")
    assert served(exchange) == (503, b"Back soon.")
    assert pairs(exchange) == {
        "Retry-After": "60",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "10",
        "X-Said-By": "h",
    }
    assert routed.web.asked() == [0]
    assert len(routed.web.logged) == 2


def test_what_a_backend_sees_is_changed_and_the_log_says_what_was_asked() -> None:
    edits = HeaderEdits([("X-Who", "{client} {service} {request_id}"), ("Host", "inner")], [("X-B", "2")], ["Cookie"])
    routed = Routed(
        route(match=RouteMatch(path=b"/app"), rewrite=Rewrite(b"/app", b"/v2"), request_edits=edits), web=[FakeAnswer(200, b"")]
    )
    exchange = routed.ask(b"/app/x?y", fields=b"Cookie: a=b\r\nX-B: 1\r\nX-Who: me\r\n")
    assert served(exchange)[0] == 200
    assert routed.head.startswith(
        b"GET /v2/x?y HTTP/1.1\r\nX-B: 1\r\nX-Who: 1.2.3.4 web made-id\r\nHost: inner\r\nX-B: 2\r\nX-Forwarded-For: 1.2.3.4\r\n"
        b"X-Forwarded-Host: h\r\n"
    )
    assert exchange.asked_target == b"/app/x?y"


def test_what_the_client_gets_is_changed_and_other_answers_with_that_head_are_not() -> None:
    """Heads that are alike share their fields, whoever gave them."""
    answer = FakeAnswer(200, b"hello", block=b"X-A: 1\r\nContent-Length: 5\r\n")
    shared = answer.fields
    routed = Routed(route(answer_edits=HeaderEdits([("X-From", "{service}")], (), ["X-A"])), web=[answer])
    exchange = routed.ask()
    assert exchange.attempts.answer is not None
    assert exchange.attempts.answer.fields.block == b"Content-Length: 5\r\nX-From: web\r\n"
    assert exchange.attempts.answer.fields.content_length == 5
    assert shared.block == b"X-A: 1\r\nContent-Length: 5\r\n"


def test_addresses_are_allowed_and_denied() -> None:
    allow, deny = Networks(["1.2.0.0/16"]), Networks(["1.2.3.0/24"])
    for guard, peer, status in (
        (Guard(allow=allow), b"1.2.9.9", 200),
        (Guard(allow=allow), b"9.9.9.9", 403),
        (Guard(deny=deny), b"1.2.3.4", 403),
        (Guard(deny=deny), b"9.9.9.9", 200),
        (Guard(allow=allow, deny=deny), b"1.2.3.4", 403),
        (Guard(allow=allow), b"unix", 403),
    ):
        routed = Routed(route(guard=guard), web=[FakeAnswer(200, b"")])
        assert served(routed.ask(peer=peer))[0] == status
        assert routed.web.asked() == [int(status == 200)]


def test_a_password_is_asked_for() -> None:
    auth = BasicAuth({b"ann": b"secret"}, "shop", lambda password, stored: password == stored)
    routed = Routed(route(guard=Guard(basic_auth=auth)), web=[FakeAnswer(200, b"")])
    exchange = routed.ask()
    assert served(exchange)[0] == 401
    assert pairs(exchange)["WWW-Authenticate"] == 'Basic realm="shop", charset="UTF-8"'
    authorization = b"Authorization: Basic " + b64encode(b"ann:secret") + b"\r\n"
    assert served(routed.ask(fields=authorization))[0] == 200
    assert authorization in routed.head


class AuthServer:
    """Who is asked; gives one answer after the other."""

    def __init__(self, *answers: FakeAnswer | Exception) -> None:
        self.answers = list(answers)
        self.heads: list[bytes] = []

    def send(self, outbound: Any) -> Any:
        self.heads.append(outbound.head)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def asking(*answers: FakeAnswer | Exception, timeout_s: float = 5.0) -> tuple[AuthServer, Route]:
    server = AuthServer(*answers)
    auth = ForwardAuth(b"/check?x", b"auth:9000", frozenset((b"x-user",)), timeout_s, server.send, Hop(b"edge", None, False))
    return server, route(guard=Guard(forward_auth=auth))


def test_somebody_else_is_asked_and_what_he_says_of_the_user_goes_on() -> None:
    server, guarded = asking(FakeAnswer(204, block=b"X-User: ann\r\nX-Else: 1\r\n"))
    routed = Routed(guarded, web=[FakeAnswer(200, b"")])
    fields = (
        b"Cookie: a\r\nX-User: forged\r\nX_User: forged\r\nContent-Length: 3\r\nIf-None-Match: x\r\n"
        b"X-Forwarded-Method: FORGED\r\nX_Forwarded_Uri: /FORGED\r\n"
    )
    assert served(routed.ask(b"/x?y", b"POST", fields=fields, body=Pieces(b"abc")))[0] == 200
    assert server.heads == [
        b"GET /check?x HTTP/1.1\r\nHost: auth:9000\r\nCookie: a\r\nX-User: forged\r\nX_User: forged\r\n"
        b"X-Forwarded-For: 1.2.3.4\r\n"
        b"X-Forwarded-Host: h\r\nX-Forwarded-Proto: http\r\nVia: 1.1 edge\r\n"
        b"X-Forwarded-Method: POST\r\nX-Forwarded-Uri: /x?y\r\n\r\n"
    ]
    assert b"X-User: ann\r\n" in routed.head
    assert b"forged" not in routed.head
    assert b"X-Else" not in routed.head


class EndlessAnswer(FakeAnswer):
    """An answer of which a piece comes now and then, and no end."""

    complete = False

    def read(self) -> bytes:
        gevent.sleep(0.01)
        return b"x"


def test_a_good_answer_counts_whatever_becomes_of_its_body() -> None:
    _, guarded = asking(EndlessAnswer(200, b"x"), timeout_s=0.05)
    assert served(Routed(guarded, web=[FakeAnswer(200, b"in")]).ask()) == (200, b"in")


def test_a_refusal_without_end_is_given_up_in_time() -> None:
    _, guarded = asking(EndlessAnswer(401, b"x"), timeout_s=0.05)
    routed = Routed(guarded)
    status, body = served(routed.ask())
    assert (status, b"took longer than 0.05 s to answer (forward_auth.timeout_s)" in body) == (504, True)
    assert routed.web.asked() == [0]


def test_any_other_answer_of_whom_is_asked_is_the_clients() -> None:
    block = b"Location: /login\r\nContent-Type: text/html\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n"
    _, guarded = asking(FakeAnswer(302, b"lo", b"gin", block=block))
    routed = Routed(guarded)
    exchange = routed.ask()
    assert served(exchange) == (302, b"login")
    assert exchange.own_answer is not None
    assert exchange.own_answer[1] == [
        ("Location", "/login"),
        ("Content-Type", "text/html"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
        ("Content-Length", "5"),
    ]
    assert routed.web.asked() == [0]


@pytest.mark.parametrize(("error", "status"), [(ConnectFailed("no"), 502), (BackendTimeout("late"), 504)])
def test_nobody_gets_in_when_there_is_no_answer(error: Exception, status: int) -> None:
    _, guarded = asking(error)
    routed = Routed(guarded)
    assert served(routed.ask())[0] == status
    assert routed.web.asked() == [0]


def test_a_page_of_the_sites_own_is_for_those_who_take_html() -> None:
    pages = ErrorPages({403: b"<h1>{title}</h1>", 503: b"<p>{status}"})
    routed = Routed(route(guard=Guard(deny=Networks(["0.0.0.0/0"])), error_pages=pages, answer_edits=HeaderEdits([("X-A", "1")])))
    exchange = routed.ask(fields=b"Accept: text/html\r\n")
    assert served(exchange) == (403, b"<h1>Forbidden</h1>")
    assert pairs(exchange) == {
        "Cache-Control": "no-store",
        "Vary": "Accept",
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": "18",
        "X-A": "1",
    }
    exchange = routed.ask(fields=b"Accept: */*\r\n")
    assert b'"title": "Forbidden"' in served(exchange)[1]
    assert pairs(exchange)["X-A"] == "1"


def test_a_service_without_backends_has_that_page_too() -> None:
    routed = Routed(route(error_pages=ErrorPages({503: b"<p>{status}"})), web=[ConnectFailed("no")])
    routed.web.pool.backends[0].learned.health.probed(False)
    exchange = routed.ask(fields=b"Accept: text/html\r\n")
    assert served(exchange)[0] in (502, 503)


class Limited(Pieces):
    """A body that remembers its limit."""

    def limit(self, most_bytes: int) -> None:
        raise PayloadTooLarge(f"more than {most_bytes}")


def test_a_route_has_its_own_largest_body() -> None:
    routed = Routed(route(body_bytes=2))
    status, body = served(routed.ask(b"/", b"POST", body=Limited(b"abc")))
    assert status == 413
    assert b"more than 2" in body


def test_each_person_stays_on_one_side() -> None:
    split = Split([("web", 50), ("api", 50)])
    by_cookie = key_reader("cookie:id", None)
    many = [FakeAnswer(200, b"") for _ in range(60)]
    routed = Routed(route(to=split, key_of=by_cookie), web=list(many), api=list(many))
    sides = set()
    for person in range(20):
        found = {routed.ask(fields=b"Cookie: id=%d\r\n" % person).attempts.service.name for _ in range(2)}
        assert len(found) == 1
        sides |= found
    assert sides == {"web", "api"}
    assert (
        len({routed.ask(peer=b"10.0.0.9").attempts.service.name for _ in range(5)}) == 1
    )  # without the cookie it is the address
    assert {routed.ask(peer=b"10.0.0.%d" % person).attempts.service.name for person in range(10)} == {"web", "api"}


def test_without_a_key_each_request_is_for_itself() -> None:
    many = [FakeAnswer(200, b"") for _ in range(100)]
    routed = Routed(route(to=Split([("web", 50), ("api", 50)])), web=list(many), api=list(many))
    assert {routed.ask().attempts.service.name for _ in range(30)} == {"web", "api"}


def test_a_route_has_its_own_retries_and_waits_and_a_reload_of_the_service_shows() -> None:
    own = RoutePolicy(first_byte_s=90.0, attempts=1, statuses=frozenset((503,)), tunnel_idle_s=5.0, body_bytes=7)
    routed = Routed(route(policy=own), web=[FakeAnswer(200, b""), FakeAnswer(200, b""), FakeAnswer(200, b"")])
    first = routed.ask().attempts
    assert (first.policy.retry.attempts, first.policy.retry.statuses, first.policy.retry.body_bytes) == (1, {503}, 7)
    assert first.policy.retry.deadline_s == 90.0
    assert (first.policy.tunnel_idle_s, first.policy.idle_s) == (5.0, 60.0)
    (outbound,) = routed.web.transports[0].sent
    assert outbound.first_byte_s == 90.0
    assert outbound.deadline == pytest.approx(first.started + 90.0)
    assert routed.ask().attempts.policy is first.policy  # made once
    routed.web.service.adapt_to(policy_of(retry_policy(deadline_s=200.0)))
    assert routed.ask().attempts.policy.retry.deadline_s == 200.0


def test_a_copy_goes_to_another_service_and_its_answer_is_thrown_away() -> None:
    copied = FakeAnswer(500, b"no", b"body", here=False)
    routed = Routed(
        route(mirror=("api", 1.0), rewrite=Rewrite(b"", b"/v2")), web=[FakeAnswer(200, b"yes")], api=[copied, FakeAnswer(200)]
    )
    exchange = routed.ask(b"/x", b"POST", fields=b"Content-Length: 3\r\n", body=Pieces(b"abc"))
    assert served(exchange) == (200, b"yes")
    assert routed.api.asked() == [0]  # nothing waited for it
    until(lambda: copied.complete and not routed.mirror.under_way)
    (outbound,) = routed.api.transports[0].sent
    assert outbound.head.startswith(b"POST /v2/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n")
    assert routed.web.edge_counted(MIRRORED) == 1
    assert routed.api.counted(OK) == [0]
    assert routed.api.settled()
    assert [one.status for one in routed.web.logged] == [200]


def test_copies_that_are_too_many_are_dropped_and_counted() -> None:
    routed = Routed(route(mirror=("api", 1.0)), web=[FakeAnswer(200, b"yes"), FakeAnswer(200, b"")], api=[FakeAnswer(200, b"")])
    routed.mirror.under_way["api"] = MOST_COPIES
    assert served(routed.ask()) == (200, b"yes")
    assert routed.web.edge_counted(MIRRORS_DROPPED) == 1
    assert routed.api.asked() == [0]
    routed.mirror.under_way = Counter(other=MOST_COPIES)  # those take no room from copies for api
    served(routed.ask())
    until(lambda: routed.api.asked() == [1] and routed.mirror.under_way == {"other": MOST_COPIES})


def test_a_copy_is_for_some_requests_only() -> None:
    many = [FakeAnswer(200, b"") for _ in range(100)]
    routed = Routed(route(mirror=("api", 0.3)), web=list(many), api=list(many))
    for _ in range(50):
        routed.ask().close()
    until(lambda: not routed.mirror.under_way)
    assert 5 < routed.api.asked()[0] < 30


def test_fields_of_answers_can_be_changed_without_touching_the_framing() -> None:
    fields = read_answer_fields(b"Content-Length: 5\r\nDate: x\r\n")
    changed = fields.with_block(b"X: 1\r\n")
    assert (changed.content_length, changed.dated, changed.block) == (5, True, b"X: 1\r\n")
    assert fields.block == b"Content-Length: 5\r\nDate: x\r\n"


def told_trace(head: bytes) -> list[bytes]:
    """The traceparents of a head."""
    return [line[13:] for line in head.split(b"\r\n") if line.startswith(b"traceparent: ")]


def tracing(routed: Routed, *, records: bool) -> Routed:
    routed.forwarder.tracer = Tracer(1.0, Random(1), lambda: 1000.0, records=records)
    return routed


@pytest.mark.parametrize("records", [True, False])
def test_a_copy_and_whoever_is_asked_belong_to_the_trace_of_the_request(records: bool) -> None:
    """With the edge's own span as their parent, where it is recorded; their own are not."""
    asked: list[bytes] = []

    def send(outbound: Any) -> Any:
        asked.append(outbound.head)
        return FakeAnswer(204)

    auth = ForwardAuth(b"/auth", b"auth:80", frozenset(), 1.0, send, Hop(b"smartedge", None, False))
    one = route(guard=Guard(forward_auth=auth), mirror=("api", 1.0))
    routed = tracing(Routed(one, web=[FakeAnswer(200, b"ok")], api=[FakeAnswer(200, b"copy")]), records=records)
    exchange = routed.ask()
    served(exchange)
    until(lambda: routed.api.transports[0].sent)
    (question,), (own,), (copy,) = map(told_trace, (asked[0], routed.head, routed.api.transports[0].sent[0].head))
    assert len({line[3:35] for line in (question, own, copy)}) == 1
    span = exchange.request.span
    assert (span is not None) is records
    if span is not None:
        assert {line[36:52].decode() for line in (question, copy)} == {span.span_id}
        assert list(span.tries.values()) == [own[36:52].decode()]


def test_a_route_that_says_the_field_itself_has_the_last_word() -> None:
    for edits, told in (
        (HeaderEdits(remove_fields=["traceparent"]), []),
        (HeaderEdits(set_fields=[("Traceparent", "mine")]), []),
        (HeaderEdits(set_fields=[("traceparent", "mine")]), [b"mine"]),
    ):
        routed = tracing(Routed(route(request_edits=edits), web=[FakeAnswer(200, b"ok")]), records=True)
        exchange = routed.ask()
        served(exchange)
        assert told_trace(routed.head) == told
        assert exchange.attempts.trace_id is not None  # it is recorded all the same
