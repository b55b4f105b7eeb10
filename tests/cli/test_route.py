"""The command `route`: which route a request would take, told to a person and to a program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartedge.cli.main import main


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "backends.json"
    routes = [
        {"id": "old", "host": "old.example", "redirect": {"host": "shop.example"}},
        {"id": "inside", "client": "10.0.0.0/8", "header": {"X-A": "1"}, "to": "default"},
        {"id": "admin", "path": "/admin", "to": "default", "method": ["GET", "PUT"]},
        {"id": "put", "path": "/admin", "to": "default", "method": "PUT"},
    ]
    path.write_text(json.dumps({"backends": ["http://a:1"], "routes": routes}))
    return str(path)


def test_a_person_reads_what_becomes_of_a_request_and_why(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "GET", "http://shop.example/x", "-H", "X-A: 1", "--client", "10.0.0.1", "-c", file]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "inside: goes to default",
        "  old     the host is shop.example, not old.example",
        "  inside  taken",
        "  admin   the path is /x, not /admin or below",
        "  put     the path is /x, not /admin or below",
    ]


def test_a_program_reads_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "GET", "http://old.example/x", "-c", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["route"], found["does"]) == ("old", "302: is sent to http://shop.example/x")


def test_what_is_no_request_ends_with_status_2(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "GET", "x", "-c", file]) == 2
    assert capsys.readouterr().err.startswith('smartedge: "x" is neither a path')


def test_check_warns_of_a_route_that_never_gets_a_request(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", file]) == 0
    assert "warning: routes: put never gets a request, as admin takes all of them" in capsys.readouterr().err


def test_without_routes_all_go_to_the_backends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "backends.json"
    file.write_text('{"backends": ["http://a:1"]}')
    assert main(["route", "GET", "/x", "-c", str(file)]) == 0
    assert capsys.readouterr().out == "goes to default: there are no routes\n"


def test_a_request_that_no_route_takes_gets_404(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["route", "GET", "/x", "-c", file]) == 0
    assert capsys.readouterr().out.startswith("404: no route takes it\n  old     the host is missing, not old.example\n")
