"""What the spans of a request say: the edge's own, and one for each try."""

from __future__ import annotations

from random import Random
from time import monotonic
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from smartedge.balancer.errors import (
    BackendClosed,
    BackendTimeout,
    ClientGone,
    ConnectFailed,
    EdgeError,
    EdgeStopped,
    TooManyRequests,
)
from smartedge.observe.spans import SpanRecord, spans_of
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import RouteMatch
from smartedge.proxy.tracer import Tracer
from tests.fakes import FakeAnswer, HeldTransport
from tests.house import House, policy_of, served
from tests.policies import retry_policy

PARENT = b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01\r\n"


def house(*transports: Any, **more: Any) -> House:
    made = House(*transports, **more)
    made.forwarder.tracer = Tracer(1.0, Random(1), monotonic, records=True, others_per_s=1000)
    made.forwarder.log = None
    return made


def spans(exchange: Exchange, client: bytes = b"1.2.3.4") -> tuple[SpanRecord, list[SpanRecord]]:
    """The edge's own span, and those of its tries."""
    span = exchange.request.span
    assert span is not None
    own, *tries = spans_of(exchange, span, client, 1.7e9 - monotonic())
    assert {one.trace_id for one in (own, *tries)} == {span.trace_id}
    assert all(one.parent_id == own.span_id for one in tries)
    assert len({one.span_id for one in (own, *tries)}) == 1 + len(tries)
    assert all(1.69e18 < one.began_ns <= one.ended_ns < 1.71e18 for one in (own, *tries))
    return own, tries


def told(one: SpanRecord, *names: str) -> tuple[Any, ...]:
    return tuple(one.attributes.get(name) for name in names)


def test_a_request_is_a_server_s_span_with_a_client_s_for_its_try() -> None:
    made = house([FakeAnswer(200, b"four")])
    fields = b"User-Agent: curl/8\r\nX-Request-Id: r-1\r\n" + PARENT + b"tracestate: a=1\r\n"
    exchange = made.ask(target=b"/shop?secret=1", fields=fields)
    served(exchange)
    own, (one,) = spans(exchange, b"192.0.2.9")
    assert (own.kind, own.name, own.trace_id, own.parent_id, own.state, own.error) == (
        "server",
        "GET",
        "0af7651916cd43dd8448eb211c80319c",
        "00f067aa0ba902b7",
        "a=1",
        None,
    )
    assert own.attributes == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/shop",
        "server.address": "h",
        "server.port": 80,
        "client.address": "192.0.2.9",
        "network.peer.address": "1.2.3.4",
        "network.protocol.version": "1.1",
        "user_agent.original": "curl/8",
        "http.response.status_code": 200,
        "http.response.body.size": 4,
        "smartedge.service": "default",
        "smartedge.backend": "a",
        "smartedge.request_id": "r-1",
        "smartedge.try_count": 1,
        "smartedge.outcome": "ok",
    }
    latency_s = one.attributes.pop("smartedge.latency_s")
    assert 0 <= float(latency_s) < 20
    assert (one.kind, one.name, one.state, one.error) == ("client", "GET", "a=1", None)
    assert one.attributes == {
        "http.request.method": "GET",
        "server.address": "a",
        "server.port": 80,
        "url.full": "http://a:80/shop",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "smartedge.service": "default",
        "smartedge.backend": "a",
        "smartedge.request_id": "r-1",
        "smartedge.try": "first",
        "smartedge.outcome": "ok",
    }


def test_a_try_has_the_id_that_its_backend_was_told() -> None:
    made = house([ConnectFailed("no")], [FakeAnswer(200, b"ok")])
    exchange = made.ask()
    served(exchange)
    _, tries = spans(exchange)
    for one, transport in zip(tries, made.transports, strict=False):
        assert f"-{one.span_id}-03\r\n".encode() in transport.sent[0].head


