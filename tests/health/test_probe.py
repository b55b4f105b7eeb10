"""The HTTP probe, in greenlets of this process, against real servers in threads."""

from __future__ import annotations

import contextlib
import gc
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event
from gevent.server import StreamServer

from smartedge.balancer.health import OK_STATUSES
from smartedge.balancer.spec import TlsSpec
from smartedge.health.probe import ROUND_S, HttpProbe
from smartedge.http.tls import context_for
from tests.house import member, until
from tests.live.peers import (
    CERTS,
    Act,
    Call,
    Script,
    answers,
    closes_without_answer,
    cuts_mid_head,
    drips,
    early_hints,
    echo,
    endless_head,
    garbage,
    http10,
    message,
    never_answers,
    never_reads,
    refused_port,
    says,
    tls_server,
)
from tests.policies import health_policy


@pytest.fixture
def serve() -> Iterator[Callable[..., Script]]:
    """Start servers that play an act for probes too."""
    running: list[Script] = []

    def start(act: Act, **options: Any) -> Script:
        running.append(Script(act, health=None, **options))
        return running[-1]

    yield start
    for server in running:
        server.close()


def test_a_probe_is_one_plain_request_on_a_connection_of_its_own(serve: Callable[..., Script]) -> None:
    server = serve(answers())
    backend = member(server.url, health=health_policy(timeout_s=10.0, path="/up?deep=1"))
    probe = HttpProbe()
    first, second = probe(backend), probe(backend)
    assert (first.ok, first.status, first.detail) == (True, 200, "status 200")
    assert 0 < first.took_s < 5
    assert second.ok
    assert server.connections == 2
    assert server.requests[0] == (
        b"GET /up?deep=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: smartedge-health\r\n"
        b"Accept: */*\r\nConnection: close\r\n\r\n" % server.port
    )
    until(lambda: not server.open_connections)


def test_requests_go_on_before_an_answer_is_worked_on_in_a_round_that_is_long_already(serve: Callable[..., Script]) -> None:
    """Hundreds that came at once, first probes mostly, held up requests for 26 ms."""
    server, asked = serve(answers()), list[int]()
    probe = HttpProbe(give_way=lambda: asked.append(len(server.requests)))
    others = gevent.get_hub().loop.check(priority=1)  # after the loop has asked the kernel, and before what that had to tell
    others.start(lambda: time.sleep(2 * ROUND_S))
    try:
        assert probe(member(server.url)).ok
    finally:
        others.stop()
        others.close()
    assert asked
    assert set(asked) == {1}


def test_a_probe_leaves_nothing_to_the_collector(serve: Callable[..., Script]) -> None:
    server = serve(answers())
    backend, probe = member(server.url), HttpProbe()
    assert probe(backend).ok
    gc.collect()
    gc.disable()
    try:
        assert probe(backend).ok
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [one for one in gc.garbage if type(one).__module__.startswith(("smartedge", "httptools"))]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize(
    ("act", "ok", "status", "detail"),
    [
        (answers(204), True, 204, "status 204"),
        (answers(500), False, 500, "status 500, expected less than 500"),
        (answers(404), True, 404, "status 404"),
        (early_hints(), True, 200, "status 200"),
        (http10(), True, 200, "status 200"),
        (says(message(200) + b"garbage after the head"), True, 200, "status 200"),
        (garbage(), False, None, "not HTTP"),
        (cuts_mid_head(), False, None, "connection closed in mid-answer"),
        (closes_without_answer(), False, None, "connection closed without an answer"),
        (closes_without_answer(reset=True), False, None, "connection reset by peer"),
        (endless_head(), False, None, "the head of the answer is over 64 KiB"),
        (never_answers(), False, None, "timed out after 0.3 s"),
        (never_reads(), False, None, "timed out after 0.3 s"),
        (drips(), False, None, "timed out after 0.3 s"),
    ],
)
def test_what_every_answer_means(serve: Callable[..., Script], act: Act, ok: bool, status: int | None, detail: str) -> None:
    server = serve(act)
    timeout_s = 0.3 if "timed out" in detail else 5.0  # a busy machine may take its time, and is not what is asked about here
    result = HttpProbe()(member(server.url, health=health_policy(timeout_s=timeout_s)))
    assert (result.ok, result.status, result.detail) == (ok, status, detail)
    assert result.took_s < timeout_s + 2
    until(lambda: not server.open_connections)


