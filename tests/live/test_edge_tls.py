"""TLS towards clients: what they are offered, what is refused, and a certificate that changes while the edge runs."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.edges import GEVENT, WORKER, LiveEdge, request, start_edge
from tests.live.peers import (
    CERTS,
    Call,
    Client,
    CutOffError,
    Script,
    answers,
    close_delimited,
    cuts_mid_body,
    echo,
    message,
    never_answers,
)
from tests.live.processes import free_port, wait_until
from tests.live.tunnels import ASKS, SWITCHES, connected, converse, echoes, switching, websocket_echo

LOCALHOST = CERTS / "localhost.pem"
HTTP10 = b"GET / HTTP/1.0\r\nHost: edge.test\r\n\r\n"


def trusting(ca: Path = CERTS / "ca.pem") -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))


@dataclass
class SecureEdge:
    """An edge with a certificate of its own to change; its admin pages are on a plain listener."""

    edge: LiveEdge
    certificate: Path

    def client(self, timeout: float = 10.0, tls: ssl.SSLContext | None = None) -> Client:
        return Client(self.edge.port, host="localhost", timeout=timeout, tls=tls or trusting())

    def reload(self) -> tuple[int, dict[str, object]]:
        answer = self.edge.admin("/api/reload", "POST")
        return answer.status, answer.json()


@contextlib.contextmanager
def secure_edge(directory: Path, *backends: Script, workers: int = 1, **settings: object) -> Iterator[SecureEdge]:
    certificate = directory / "edge.pem"
    shutil.copy(LOCALHOST, certificate)
    admin = free_port()
    arguments = ("--certfile", str(certificate), "--admin-bind", f"127.0.0.1:{admin}", "--workers", str(workers))
    with start_edge(directory, *backends, arguments=arguments, probed=False, **settings) as edge:
        edge.url = f"http://127.0.0.1:{admin}"
        edge.wait_probed()
        yield SecureEdge(edge, certificate)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureEdge]:
    with Script() as nobody, secure_edge(tmp_path_factory.mktemp("tls"), nobody) as found:
        yield found
        assert "Traceback" not in found.edge.process.output, found.edge.process


@pytest.fixture
def secure(shared: SecureEdge) -> Iterator[SecureEdge]:
    yield shared
    shared.edge.settled()


@pytest.fixture(scope="module")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of no authority's, with its key."""
    directory = tmp_path_factory.mktemp("other")
    key, certificate, both = directory / "key.pem", directory / "cert.pem", directory / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=other", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both


def serial(client: Client) -> object:
    assert isinstance(client.sock, ssl.SSLSocket)
    shown = client.sock.getpeercert()
    assert shown is not None
    return shown["serialNumber"]


# ---- requests ----


def test_requests_over_tls_are_forwarded_and_say_so(secure: SecureEdge) -> None:
    with Script(echo()) as backend, secure.client() as client:
        secure.edge.configure(backend)
        for body in (b"", b"x" * 300_000):
            client.send(request(method=b"POST", body=body))
            seen = client.answer(b"POST").body
            assert b"\r\nX-Forwarded-Proto: https\r\n" in seen
            assert seen.endswith(b"\r\n\r\n" + body)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_version_1_2_and_1_3_are_offered_and_none_before(secure: SecureEdge) -> None:
    with Script() as backend:
        secure.edge.configure(backend)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting()
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols(["spdy/3", "http/1.1"])
            with secure.client(tls=context) as client:
                assert isinstance(client.sock, ssl.SSLSocket)
                assert client.sock.selected_alpn_protocol() == "http/1.1"
                client.send(request())
                assert client.answer().status == 200
        old = trusting()
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises(ssl.SSLError):
            secure.client(tls=old)


def test_pipelined_requests_and_slow_records_are_read_as_ever(secure: SecureEdge) -> None:
    with Script(echo()) as backend, secure.client() as client:
        secure.edge.configure(backend)
        client.send(request(b"/1") + request(b"/2"))
        for piece in (request(b"/3")[:20], request(b"/3")[20:]):
            client.send(piece)
        assert [client.answer().body[:6] for _ in range(3)] == [b"GET /1", b"GET /2", b"GET /3"]


def test_a_large_answer_arrives_whole_at_a_slow_reader(secure: SecureEdge) -> None:
    body = bytes(range(256)) * 100_000
    with Script(answers(body=body)) as backend, secure.client() as client:
        secure.edge.configure(backend)
        client.send(request())
        assert client.answer().body == body


