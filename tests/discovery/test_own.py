"""Sources of users: with a generator or a method that is asked, and kept from doing harm."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import gevent
import pytest

from smartedge.config.model import ConfigError, parse
from smartedge.discovery.own import OwnSource
from smartedge.discovery.runner import SourceOptions, SourceRunner
from smartedge.discovery.source import SourceError
from tests.house import until

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


class Asked:
    """Gives one more each time that it is asked."""

    def __init__(self, urls: list[str], first: int = 0) -> None:
        self.urls = urls
        self.count = first

    def snapshot(self) -> list[str]:
        self.count += 1
        return self.urls[: self.count]


class Generated:
    def snapshots(self) -> Iterator[Any]:
        yield (url for url in (A, B))
        yield {A: 1}.keys()


class Both(Asked, Generated):
    """What can both is not asked."""

    def __init__(self) -> None:
        super().__init__([])


class Hangs:
    where = "snapshot"

    def __init__(self, where: str = "snapshots") -> None:
        self.where = where
        self.hang("made")

    def hang(self, where: str) -> None:
        if where == self.where:
            gevent.sleep(60)

    def snapshots(self) -> Iterator[Any]:
        self.hang("snapshots")
        try:
            yield [A]
            self.hang("second")
            yield (self.hang("in the answer") for _ in range(1))
        finally:
            self.hang("end")


class HangsWhenAsked:
    def snapshot(self) -> list[str]:
        gevent.sleep(60)
        return []


class OwnTimeout:
    def snapshot(self) -> list[str]:
        with gevent.Timeout(0.001):
            gevent.sleep(60)
        return []


class Wrong:
    def __init__(self, how: str) -> None:
        self.how = how

    def snapshots(self) -> Any:
        if self.how == "raises":
            raise KeyError("zone")
        return None if self.how == "none" else 7

    def __getattribute__(self, name: str) -> Any:
        return object.__getattribute__(self, name)


class Waits:
    async def snapshots(self) -> Any:
        yield []


class WaitsToo:
    async def snapshot(self) -> Any:
        return []


def source(wanted: Any, timeout_s: float = 20, every_s: float = 0.001, **options: Any) -> OwnSource:
    name = wanted if isinstance(wanted, str) else f"{__name__}:{wanted.__name__}"
    return OwnSource(name, options, every_s, timeout_s)


def test_one_with_snapshot_is_asked_again_and_again_with_its_options() -> None:
    snapshots = source(Asked, urls=[A, B]).snapshots()
    assert [next(snapshots) for _ in range(3)] == [(A,), (A, B), (A, B)]
    assert next(source(Asked, urls=[A, B], first=1).snapshots()) == (A, B)


@pytest.mark.parametrize("wanted", [Generated, Both])
def test_one_with_snapshots_is_heard_until_it_ends(wanted: Any) -> None:
    assert list(source(wanted).snapshots()) == [(A, B), (A,)]


@pytest.mark.parametrize(
    ("where", "before", "said"),
    [
        ("made", 0, "it was not made within 0.05 s"),
        ("snapshots", 0, "it gave nothing within 0.05 s"),
        ("second", 1, "it gave nothing within 0.05 s"),
        ("in the answer", 1, "it gave nothing within 0.05 s"),
    ],
)
def test_one_that_hangs_is_broken_off(where: str, before: int, said: str) -> None:
    snapshots = source(Hangs, 0.05, where=where).snapshots()
    with gevent.Timeout(20):
        for _ in range(before):
            assert next(snapshots) == (A,)
        with pytest.raises(SourceError) as caught:
            next(snapshots)
    assert str(caught.value) == said


def test_one_that_hangs_at_its_end_holds_up_nothing() -> None:
    snapshots = source(Hangs, 0.05, where="end").snapshots()
    next(snapshots)
    with gevent.Timeout(20), pytest.raises(SourceError, match="did not end within"):
        snapshots.close()  # type: ignore[attr-defined]


def test_one_that_hangs_when_it_is_asked_is_broken_off() -> None:
    with gevent.Timeout(20), pytest.raises(SourceError, match=r"it gave nothing within 0\.05 s"):
        next(source(HangsWhenAsked, 0.05).snapshots())


def test_a_time_limit_of_its_own_is_its_own() -> None:
    with pytest.raises(gevent.Timeout):
        next(source(OwnTimeout).snapshots())


@pytest.mark.parametrize(
    ("wanted", "options", "said"),
    [
        (Wrong, {"how": "none"}, "its snapshots() gave a NoneType in place of a generator"),
        (Wrong, {"how": "number"}, "its snapshots() gave a int in place of a generator"),
        (Waits, {}, f'"{__name__}:Waits" has an async method; a source waits as gevent does'),
        (WaitsToo, {}, f'"{__name__}:WaitsToo" has an async method; a source waits as gevent does'),
        ("no_such_module_of_ours:Source", {}, '"no_such_module_of_ours:Source" cannot be imported: ModuleNotFoundError: '),
    ],
)
def test_what_is_no_source_is_an_error(wanted: Any, options: dict[str, str], said: str) -> None:
    with pytest.raises(SourceError) as caught:
        next(source(wanted, **options).snapshots())
    assert str(caught.value).startswith(said)


def test_under_a_runner_its_errors_name_the_line_and_it_is_begun_anew() -> None:
    runner = SourceRunner("web", "own", lambda: source(Wrong, how="raises"), SourceOptions(), Random(1))
    runner.start()
    until(lambda: runner.errors >= 2, 20)
    runner.stop()
    assert str(runner.health()["problem"]).startswith("KeyError: 'zone' (")
    assert "test_own.py line" in str(runner.health()["problem"])


# ---- the examples of docs/discovery.md ----


def example(number: int, folder: Path) -> str:
    """Put an example of the page beside the configuration; the name of its module."""
    page = (Path(__file__).parents[2] / "docs" / "discovery.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[number]
    name = f"own_example_{number}"
    (folder / f"{name}.py").write_text(code)
    return name


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_example_")]:
        del sys.modules[name]


def test_an_entry_point_is_a_source_by_its_name(folder: Path) -> None:
    info = folder / "own_sources-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-sources\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[smartedge.discovery]\nours = {__name__}:Asked\n")
    sys.path.append(str(folder))
    assert next(source("ours", urls=[A]).snapshots()) == (A,)
    config = parse(json.dumps({"discover": {"ours": {"urls": [A]}}}))
    assert config.discover is not None
    assert list(config.discover.sources) == ["ours"]
    with pytest.raises(ConfigError, match=r'or a class such as "package.module:Class", not "our"; did you mean "ours"'):
        parse(json.dumps({"discover": {"our": {}}}))


def test_the_registry_of_the_documentation_works_as_it_stands(folder: Path) -> None:
    said = [{"servers": [{"address": "10.0.0.5:8000", "share": 3}]}, {"servers": []}, "garbage"]

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(said[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/web"
        made = source(f"{example(0, folder)}:Registry", url=url)
        runner = SourceRunner("web", "registry", lambda: made, SourceOptions(), Random(1))
        snapshots = made.snapshots()
        runner.take_answer(next(snapshots))
        runner.settle()
        assert [(one.url, one.weight) for one in runner.found or ()] == [("http://10.0.0.5:8000", 3)]
        said.pop(0)
        assert next(snapshots) == ()
        said.pop(0)
        with pytest.raises(TypeError):
            next(snapshots)
        server.shutdown()


def test_the_sockets_of_the_documentation_work_as_they_stand(folder: Path) -> None:
    (folder / "app.sock").touch()
    (folder / "other").touch()
    made = source(f"{example(1, folder)}:Sockets", folder=str(folder))
    runner = SourceRunner("web", "sockets", lambda: made, SourceOptions(), Random(1))
    snapshots = made.snapshots()
    runner.take_answer(next(snapshots))
    runner.settle()
    assert [(one.url, one.id) for one in runner.found or ()] == [(f"unix:{folder}/app.sock", "app")]
    (folder / "b.sock").touch()
    assert len(next(snapshots)) == 2
