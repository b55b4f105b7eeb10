"""gRPC through the edge, with grpcio at both ends: calls of every kind, how they end, and what that means for the backends.

Without TLS on either side (h2c), and with TLS on both.
"""

from __future__ import annotations

import contextlib
import json
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.live.processes import ROOT, Running, ask, free_port, running, wait_until

pytestmark = pytest.mark.live

CERTS = Path(__file__).parent / "certs"
PEM = str(CERTS / "localhost.pem")
SERVER = Path(__file__).parent / "grpc_server.py"


@contextlib.contextmanager
def grpc_server(name: str, port: int = 0, *, tls: bool = False) -> Iterator[tuple[Running, int]]:
    """A server of gRPC; gives its process and its port."""
    command = [sys.executable, SERVER, name, str(port), *((PEM, PEM) if tls else ())]
    with running(command, r"^ready \d+$") as process:
        yield process, int(process.wait_for(r"^ready (\d+)$")[1])


class Edge:
    """An edge before some servers of gRPC. channel: a client's connection to it."""

    def __init__(self, channel: grpc.Channel, admin: str, log: Path) -> None:
        self.channel = channel
        self._admin = admin
        self._log = log

    def unary(self, method: str, said: bytes = b"", timeout: float = 20.0, **more: Any) -> bytes:
        """One call of a method that takes a message and gives one."""
        answer: bytes = self.channel.unary_unary(f"/test.T/{method}")(said, timeout=timeout, **more)
        return answer

    def failure(self, method: str, said: bytes = b"", timeout: float = 20.0) -> tuple[grpc.StatusCode, str]:
        """How a call ends that fails."""
        with pytest.raises(grpc.RpcError) as raised:
            self.unary(method, said, timeout)
        return raised.value.code(), raised.value.details()

    def backends(self) -> list[dict[str, Any]]:
        """What the status says of the backends."""
        found: list[dict[str, Any]] = ask(f"{self._admin}/api/status").json()["services"]["default"]["backends"]
        return found

    def logged(self, path: str) -> list[dict[str, Any]]:
        """The lines of the access log about a path."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line["path"] == path]


@contextlib.contextmanager
def edge_before(directory: Path, *ports: int, tls: bool = False, **settings: Any) -> Iterator[Edge]:
    """An edge before servers of gRPC on these ports."""
    scheme, protocol = ("https", "h2") if tls else ("http", "h2c")
    backends = [{"url": f"{scheme}://localhost:{port}", "id": f"b{at}"} for at, port in enumerate(ports, 1)]
    document: dict[str, Any] = {"protocol": protocol, "backends": backends, "strategy": "round_robin", **settings}
    document |= {"access_log": str(directory / "access.log"), "health": {"interval_s": 0.5, "fall": 2, "rise": 1}}
    if tls:
        document |= {"certfile": PEM, "keyfile": PEM}
        for backend in backends:
            backend["tls"] = {"ca_file": str(CERTS / "ca.pem")}  # type: ignore[assignment]
    else:
        document["h2c"] = True
    config, admin = directory / "backends.json", free_port()
    config.write_text(json.dumps(document))
    command = [sys.executable, "-m", "smartedge", "run", "--config", config, "--bind", "127.0.0.1:0"]
    with running([*command, "--admin-bind", f"127.0.0.1:{admin}"], r"iniciado na porta \d+", cwd=ROOT) as process:
        port = process.wait_for(r"iniciado na porta (\d+)")[1]
        if tls:
            channel = grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials((CERTS / "ca.pem").read_bytes()))
        else:
            channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        edge = Edge(channel, f"http://127.0.0.1:{admin}", directory / "access.log")
        with channel:
            wait_until(lambda: all(one["health"] == "healthy" for one in edge.backends()), 30, "healthy backends")
            yield edge


@pytest.fixture(scope="module", params=["h2c", "tls"])
def edge(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    tls = request.param == "tls"
    with (
        grpc_server("a", tls=tls) as (_, first),
        grpc_server("b", tls=tls) as (_, second),
        edge_before(tmp_path_factory.mktemp("edge"), first, second, tls=tls, breaker={"failures": 1000}) as made,
    ):
        yield made
        wait_until(lambda: all(one["in_flight"] == 0 for one in made.backends()), 10, "all leases to be given back")


def test_unary_calls_are_shared_out_and_metadata_goes_both_ways(edge: Edge) -> None:
    call = edge.channel.unary_unary("/test.T/Unary")
    names = set()
    for _ in range(4):
        answer, told = call.with_call(b"\0hi", timeout=20, metadata=[("x-say", "it")])
        names.add(answer)
        assert dict(told.initial_metadata())["x-name"].encode() == answer[:1]
        assert dict(told.trailing_metadata()) == {"x-said": "it", "x-bytes-bin": b"\0\xff"}
    assert names == {b"a:\0hi", b"b:\0hi"}


def test_large_messages(edge: Edge) -> None:
    assert len(edge.unary("Unary", b"x" * 3_000_000)) == 3_000_002


def test_the_server_streams(edge: Edge) -> None:
    assert list(edge.channel.unary_stream("/test.T/Many")(b"1000", timeout=20)) == [b"%d" % n for n in range(1000)]


def test_the_client_streams(edge: Edge) -> None:
    answer = edge.channel.stream_unary("/test.T/Sum")((b"%d," % n for n in range(1000)), timeout=20)
    assert answer == b"".join(b"%d," % n for n in range(1000))


def test_both_stream_message_by_message(edge: Edge) -> None:
    """Each waits for the other's word: nothing is held back on the way, in neither direction."""
    said: queue.Queue[bytes | None] = queue.Queue()
    answers = edge.channel.stream_stream("/test.T/PingPong")(iter(said.get, None), timeout=20)
    for number in range(20):
        said.put(b"%d" % number)
        assert next(answers) == b"%d!" % number
    said.put(None)
    assert list(answers) == []


