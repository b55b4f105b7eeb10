from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from smartedge.cli.main import main
from tests.simulator.makers import document


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(document({"strategies": ["round_robin", "ewma"]})))
    return path


def test_it_prints_a_table(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(file)]) == 0
    assert "round_robin  " in (out := capsys.readouterr().out)
    assert "ewma  " in out


def test_it_prints_json_and_draws_a_chart(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(file), "--json", "--strategy", "ewma", "--svg", str(tmp_path / "chart.svg")]) == 0
    assert [run["strategy"] for run in json.loads(capsys.readouterr().out)["strategies"]] == ["ewma"]
    assert (tmp_path / "chart.svg").read_text().startswith("<svg ")


def test_the_same_seed_gives_the_same_bytes_in_every_process(
    file: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    chart = tmp_path / "chart.svg"

    def words(seed: str) -> list[str]:
        return ["simulate", str(file), "--json", "--seed", seed, "--svg", str(chart)]

    def output(seed: str) -> bytes:
        assert main(words(seed)) == 0
        return capsysbinary.readouterr().out + chart.read_bytes()

    command = [sys.executable, "-m", "smartedge", *words("7")]
    salt = {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"}  # unlike that of this process
    printed = subprocess.run(command, env=salt, capture_output=True, check=True, timeout=60).stdout
    elsewhere = printed + chart.read_bytes()
    assert output("7") == elsewhere
    assert output("8") != elsewhere


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.json"], "nowhere.json: there is no such file"),
        (["{file}", "--strategy", "evma"], "--strategy: "),
        (["{file}", "--svg", "{file}/chart.svg"], "chart.svg: Not a directory"),
        (["{file}", "--seed", "-1"], "-1"),
        ([], "SCENARIO"),
        (["."], "."),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    file: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *(argument.replace("{file}", str(file)) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_a_wrong_scenario_is_refused_with_all_that_is_wrong(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(json.dumps(document({"backend": {"slots": 0}}, breaker={"ratio": 2})))

    assert main(["simulate", str(file)]) == 2
    error = capsys.readouterr().err
    assert f"{file}: simulate.backend.slots: must be at least 1, not 0" in error
    assert f"{file}: breaker.ratio: must be at most 1, not 2" in error
