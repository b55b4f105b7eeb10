"""What a backend is sent: the head of a request, made anew for each try."""

from __future__ import annotations

import pytest

from smartedge.balancer.errors import (
    ConnectFailed,
)
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request
from smartedge.proxy.outbound import Hop, head_for
from tests.fakes import FakeAnswer
from tests.house import House


def test_the_bytes_that_go_out() -> None:
    house = House([FakeAnswer()])
    house.ask(target=b"/a%2F?", block=b"Host: h\r\nX-One: 1\r\nX-Request-Id: mine\r\nConnection: close\r\n").close()
    head = house.transports[0].sent[0].head
    assert head.startswith(b"GET /a%2F? HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n")
    told = b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: http\r\n"
    assert head.endswith(told + b"Via: 1.1 smartedge\r\nX-Request-Id: mine\r\n\r\n")
    assert head.count(b"\r\n\r\n") == 1


@pytest.mark.parametrize(
    ("target", "sent"), [(b"/", b"/app/"), (b"/a%2F//b?", b"/app/a%2F//b?"), (b"//x", b"/app//x"), (b"*", b"*")]
)
def test_a_backends_path_goes_before_every_target_as_it_is(target: bytes, sent: bytes) -> None:
    """Each try has its own backend's, and `OPTIONS *` is about the server as a whole."""
    house = House([ConnectFailed("no")], [FakeAnswer()], base=b"/app")
    house.ask(b"OPTIONS", target=target).close()
    for transport in house.transports:
        assert transport.sent[0].head.startswith(b"OPTIONS %b HTTP/1.1\r\n" % sent)


def test_preserve_host_false_sends_the_backends_own() -> None:
    house = House([ConnectFailed("no")], [FakeAnswer()], preserve_host=False)
    house.ask().close()
    assert [transport.sent[0].head.split(b"\r\n")[1] for transport in house.transports] == [b"Host: a:80", b"Host: b:80"]


def test_a_second_try_does_not_carry_the_first_backends_own_host() -> None:
    """Regression: a client without Host (HTTP/1.0) had its request made once, with the first backend's name, for every try."""
    house = House([ConnectFailed("no")], [FakeAnswer()])
    house.ask(block=b"Accept: */*\r\n").close()
    assert [transport.sent[0].head.split(b"\r\n")[1] for transport in house.transports] == [b"Host: a:80", b"Host: b:80"]


def test_what_backends_are_told_of_a_client_is_made_once_for_its_fields_and_anew_for_all_else_that_is_in_it() -> None:
    backend, fields = House([]).backends[0], RequestFields(b"Host: h\r\n")

    def told(peer: bytes, version: int = 11, hop: Hop = Hop(b"smartedge", None, False)) -> list[bytes]:  # noqa: B008
        request = Request(b"GET", b"/", version, b"Host: h\r\n", fields, peer, secure=False)
        return head_for(backend, request, "id", hop).split(b"\r\n")[2:-3]

    first, second = b"1.1.1.1", b"2.2.2.2"
    lines = [b"X-Forwarded-For: 1.1.1.1", b"X-Forwarded-Host: h", b"X-Forwarded-Proto: http", b"Via: 1.1 smartedge"]
    assert told(first) == lines
    made = fields.onward
    assert told(first) == lines
    assert fields.onward is made
    assert told(second) == [b"X-Forwarded-For: 2.2.2.2", *lines[1:]]
    assert told(second, 10)[-1] == b"Via: 1.0 smartedge"
    assert told(second, 10, Hop(b"another", None, False))[-1] == b"Via: 1.0 another", "a reload"
    assert told(first) == lines