def test_a_refused_connection_is_a_result() -> None:
    with refused_port() as port:
        result = HttpProbe()(member(f"http://127.0.0.1:{port}"))
    assert (result.ok, result.status, result.detail) == (False, None, "connection refused")


def host_of(server: Script) -> list[bytes]:
    """The Host fields that have arrived, one for each request."""
    return [re.findall(rb"\r\nHost: ([^\r]*)", request)[0] for request in server.requests]


def test_a_probe_is_what_the_operator_wrote(serve: Callable[..., Script]) -> None:
    server, apart = serve(answers()), serve(answers())
    policy = health_policy(
        timeout_s=10.0,
        method="POST",
        path="/up",
        host="shop.example",
        headers=(("X-Forwarded-Proto", "https"), ("user-agent", "me")),
    )
    assert HttpProbe()(member(server.url, health=policy)).ok
    assert server.requests == [
        b"POST /up HTTP/1.1\r\nHost: shop.example\r\nAccept: */*\r\nX-Forwarded-Proto: https\r\nuser-agent: me\r\n"
        b"Content-Length: 0\r\nConnection: close\r\n\r\n"
    ]
    assert HttpProbe()(member(server.url, health=health_policy(timeout_s=10.0, port=apart.port))).ok
    assert host_of(apart) == [b"127.0.0.1:%d" % server.port]
    probe = HttpProbe(resolve=lambda host, port: found(port))
    assert probe(member("http://backend.test:9", health=health_policy(timeout_s=10.0, port=apart.port))).ok


def test_a_probe_of_type_tcp_only_connects(serve: Callable[..., Script]) -> None:
    server = serve(never_answers())
    policy = health_policy(type="tcp", timeout_s=30.0)
    result = HttpProbe()(member(server.url, health=policy))
    assert (result.ok, result.status, result.detail) == (True, None, "connected")
    until(lambda: server.connections == 1 and not server.open_connections)
    assert server.requests == []
    with refused_port() as port:
        assert HttpProbe()(member(f"http://127.0.0.1:{port}", health=policy)).detail == "connection refused"
    secure = serve(never_answers(), tls=tls_server())
    assert HttpProbe()(member(secure.url, health=policy, tls=TlsSpec(verify=False))).ok
    assert HttpProbe()(member(secure.url, health=policy)).detail.startswith("TLS: certificate refused")


def knows_only(*hosts: bytes) -> Act:
    """A server that refuses a Host that it does not know as Django does."""

    def act(call: Call) -> None:
        while request := call.request():
            host = request.get(b"host")
            page = b"" if host in hosts else b"<title>Bad Request (400)</title>"
            call.send(message(200 if host in hosts else 400, body=page))

    return act


STRICT = health_policy(path="/ready", statuses=OK_STATUSES, timeout_s=0.5)


def test_a_host_that_clients_have_brought_is_tried_when_the_urls_own_is_refused(serve: Callable[..., Script]) -> None:
    server = serve(knows_only(b"shop.example"))
    brought: list[bytes | None] = [None]
    probe = HttpProbe(clients_host=lambda service: brought[0] if service == "default" else b"elsewhere.example")
    backend = member(server.url, health=STRICT)
    own = b"127.0.0.1:%d" % server.port
    refused = probe(backend)
    hint = f'Django\'s ALLOWED_HOSTS refuses the Host "{own.decode()}": write health.host'
    assert (refused.ok, refused.detail) == (False, f"status 400, expected 200-299; {hint}")
    brought[0] = b"shop.example"
    result = probe(backend)
    assert (result.ok, result.detail) == (True, "status 200, with the clients' Host")
    brought[0] = b"elsewhere.example"
    assert probe(backend).ok, "what was once right is tried first"
    assert host_of(server) == [own, own, b"shop.example", b"shop.example"]


def test_no_client_can_have_a_backend_called_unhealthy_by_its_host(serve: Callable[..., Script]) -> None:
    server = serve(answers())
    own = b"127.0.0.1:%d" % server.port
    assert HttpProbe(clients_host=lambda _service: b"evil.example")(member(server.url, health=STRICT)).ok
    server.act = answers(404)
    assert not HttpProbe(clients_host=lambda _service: b"evil.example")(member(server.url, health=STRICT)).ok
    assert host_of(server) == [own, own]


