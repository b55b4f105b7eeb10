"""Our own trouble: no descriptors left. It blames nobody, idle connections make room, one line is in the log."""

from __future__ import annotations

import errno
import logging
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.errors import BackendError, ConnectFailed, OutOfResources
from smartedge.balancer.learned import Learned
from smartedge.health.probe import HttpProbe
from smartedge.http import resources
from smartedge.http.resources import OwnTrouble, is_own, most_clients, with_room
from smartedge.proxy.outbound import Outbound
from smartedge.proxy.transport import EdgeAdapter
from tests.fakes import no_descriptors
from tests.live.peers import refused_port
from tests.policies import backend_spec, limits


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_seen_at", {})
    monkeypatch.setattr(resources, "HOLDERS", type(resources.HOLDERS)())  # servers of other tests have nothing to give up


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL])
def test_what_the_edge_itself_lacks_is_its_own_trouble(number: int) -> None:
    assert is_own(OSError(number, os.strerror(number)))


def test_what_others_do_is_not() -> None:
    for number in (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET):
        assert not is_own(OSError(number, os.strerror(number)))
    assert not is_own(socket.gaierror(socket.EAI_NONAME, "unknown"))
    assert not is_own(ValueError())
    assert not is_own(None)


def test_a_resolver_without_descriptors_does_not_say_so_and_is_seen_through() -> None:
    with no_descriptors():
        own = is_own(socket.gaierror(socket.EAI_NONAME, "unknown"))
    assert own


@pytest.fixture
def nobody() -> Iterator[str]:
    """The URL of a port on which nobody listens, and nobody else will meanwhile."""
    with refused_port() as port:
        yield f"http://127.0.0.1:{port}"


def test_a_request_that_cannot_connect_for_want_of_descriptors_blames_no_backend(
    nobody: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: with `ulimit -n 100` and 140 idle clients the breakers of sound backends counted."""
    adapter = EdgeAdapter(nobody, limits(), None)
    request = Outbound(b"GET", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, True)
    with no_descriptors(), pytest.raises(OutOfResources) as caught:
        adapter.send(request)
    assert not isinstance(caught.value, BackendError)
    assert (caught.value.status, caught.value.blame, caught.value.retry_after_s) == (503, "edge", 1.0)
    with pytest.raises(ConnectFailed):  # and afterwards the backend's trouble is the backend's
        adapter.send(request)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == 1
    assert "short of something while connecting to" in lines[0]
    assert "EMFILE" in lines[0]


def test_a_probe_for_which_there_is_no_descriptor_has_no_result(nobody: str) -> None:
    """Regression: sound backends went "Offline" because the edge had no descriptors left."""
    backend = Backend(backend_spec(id="a", url=nobody), Learned())
    with no_descriptors(), pytest.raises(OwnTrouble):
        HttpProbe()(backend)
    assert HttpProbe()(backend).detail == "connection refused"


def test_what_is_idle_is_closed_first() -> None:
    class Holder:
        def __init__(self) -> None:
            self.idle = [os.dup(0), os.dup(0)]

        def close_idle(self, most: int) -> int:
            gone, self.idle = self.idle[:most], self.idle[most:]
            for descriptor in gone:
                os.close(descriptor)
            return len(gone)

    holder = Holder()
    resources.HOLDERS.add(holder)
    with no_descriptors():
        descriptor = with_room(lambda: os.dup(0), "testing")
        os.close(descriptor)
    assert holder.idle == []


def test_the_same_trouble_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        resources.HOLDERS.make_room(OSError(errno.ENOBUFS, "No buffer space available"), "testing")
    resources.HOLDERS.make_room(OSError(errno.ENFILE, "Too many open files in system"), "testing")
    assert [record.getMessage().split(" (")[1][:6] for record in caplog.records] == ["ENOBUF", "ENFILE"]


@pytest.mark.parametrize(("limit", "clients"), [(100, 30), (1024, 436), (65536, 32692), (20, 4)])
def test_so_many_clients_are_carried_by_so_many_descriptors(limit: int, clients: int) -> None:
    """Each may need a connection to a backend besides its own, and something is kept for probes, files and the admin pages."""
    assert most_clients(limit) == clients


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(256, soft // 2), hard))
        limit = resources.raise_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
        assert limit == min(hard if hard != resource.RLIM_INFINITY else 1 << 20, 1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