@pytest.mark.parametrize("status", range(1, 17))
def test_a_status_comes_through_with_its_message(edge: Edge, status: int) -> None:
    code, details = edge.failure("Fail", b"%d" % status)
    assert code.value[0] == status
    assert details == "não: 100%"


def test_a_status_behind_messages(edge: Edge) -> None:
    answers = edge.channel.unary_stream("/test.T/FailLate")(b"13", timeout=20)
    assert next(answers) == b"first"
    with pytest.raises(grpc.RpcError) as raised:
        next(answers)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.INTERNAL, "late")


def test_a_method_that_nobody_has(edge: Edge) -> None:
    assert edge.failure("None")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_many_calls_at_once_on_one_connection(edge: Edge) -> None:
    call = edge.channel.unary_unary("/test.T/Unary")
    under_way = [call.future(b"%d" % n, timeout=30) for n in range(300)]
    assert [one.result()[2:] for one in under_way] == [b"%d" % n for n in range(300)]


def test_the_log_tells_how_a_call_ended(edge: Edge) -> None:
    edge.failure("Fail", b"5")
    line = wait_until(lambda: [one for one in edge.logged("/test.T/Fail") if one["grpc_status"] == 5])[-1]
    assert line["status"] == 200


# ---- how calls end, each before an edge of its own ----


def test_a_client_that_cancels_is_heard_of_by_the_backend(tmp_path: Path) -> None:
    with grpc_server("a") as (server, port), edge_before(tmp_path, port) as edge:
        call = edge.channel.unary_unary("/test.T/Hang").future(b"")
        server.wait_for("^hangs$")
        call.cancel()
        server.wait_for("^cancelled$")
        wait_until(lambda: edge.backends()[0]["in_flight"] == 0, 5, "the lease to be given back")


def test_a_deadline_ends_the_call_at_the_backend_and_is_nobodys_failure(tmp_path: Path) -> None:
    with grpc_server("a") as (server, port), edge_before(tmp_path, port, breaker={"failures": 1}) as edge:
        assert edge.failure("Hang", timeout=0.5)[0] == grpc.StatusCode.DEADLINE_EXCEEDED
        server.wait_for("^cancelled$")
        assert edge.unary("Unary", b"x") == b"a:x"