@pytest.mark.parametrize(
    ("failure", "kind", "reason", "status"),
    [
        (ConnectFailed("no"), "connect", "connect", None),
        (BackendTimeout("slow"), "timeout", "timeout", None),
        (BackendClosed("gone"), "closed", "closed", None),
        (FakeAnswer(503, b"sorry"), "503", "status", 503),
    ],
)
def test_a_retry_says_which_it_is_and_why(failure: Any, kind: str, reason: str, status: int | None) -> None:
    made = house([failure], [FakeAnswer(200, b"ok")])
    exchange = made.ask()
    served(exchange)
    own, (first, second) = spans(exchange)
    names = "smartedge.try", "smartedge.outcome", "error.type", "http.response.status_code"
    assert told(first, *names) == ("first", "failed", kind, status)
    assert told(second, *names) == ("retry", "ok", None, 200)
    assert told(first, "http.request.resend_count", "smartedge.retry_reason") == (None, None)
    assert told(second, "http.request.resend_count", "smartedge.retry_reason") == (1, reason)
    assert (own.error, first.error, second.error) == (None, "", None)
    assert told(own, "smartedge.backend", "smartedge.try_count", "smartedge.outcome") == ("b", 2, "ok")


def test_a_hedge_is_there_beside_what_it_has_outrun() -> None:
    made = house(HeldTransport(), HeldTransport(), policy=retry_policy(hedge=True))
    exchange = made.ask_outrun()
    own, (first, second) = spans(exchange)
    names = "smartedge.backend", "smartedge.try", "smartedge.outcome", "smartedge.retry_reason", "http.request.resend_count"
    assert told(first, *names) == ("a", "first", "outrun", None, None)
    assert told(second, *names) == ("b", "hedge", "ok", "late", 1)
    assert (first.error, second.error) == (None, None)
    assert first.began_ns < second.began_ns < first.ended_ns
    assert told(own, "smartedge.hedge_count") == (1,)


def test_the_time_in_the_queue_is_said_of_the_request_and_of_its_try() -> None:
    held = HeldTransport()
    made = house(held, policy=policy_of(queue=4, queue_s=10.0), max_in_flight=1)
    with gevent.Timeout(20):
        first, second = made.begin(), made.begin()
        held.end()
        served(first.get())
        held.end()
        exchange = second.get()
    served(exchange)
    own, (one,) = spans(exchange)
    (queued_s,) = told(own, "smartedge.queue_s")
    assert queued_s == round(exchange.attempts.queue_s, 6) > 0
    assert told(one, "smartedge.queue_s")[0] == pytest.approx(queued_s, abs=0.05)
    assert told(spans(first.get())[0], "smartedge.queue_s") == (None,)


def test_an_error_of_the_edge_s_own_is_said_in_words() -> None:
    made = house([ConnectFailed("refused")])
    exchange = made.ask()
    served(exchange)
    own, (one,) = spans(exchange)
    assert exchange.error is not None
    assert own.error == exchange.error.detail
    assert told(own, "http.response.status_code", "smartedge.outcome") == (exchange.status, "failed")
    assert told(one, "error.type") == ("connect",)


def test_a_failure_that_a_backend_has_answered_is_one_of_both() -> None:
    made = house([FakeAnswer(500, b"no")])
    exchange = made.ask()
    served(exchange)
    own, (one,) = spans(exchange)
    assert [(span.error, told(span, "error.type")) for span in (own, one)] == [("", ("500",)), ("", ("500",))]


def test_what_the_client_did_wrong_is_no_error_of_the_server_s() -> None:
    """By the conventions a 4xx is one of the client's span, not of the server's."""
    made = house([FakeAnswer(404, b"no")])
    exchange = made.ask()
    served(exchange)
    own, (one,) = spans(exchange)
    assert (own.error, told(own, "error.type", "smartedge.outcome")) == (None, (None, "ok"))
    assert (one.error, told(one, "error.type")) == ("", ("404",))


