"""The command `check`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartedge.cli import main as cli

pytestmark = pytest.mark.usefixtures("directory")


def test_check_says_what_it_has_found(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out == "ok: 2 backends, strategy adaptive\n"

    (directory / "one.json").write_text('{"backends": ["http://a:1"], "strategy": "ewma"}')
    assert cli.main(["check", "--config", "one.json"]) == 0
    assert capsys.readouterr().out == "ok: 1 backend, strategy ewma\n"


def test_check_warns_when_nobody_would_take_a_request(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = '{"url": "http://a:1", "weight": 0}, {"url": "http://b:2", "state": "draining"}'
    (directory / "one.json").write_text('{"backends": [' + entries + "]}")
    assert cli.main(["check", "--config", "one.json"]) == 0
    assert capsys.readouterr().err.startswith("warning: no backend takes new requests")


def test_check_says_what_each_service_has_and_which_gets_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "services": {
            "web": {"backends": ["http://a:1", "http://b:2"]},
            "api": {"backends": ["http://a:1"], "strategy": "ewma"},
            "old": {"backends": [{"url": "http://c:3", "state": "disabled"}]},
        },
        "routes": [{"path": "/api", "to": "api"}, {"to": "web"}],
    }
    (directory / "site.json").write_text(json.dumps(document))
    assert cli.main(["check", "site.json"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "ok: 4 backends in 3 services, 2 routes",
        "  api: 1 backend, strategy ewma",
        "  old: 1 backend, strategy adaptive",
        "  web: 2 backends, strategy adaptive",
    ]
    assert said.err.splitlines() == [
        "warning: no backend of old takes new requests, as each has weight 0 or is not enabled: clients get 503",
        "warning: services: old gets no request, as no route names it",
    ]
    assert cli.main(["check", "site.json", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["backends"], found["services"]["api"]) == (4, {"backends": 1, "strategy": "ewma"})


def test_check_takes_the_file_as_an_argument_too(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "one.json").write_text('{"backends": ["http://a:1"], "trusted_proxies": ["10.0.0.0/8"]}')
    for words in (["one.json"], ["-c", "one.json"], ["one.json", "--config", "one.json"]):
        assert cli.main(["check", *words]) == 0
        said = capsys.readouterr()
        assert said.out == "ok: 1 backend, strategy adaptive\n"
        assert said.err.startswith("warning: trusted_proxies: a proxy is in front of the port that has the admin pages, too")
    assert cli.main(["check", "one.json", "-c", "backends.json"]) == 2


def test_check_names_variables_that_nobody_reads(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SMARTEDGE_STRATGEY", "ewma")
    assert cli.main(["check"]) == 0
    said = capsys.readouterr().err
    assert said == "warning: SMARTEDGE_STRATGEY is no variable of ours; did you mean SMARTEDGE_STRATEGY?\n"


def test_check_as_json_is_one_document_whatever_it_finds(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "ok": True, "file": "backends.json", "backends": 2, "strategy": "adaptive",
        "services": {"default": {"backends": 2, "strategy": "adaptive"}}, "routes": 0, "problems": [],
        "warnings": [],
    }  # fmt: skip
    (directory / "backends.json").write_text('{"backends": ["a"], "strategy": "best"}')
    assert cli.main(["check", "--json"]) == 2
    said = capsys.readouterr()
    broken = json.loads(said.out)
    assert (broken.keys(), broken["ok"]) == (document.keys(), False)
    assert [problem["path"] for problem in broken["problems"]] == ["backends[0]", "strategy"]
    assert said.err.startswith("smartedge: 2 problems")


def test_check_counts_what_there_is(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    routes = [{"path": "/api", "to": "api"}, {"to": "web"}]
    services = {"web": {"backends": ["http://a", "http://b"]}, "api": {"backends": ["http://a"], "strategy": "ewma"}}
    (directory / "backends.json").write_text(json.dumps({"services": services, "routes": routes}))
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok: 3 backends in 2 services, 2 routes",
        "  api: 1 backend, strategy ewma",
        "  web: 2 backends, strategy adaptive",
    ]
    (directory / "backends.json").write_text(json.dumps({"backends": ["http://a"], "routes": [{"to": "default"}]}))
    assert cli.main(["check"]) == 0
    assert capsys.readouterr().out == "ok: 1 backend, strategy adaptive, 1 route\n"


def test_check_tells_every_problem(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "backends.json").write_text('{"backends": ["a", {"url": "http://a", "wieght": 1}]}')
    assert cli.main(["check"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "smartedge: 2 problems in the configuration:"
    assert lines[1].startswith('  backends.json: backends[0]: "a" has no scheme')
    assert lines[2].startswith('  backends.json: backends[1].wieght: is an unknown key; did you mean "weight"?')


def test_check_says_where_more_backends_come_from(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "found.json").write_text('{"discover": {"dns": {"name": "web", "port": 80}, "file": {"path": "x"}}}')
    assert cli.main(["check", "found.json"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("ok: 0 backends and those of dns, file, strategy adaptive\n", "")
    assert cli.main(["check", "found.json", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["services"]["default"]["discover"] == ["dns", "file"]
