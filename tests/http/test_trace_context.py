"""W3C Trace Context (Level 2): what is a traceparent, and what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.http.headers import RequestFields
from smartedge.http.trace_context import RANDOM, SAMPLED, Parent, read_parent, read_traceparent, trace_id_of

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
    assert read_traceparent(value.encode()) == Parent(TRACE, SPAN, flags)


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
    assert parent is None or value[3:35].decode() == parent.trace_id


@given(
    st.integers(0, 0xFE),
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
    st.integers(0, 255),
)
def test_what_is_written_is_read(version: int, trace: int, span: int, flags: int) -> None:
    value = b"%02x-%032x-%016x-%02x" % (version, trace, span, flags)
    assert read_traceparent(value) == Parent(f"{trace:032x}", f"{span:016x}", flags & 3)


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
    parent = read_parent(block)
    assert (parent is not None) is found
    assert trace_id_of(RequestFields(b"Host: a\r\n" + block.replace(b"Host: a\r\n", b""))) == (TRACE if found else None)


def test_fields_know_whether_there_may_be_a_trace_even_when_others_go_on() -> None:
    plain = RequestFields(b"Host: a\r\n")
    assert not plain.traced
    assert RequestFields(b"Host: a\r\nTraceState: a=1\r\n").traced
    added = plain.with_others(frozenset((b"traceparent",)), LINE)
    assert (added.traced, trace_id_of(added)) == (True, TRACE)
    assert not added.with_others(frozenset((b"traceparent",)), b"").traced
    assert added.with_host(b"b").traced


def test_a_client_can_have_the_connection_drop_it() -> None:
    """RFC 9110 section 7.6.1: what Connection names ends here."""
    assert trace_id_of(RequestFields(b"Host: a\r\nConnection: traceparent\r\n" + LINE)) is None
