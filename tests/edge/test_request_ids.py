"""Ids of requests: unlike each other, and the client's own where it brought one."""

from __future__ import annotations

from smartedge.edge.request_ids import RequestIds
from tests.house import request


def test_no_two_are_alike_in_one_worker_or_in_two() -> None:
    ids = [made.next() for made in (RequestIds(), RequestIds()) for _ in range(1000)]
    assert len(set(ids)) == 2000


def test_the_one_that_a_request_brought_along_is_kept() -> None:
    ids = RequestIds()
    assert ids.of(request(fields=b"X-Request-Id: of-the-client\r\n")) == "of-the-client"
    assert ids.of(request()) != ids.of(request())


def test_whoever_was_forked_does_not_go_on_with_the_ids_of_its_parent() -> None:
    ids = RequestIds()
    ids.next()
    before, _, _ = ids.next().partition("-")
    ids.draw_prefix()
    assert not ids.next().startswith(before)
