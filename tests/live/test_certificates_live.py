"""Certificates by name, client certificates, http to https: under `run`, gunicorn with our worker, and gunicorn with its own."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import NameOID

from tests.certificates import Authority, trusting
from tests.live.edges import GEVENT, OWN, WORKER, LiveEdge, request, start_edge
from tests.live.peers import Client, CutOffError, Script, echo
from tests.live.processes import ask, free_port, listens, wait_until


class Secure:
    """An edge with certificates for shop.example (ECDSA and RSA) and a folder, and what may connect to it."""

    def __init__(self, edge: LiveEdge, authority: Authority, folder: Path, http_port: int) -> None:
        self.edge, self.authority, self.folder, self.http_port = edge, authority, folder, http_port

    def shown(self, name: str, **client: Any) -> str:
        """The first name of the certificate that is shown to whoever asks for this one."""
        return name_in(self.connection(name, **client))

    def connection(self, name: str, tls: ssl.SSLContext | None = None, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
        tls = tls or trusting(self.authority)
        tls.check_hostname = False
        sock = socket.create_connection(("127.0.0.1", self.edge.port), 10)
        return tls.wrap_socket(sock, server_hostname=name, session=session)


def name_in(sock: ssl.SSLSocket) -> str:
    with sock:
        found = sock.getpeercert()
        assert found is not None
        return str(found["subjectAltName"][0][1])


@contextlib.contextmanager
def secure(tmp_path: Path, backend: Script, server: str, workers: int = 1, **settings: Any) -> Iterator[Secure]:
    authority, folder, http, admin = Authority(), tmp_path / "certificates", free_port(), free_port()
    folder.mkdir()
    authority.sign(folder / "any.pem", "*.shop.example")
    certificates = [
        {"certfile": authority.sign(tmp_path / "shop.pem", "shop.example")},
        {"certfile": authority.sign(tmp_path / "rsa.pem", "shop.example", kind="RSA")},
    ]
    arguments = ("--workers", str(workers)) if server == OWN else ("-w", str(workers)) if workers > 1 else ()
    with start_edge(
        tmp_path,
        backend,
        server=server,
        arguments=arguments,
        probed=False,
        certificates=certificates,
        certificates_dir=str(folder),
        http_bind=f"127.0.0.1:{http}",
        admin_bind=f"127.0.0.1:{admin}",
        hsts_s=600,
        **settings,
    ) as edge:
        edge.url = f"http://127.0.0.1:{admin}"
        wait_until(lambda: listens(admin) and listens(http), 10, f"both other listeners\n{edge.process}")
        edge.wait_probed()
        yield Secure(edge, authority, folder, http)
        assert "Traceback" not in edge.process.output


@pytest.mark.parametrize(("server", "workers"), [(OWN, 2), (WORKER, 2)])
def test_names_choose_their_certificate_and_everything_that_belongs_to_https(server: str, workers: int, tmp_path: Path) -> None:
    with Script(echo()) as backend, secure(tmp_path, backend, server, workers) as one:
        names = ("shop.example", "www.shop.example", "nobody.example")
        assert [one.shown(name) for name in names] == ["shop.example", "*.shop.example", "shop.example"]
        with Client(one.edge.port, host="localhost", tls=unchecked()) as client:
            client.send(request(headers=b"X-Client-Cert-Subject: CN=root\r\n"))
            answer = client.answer()
            assert answer.get(b"Strict-Transport-Security") == b"max-age=600"
            assert b"CN=root" not in answer.body
        plain = ask(f"http://127.0.0.1:{one.http_port}/a/b?c=d", headers={"Host": "shop.example:80"})
        assert (plain.status, plain.header("Location")) == (308, f"https://shop.example:{one.edge.port}/a/b?c=d")
        if workers > 1:
            tls, session, resumed = trusting(one.authority), None, []
            for _ in range(8):
                with one.connection("shop.example", tls, session) as sock:
                    sock.sendall(request(b"/"))
                    assert sock.recv(100)
                    resumed.append(sock.session_reused)
                    session = sock.session
            assert resumed == [False, *[True] * 7]
        # What comes into the folder is shown within a second or so, and what is none changes nothing and is named.
        one.authority.sign(one.folder / "new.pem", "new.example")
        wait_until(lambda: one.shown("new.example") == "new.example", 10, "the new certificate")
        (one.folder / "stray.txt").write_text("x")
        refused = one.edge.admin("/api/reload", "POST")
        assert (refused.status, "stray.txt is no certificate" in refused.text) == (422, True)
        (one.folder / "stray.txt").unlink()
        first_names = ["shop.example", "shop.example", "*.shop.example", "new.example"]
        wait_until(lambda: [entry["names"][0] for entry in one.edge.status()["certificates"]] == first_names, 10, "all of them")


def test_clients_show_certificates_of_which_backends_are_told(tmp_path: Path) -> None:
    clients = Authority()
    (tmp_path / "clients.pem").write_bytes(clients.pem)
    alice = clients.sign(tmp_path / "alice.pem", "alice", subject=[(NameOID.COMMON_NAME, "alice")])
    with Script(echo()) as backend, secure(tmp_path, backend, OWN, client_ca_file=str(tmp_path / "clients.pem")) as one:
        tls = unchecked()
        tls.load_cert_chain(alice)
        with Client(one.edge.port, host="localhost", tls=tls) as client:
            for _ in range(2):
                client.send(request(headers=b"X-Client-Cert-Subject: CN=root\r\n"))
                body = client.answer().body
                assert b"\r\nX-Client-Cert-Subject: CN=alice\r\nX-Client-Cert-Fingerprint: " in body
                assert b"CN=root" not in body
        with Client(one.edge.port, host="localhost", tls=unchecked()) as client:
            client.send(request())
            with pytest.raises((ssl.SSLError, ConnectionError, CutOffError)):
                client.answer()
        document = json.loads((tmp_path / "backends.json").read_text()) | {"client_certificates": "optional"}
        assert one.edge.admin("/api/reload", "POST", body=json.dumps(document)).status == 200
        with Client(one.edge.port, host="localhost", tls=unchecked()) as client:
            client.send(request())
            assert b"X-Client-Cert" not in client.answer().body


def test_under_gunicorns_own_worker_the_leader_opens_http_bind_and_tls_is_gunicorns(tmp_path: Path) -> None:
    with Script(echo()) as backend, secure(tmp_path, backend, GEVENT) as one:
        assert one.edge.ask().status == 200  # plain: gunicorn has no certificate
        assert "certificates: are shown to nobody" in one.edge.process.output
        plain = ask(f"http://127.0.0.1:{one.http_port}/", headers={"Host": "shop.example"})
        assert (plain.status, plain.header("Location")) == (308, f"https://shop.example:{one.edge.port}/")


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
