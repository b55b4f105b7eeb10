from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from smartedge import __version__
from smartedge.cli import main as cli
from smartedge.cli.exits import EXITS, NO_JSON
from smartedge.config.model import Config, ConfigError, Problem
from smartedge.process.listening import CannotListen
from smartedge.workers.board import BoardError
from smartedge.workers.row_book import RowsError
from smartedge.workers.state_dir import StateError
from tests.scripts import docs_script
from tests.small_balancer import SmallBalancer
from tests.small_balancer import serving as balancing

ROOT = Path(__file__).parents[2]
Served = dict[str, Any]


pytestmark = pytest.mark.usefixtures("directory")


@pytest.fixture
def balancer() -> Iterator[SmallBalancer]:
    with balancing(SmallBalancer()) as server:
        yield server


@pytest.fixture
def nobody() -> str:
    with SmallBalancer() as server:
        return server.url


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Served]:
    """Put a `serve` in the real one's place that notes what it was given, and ends or raises as told."""

    def install(result: int | BaseException = 0) -> Served:
        served: Served = {}

        def serve(config: Config, **given: Any) -> int:
            served.update(given, config=config)
            if isinstance(result, BaseException):
                raise result
            return result

        module = types.ModuleType("smartedge.cli.serve")
        module.__dict__["serve"] = serve
        monkeypatch.setitem(sys.modules, "smartedge.cli.serve", module)
        return served

    return install


def test_run_serves_the_file_and_ends_with_the_status_of_the_server(serving: Callable[..., Served]) -> None:
    served = serving(7)

    assert cli.main(["run"]) == 7
    assert [backend.url for backend in served["config"].backends] == ["http://a:1", "http://b:2"]
    assert served["config_path"] == "backends.json"
    assert served["token"] is None


def test_every_flag_of_run_reaches_the_configuration(serving: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    served = serving()
    monkeypatch.setenv("SMARTEDGE_ADMIN_TOKEN", "t0ken")
    monkeypatch.setenv("SMARTEDGE_BIND", "127.0.0.1:1")
    flags = ["--bind", "127.0.0.1:2", "--admin-bind", "127.0.0.1:3", "--strategy", "ewma", "--config", "none.json"]

    assert cli.main(["run", *flags, "--backend", "http://c:3", "--backend", "http://d:4", "--access-log"]) == 0

    config = served["config"]
    assert (config.bind, config.admin_bind, config.strategy) == ("127.0.0.1:2", "127.0.0.1:3", "ewma")
    assert [backend.url for backend in config.backends] == ["http://c:3", "http://d:4"]
    assert config.access_log is True
    assert (served["config_path"], served["token"]) == ("none.json", "t0ken")
    assert served["overrides"]["backends"] == ["http://c:3", "http://d:4"]


def test_the_access_log_may_be_a_file(serving: Callable[..., Served]) -> None:
    served = serving()
    assert cli.main(["run", "--access-log", "access.log", "--bind", "127.0.0.1:1"]) == 0
    assert served["config"].access_log == "access.log"
    assert served["config"].bind == "127.0.0.1:1"


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_missing_file_is_one_line_and_exit_status_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--config", "none.json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("smartedge: none.json: there is no such file; write one")
    assert said.err.count("\n") == 1


@pytest.mark.parametrize("command", ["run", "check", "reload", "status"])
def test_a_token_that_cannot_be_sent_is_told_and_not_shown(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SMARTEDGE_ADMIN_TOKEN", "sec ret")
    assert cli.main([command]) == 2
    said = capsys.readouterr().err
    assert said.startswith("smartedge: SMARTEDGE_ADMIN_TOKEN: may hold only")
    assert "ret\n" not in said


def test_an_address_that_is_none_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--bind", "nonsense"]) == 2
    assert capsys.readouterr().err == 'smartedge: --bind: "nonsense" has no port; an address looks like "127.0.0.1:8080"\n'


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BoardError("the board is full"), "the board is full"),
        (StateError("no directory"), "no directory"),
        (RowsError("too many"), "too many"),
        (CannotListen("port 1 is in use"), "port 1 is in use"),
        (ConfigError([Problem("bind", "is wrong")], status=422), "backends.json: bind: is wrong"),
        (PermissionError(errno.EACCES, "Permission denied", "/var/log/x"), "/var/log/x: Permission denied"),
    ],
)
def test_what_keeps_the_server_from_starting_is_one_line(
    error: Exception, said: str, serving: Callable[..., Served], capsys: pytest.CaptureFixture[str]
) -> None:
    serving(error)
    assert cli.main(["run", "--bind", "127.0.0.1:0"]) == 2
    assert capsys.readouterr().err == f"smartedge: {said}\n"


def test_an_error_that_nobody_foresaw_keeps_its_traceback(serving: Callable[..., Served]) -> None:
    serving(OSError("a bug"))
    with pytest.raises(OSError, match="a bug"):
        cli.main(["run", "--bind", "127.0.0.1:0"])


