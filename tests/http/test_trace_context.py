"""W3C Trace Context (Level 2): what is a traceparent, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.http.headers import RequestFields
from smartedge.http.trace_context import RANDOM, SAMPLED, Parent, is_tracestate, read_context, read_traceparent, trace_id_of
from tests.house import request

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-01", SAMPLED),
        (f"00-{TRACE}-{SPAN}-02", RANDOM),
        (f"00-{TRACE}-{SPAN}-03", SAMPLED | RANDOM),
        (f"00-{TRACE}-{SPAN}-ff", SAMPLED | RANDOM),  # flags of which nobody knows the meaning are not passed on
        (f"00-{TRACE}-{SPAN}-fc", 0),
        (f"01-{TRACE}-{SPAN}-01", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01", SAMPLED),
        (f"fe-{TRACE}-{SPAN}-01-what-the-future-will-be-like", SAMPLED),
        (f"cc-{TRACE}-{SPAN}-01-", SAMPLED),
    ],
)
def test_a_parent_is_read(value: str, flags: int) -> None:
    assert read_traceparent(value.encode()) == Parent(TRACE.encode(), SPAN.encode(), flags)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0A",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}0-{SPAN}-01",
        f"00-{TRACE}-{SPAN[:-1]}-01",
        f"00-{TRACE}-{SPAN}0-01",
        f"0-{TRACE}-{SPAN}-01",
        f"000-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-001",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-011",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00 -{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_what_is_no_traceparent_has_no_parent(value: str) -> None:
    assert read_traceparent(value.encode()) is None


@given(st.binary(max_size=80))
def test_whatever_comes_is_read_or_not(value: bytes) -> None:
    parent = read_traceparent(value)
    assert parent is None or value[3:35] == parent.trace_id


@given(
    st.integers(0, 0xFE),
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    st.integers(0, 255),
)
def test_what_is_written_is_read(version: int, trace: int, span: int, flags: int) -> None:
    value = b"%02x-%032x-%016x-%02x" % (version, trace, span, flags)
    assert read_traceparent(value) == Parent(b"%032x" % trace, b"%016x" % span, flags & 3)


LINE = f"traceparent: 00-{TRACE}-{SPAN}-01\r\n".encode()


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (b"Host: a\r\n", False),
        (LINE, True),
        (b"Host: a\r\n" + LINE + b"Accept: */*\r\n", True),
        (LINE.replace(b"traceparent: ", b"TraceParent:\t "), True),
        (LINE.replace(b"\r\n", b" \t\r\n"), True),
        (LINE + LINE, False),  # section 3.2.1: there is one
        (LINE + b"traceparent: nonsense\r\n", False),
        (b"x-" + LINE, False),
        (b"Referer: http://a/\ttraceparent: 1\r\n", False),
    ],
)
def test_a_request_has_a_parent_if_one_field_says_one(block: bytes, found: bool) -> None:
    assert (read_context(RequestFields(block)).parent is not None) is found
    one = request(fields=block.replace(b"Host: a\r\n", b""))
    assert trace_id_of(one) == (TRACE if found else None)


def test_fields_know_whether_there_may_be_a_trace_even_when_others_go_on() -> None:
    plain = RequestFields(b"Host: a\r\n")
    assert not plain.traced
    assert RequestFields(b"Host: a\r\nTraceState: a=1\r\n").traced
    added = plain.with_others(frozenset((b"traceparent",)), LINE)
    assert added.traced
    assert not added.with_others(frozenset((b"traceparent",)), b"").traced
    assert added.with_host(b"b").traced


def test_a_client_can_have_the_connection_drop_it() -> None:
    """RFC 9110 section 7.6.1: what Connection names ends here."""
    assert trace_id_of(request(fields=b"Connection: traceparent\r\n" + LINE)) is None


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a=1",
        b"a=1,b=2",
        b" a=1 , b=2\t",
        b"a=1,,b=2,",
        b"0@sys=x",
        b"a_-*/b@c=with spaces, b=!-+./:;<>?@[]^_`{|}~",
        b"a=" + b"v" * 256,
        b"k" * 256 + b"=v",
        b",".join(b"k%d=v" % i for i in range(32)),
    ],
)
def test_a_tracestate_is_a_list_of_members(value: bytes) -> None:
    assert is_tracestate(value)


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b"=1",
        b"a=",
        b"a=1=2",
        b"A=1",
        b"a b=1",
        b"a =1",
        b"a=1,a=2",
        b"a=\xff",
        b"a=x\ty",
        b"a=" + b"v" * 257,
        b"k" * 257 + b"=v",
        b",".join(b"k%d=v" % i for i in range(33)),
    ],
)
def test_what_is_no_tracestate_is_left_out_and_the_parent_stays(value: bytes) -> None:
    assert not is_tracestate(value)
    context = read_context(RequestFields(b"Host: a\r\nTraceState: " + value + b"\r\n" + LINE))
    assert (context.parent is not None, context.state, context.block) == (True, b"", b"Host: a\r\n")


def test_a_field_with_a_longer_name_stays_whole() -> None:
    other = b"X-" + LINE
    assert read_context(RequestFields(other + LINE)).block == other
    assert read_context(RequestFields(LINE + other + b"x-tracestate: a=1\r\ntracestate: a=1\r\n")).block == (
        other + b"x-tracestate: a=1\r\ntracestate: a=1\r\n"
    )


def test_several_tracestates_are_one_list_and_go_on_as_they_are() -> None:
    kept = b"tracestate: a=1\r\nAccept: */*\r\nTRACESTATE: b=2,c=3\r\n"
    context = read_context(RequestFields(LINE + kept))
    assert (context.state, context.block) == (b"a=1,b=2,c=3", kept)
    twice = read_context(RequestFields(LINE + b"tracestate: a=1\r\ntracestate: a=2\r\n"))
    assert (twice.state, twice.block) == (b"", b"")


@pytest.mark.parametrize("parent", [b"", b"traceparent: nonsense\r\n", LINE + LINE])
def test_without_a_parent_a_tracestate_says_nothing(parent: bytes) -> None:
    assert read_context(RequestFields(b"Host: a\r\ntracestate: a=1\r\n" + parent)) == (None, b"", b"Host: a\r\n")


@given(st.binary(max_size=300))
def test_whatever_a_tracestate_holds_is_looked_at(value: bytes) -> None:
    is_tracestate(value)
