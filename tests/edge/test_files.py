"""Files that the configuration names, replaced while the edge runs: used at the next reload or within a second, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.balancer.errors import ConnectFailed
from smartedge.config.model import Config, ConfigError, Problem, parse
from smartedge.config.problems import Step, path_text
from smartedge.edge.edge import Edge
from smartedge.edge.files import NamedFiles
from smartedge.health.probe import HttpProbe
from smartedge.http.tls import Contexts, ServerTls
from smartedge.proxy.outbound import Outbound
from tests.live.peers import CERTS, Script, answers, tls_server

CA, LOCALHOST = (CERTS / "ca.pem").read_bytes(), (CERTS / "localhost.pem").read_bytes()
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def replace(path: Path, content: bytes) -> None:
    """As certbot and editors do it."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


def write_into(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def turn_the_link(path: Path, content: bytes) -> None:
    """As Kubernetes does it with what it mounts."""
    target = path.with_name(f"data-{path.name}-{len(list(path.parent.iterdir()))}")
    target.write_bytes(content)
    link = path.with_suffix(".link")
    link.symlink_to(target)
    os.replace(link, path)


every_way = pytest.mark.parametrize("change", [replace, write_into, turn_the_link])


def unusable(steps: tuple[Step, ...], message: str) -> ConfigError:
    return ConfigError([Problem(path_text(steps), message)], status=422)


class Files:
    """The files of a configuration, and what was heard of them."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.tls, self.contexts = ServerTls(), Contexts()
        self.renewals = 0
        self.files = NamedFiles(self.tls, self.contexts, self.count, unusable)
        self.config: Config = parse(json.dumps({"backends": ["http://a"], **settings}))
        self.files.begin(self.config)

    def count(self) -> None:
        self.renewals += 1


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "a.pem"
    path.write_bytes(LOCALHOST)
    return path


@every_way
def test_a_replaced_certificate_is_shown_within_a_second_without_a_reload(
    change: Callable[[Path, bytes], None], pem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Files(pem.parent, certfile=str(pem))
    first = one.tls()
    one.files.look(one.config)
    assert one.tls() is first
    change(pem, LOCALHOST + b"\n# another one\n")
    one.files.look(one.config)
    assert one.tls() is not first
    assert caplog.messages == ["files have been replaced and are in use: certfile"]
    assert one.files.prepare(one.config)() == ("certfile",)  # whoever reloads then hears of it
    assert one.files.prepare(one.config)() == ()


@every_way
def test_a_broken_file_keeps_what_there_was_and_is_said_once(
    change: Callable[[Path, bytes], None], pem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Files(pem.parent, certfile=str(pem), backends=[{"url": "https://a", "tls": {"ca_file": str(pem)}}])
    spec = one.config.specs()[0].tls
    shown, trusted = one.tls(), one.contexts(spec)
    change(pem, b"-----BEGIN CERTIFICATE-----\nhalf")
    for _ in range(3):
        one.files.look(one.config)
    assert (one.tls(), one.contexts(spec), one.renewals) == (shown, trusted, 0)
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "a replaced file cannot be used, the one before stays in use"
    ] * 2
    assert {key for message in caplog.messages for key in ("certfile", "backends[0].tls") if key in message} == {
        "certfile",
        "backends[0].tls",
    }
    with pytest.raises(ConfigError, match=r"certfile"):
        one.files.prepare(one.config)
    change(pem, LOCALHOST + b"\n")
    one.files.look(one.config)
    assert one.tls() is not shown
    assert one.contexts(spec) is not trusted
    assert one.renewals == 1


def test_a_file_that_says_the_same_as_before_is_no_news(pem: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Files(pem.parent, certfile=str(pem), backends=[{"url": "https://a", "tls": {"ca_file": str(pem)}}])
    shown, trusted = one.tls(), one.contexts(one.config.specs()[0].tls)
    replace(pem, LOCALHOST)
    one.files.look(one.config)
    pem.touch()
    one.files.look(one.config)
    assert one.files.prepare(one.config)() == ()
    assert one.contexts(one.config.specs()[0].tls) is trusted
    assert shown is not None
    assert caplog.messages == []


def test_a_key_that_comes_a_moment_after_its_certificate_is_used_then(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever renews writes two files, and we may look between the two."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    at = LOCALHOST.index(b"-----BEGIN CERTIFICATE")
    key_first = LOCALHOST[:at].strip() != b""
    end = LOCALHOST.index(b"-----END CERTIFICATE-----") + 26
    certificate = LOCALHOST[at:end]
    private = LOCALHOST[:at] if key_first else LOCALHOST[end:]
    cert.write_bytes(certificate)
    key.write_bytes(private)
    one = Files(tmp_path, certfile=str(cert), keyfile=str(key))
    shown = one.tls()
    replace(key, b"not yet")
    one.files.look(one.config)
    assert one.tls() is shown
    replace(key, private + b"\n")
    one.files.look(one.config)
    assert one.tls() is not shown
    assert len(caplog.messages) == 2


def test_a_file_that_is_gone_is_a_broken_one(pem: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Files(pem.parent, certfile=str(pem))
    shown = one.tls()
    pem.unlink()
    for _ in range(3):
        one.files.look(one.config)
    assert one.tls() is shown
    assert len(caplog.messages) == 1


def test_another_secret_of_sticky_cookies_is_told(tmp_path: Path) -> None:
    """A reload said "unchanged", and the old secret stayed until a restart."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"one secret of 16 bytes")
    one = Files(tmp_path, sticky={"cookie": "S", "secret_file": str(secret)})
    assert one.files.prepare(one.config)() == ()
    replace(secret, b"another secret of 16 bytes")
    assert one.files.prepare(one.config)() == ("sticky.secret_file",)
    assert one.renewals == 1


def test_a_start_with_a_broken_file_names_its_key(pem: Path) -> None:
    pem.write_bytes(b"no PEM")
    for settings, key in (
        ({"certfile": str(pem)}, "certfile"),
        ({"backends": ["http://a", {"url": "https://b", "tls": {"cert_file": str(pem)}}]}, r"backends\[1\]\.tls"),
    ):
        with pytest.raises(ConfigError, match=key):
            Files(pem.parent, **settings)


@pytest.fixture
def https_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Edge, Path, Script]]:
    """An edge in front of an https backend that trusts `ca.pem`, which holds another authority for now."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(LOCALHOST)
    with gevent.Timeout(20), contextlib.closing(Script(answers(), tls=tls_server())) as backend:
        entry = {"url": f"https://localhost:{backend.port}", "tls": {"ca_file": str(ca)}}
        path = tmp_path / "backends.json"
        path.write_text(json.dumps({"backends": [entry]}))
        edge = Edge(parse(path.read_bytes()), config_path=str(path))
        yield edge, ca, backend
        edge.stop()


@pytest.mark.parametrize("how", ["reload", "look"])
def test_a_replaced_authority_is_used_for_traffic_and_probes_alike(https_edge: tuple[Edge, Path, Script], how: str) -> None:
    """A reload said 200, probes used the new one, and all traffic was 503 until a restart."""
    edge, ca, _ = https_edge
    backend = edge.pool.backends[0]
    backend_probe = HttpProbe(edge.members.contexts)

    def works() -> bool:
        with contextlib.suppress(ConnectFailed):
            backend.transport.send(Outbound(b"GET", GET, None, True)).close()
            return True
        return False

    def change(content: bytes) -> None:
        replace(ca, content)
        if how == "look":
            edge.files.look(edge.config)
        else:
            assert edge.reload(None).document["files_renewed"] == ("backends[0].tls",)

    assert (works(), backend_probe(backend).ok) == (False, False)
    change(CA)
    assert (works(), backend_probe(backend).ok) == (True, True)
    idle = list(backend.transport.adapter._idle)
    change(LOCALHOST)
    assert (works(), backend_probe(backend).ok) == (False, False)
    assert all(connection.wire.closed for connection in idle)


def test_a_reload_that_finds_a_broken_file_is_refused(https_edge: tuple[Edge, Path, Script]) -> None:
    edge, ca, _ = https_edge
    context = edge.pool.backends[0].transport.adapter.context
    replace(ca, b"")
    with pytest.raises(ConfigError, match=r"backends\[0\]\.tls"):
        edge.reload(None)
    assert edge.pool.backends[0].transport.adapter.context is context
    assert edge.generation == 1
