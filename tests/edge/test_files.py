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
from smartedge.config.model import Config, ConfigError, parse
from smartedge.edge.edge import Edge
from smartedge.edge.files import file_stamps, read_files
from smartedge.edge.origin import ConfigOrigin
from smartedge.health.probe import HttpProbe
from smartedge.proxy.outbound import Outbound
from tests.certificates import Authority
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


class Reader:
    """Reads the files of a configuration, again and again."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.config: Config = parse(json.dumps({"backends": ["http://a"], **settings}))
        self.origin = ConfigOrigin(None, {})
        self.files = read_files(self.config, self.origin, None)

    def read(self, *, keep: bool = False) -> tuple[str, ...]:
        """Read them again, and go on with that; the keys of those that hold something else."""
        before, self.files = self.files, read_files(self.config, self.origin, self.files, keep=keep)
        return self.files.renewed_since(before)

    @property
    def is_stale(self) -> bool:
        return file_stamps(self.config) != self.files.stamps


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "a.pem"
    path.write_bytes(LOCALHOST)
    return path


@every_way
def test_a_replaced_file_is_noticed_and_what_it_holds_is_another_value(change: Callable[[Path, bytes], None], pem: Path) -> None:
    one = Reader(pem.parent, certfile=str(pem))
    first = one.files
    assert not one.is_stale
    change(pem, LOCALHOST + b"\n# another one\n")
    assert one.is_stale
    assert one.read() == ("certfile",)
    assert one.files.shown is not first.shown
    assert not one.is_stale
    assert one.read() == ()


@every_way
def test_of_a_broken_file_what_there_was_stays_and_is_said(
    change: Callable[[Path, bytes], None], pem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Reader(pem.parent, certfile=str(pem), backends=[{"url": "https://a", "tls": {"ca_file": str(pem)}}])
    spec = one.config.specs()[0].tls
    first = one.files
    change(pem, b"-----BEGIN CERTIFICATE-----\nhalf")
    assert one.read(keep=True) == ()
    assert (one.files.shown, one.files.context_for(spec)) == (first.shown, first.context_for(spec))
    assert not one.is_stale, "nobody looks at it again until it is another one"
    assert [message.partition(":")[0] for message in caplog.messages] == [
        "a replaced file cannot be used, the one before stays in use"
    ] * 2
    assert {key for message in caplog.messages for key in ("certfile", "backends[0].tls") if key in message} == {
        "certfile",
        "backends[0].tls",
    }
    with pytest.raises(ConfigError, match=r"certfile"):
        one.read()
    change(pem, LOCALHOST + b"\n")
    assert set(one.read(keep=True)) == {"certfile", "backends[0].tls"}
    assert one.files.shown is not first.shown
    assert one.files.context_for(spec) is not first.context_for(spec)


def test_a_file_that_says_the_same_as_before_is_no_news(pem: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Reader(pem.parent, certfile=str(pem), backends=[{"url": "https://a", "tls": {"ca_file": str(pem)}}])
    first, spec = one.files, one.config.specs()[0].tls
    replace(pem, LOCALHOST)
    assert one.is_stale
    assert one.read(keep=True) == ()
    pem.touch()
    assert one.read() == ()
    assert one.files.context_for(spec) is first.context_for(spec)
    assert one.files.shown is first.shown
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
    one = Reader(tmp_path, certfile=str(cert), keyfile=str(key))
    shown = one.files.shown
    replace(key, b"not yet")
    assert one.read(keep=True) == ()
    assert one.files.shown is shown
    replace(key, private + b"\n")
    assert one.read(keep=True) == ("certfile",)
    assert one.files.shown is not shown
    assert len(caplog.messages) == 1


def test_a_file_that_is_gone_is_a_broken_one(pem: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = Reader(pem.parent, certfile=str(pem))
    shown = one.files.shown
    pem.unlink()
    assert one.is_stale
    one.read(keep=True)
    assert not one.is_stale
    assert one.files.shown is shown
    assert len(caplog.messages) == 1


def test_another_secret_of_sticky_cookies_is_told(tmp_path: Path) -> None:
    """A reload said "unchanged", and the old secret stayed until a restart."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"one secret of 16 bytes")
    one = Reader(tmp_path, sticky={"cookie": "S", "secret_file": str(secret)})
    assert one.read() == ()
    replace(secret, b"another secret of 16 bytes\n")
    assert one.read() == ("sticky.secret_file",)
    assert one.files.content_of(str(secret)) == b"another secret of 16 bytes"


def test_a_start_with_a_broken_file_names_its_key(pem: Path) -> None:
    pem.write_bytes(b"no PEM")
    for settings, key in (
        ({"certfile": str(pem)}, "certfile"),
        ({"backends": ["http://a", {"url": "https://b", "tls": {"cert_file": str(pem)}}]}, r"backends\[1\]\.tls"),
    ):
        with pytest.raises(ConfigError, match=key):
            Reader(pem.parent, **settings)


@pytest.mark.parametrize("begins_with", [True, False])
def test_whether_a_port_speaks_tls_stays_so_until_a_restart(pem: Path, begins_with: bool) -> None:
    one = Reader(pem.parent, **({"certfile": str(pem)} if begins_with else {}))
    first = one.files.shown
    one.config = Reader(pem.parent, **({} if begins_with else {"certfile": str(pem)})).config
    assert one.read() == ()
    assert one.files.shown is first


@pytest.fixture
def https_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Edge, Path, Script]]:
    """An edge in front of an https backend that trusts `ca.pem`, which holds another authority for now."""
    monkeypatch.setenv("SMARTEDGE_STATE_DIR", str(tmp_path / "state"))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Authority().pem)  # not the certificate itself, which Python 3.13 takes for its own authority
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
    backend_probe = HttpProbe(lambda tls: edge.setup.files.context_for(tls))

    def works() -> bool:
        with contextlib.suppress(ConnectFailed):
            backend.transport.send(Outbound(b"GET", GET, None, True)).close()
            return True
        return False

    def change(content: bytes) -> None:
        replace(ca, content)
        if how == "look":
            assert edge._reloader.use_replaced_files() == ("backends[0].tls",)
        else:
            assert edge.reload(None).document["files_renewed"] == ("backends[0].tls",)

    assert (works(), backend_probe(backend).ok) == (False, False)
    change(CA)
    assert (works(), backend_probe(backend).ok) == (True, True)
    idle = list(backend.transport.adapter._idle)
    change(Authority().pem)
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
