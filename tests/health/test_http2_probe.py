"""Probes of backends that speak HTTP/2, with the package h2 as the backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.health import ANSWERED, OK_STATUSES, ProbeResult
from smartedge.balancer.learned import Learned
from smartedge.health.http2_probe import SERVING
from smartedge.health.probe import HttpProbe
from smartedge.http2 import frames as h2
from tests.h2_peer import H2Server, h2_backend
from tests.peers import backend as plain_backend
from tests.peers import says
from tests.policies import backend_spec, health_policy

CALL = [("content-type", "application/grpc")]


def probe(url: str, **policy: Any) -> ProbeResult:
    spec = backend_spec(url=url, protocol="h2c", health=health_policy(**policy))
    with gevent.Timeout(5):
        return HttpProbe()(Backend(spec, Learned(spec), None))


def probed(answer: Callable[[H2Server, int], None], **policy: Any) -> ProbeResult:
    """What a probe finds whose question is answered so."""

    def play(server: H2Server, _: int) -> None:
        answer(server, server.request())
        server.until(lambda: False)

    with h2_backend(play) as url:
        return probe(url, **policy)


def refuse(server: H2Server, stream: int) -> None:
    server.h2.reset_stream(stream, h2.INTERNAL_ERROR)
    server.flush()


def test_the_question_is_asked_by_http_2() -> None:
    heads: list[dict[str, str]] = []

    def answer(server: H2Server, stream: int) -> None:
        heads.append(server.requests[stream])
        server.answer(stream, b"all well")

    assert probed(answer, path="/up", body="well").ok
    assert (heads[0][":method"], heads[0][":path"]) == ("GET", "/up")
    assert not probed(answer, path="/up", body="ill").ok
    assert not probed(lambda server, stream: server.answer(stream, b"", "503"), path="/up").ok


def test_who_refuses_a_question_that_nobody_has_written_is_there() -> None:
    """Servers of gRPC reset what is no call."""
    assert probed(refuse, statuses=ANSWERED).ok
    assert not probed(refuse, path="/up", statuses=OK_STATUSES).ok


def test_who_speaks_something_else_is_not_healthy() -> None:
    with plain_backend(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as url:
        found = probe(url, statuses=ANSWERED)
    assert not found.ok
    assert "not HTTP/2" in found.detail


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (SERVING, "0", "SERVING"),
        (b"\0\0\0\0\2\x08\2", "0", "not SERVING"),
        (b"", "12", "grpc-status 12, it has no grpc.health.v1.Health"),
        (b"", "14", "grpc-status 14"),
    ],
)
def test_grpcs_own_health_check(body: bytes, status: str, detail: str) -> None:
    def answer(server: H2Server, stream: int) -> None:
        assert server.requests[stream][":path"] == "/grpc.health.v1.Health/Check"
        assert server.bodies[stream] == b"\0\0\0\0\0"
        server.answer(stream, body, "200", CALL, [("grpc-status", status)])

    found = probed(answer, type="grpc")
    assert (found.ok, found.detail) == (detail == "SERVING", detail)