def test_unavailable_is_tried_elsewhere_and_opens_the_breaker(tmp_path: Path) -> None:
    """No client hears of it, and after three failures that backend is not asked any more."""
    with (
        grpc_server("a") as (_, first),
        grpc_server("b") as (_, second),
        edge_before(tmp_path, first, second, breaker={"failures": 3, "open_s": 60}) as edge,
    ):
        for _ in range(20):
            assert edge.unary("Sick") == b"b"
        assert [one["breaker"] for one in edge.backends()] == ["open", "closed"]
        lines = wait_until(lambda: len(found := edge.logged("/test.T/Sick")) == 20 and found)
        assert {line["grpc_status"] for line in lines} == {0}
        tried = [line["tries"] for line in lines if len(line["tries"]) > 1]
        assert 3 <= len(tried) <= 5  # the first may be the call's own fault, until others show that it is not
        assert {tuple((one["backend"], one["status"]) for one in tries) for tries in tried} == {(("b1", 503), ("b2", 200))}


def test_unavailable_of_all_is_told_as_it_is(tmp_path: Path) -> None:
    with grpc_server("a") as (_, first), grpc_server("b") as (_, second), edge_before(tmp_path, first, second) as edge:
        assert edge.failure("Fail", b"14") == (grpc.StatusCode.UNAVAILABLE, "não: 100%")
        (line,) = wait_until(lambda: edge.logged("/test.T/Fail"))
        assert {(one["backend"], one["status"]) for one in line["tries"]} == {("b1", 503), ("b2", 503)}


def test_a_backend_that_is_killed_in_the_middle(tmp_path: Path) -> None:
    """Its calls end as UNAVAILABLE, at once; all others go to those that are left."""
    with (
        grpc_server("a") as (server, first),
        grpc_server("b") as (other, second),
        edge_before(tmp_path, first, second) as edge,
    ):
        hanging = [edge.channel.unary_unary("/test.T/Hang").future(b"", timeout=100) for _ in range(4)]
        for each in (server, other):
            each.wait_for("^hangs$")
        server.process.kill()
        wait_until(lambda: any(one.done() for one in hanging), 10, "the call to end")
        assert {one.code() for one in hanging if one.done()} == {grpc.StatusCode.UNAVAILABLE}
        assert "cancelled" not in other.output
        for number in range(20):
            assert edge.unary("Unary", b"%d" % number) == b"b:%d" % number
        assert not all(one.done() for one in hanging)
        for one in hanging:
            one.cancel()


def test_a_restart_loses_no_call(tmp_path: Path) -> None:
    """SIGTERM: GOAWAY, and what is under way ends; what comes meanwhile goes to the other, and nobody hears of it."""
    with grpc_server("a") as (server, first), grpc_server("b") as (_, second), edge_before(tmp_path, first, second) as edge:
        call = edge.channel.unary_unary("/test.T/Slow")
        slow = [call.future(b"0.5", timeout=30) for _ in range(10)]
        server.wait_for("^works$")
        server.process.terminate()
        answers = [edge.unary("Unary", b"x") for _ in range(200)]
        assert {one.result() for one in slow} == {b"a", b"b"}
        assert server.wait() == 0
        assert set(answers) <= {b"a:x", b"b:x"}
        with grpc_server("a", first):
            wait_until(lambda: edge.unary("Unary", b"x") == b"a:x", 20, "the one that is back to serve")


def test_nobody_left_is_unavailable(tmp_path: Path) -> None:
    with grpc_server("a") as (server, port), edge_before(tmp_path, port, retry={"wait_s": 0}) as edge:
        server.process.kill()
        code, details = edge.failure("Unary", b"x")
        assert code == grpc.StatusCode.UNAVAILABLE
        assert "backend" in details.lower()