def test_an_answer_without_length_ends_with_a_goodbye_and_a_cut_one_without(secure: SecureEdge) -> None:
    """A client that cares can tell the two apart (RFC 9112 section 9.8)."""
    with Script(close_delimited()) as backend, secure.client() as client:
        secure.edge.configure(backend)
        client.send(HTTP10)
        assert client.rest().endswith(b"until the end\n")
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.recv(1) == b""
    with Script(cuts_mid_body()) as backend, secure.client() as client:
        secure.edge.configure(backend)
        client.send(request())
        with pytest.raises(CutOffError):
            client.answer()


def test_a_client_that_leaves_while_it_waits_frees_the_backend(secure: SecureEdge) -> None:
    """Whatever it has sent before; with TLS 1.3 session tickets that nobody read are there, too."""
    with Script(never_answers()) as backend:
        secure.edge.configure(backend)
        for how in ("reset", "unwrap"):
            client = secure.client()
            client.send(request(b"/" + how.encode()))
            wait_until(lambda: len(backend.requests) > 0 and backend.open_connections == 1, 5, "the request at the backend")
            if how == "unwrap":
                client.sock.setblocking(False)
                with contextlib.suppress(ssl.SSLError):  # session tickets that nobody read are no reason to stay
                    client.sock.unwrap()  # type: ignore[attr-defined]
            client.reset()
            secure.edge.log(path="/" + how, status=499)
            wait_until(lambda: backend.open_connections == 0, 5, "the backend to be left")
            client.close()


def test_a_request_sent_ahead_is_not_taken_for_leaving(secure: SecureEdge) -> None:
    def act(call: Call) -> None:
        while call.request():
            call.pause(0.5)
            call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Script(act) as backend, secure.client() as client:
        secure.edge.configure(backend)
        client.send(request(b"/1"))
        wait_until(lambda: len(backend.requests) == 1, 5, "the first")
        client.send(request(b"/2"))
        assert [client.answer().body for _ in range(2)] == [b"ok", b"ok"]


# ---- what is no TLS ----


def test_plain_http_is_told_to_use_https(secure: SecureEdge) -> None:
    answer = secure.edge.raw(request())
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"https://" in answer


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x00\x05hello", b"\x16garbage" * 100, b""], ids=["bad hello", "garbage", "nothing"]
)
def test_a_handshake_that_fails_ends_quietly(secure: SecureEdge, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", secure.edge.port), 5) as sock:
        sock.sendall(raw)
        if not raw:
            sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(100):
                assert data[:1] == b"\x15"  # an alert (RFC 8446 section 6)
    assert "TLS" not in secure.edge.process.output


def test_a_client_that_does_not_trust_us_leaves_no_trace(secure: SecureEdge) -> None:
    with Script() as backend:
        secure.edge.configure(backend)
        before = secure.edge.descriptors()
        for _ in range(5):
            with pytest.raises(ssl.SSLCertVerificationError):
                secure.client(tls=ssl.create_default_context())
        wait_until(lambda: len(secure.edge.descriptors()) <= len(before), 5, "the connections to be closed")


def test_a_handshake_has_head_s(secure: SecureEdge) -> None:
    with Script() as backend:
        secure.edge.configure(backend, timeouts={"head_s": 0.5})
        with socket.create_connection(("127.0.0.1", secure.edge.port), 5) as sock:
            sock.sendall(b"\x16\x03\x01")
            assert sock.recv(1) == b""


def test_an_idle_connection_and_a_slow_head_are_timed_out(secure: SecureEdge) -> None:
    with Script() as backend:
        secure.edge.configure(backend, timeouts={"keepalive_s": 0.5, "head_s": 0.5})
        with secure.client() as client:
            client.send(request())
            client.answer()
            assert client.rest() == b""
        with secure.client() as client:
            client.send(b"GET / HT")
            assert client.answer().status == 408


# ---- reloads ----


def test_a_new_certificate_is_shown_after_a_reload_and_open_connections_go_on(tmp_path: Path, other_certificate: Path) -> None:
    with Script() as backend, secure_edge(tmp_path, backend) as secure, secure.client() as old:
        first = serial(old)
        secure.certificate.write_bytes(other_certificate.read_bytes())
        status, told = secure.reload()
        assert (status, told["changed"], told["certificate_renewed"]) == (200, False, True)
        assert str(told["message"]).endswith("certificate renewed")
        with secure.client(tls=trusting(other_certificate)) as new:
            assert serial(new) != first
            new.send(request())
            assert new.answer().status == 200
        old.send(request())
        assert old.answer().status == 200
        assert secure.reload()[1]["certificate_renewed"] is False


def test_a_new_certificate_is_shown_by_all_workers_when_one_has_reloaded_it(tmp_path: Path, other_certificate: Path) -> None:
    def shown() -> set[str]:
        found = set()
        for _ in range(16):
            with secure.client(tls=trusting_both) as client:
                found.add(serial(client))
        return found

    with Script() as backend, secure_edge(tmp_path, backend, workers=3) as secure:
        wait_until(lambda: len(secure.edge.status()["workers"]) == 3, 30, "all workers")
        trusting_both = trusting()
        trusting_both.load_verify_locations(str(other_certificate))
        first = shown()
        assert len(first) == 1
        secure.certificate.write_bytes(other_certificate.read_bytes())
        status, told = secure.reload()
        assert (status, told["certificate_renewed"], told["generation"]) == (200, True, 2)
        assert told["workers"] == {"applied": 3, "live": 3}
        assert len(shown()) == 1
        assert shown() != first


@pytest.mark.parametrize("broken", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None])
def test_a_broken_certificate_refuses_the_reload_and_changes_nothing(tmp_path: Path, broken: bytes | None) -> None:
    with Script() as backend, secure_edge(tmp_path, backend) as secure:
        if broken is None:
            secure.certificate.unlink()
        else:
            secure.certificate.write_bytes(broken)
        body = '{"backends": ["http://127.0.0.1:1"]}'
        before = (tmp_path / "backends.json").read_bytes()
        for answer in (secure.edge.admin("/api/reload", "POST"), secure.edge.admin("/api/reload", "POST", body=body)):
            assert answer.status == 422
            assert "certfile" in answer.text
            assert "no certificate with its key" in answer.text or "no file here" in answer.text
        assert (tmp_path / "backends.json").read_bytes() == before
        with secure.client() as client:
            client.send(request())
            assert client.answer().status == 200