def test_the_operators_host_and_that_of_the_url_need_no_clients(serve: Callable[..., Script]) -> None:
    server = serve(knows_only(b"shop.example"))
    probe = HttpProbe(clients_host=lambda _service: b"shop.example")
    assert not probe(member(server.url, health=STRICT, preserve_host=False)).ok
    assert not probe(member(server.url, health=replace(STRICT, host="a.example"))).ok
    assert host_of(server) == [b"127.0.0.1:%d" % server.port, b"a.example"]


def found(*ports: int, host: str = "127.0.0.1") -> list[Any]:
    """What getaddrinfo returns for a name with these addresses."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for port in ports]


def test_a_name_is_resolved_and_every_address_is_tried(serve: Callable[..., Script]) -> None:
    server = serve(answers())
    with refused_port() as closed:
        probe = HttpProbe(resolve=lambda host, port: found(closed, server.port))
        assert probe(member("http://backend.test")).ok
        probe = HttpProbe(resolve=lambda host, port: found(closed, closed))
        assert probe(member("http://backend.test")).detail == "connection refused"
    assert HttpProbe()(member(f"http://localhost:{server.port}")).ok
    assert server.requests[-1].startswith(b"GET /health HTTP/1.1\r\nHost: localhost:%d\r\n" % server.port)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are neither accepted nor refused: the backlog is full."""
    with socket.socket() as full, contextlib.ExitStack() as fillers:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def test_an_address_that_keeps_silent_leaves_time_for_the_next(serve: Callable[..., Script], silent_port: int) -> None:
    server = serve(answers())
    probe = HttpProbe(resolve=lambda host, port: found(silent_port, server.port))
    result = probe(member("http://backend.test", health=health_policy(timeout_s=0.6)))
    assert result.ok
    assert 0.2 < result.took_s < 0.6


def test_a_connection_that_does_not_come_about_ends_with_the_deadline(silent_port: int) -> None:
    result = HttpProbe()(member(f"http://127.0.0.1:{silent_port}", health=health_policy(timeout_s=0.1)))
    assert result.detail == "timed out after 0.1 s"
    assert 0.1 <= result.took_s < 0.2


def test_a_name_that_cannot_be_resolved_is_a_result() -> None:
    def resolve(host: str, port: int) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    result = HttpProbe(resolve=resolve)(member("http://nowhere.test"))
    assert result.detail == "cannot resolve nowhere.test: name or service not known"
    assert HttpProbe(resolve=lambda host, port: [])(member("http://nowhere.test")).detail == ("nowhere.test has no address")


def test_a_name_whose_servers_are_silent_is_looked_up_once_at_a_time() -> None:
    """Ten lookups that hang would occupy gevent's whole resolver, and with it every backend that has a name."""
    lookups: list[str] = []
    arrived = Event()

    def resolve(host: str, port: int) -> list[Any]:
        lookups.append(host)
        arrived.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    probe = HttpProbe(resolve=resolve)
    backend = member("http://slow.test", health=health_policy(timeout_s=0.02))
    for _ in range(5):
        assert probe(backend).detail == "timed out after 0.02 s"
    assert lookups == ["slow.test"]
    arrived.set()
    assert "temporary failure" in probe(backend).detail
    assert "temporary failure" in probe(backend).detail
    assert lookups == ["slow.test"] * 2


def test_addresses_in_urls_need_no_lookup() -> None:
    def resolve(host: str, port: int) -> list[Any]:
        raise AssertionError("nothing to look up")

    with Script() as server:
        assert HttpProbe(resolve=resolve)(member(server.url)).ok
    result = HttpProbe(resolve=resolve)(member("http://[::1]:9"))
    assert not result.ok


# --- TLS ---


