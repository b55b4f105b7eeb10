from __future__ import annotations

import pytest

from smartedge.balancer.cells import RATE_LIMITED
from smartedge.balancer.errors import TooManyRequests
from smartedge.balancer.learned import Learned
from smartedge.balancer.rate_limit import TABLE_CELLS, RateLimiter, RatePolicy
from smartedge.http.request import Request
from smartedge.proxy.limiter import ClientLimiter, client_reader, network_of
from tests.house import request


def request_of(peer: bytes = b"9.9.9.9", *lines: bytes) -> Request:
    return request(fields=b"".join(b"%b\r\n" % line for line in lines), peer=peer)


def test_a_client_is_an_address_and_of_ipv6_a_network() -> None:
    assert network_of(b"1.2.3.4") == b"1.2.3.4"
    assert network_of(b"2001:db8::1") == network_of(b"2001:db8:0:0:ffff::2")
    assert network_of(b"2001:db8::1") != network_of(b"2001:db8:0:1::1")
    assert network_of(b"::ffff:1.2.3.4") == b"1.2.3.4"
    assert network_of(b"fe80::1%eth0") == network_of(b"fe80::2")
    assert network_of(b"unix") == b"unix"
    assert network_of(b"no:address\xff") == b"no:address\xff"


def test_what_clients_are_told_apart_by() -> None:
    by_address = client_reader("client", lambda peer: peer == b"10.0.0.1")
    assert by_address(request_of()) == b"9.9.9.9"
    assert by_address(request_of(b"10.0.0.1", b"X-Forwarded-For: 6.6.6.6, 1.2.3.4")) == b"1.2.3.4"
    assert by_address(request_of(b"9.9.9.9", b"X-Forwarded-For: 1.2.3.4")) == b"9.9.9.9"  # not to be believed
    by_header = client_reader("header:X-Api-Key", None)
    assert by_header(request_of(b"1.1.1.1", b"x-api-key: abc")) == by_header(request_of(b"2.2.2.2", b"X-API-KEY: abc"))
    assert by_header(request_of(b"1.1.1.1", b"X-Api-Key: 2.2.2.2")) != by_header(request_of(b"2.2.2.2"))
    assert by_header(request_of(b"1.1.1.1", b"X-Api-Key:")) == b"1.1.1.1"


def test_a_request_too_many_is_429_with_the_time_to_wait_and_counted() -> None:
    cells = memoryview(bytearray(TABLE_CELLS * 8)).cast("q")
    edge = Learned()
    limiter = RateLimiter(RatePolicy(0.5, 2), cells, cells.cast("B").cast("d"), b"salt")
    target = ClientLimiter(limiter, client_reader("client", None), edge)
    for _ in range(2):
        target.admit(request_of(), 1000.0)
    with pytest.raises(TooManyRequests) as refused:
        target.admit(request_of(), 1000.0)
    assert (refused.value.status, refused.value.retry_after_s, refused.value.blame) == (429, pytest.approx(2.0), "client")
    assert edge.cells[RATE_LIMITED] == 1
    target.admit(request_of(b"8.8.8.8"), 1000.0)