@pytest.mark.parametrize("command", [["check"], ["--version"]])
def test_what_cannot_be_printed_is_one_line_and_exit_status_2(command: list[str]) -> None:
    """Regression: `check > /dev/full` was a traceback, and `run > /dev/full` said that its port was in use."""
    with open("/dev/full", "w") as full:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "smartedge", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (2, "smartedge: cannot write to standard output: No space left on device\n")


def test_control_c_ends_without_a_word(serving: Callable[..., Served], capsys: pytest.CaptureFixture[str]) -> None:
    serving(KeyboardInterrupt())
    assert cli.main(["run"]) == 130
    assert capsys.readouterr().err.strip() == ""


@pytest.mark.parametrize("arguments", [["fly"], ["run", "--fly"], ["run", "--bind"], []])
def test_a_wrong_command_line_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "Error: Error" not in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_told(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([flag]) == 0
    assert __version__ in capsys.readouterr().out


LOCAL = ("run", "simulate", "config", "completion", "convert", "version")
"""They ask no balancer, and each reads something of its own."""


@pytest.mark.parametrize("name", [name for name in cli.program.load_all() if name not in LOCAL])
def test_every_command_knows_the_same_flags(name: str) -> None:
    flags = {flag for parameter in cli.program.commands[name].params for flag in parameter.opts}
    assert {"-c", "--config", "--json"} <= flags
    if name not in ("check", "discover", "doctor", "route"):  # these read the file, and ask no balancer
        assert {"--url", "--cacert"} <= flags


@pytest.mark.parametrize(
    "words", [["reload"], ["status"], ["drain", "b"], ["enable", "b"], ["disable", "b"], ["weight", "b", "2"], ["explain"]]
)
def test_every_answer_can_be_had_as_json_a_refusal_too(
    words: list[str], balancer: SmallBalancer, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    balancer.answer(200, {"message": "done", "generation": 5})
    assert cli.main([*words, "--json", "--url", balancer.url]) == 0
    assert json.loads(capsys.readouterr().out) == {"message": "done", "generation": 5}

    problem = {"status": 404, "title": "Unknown", "detail": "There is none."}
    balancer.answer(404, problem)
    assert cli.main([*words, "--json", "--url", balancer.url]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": problem}
    assert said.err == "smartedge: refused with status 404: Unknown: There is none.\n"

    assert cli.main([*words, "--json", "--url", nobody]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["title"] == "Not asked"


def test_reload_asks_the_balancer_and_tells_what_changed(
    balancer: SmallBalancer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    balancer.token = "t0ken"
    balancer.answer(200, {"message": "generation 5: added c"})
    monkeypatch.setenv("SMARTEDGE_ADMIN_TOKEN", "t0ken")

    assert cli.main(["reload", "--url", balancer.url]) == 0
    assert capsys.readouterr().out == "generation 5: added c\n"
    assert balancer.asked == [("POST", "/api/reload", "Bearer t0ken")]


def test_status_prints_a_table_or_json(balancer: SmallBalancer, capsys: pytest.CaptureFixture[str]) -> None:
    balancer.answer(200, {"generation": 5, "strategy": "ewma", "backends": []})

    assert cli.main(["status", "--url", balancer.url]) == 0
    assert capsys.readouterr().out.startswith("strategy ewma, generation 5\n")
    assert cli.main(["status", "--url", balancer.url, "--json"]) == 0
    assert capsys.readouterr().out.startswith('{\n  "generation": 5')
    assert balancer.asked == [("GET", "/api/status", None)] * 2


def test_a_balancer_that_says_no_is_exit_status_1(balancer: SmallBalancer, capsys: pytest.CaptureFixture[str]) -> None:
    balancer.answer(422, {"title": "Refused", "errors": [{"path": "bind", "detail": "is wrong"}]})
    assert cli.main(["reload", "--url", balancer.url]) == 1
    assert capsys.readouterr().err == "smartedge: refused with status 422: Refused\n  bind: is wrong\n"


@pytest.mark.parametrize("command", ["reload", "status"])
def test_where_no_balancer_answers_it_is_one_line_and_exit_status_2(
    command: str, nobody: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, "--url", nobody]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"smartedge: no balancer answers at {nobody}; start one with: smartedge run")
    assert said.count("\n") == 1


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env, check=False)


def test_the_module_is_the_program() -> None:
    done = python("-m", "smartedge", "check")
    assert (done.stdout, done.stderr, done.returncode) == ("ok: 2 backends, strategy adaptive\n", "", 0)


def test_everything_is_patched_before_anything_is_imported_and_control_c_leaves_no_traceback() -> None:
    script = """
import sys, types
from smartedge.__main__ import main
assert "requests" not in sys.modules and "click" not in sys.modules and "pydantic" not in sys.modules

def serve(config, **_):
    from gevent import monkey
    print(monkey.is_module_patched("socket"), monkey.is_module_patched("ssl"), monkey.is_module_patched("threading"))
    raise KeyboardInterrupt

sys.modules["smartedge.cli.serve"] = types.SimpleNamespace(serve=serve)
sys.argv = ["smartedge", "run"]
sys.exit(main())
"""
    done = python("-W", "error", "-c", script)
    assert done.stdout.split() == ["True", "True", "True"]
    assert done.stderr.strip() == ""
    assert done.returncode == 130


def test_a_start_looks_for_garbage_next_to_never_and_for_plugins_of_pydantic_not_at_all() -> None:
    script = """
import gc, sys
from importlib import metadata
from smartedge.__main__ import main
before = [one["collections"] for one in gc.get_stats()]
sys.argv = ["smartedge", "check"]
main()
from pydantic.plugin import _loader
print(*(one["collections"] - was for one, was in zip(gc.get_stats(), before)), _loader._plugins)
print(gc.get_freeze_count() > 50_000)  # what the end looks through no more
"""
    done = python("-c", script)
    assert (done.stdout.splitlines()[-2:], done.stderr) == (["0 0 0 None", "True"], "")


def test_the_import_of_the_app_looks_for_garbage_never_and_has_it_looked_for_afterwards() -> None:
    script = "import gc, smartedge; made = gc.get_stats(); smartedge.create_app; print(gc.get_stats() == made, gc.isenabled())"
    assert python("-c", script).stdout == "True True\n"


def every_command(group: click.Group = cli.program) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield from every_command(command) if isinstance(command, click.Group) else (command,)


@pytest.mark.parametrize("command", list(every_command()), ids=lambda command: command.name)
def test_every_command_has_an_example_that_it_can_read(command: click.Command) -> None:
    assert command.epilog is not None
    example = command.epilog.removeprefix("Example: ")
    words = json.loads(example.partition("CMD ")[2]) if "CMD" in example else shlex.split(re.split(r" [|>] ", example)[0])
    assert words[0] == "smartedge"
    found: click.Command = cli.program
    rest = words[1:]
    while isinstance(found, click.Group):
        found, rest = found.commands[rest[0]], rest[1:]
    assert found is command
    command.make_context("it", list(rest))


def test_the_page_and_the_manual_are_what_the_commands_say() -> None:
    module = docs_script("make_commands")
    cli.program.load_all()
    for path, made in ((module.PAGE, module.page(cli.program)), (module.MANUAL, module.manual(cli.program))):
        assert made == path.read_text(encoding="utf-8"), "run: python docs/make_commands.py"


def whole_names() -> dict[str, click.Command]:
    """Every command by its whole name."""
    found: dict[str, click.Command] = {}
    for name, command in cli.program.load_all().items():
        inner = command.commands if isinstance(command, click.Group) else {}
        found |= {f"{name} {second}": each for second, each in inner.items()} or {name: command}
    return found


def test_every_command_has_an_example_exit_statuses_and_json_or_a_reason_why_not() -> None:
    commands = whole_names()
    assert EXITS.keys() == commands.keys()
    examples = {name: re.sub(r'[\[\]",]', "", command.epilog or "") for name, command in commands.items()}
    assert [name for name, example in examples.items() if f"smartedge {name}" not in example] == []
    without = {name for name, command in commands.items() if not any("--json" in one.opts for one in command.params)}
    assert without == NO_JSON.keys()
    assert all(0 in statuses for statuses in EXITS.values())


@pytest.mark.parametrize("name", EXITS)
def test_a_flag_that_there_is_not_is_exit_status_2_of_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--no-such-flag"]) == 2
    assert "no-such-flag" in capsys.readouterr().err


WORDS = {"weight": ["b", "2"], "drain": ["b"], "enable": ["b"], "disable": ["b"], "top": ["--once"], "plan": ["backends.json"]}


@pytest.mark.parametrize(
    "name", [name for name, command in whole_names().items() if any("--url" in one.opts for one in command.params)]
)
def test_whoever_asks_an_edge_that_says_no_ends_with_1_and_the_page_of_commands_says_so(
    name: str, balancer: SmallBalancer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "backends.json").write_text('{"backends": ["http://a:1"]}')
    balancer.answer(409, {"status": 409, "title": "No", "detail": "Not now."})
    assert cli.main([name, *WORDS.get(name, []), "--url", balancer.url]) == 1
    assert 1 in EXITS[name]


@pytest.mark.parametrize(
    ("words", "meant"), [(["statsu"], "status"), (["reolad"], "reload"), (["config", "shwo"], "show"), (["help", "rnu"], "run")]
)
def test_a_mistyped_command_is_told_what_it_may_have_been(
    words: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert f"No such command '{words[-1]}'. Did you mean '{meant}'?" in capsys.readouterr().err
    assert cli.main(["qqq"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["-h"], ["help"], []])
def test_the_list_of_commands_has_whole_sentences(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(words)
    out = "".join(capsys.readouterr())
    assert "..." not in out.partition("Commands:")[2]
    assert "Say why a request went where it went; without REQUEST_ID, list the last ones of which that is known." in " ".join(
        out.split()
    )


def test_help_of_a_command_is_asked_for_in_any_way() -> None:
    ways = (["drain", "--help"], ["drain", "-h"], ["help", "drain"])
    said = {subprocess.check_output([sys.executable, "-m", "smartedge", *words], cwd=ROOT) for words in ways}
    assert len(said) == 1
