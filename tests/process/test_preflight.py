"""What is right as text and still can't work: found before anybody is told that the edge serves, and named rightly."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import ConfigError, load
from smartedge.http2.installed import is_installed
from smartedge.process.preflight import check_usable


def trouble(env: dict[str, str] | None = None, flags: dict[str, Any] | None = None, *, file: str = "edge.json") -> list[str]:
    env, flags = env or {}, flags or {}
    config = load(file, env, flags)
    try:
        check_usable(config, env, flags, file)
    except ConfigError as error:
        return [line.strip() for line in str(error).splitlines()]
    return []


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(directory: Path, **settings: Any) -> None:
    import json

    (directory / "edge.json").write_text(json.dumps({"backends": ["http://localhost:8081"], **settings}))


def test_what_cannot_be_used_is_called_by_its_own_name(directory: Path) -> None:
    """Regression: an unwritable access log and a bad certificate were blamed on `backends.json`, whatever the file's name."""
    (directory / "cert.pem").write_text("none")
    write(directory)
    assert trouble() == []
    write(directory, access_log="missing/access.log", certfile="cert.pem")
    said = trouble()
    assert said[0] == "2 problems in the configuration:"
    assert said[1].startswith("edge.json: certfile: cannot be used: ")
    assert said[2] == 'edge.json: access_log: "missing/access.log" cannot be written: No such file or directory'
    write(directory)
    assert trouble(flags={"access_log": "missing/a.log"})[0].startswith("--access-log: ")
    assert trouble({"SMARTEDGE_ACCESS_LOG": "missing/a.log"})[0].startswith("SMARTEDGE_ACCESS_LOG: ")
    assert trouble(flags={"access_log": str(directory)})[0].endswith("cannot be written: Is a directory")


@pytest.fixture
def no_hpack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "hpack", None)
    is_installed.cache_clear()
    yield
    is_installed.cache_clear()


@pytest.mark.usefixtures("no_hpack")
@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"h2c": True}, "h2c"),
        ({"http2": True}, "http2"),
        ({"protocol": "h2c"}, "protocol"),
        ({"backends": ["http://a:1", {"url": "http://b:1", "protocol": "h2c"}]}, "backends[1].protocol"),
        ({"services": {"g": {"backends": ["http://b:1"], "protocol": "h2c"}}, "routes": [{"to": "g"}]}, "services.g.protocol"),
    ],
)
def test_what_needs_a_package_that_is_not_there_is_named(directory: Path, settings: dict[str, Any], place: str) -> None:
    """`check` said ok of it, and the start refused it."""
    write(directory, **settings)
    assert trouble() == [f"edge.json: {place}: needs the package hpack: pip install 'smartedge[http2]'"]


@pytest.mark.usefixtures("no_hpack")
def test_without_the_package_everything_else_can_be_used(directory: Path) -> None:
    write(directory)
    assert trouble() == []


def test_who_only_looks_leaves_no_file_behind(directory: Path) -> None:
    write(directory, access_log="access.log")
    assert trouble() == []
    assert not (directory / "access.log").exists()
    (directory / "access.log").write_text("kept\n")
    assert trouble() == []
    assert (directory / "access.log").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("bind", "url", "circles"),
    [
        ("127.0.0.1:8080", "http://localhost:8080", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("127.0.0.1:8080", "http://0.0.0.0:8080", True),
        ("127.0.0.1:8080", "http://[::ffff:127.0.0.1]:8080", True),
        ("127.0.0.1:8080", "https://localhost:8080", True),
        ("127.0.0.1:80", "http://localhost", True),
        ("0.0.0.0:8080", "http://127.0.0.1:8080", True),
        ("0.0.0.0:8080", "http://127.9.9.9:8080", True),
        ("[::]:8080", "http://127.0.0.1:8080", True),
        ("[::1]:8080", "http://localhost:8080", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("127.0.0.1:8080", "http://127.0.0.2:8080", False),
        ("127.0.0.1:0", "http://127.0.0.1:80", False),
        ("0.0.0.0:8080", "http://192.0.2.1:8080", False),
        ("127.0.0.1:8080", "http://nowhere.invalid:8080", False),
    ],
)
def test_a_backend_that_is_the_edge_itself_is_named(directory: Path, bind: str, url: str, circles: bool) -> None:
    """Regression: a request looped 194 times until descriptors ran out."""
    write(directory, bind=bind, backends=["http://a.invalid:1", url])
    said = trouble()
    assert len(said) == circles
    if circles:
        assert said[0].startswith(f'edge.json: backends[1]: "{url}" is this edge itself, which listens on {bind} (bind)')


def test_its_own_admin_address_and_its_own_name_are_the_edge_itself_too(directory: Path) -> None:
    write(directory, bind="127.0.0.1:1", admin_bind="127.0.0.1:8091", backends=["http://localhost:8091"])
    assert "(admin_bind)" in trouble()[0]
    write(directory)
    assert trouble(flags={"backends": ["http://localhost:8080"]})[0].startswith("--backend[0]: ")
    try:
        socket.getaddrinfo(name := socket.gethostname(), 1)
    except OSError:
        return
    write(directory, bind="0.0.0.0:8080", backends=[f"http://{name}:8080"])
    assert len(trouble()) == 1
