"""The commands `healthcheck`, `version`, `completion` and `convert`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge import __version__
from smartedge.cli import main as cli
from tests.small_balancer import SmallBalancer
from tests.small_balancer import serving as balancing

pytestmark = pytest.mark.usefixtures("directory")
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def balancer() -> Iterator[SmallBalancer]:
    with balancing(SmallBalancer()) as server:
        yield server


def test_healthcheck_is_0_while_a_backend_can_serve(balancer: SmallBalancer, capsys: Capture) -> None:
    balancer.answer(200, {"status": "ok", "up": 1, "total": 2})
    assert cli.main(["healthcheck", "--url", balancer.url]) == 0
    assert capsys.readouterr().out == "ok: 1 of 2 backends up\n"


@pytest.mark.parametrize(
    ("status", "up", "said"),
    [("no_backend", 0, "no backend: 0 of 2 backends up"), ("draining", 2, "draining: 2 of 2 backends up")],
)
def test_healthcheck_is_1_when_none_can_and_says_why(
    status: str, up: int, said: str, balancer: SmallBalancer, capsys: Capture
) -> None:
    balancer.answer(503, {"status": status, "up": up, "total": 2})
    assert cli.main(["healthcheck", "--url", balancer.url]) == 1
    assert capsys.readouterr().err == f"smartedge: {said}\n"


def test_healthcheck_is_1_when_nobody_answers(capsys: Capture) -> None:
    """Docker keeps 2 for itself."""
    with SmallBalancer() as gone:
        url = gone.url
    assert cli.main(["healthcheck", "--url", url]) == 1
    assert "no balancer answers" in capsys.readouterr().err


def test_version_names_what_is_underneath(capsys: Capture) -> None:
    assert cli.main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["smartedge"] in (__version__, f"{__version__} (compiled)")
    assert {"python", "gevent", "flask", "requests", "openssl"} <= found.keys()
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"smartedge {found['smartedge']}\n  python 3.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, capsys: Capture) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"_SMARTEDGE_COMPLETE={shell}_complete" in script
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0


def test_completion_completes(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_SMARTEDGE_COMPLETE": "bash_complete", "COMP_WORDS": "smartedge rel", "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.main([])
    assert capsys.readouterr().out == "plain,reload\n"


def test_convert_prints_a_configuration_and_what_is_left_out(directory: Path, capsys: Capture) -> None:
    (directory / "nginx.conf").write_text("gzip on;\nserver { listen 80; location / { proxy_pass http://10.0.0.1; } }\n")
    assert cli.main(["convert", "nginx.conf"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"bind": "0.0.0.0:80", "backends": ["http://10.0.0.1"], "preserve_host": False}
    assert said.err == "nginx.conf:1: left out: gzip on\n    has no counterpart here\n"

    assert cli.main(["convert", "nginx.conf", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"] == [{"line": 1, "text": "gzip on", "why": "has no counterpart here"}]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("nginx.conf", "server {", "line 1: this { is never closed"),
        ("haproxy.cfg", "defaults\n mode http\n", "there is no backend"),
        ("Caddyfile", ":80 {\n}\n", "there is no site"),
        ("nginx.conf", "upstream a { server b:1 weight=much; }", "cannot be read as a file of nginx"),
        ("site.txt", "x", "--from nginx"),
    ],
)
def test_convert_says_what_is_wrong_with_a_file(name: str, text: str, why: str, directory: Path, capsys: Capture) -> None:
    (directory / name).write_text(text)
    assert cli.main(["convert", name]) == 2
    assert why in capsys.readouterr().err


def test_convert_without_a_file(capsys: Capture) -> None:
    assert cli.main(["convert", "none.conf"]) == 2
    assert "none.conf: No such file" in capsys.readouterr().err
