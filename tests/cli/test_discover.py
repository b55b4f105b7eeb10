"""The command `discover`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.cli import discover as module
from smartedge.cli import main as cli
from tests.dns_server import dns_server

pytestmark = pytest.mark.usefixtures("directory")

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


class Hangs:
    def snapshot(self) -> list[str]:
        gevent.sleep(60)
        return []


class Ends:
    def snapshots(self) -> Iterator[Any]:
        yield from ()


class Fails:
    def snapshot(self) -> list[str]:
        raise KeyError("zone")


class Half:
    """Answers, and says of a part that it could not be asked."""

    def snapshots(self) -> Iterator[Any]:
        from smartedge.discovery.source import SourceError

        yield [A]
        raise SourceError("zone b does not answer")


def write(directory: Path, **services: object) -> None:
    routes = [{"path": f"/{name}", "to": name} for name in services]
    (directory / "backends.json").write_text(json.dumps({"services": services, "routes": routes}))


def own(wanted: type) -> dict[str, object]:
    return {"discover": {f"{__name__}:{wanted.__name__}": {}}}


def test_it_prints_what_the_source_says_as_a_table(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        {"url": A, "id": "b1", "weight": 10, "zone": "a", "labels": {"rack": "r1", "os": "x"}},
        {"url": B, "priority": 1},
    ]
    (directory / "api.json").write_text(json.dumps(entries))
    write(directory, api={"discover": {"file": {"path": "api.json"}}}, web={"backends": ["http://a:1"]})
    assert cli.main(["discover", "api"]) == 0
    head, *table = capsys.readouterr().out.splitlines()
    assert head.startswith("api (file): 2 backends, answered in ")
    assert table == [
        "BACKEND      URL                 WEIGHT  PRIORITY  ZONE  LABELS",
        "b1           http://10.0.0.1:80      10            a     os=x rack=r1",
        "10.0.0.2-80  http://10.0.0.2:80       1         1",
    ]


def test_the_only_service_with_sources_need_not_be_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "api.json").write_text(json.dumps([A]))
    write(directory, api={"discover": {"file": {"path": "api.json"}}}, web={"backends": ["http://a:1"]})
    assert cli.main(["discover", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (source,) = found["sources"]
    assert (found["service"], source["ok"], source["problem"], source["ttl_s"]) == ("api", True, None, None)
    assert source["backends"] == [{"url": A, "id": "10.0.0.1-80"}]


def test_names_say_how_long_their_answer_holds(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with dns_server() as server:
        server.put("web.test", "A", "127.0.0.1", ttl=30)
        server.put("web.test", "AAAA", "::1", ttl=20)
        said = {"dns": {"name": "web.test", "port": 8000, "servers": [server.address]}}
        (directory / "backends.json").write_text(json.dumps({"discover": said}))
        assert cli.main(["discover", "default"]) == 0
        assert capsys.readouterr().out.splitlines()[0].endswith(", which holds for 20 s")
        server.how["*"] = "servfail"
        assert cli.main(["discover"]) == 1
        assert capsys.readouterr().err == f"smartedge: default (dns): web.test A: {server.address} answers SERVFAIL\n"


@pytest.mark.parametrize(
    ("service", "said"),
    [
        (own(Hangs), "it gave no answer within 0.05 s"),
        (own(Ends), "it has ended without an answer"),
        (own(Fails), "KeyError: 'zone' ("),
        ({"discover": {"file": {"path": "none.json"}}}, "{directory}/none.json: No such file or directory"),
        ({"discover": {"file": {"path": "empty.json"}}}, 'its answer is empty, and "allow_empty" is not true'),
        ({"discover": {"file": {"path": "rubbish.json"}}}, "nothing in its answer is right"),
    ],
)
def test_a_source_that_fails_is_one_line_and_exit_status_1(
    directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, service: object, said: str
) -> None:
    if "0.05" in said:
        monkeypatch.setattr(module, "TIMEOUT_S", 0.05)
    (directory / "empty.json").write_text("[]")
    (directory / "rubbish.json").write_text('["rubbish"]')
    write(directory, api=service)
    assert cli.main(["discover"]) == 1
    printed = capsys.readouterr()
    kind = next(iter(service["discover"]))  # type: ignore[index]
    assert printed.err.splitlines()[-1].startswith(f"smartedge: api ({kind}): {said.format(directory=directory)}")
    assert "Traceback" not in printed.err
    assert cli.main(["discover", "--json"]) == 1
    (source,) = json.loads(capsys.readouterr().out)["sources"]
    assert (source["ok"], source["problem"].startswith(said.format(directory=directory))) == (False, True)


def test_an_empty_answer_that_is_allowed_is_an_answer(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "empty.json").write_text("[]")
    write(directory, api={"discover": {"file": {"path": "empty.json", "allow_empty": True}}})
    assert cli.main(["discover"]) == 0
    assert capsys.readouterr().out.startswith("api (file): 0 backends, answered in ")


def test_rubbish_in_an_answer_and_what_could_not_be_asked_are_warnings(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "api.json").write_text(json.dumps([A, {"url": B, "wieght": 2}]))
    write(directory, api={"discover": {"file": {"path": "api.json"}, **own(Half)["discover"]}})  # type: ignore[dict-item]
    assert cli.main(["discover"]) == 0
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith('warning: api (file): "http://10.0.0.2:80": wieght is an unknown key; did you mean "weight"?')
    assert second == f"warning: api ({__name__}:Half): zone b does not answer"


def test_several_sources_each_have_a_table_and_one_that_fails_hides_no_other(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (directory / "api.json").write_text(json.dumps([A]))
    write(directory, api={"discover": {"file": {"path": "api.json"}, **own(Fails)["discover"]}})  # type: ignore[dict-item]
    assert cli.main(["discover"]) == 1
    printed = capsys.readouterr()
    assert printed.out.startswith("api (file): 1 backend, answered in ")
    assert printed.err.startswith(f"smartedge: api ({__name__}:Fails): KeyError: 'zone' (")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody"], 'there is no service "nobody"; there are: api, old, web'),
        (["web"], 'the service web has no "discover"; api, old have'),
        ([], "say which service: api, old"),
        (["--config", "none.json"], "none.json: there is no such file; write one, such as "),
    ],
)
def test_what_cannot_be_asked_is_exit_status_2(
    directory: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    file = {"discover": {"file": {"path": "api.json"}}}
    write(directory, api=file, old=file, web={"backends": ["http://a:1"]})
    assert cli.main(["discover", *words]) == 2
    assert capsys.readouterr().err.startswith(f"smartedge: {said}")


def test_a_configuration_without_sources_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["discover"]) == 2
    assert capsys.readouterr().err == 'smartedge: no service has "discover" in this configuration, so there is nobody to ask\n'