def test_a_key_that_belongs_to_another_certificate_is_named(tmp_path: Path, other_certificate: Path) -> None:
    with Script() as backend, secure_edge(tmp_path, backend) as secure:
        certificate, key = LOCALHOST.read_bytes(), other_certificate.read_bytes()
        secure.certificate.write_bytes(
            key[key.index(b"-----BEGIN PRIVATE") :] + certificate[: certificate.index(b"-----BEGIN ", 5)]
        )
        answer = secure.edge.admin("/api/reload", "POST")
        assert answer.status == 422
        assert "the key does not belong to the certificate" in answer.text


def test_tls_itself_is_switched_by_a_restart_only(tmp_path: Path) -> None:
    with Script() as backend, start_edge(tmp_path, backend) as edge:
        edge.configure(backend, certfile=str(LOCALHOST))
        assert edge.admin("/api/reload", "POST").json()["restart_needed"] == ["certfile"]
        assert edge.ask().status == 200


# ---- the end ----


def test_a_stop_does_not_wait_for_idle_connections(tmp_path: Path) -> None:
    with Script(never_answers()) as backend, secure_edge(tmp_path, backend, shutdown_grace_s=20) as secure:
        with secure.client() as idle, secure.client() as silent:
            backend.act = answers()
            idle.send(request())
            idle.answer()
            assert secure.edge.process.stop(timeout_s=5) == 0
            assert idle.rest() == b""
            assert silent.rest() == b""
        assert "Traceback" not in secure.edge.process.output


def test_a_stop_waits_for_a_request_under_way(tmp_path: Path) -> None:
    def slow(call: Call) -> None:
        call.request()
        wait_until(lambda: stopped, 10)
        call.pause(0.2)
        call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    stopped: list[bool] = []
    with Script(slow) as backend, secure_edge(tmp_path, backend) as secure, secure.client() as client:
        client.send(request())
        wait_until(lambda: backend.requests, 5)
        secure.edge.process.process.terminate()
        stopped.append(True)
        assert client.answer().body == b"ok"
        assert secure.edge.process.wait(5) == 0


# ---- tunnels ----


def test_websockets_go_over_tls(secure: SecureEdge) -> None:
    with Script(websocket_echo) as backend, secure.client() as client:
        secure.edge.configure(backend)
        converse(connected(client.sock))
        assert client.sock.recv(1) == b""