@pytest.mark.parametrize(
    ("tls", "ok", "detail"),
    [
        (TlsSpec(ca_file=str(CERTS / "ca.pem")), True, "status 200"),
        (TlsSpec(verify=False), True, "status 200"),
        (TlsSpec(ca_file=str(CERTS / "ca.pem"), server_name="backend.test"), True, "status 200"),
        (None, False, "TLS: certificate refused"),
        (TlsSpec(), False, "TLS: certificate refused"),
        (TlsSpec(ca_file=str(CERTS / "ca.pem"), server_name="other.test"), False, "other.test"),
        (TlsSpec(ca_file="/nowhere/ca.pem"), False, "no such file or directory"),
    ],
)
def test_an_https_backend_is_probed_with_its_own_tls_settings(
    serve: Callable[..., Script], tls: TlsSpec | None, ok: bool, detail: str
) -> None:
    server = serve(echo(), tls=tls_server())
    result = HttpProbe()(member(server.url, tls=tls))
    assert result.ok is ok
    assert detail in result.detail
    until(lambda: not server.open_connections)


def test_a_client_certificate_is_shown_and_a_renewed_one_is_used(serve: Callable[..., Script], tmp_path: Path) -> None:
    server = serve(answers(), tls=tls_server(ask_for_client_certificate=True))
    ca, own = str(CERTS / "ca.pem"), tmp_path / "client.pem"
    without = HttpProbe()(member(server.url, tls=TlsSpec(ca_file=ca)))
    assert not without.ok
    backend = member(server.url, tls=TlsSpec(ca_file=ca, cert_file=str(own)))
    probe = HttpProbe()
    assert probe(backend).detail == "no such file or directory"
    shutil.copy(CERTS / "localhost.pem", own)
    assert probe(backend).ok
    own.write_text("not a certificate any more")
    assert probe(backend).detail.startswith("TLS: ")


def test_tls_to_a_server_without_it_is_a_result(serve: Callable[..., Script]) -> None:
    server = serve(garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    result = HttpProbe()(member(server.url.replace("http:", "https:")))
    assert not result.ok
    assert result.detail.startswith("TLS: ")


def test_a_silent_handshake_ends_with_the_deadline_and_its_connection(serve: Callable[..., Script]) -> None:
    server = serve(never_reads())
    backend = member(server.url.replace("http:", "https:"), health=health_policy(timeout_s=0.1))
    assert HttpProbe()(backend).detail == "timed out after 0.1 s"
    until(lambda: not server.open_connections)


def test_the_app_may_give_probes_the_tls_settings_of_traffic(serve: Callable[..., Script]) -> None:
    server = serve(answers(), tls=tls_server())
    asked: list[object] = []

    def contexts(tls: TlsSpec | None) -> Any:
        asked.append(tls)
        return context_for(TlsSpec(verify=False))

    assert HttpProbe(contexts)(member(server.url)).ok
    assert asked == [None]


def test_a_backend_below_a_path_is_probed_below_it(serve: Callable[..., Script]) -> None:
    """Its base path goes before every request, and before the probe's."""
    server = serve(answers())
    assert HttpProbe()(member(f"{server.url}/app", health=health_policy(timeout_s=10.0, path="/up?deep=1"))).ok
    assert server.requests[0].startswith(b"GET /app/up?deep=1 HTTP/1.1\r\n")


def test_a_backend_on_a_unix_socket_is_probed_there(tmp_path: Path) -> None:
    heard: list[bytes] = []

    def hear(sock: Any, _address: object) -> None:
        heard.append(sock.recv(1000))
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        sock.close()

    path = str(tmp_path / "app.sock")
    with contextlib.closing(gevent.socket.socket(gevent.socket.AF_UNIX)) as listener:
        listener.bind(path)
        listener.listen(1)
        server = StreamServer(listener, hear)
        server.start()
        assert HttpProbe()(member(f"unix:{path}:/app")).ok
        server.stop(timeout=0)
    assert heard[0].startswith(b"GET /app/health HTTP/1.1\r\nHost: localhost\r\n")
    assert HttpProbe()(member(f"unix:{path}")).detail == "connection refused"


def test_a_backend_of_a_name_is_probed_where_the_name_leads_to(serve: Callable[..., Script]) -> None:
    """Probes asked the name's new address while traffic went to the old one."""

    def resolve(host: str, port: int) -> list[Any]:
        raise AssertionError("a probe looked up")

    server = serve(echo())
    port = server.url.rpartition(":")[2]
    assert HttpProbe(resolve=resolve)(member(f"http://nowhere.test:{port}", addresses=("127.0.0.1",))).ok