@pytest.mark.parametrize(
    ("error", "status", "outcome"), [(ClientGone("left"), None, "abandoned"), (TooManyRequests("too often"), 429, "refused")]
)
def test_a_request_that_had_no_try_has_one_span(error: EdgeError, status: int | None, outcome: str) -> None:
    def admit(*_: object) -> None:
        raise error

    limiter: Any = SimpleNamespace(admit=admit)
    made = house([FakeAnswer(200)], policy=policy_of(limiter=limiter))
    exchange = made.ask()
    served(exchange)
    own, tries = spans(exchange)
    assert tries == []
    assert told(own, "http.response.status_code", "smartedge.outcome", "smartedge.backend") == (status, outcome, None)
    assert own.error is None


def test_an_answer_that_broke_off_is_an_error_although_it_began_well() -> None:
    made = house([FakeAnswer(200, b"be", BackendClosed("cut"), here=False)])
    exchange = made.ask()
    with pytest.raises(ConnectionResetError):
        served(exchange)
    own, (one,) = spans(exchange)
    assert (own.error, told(own, "http.response.status_code", "error.type")) == ("cut", (200, "closed"))
    assert told(one, "smartedge.outcome", "error.type") == ("failed", "closed")


def test_an_answer_that_the_edge_cut_itself_has_no_good_status_for_its_error() -> None:
    """`error.type` was "200"."""
    made = house([FakeAnswer(200, b"be", EdgeStopped(), here=False)])
    exchange = made.ask()
    with pytest.raises(ConnectionResetError):
        served(exchange)
    own, _ = spans(exchange)
    assert told(own, "http.response.status_code", "smartedge.outcome", "error.type") == (200, "failed", "other")


def test_a_route_names_its_span() -> None:
    made = house([FakeAnswer(200, b"ok")])
    exchange = made.ask(target=b"/api/v1/x")
    exchange.route = Route("api", RouteMatch(path=b"/api"))
    exchange.routed_to = "web"
    served(exchange)
    own, (one,) = spans(exchange)
    assert own.name == "GET /api"
    assert told(own, "http.route", "smartedge.route", "smartedge.service") == ("/api", "api", "web")
    assert (one.name, told(one, "smartedge.service")) == ("GET", ("web",))
    exchange.route = Route("rest", RouteMatch())
    assert spans(exchange)[0].name == "GET /"


def test_a_client_cannot_make_ever_more_names() -> None:
    made = house([FakeAnswer(200, b"ok")])
    exchange = made.ask(b"BREW", target=b"/" + b"x" * 5000, fields=b"User-Agent: " + b"y" * 5000 + b"\r\n")
    served(exchange)
    own, (one,) = spans(exchange)
    assert (own.name, one.name) == ("HTTP", "HTTP")
    assert told(own, "http.request.method", "http.request.method_original") == ("_OTHER", "BREW")
    assert [len(str(told(own, name)[0])) for name in ("url.path", "user_agent.original")] == [1000, 1000]


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        ("shop.example", "shop.example", 80),
        ("shop.example:8080", "shop.example", 8080),
        ("[::1]:81", "::1", 81),
        ("[::1]", "::1", 80),
    ],
)
def test_the_server_s_address_is_what_the_client_asked_for(host: str, address: str, port: int) -> None:
    made = house([FakeAnswer(200, b"ok")])
    exchange = made.ask(block=f"Host: {host}\r\n".encode())
    served(exchange)
    assert told(spans(exchange)[0], "server.address", "server.port") == (address, port)


def test_a_tunnel_is_one_long_span_whose_end_is_nobody_s_fault() -> None:
    made = house([FakeAnswer(200, b"ok")])
    exchange = made.ask()
    served(exchange)
    exchange.status, exchange.counted, exchange.error = 101, True, EdgeError("Not a byte went either way for 5 s.")
    own, _ = spans(exchange)
    assert own.error is None
    assert told(own, "http.response.status_code", "smartedge.ended") == (101, "Not a byte went either way for 5 s.")