def test_a_tunnel_over_tls_may_end_one_way_first(secure: SecureEdge) -> None:
    """TLS ends each direction by an alert of its own (RFC 8446 section 6.1)."""

    def finishes_first(call: Call) -> None:
        call.send(b"the end")
        call.sock.shutdown(socket.SHUT_WR)
        while call.stream.fill():
            pass
        heard.append(call.stream.take(len(call.stream.buffer)))

    heard: list[bytes] = []
    with Script(switching(finishes_first)) as backend, secure.client() as client:
        secure.edge.configure(backend)
        client.send(request(headers=ASKS) + b"first ")
        assert client.answer().status == 101
        assert client.rest() == b"the end"
        client.send(b"last")
        client.close()
        wait_until(lambda: heard == [b"first last"], 5, f"all of it at the backend, not {heard}")


# ---- other ways to run it ----


@pytest.mark.parametrize("server", [WORKER, GEVENT])
def test_under_gunicorn_its_own_certfile_counts(server: str, tmp_path: Path) -> None:
    arguments = ("--certfile", str(CERTS / "localhost.pem"), "--keyfile", str(CERTS / "localhost.pem"))

    def echoes_once(call: Call) -> None:
        if sent := call.request():
            call.send(message(headers=[("Connection", "close")], body=sent.raw))

    with (
        Script(echoes_once) as backend,
        start_edge(tmp_path, backend, server=server, arguments=arguments, probed=False, certfile=None) as edge,
    ):
        edge.process.wait_for(f"✅ {backend.url} OK", 60)  # gunicorn listens seconds before its worker serves
        with Client(edge.port, host="localhost", tls=trusting()) as client:
            client.send(request())
            assert b"X-Forwarded-Proto: https" in client.answer().body
            client.send(request(b"/big", b"POST", body=b"y" * 300_000))
            assert client.answer().body.endswith(b"y" * 300_000)
        backend.act = websocket_echo
        with Client(edge.port, host="localhost", tls=trusting()) as client:
            converse(connected(client.sock))
        backend.act = switching(echoes, SWITCHES + b"hi ")
        with Client(edge.port, host="localhost", tls=trusting()) as client:
            client.send(request(headers=ASKS) + b"early")
            assert client.answer().status == 101
            assert client.stream.exactly(8) == b"hi early"
        assert b"https://" in edge.raw(request())
        edge.process.stop()
        assert "Traceback" not in edge.process.output


@pytest.mark.parametrize("how", ["flags", "variables", "file"])
def test_certificate_and_key_are_named_by_flags_variables_or_file(how: str, tmp_path: Path) -> None:
    pem = LOCALHOST.read_bytes()
    cut = pem.index(b"-----BEGIN ", 5)
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(pem[:cut])
    key.write_bytes(pem[cut:])
    names = {"certfile": str(certificate), "keyfile": str(key)}
    with (
        Script() as backend,
        start_edge(
            tmp_path,
            backend,
            probed=False,
            arguments=("--certfile", names["certfile"], "--keyfile", names["keyfile"]) if how == "flags" else (),
            env={f"SMARTEDGE_{name.upper()}": path for name, path in names.items()} if how == "variables" else {},
            **(names if how == "file" else {}),
        ) as edge,
        Client(edge.port, host="localhost", tls=trusting()) as client,
    ):
        client.send(request(b"/health"))
        assert client.answer().status in (200, 503)


def test_the_command_line_speaks_to_an_edge_with_tls(tmp_path: Path) -> None:
    with Script() as backend, start_edge(tmp_path, backend, probed=False, certfile=str(LOCALHOST)) as edge:
        command = [sys.executable, "-m", "smartedge", "status", "--url", f"https://localhost:{edge.port}"]
        env = {"PYTHONPATH": str(CERTS.parents[2]), "SSL_CERT_FILE": str(CERTS / "ca.pem"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        assert "generation 1" in done.stdout


def test_a_broken_certificate_stops_the_start_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    (tmp_path / "backends.json").write_text('{"backends": ["http://127.0.0.1:1"], "certfile": "bad.pem"}')
    for command in ("run", "check"):
        done = subprocess.run(
            [sys.executable, "-m", "smartedge", command],
            cwd=tmp_path,
            env={"PYTHONPATH": str(CERTS.parents[2]), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 2
        assert "bad.pem holds no certificate with its key in PEM form" in done.stderr
        assert "Traceback" not in done.stderr
