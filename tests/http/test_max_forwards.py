"""`Max-Forwards`: how many proxies a TRACE or an OPTIONS may still pass (RFC 9110 sections 7.6.2 and 9.3.8)."""

from __future__ import annotations

import pytest

from smartedge.http.headers import RequestFields
from smartedge.http.max_forwards import count_hop
from smartedge.http.request import Request


def request(method: bytes, block: bytes) -> Request:
    return Request(method, b"/a?b", 11, block, RequestFields(block), b"192.0.2.1", secure=False)


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
@pytest.mark.parametrize(("said", "sent"), [(b"3", b"2"), (b"1", b"0"), (b"007", b"6"), (b"9" * 50, b"999999"), (b"x", b"x")])
def test_each_hop_is_counted(method: bytes, said: bytes, sent: bytes) -> None:
    made = request(method, b"Host: h\r\nmax-forwards:%b\r\n" % said)
    assert count_hop(made) is None
    assert made.fields.block.replace(b" ", b"") == b"Host:h\r\nmax-forwards:%b\r\n" % sent
    assert made.block == b"Host: h\r\nmax-forwards:%b\r\n" % said, "what came is kept as it came"


def test_a_request_without_the_field_goes_on_as_it_came() -> None:
    made = request(b"TRACE", b"Host: h\r\n")
    before = made.fields
    assert count_hop(made) is None
    assert made.fields is before


def test_a_trace_that_may_go_no_further_is_answered_with_what_arrived_but_for_secrets() -> None:
    secrets = b"Cookie: a=1\r\nauthorization: Basic eDp5\r\nX-SmartEdge-Explain: t\r\nX-Kept: 1\r\n"
    answer = count_hop(request(b"TRACE", b"Host: h\r\nMax-Forwards: 0\r\n" + secrets))
    assert answer is not None
    status, fields, body = answer
    assert (status, dict(fields)) == (200, {"Content-Type": "message/http", "Content-Length": str(len(body))})
    assert body == b"TRACE /a?b HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nX-Kept: 1\r\n\r\n"


def test_an_options_that_may_go_no_further_is_answered_with_nothing() -> None:
    assert count_hop(request(b"OPTIONS", b"Host: h\r\nMax-Forwards: 0\r\n")) == (200, [("Content-Length", "0")], b"")
