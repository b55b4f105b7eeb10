"""What all requests have in common: how they are counted and logged, and that none goes round in circles."""

from __future__ import annotations

import pytest

from smartedge.balancer.cells import IN_FLIGHT, OK
from smartedge.balancer.errors import (
    LoopDetected,
)
from smartedge.edge.setup import own_via
from smartedge.http.request import Request
from smartedge.proxy.forward import MOST_EDGES, refuse_circles
from tests.fakes import FakeAnswer
from tests.house import House, request, served

OURS, ANOTHER = own_via("gunicorn-1-2-3"), own_via("gunicorn-4-5-6")


def test_an_answer_goes_through_and_the_lease_comes_back() -> None:
    house = House([FakeAnswer(200, b"he", b"llo", here=False)])
    exchange = house.ask()
    assert house.counted(IN_FLIGHT) == [1]
    assert served(exchange) == (200, b"hello")
    assert house.counted(IN_FLIGHT) == [0]
    assert house.counted(OK) == [1]
    assert house.logged == [exchange]
    assert (exchange.status, exchange.bytes_out, exchange.attempts.tries, exchange.attempts.request_id) == (200, 5, 1, "made-id")


def came_by(*via: bytes) -> Request:
    return request(fields=b"".join(b"Via: %b\r\n" % one for one in via))


@pytest.mark.parametrize(
    "via",
    [
        [b"1.1 " + OURS],
        [b"1.0 fred, 1.1 " + OURS + b", 1.1 varnish"],
        [b"1.1 " + ANOTHER, b"1.1 " + OURS],
        [b"1.1 smartedge"] * MOST_EDGES,
    ],
)
def test_what_it_has_forwarded_itself_is_refused(via: list[bytes]) -> None:
    """Regression: a backend that was the edge itself had a request go round 194 times."""
    assert came_by(*via).fields.for_edge
    with pytest.raises(LoopDetected) as caught:
        refuse_circles(came_by(*via), OURS)
    assert (caught.value.status, caught.value.blame) == (508, "edge")


@pytest.mark.parametrize("via", [[], [b"1.1 " + ANOTHER], [b"1.1 varnish, 1.1 smartedge"], [b"1.1 " + ANOTHER] * 3])
def test_edges_behind_one_another_are_no_circle(via: list[bytes]) -> None:
    refuse_circles(came_by(*via), OURS)
