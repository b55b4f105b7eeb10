"""What is no request is refused and never forwarded, with all that came behind it: server, app and forwarder in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.house import Served, running
from tests.live.wire import CutOffError, Stream, parse_answers, read_request
from tests.peers import backend, talk
from tests.refused import BAD_CHUNKS, CHUNKED, NEXT, REFUSED, UNKNOWN

CASES = [*((name, raw, 400) for name, raw in REFUSED.items()), *((name, raw, 501) for name, raw in UNKNOWN.items())]


SEEN: list[bytearray] = []
"""What came to the backend on each connection."""


@pytest.fixture(scope="module")
def edge() -> Iterator[Served]:
    def play(sock: Any, _number: int) -> None:
        SEEN.append(data := bytearray())
        while more := sock.recv(65536):
            data += more

    with backend(play) as url, running(url) as made:
        yield made


@pytest.mark.parametrize(("raw", "status"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_is_not_http_is_refused_and_never_forwarded(edge: Served, raw: bytes, status: int) -> None:
    (answer,) = parse_answers(talk(edge.server, raw), b"GET")
    assert answer.status == status
    assert answer.get(b"connection") == b"close"
    assert answer.get(b"content-type") == b"application/problem+json"
    assert json.loads(answer.body)["status"] == status
    assert [data for data in SEEN if data] == []  # a connection for a body that was refused may come to the backend late


@pytest.mark.parametrize("raw", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
def test_a_chunked_body_that_is_none_is_refused_with_all_behind_it(edge: Served, raw: bytes) -> None:
    received = talk(edge.server, CHUNKED + raw + NEXT)
    assert re.match(rb"HTTP/1\.1 (400|413|431) ", received)
    assert received.count(b"HTTP/1.1 ") == 1
    for data in filter(None, SEEN):  # what had come before the damage may have gone on, never an end or what came behind it
        assert b"smuggled" not in data
        with pytest.raises(CutOffError):
            read_request(Stream(None, bytes(data)))
    SEEN.clear()
