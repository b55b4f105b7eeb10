"""The edge's part in traces: what backends are told of them, and which are recorded."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from smartedge.balancer.errors import ConnectFailed
from smartedge.balancer.hedge_delay import HedgeDelay
from smartedge.http.headers import RequestFields
from smartedge.proxy.header_edits import HeaderEdits
from smartedge.proxy.tracer import AHEAD, Tracer
from tests.fakes import FakeAnswer, FakeClock, HeldTransport
from tests.house import House, request, served
from tests.policies import retry_policy

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
LINE = re.compile(rb"traceparent: 00-([0-9a-f]{32})-([0-9a-f]{16})-(0[0-3])\r\n")


def tracer(ratio: float = 0.0, clock: FakeClock | None = None, **more: Any) -> Tracer:
    return Tracer(ratio, Random(5), clock or FakeClock(), **more)


def parent(flags: str = "01") -> bytes:
    return f"traceparent: 00-{TRACE}-{SPAN}-{flags}\r\n".encode()


def begun(own: Tracer, fields: bytes = b"", **more: Any) -> tuple[bytes, bytes, bytes]:
    """Trace id, span id and flags of a request, as its backend is told."""
    one = request(fields=fields, **more)
    own.begin_span(one)
    found = LINE.fullmatch(one.traceparent)
    assert found is not None
    return found[1], found[2], found[3]


def told(head: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """What a head that was sent says of its trace."""
    return LINE.findall(head)


def test_a_request_without_a_trace_begins_one_of_chance() -> None:
    own = tracer()
    found = [begun(own) for _ in range(3 * AHEAD)]
    assert len({trace_id for trace_id, _, _ in found}) == len({span_id for _, span_id, _ in found}) == 3 * AHEAD
    assert {flags for _, _, flags in found} == {b"02"}  # Level 2: the id is of chance


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.01, 50, 150), (0.5, 4800, 5200), (1.0, 10000, 10000)])
def test_traces_that_begin_here_are_sampled_by_the_ratio(ratio: float, least: int, most: int) -> None:
    own = tracer(ratio)
    assert least <= sum(begun(own)[2] == b"03" for _ in range(10000)) <= most


@given(st.floats(0, 1))
def test_they_are_sampled_as_opentelemetry_does_it(ratio: float) -> None:
    """So that all who sample by the id with this ratio decide alike."""
    own, theirs = tracer(ratio), TraceIdRatioBased(ratio)
    for trace_id, _, flags in (begun(own) for _ in range(20)):
        wanted = theirs.should_sample(None, int(trace_id, 16), "x").decision is Decision.RECORD_AND_SAMPLE
        assert (flags == b"03") is wanted


@pytest.mark.parametrize("flags", ["00", "02"])
def test_a_trace_that_is_not_recorded_goes_on_so(flags: str) -> None:
    trace_id, span_id, said = begun(tracer(1.0), parent(flags))
    assert (trace_id.decode(), said.decode()) == (TRACE, flags)
    assert span_id.decode() != SPAN


def test_a_trusted_client_may_have_everything_recorded() -> None:
    own = tracer(is_trusted=lambda peer: peer == b"10.0.0.1", others_per_s=0)
    assert [begun(own, parent("03"), peer=b"10.0.0.1")[2] for _ in range(50)] == [b"03"] * 50
    assert begun(own, parent("03"))[2] == b"02"


def test_another_client_may_have_a_few_traces_a_second_recorded() -> None:
    """Else any client could have everything recorded, by the edge and by all that are behind it."""
    clock = FakeClock()
    own = tracer(0.0, clock, others_per_s=3)
    assert [begun(own, parent())[2] for _ in range(5)] == [b"01"] * 3 + [b"00"] * 2
    clock.advance(1.0)
    assert begun(own, parent())[2] == b"01"


def test_beyond_that_chance_decides_and_not_the_id_which_the_client_has_chosen() -> None:
    own = tracer(0.5)
    low = b"traceparent: 00-0af7651916cd43dd0000000000000001-00f067aa0ba902b7-01\r\n"  # an id that the ratio would take
    assert 400 < sum(begun(own, low)[2] == b"01" for _ in range(1000)) < 600


@pytest.mark.parametrize(
    "fields",
    [
        b"traceparent: nonsense\r\ntracestate: a=1\r\n",
        b"tracestate: a=1\r\n",
        parent() + parent(),
        parent().replace(b"0af7", b"0AF7") + b"tracestate: a=1\r\n",
    ],
)
def test_what_is_no_trace_is_replaced_by_a_new_one(fields: bytes) -> None:
    one = request(fields=fields)
    tracer(1.0, records=True).begin_span(one)
    assert told(one.traceparent)[0][0] != TRACE.encode()
    assert one.fields.block == request().fields.block
    assert one.span is not None
    assert (one.span.parent_id, one.span.state) == ("", b"")


def test_a_tracestate_goes_on_as_it_came() -> None:
    kept = b"tracestate: a=1\r\nTraceState:  b=2\r\n"
    one = request(fields=kept + parent())
    tracer(others_per_s=1, records=True).begin_span(one)
    assert one.fields.block == request(fields=kept).fields.block
    assert one.span is not None
    assert (one.span.parent_id, one.span.state) == (SPAN, b"a=1,b=2")


def test_spans_are_kept_of_what_is_sampled_and_only_if_they_are_wanted() -> None:
    for own, kept in ((tracer(1.0, records=True), True), (tracer(1.0), False), (tracer(0.0, records=True), False)):
        one = request()
        own.begin_span(one)
        assert (one.span is not None) is kept


def test_the_fields_that_requests_of_a_connection_share_stay_as_they_are() -> None:
    one = request(fields=parent())
    shared = one.fields
    tracer().begin_span(one)
    assert parent() in shared.block
    assert one.fields is not shared


# ---- on a request's way ----


def house(*transports: Any, ratio: float = 1.0, records: bool = True, **more: Any) -> House:
    made = House(*transports, **more)
    made.forwarder.tracer = tracer(ratio, records=records)
    return made


@pytest.mark.parametrize(("ratio", "records"), [(0.0, True), (1.0, False), (1.0, True)])
def test_each_try_has_a_span_of_its_own_in_the_trace_of_the_request(ratio: float, records: bool) -> None:
    made = house([ConnectFailed("no")], [FakeAnswer(503)], [FakeAnswer(200, b"ok")], ratio=ratio, records=records)
    exchange = made.ask()
    served(exchange)
    heads = [transport.sent[0].head for transport in made.transports]
    (first,), (second,), (third,) = map(told, heads)
    assert {trace_id.decode() for trace_id, _, _ in (first, second, third)} == {exchange.attempts.trace_id}
    assert len({span_id for _, span_id, _ in (first, second, third)}) == 3
    assert {flags for _, _, flags in (first, second, third)} == {b"03" if ratio else b"02"}


def test_a_hedge_has_one_of_its_own_too() -> None:
    made = house(HeldTransport(), HeldTransport(), policy=retry_policy(hedge=True))
    made.pool.evidence.kinds.find(b"GET", b"/", make=True).hedge = hedge = HedgeDelay()
    hedge.after_s = 0.01
    with gevent.Timeout(20):
        greenlet = made.begin()
        made.until(1, 1)
        made.transports[1].end(FakeAnswer(200, b"quick"))
        served(greenlet.get())
    span = made.requests[0].span
    assert span is not None
    assert len({span.span_id, *span.tries.values()}) == 3


def test_nothing_is_touched_while_tracing_is_off() -> None:
    fields = parent().upper() + parent() + b"TraceState: a=1,a=1,,=\r\ntraceparent: nonsense\r\n"
    made = House([FakeAnswer(200, b"ok")])
    served(made.ask(fields=fields))
    (outbound,) = made.transports[0].sent
    assert fields in outbound.head
    assert told(outbound.head.replace(fields, b"")) == []


def test_the_client_s_own_line_does_not_go_on_beside_ours() -> None:
    made = house([FakeAnswer(200, b"ok")])
    exchange = made.ask(fields=parent("00"))
    served(exchange)
    (outbound,) = made.transports[0].sent
    assert outbound.head.lower().count(b"traceparent") == 1
    assert told(outbound.head)[0][0].decode() == exchange.attempts.trace_id == TRACE


def test_header_edits_know_whether_they_are_about_the_trace() -> None:
    """A route that sets or removes the field has the last word."""
    assert HeaderEdits(remove_fields=["TraceParent"]).has_traceparent
    assert HeaderEdits(set_fields=[("traceparent", "x")]).has_traceparent
    assert HeaderEdits(add_fields=[("Traceparent", "x")]).has_traceparent
    assert not HeaderEdits([("X-A", "traceparent: 1")], [("X-B", "b")], ["tracestate"]).has_traceparent


def test_fields_say_what_they_said_when_others_go_on() -> None:
    """`with_block` writes every slot out, which a compiled class calls its attributes."""
    whole = RequestFields(
        b"Host: a\r\nConnection: close\r\nContent-Length: 1\r\nExpect: x\r\nX-SmartEdge-Explain: 1\r\nX-Forwarded-For: b\r\n"
        b"X-Request-Id: id\r\nUpgrade: w\r\ntraceparent: x\r\n"
    )
    chunked = RequestFields(b"Host: a\r\nTransfer-Encoding: chunked\r\n")
    for fields in (whole, chunked):
        other = fields.with_block(fields.block)
        names = getattr(RequestFields, "__slots__", getattr(RequestFields, "__mypyc_attrs__", ()))
        assert "block" in names
        assert all(getattr(other, name) == getattr(fields, name) for name in names)
