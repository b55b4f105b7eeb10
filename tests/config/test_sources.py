from __future__ import annotations

import json
from pathlib import Path

import pytest

from smartedge.config.model import Config, ConfigError, admin_token, config_path, load, parse
from smartedge.config.sources import sticky_secret

FILE = '{"backends": ["http://file:1"], "strategy": "ewma", "bind": "127.0.0.1:1"}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "backends.json"
    path.write_text(FILE)
    return path


def test_a_flag_beats_a_variable_which_beats_the_file_which_beats_the_default(file: Path) -> None:
    env = {"SMARTEDGE_BIND": "127.0.0.1:2", "SMARTEDGE_ADMIN_BIND": "127.0.0.1:3"}

    config = load(file, env, {"admin_bind": "127.0.0.1:4"})

    assert config.admin_bind == "127.0.0.1:4"
    assert config.bind == "127.0.0.1:2"
    assert config.strategy == "ewma"
    assert config.preserve_host is True


def test_every_variable_sets_its_key(file: Path) -> None:
    env = {
        "SMARTEDGE_BACKENDS": " http://a:1, http://b:2 ,",
        "SMARTEDGE_STRATEGY": "round_robin",
        "SMARTEDGE_BIND": "[::1]:1",
        "SMARTEDGE_ADMIN_BIND": "[::1]:2",
        "SMARTEDGE_CERTFILE": str(file),
        "SMARTEDGE_KEYFILE": str(file),
        "SMARTEDGE_WORKERS": "3",
        "SMARTEDGE_ACCESS_LOG": "/var/log/edge",
    }
    config = load(file, env)

    assert [backend.url for backend in config.backends] == ["http://a:1", "http://b:2"]
    assert (config.strategy, config.bind, config.admin_bind) == ("round_robin", "[::1]:1", "[::1]:2")
    assert (config.certfile, config.keyfile, config.access_log) == (str(file), str(file), "/var/log/edge")
    assert config.workers == 3


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("64", 64), ("auto", "auto")])
def test_workers_are_a_number_or_auto(file: Path, text: str, value: int | str) -> None:
    assert load(file, {"SMARTEDGE_WORKERS": text}).workers == value
    assert load(file, {"SMARTEDGE_WORKERS": "2"}, {"workers": text}).workers == value


@pytest.mark.parametrize("text", ["0", "65", "-1", "2.0", "two", "²", "9" * 30])
def test_other_workers_are_refused_under_the_name_of_flag_or_variable(file: Path, text: str) -> None:
    for name, env, flags in (("--workers", {}, {"workers": text}), ("SMARTEDGE_WORKERS", {"SMARTEDGE_WORKERS": text}, {})):
        with pytest.raises(ConfigError) as caught:
            load(file, env, flags)
        (problem,) = caught.value.problems
        assert problem.path == name
        assert 'must be a whole number from 1 to 64, or "auto"' in problem.message


def test_empty_variables_and_flags_that_were_not_given_change_nothing(file: Path) -> None:
    env = {"SMARTEDGE_BIND": "", "SMARTEDGE_BACKENDS": " "}
    flags = {"backends": [], "bind": None, "admin_bind": None, "access_log": None, "strategy": None}

    assert load(file, env, flags) == parse(FILE)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("off", False), ("no", False), ("x", "x")],
)
def test_the_access_log_is_switched_by_words(file: Path, text: str, value: bool | str) -> None:
    assert load(file, {"SMARTEDGE_ACCESS_LOG": text}).access_log == value
    assert load(file, {}, {"access_log": text}).access_log == value


def test_the_format_of_the_access_log_may_come_from_outside(file: Path) -> None:
    assert load(file, {"SMARTEDGE_ACCESS_LOG_FORMAT": "Combined"}).access_log_format == "combined"
    assert load(file, {}, {"access_log_format": "logfmt"}).access_log_format == "logfmt"
    with pytest.raises(ConfigError, match='--access-log-format: must be "json", "combined" or "logfmt", not "xml"'):
        load(file, {}, {"access_log_format": "xml"})


@pytest.mark.parametrize("text", ["debug", "WARNING", " Error "])
def test_the_log_level_may_be_written_in_capitals_where_variables_are(file: Path, text: str) -> None:
    assert load(file, {"SMARTEDGE_LOG_LEVEL": text}).log_level == text.strip().lower()
    with pytest.raises(ConfigError, match="SMARTEDGE_LOG_LEVEL: must be"):
        load(file, {"SMARTEDGE_LOG_LEVEL": "loud"})


def test_a_problem_in_a_flag_or_variable_is_told_by_its_name(file: Path) -> None:
    env = {"SMARTEDGE_BIND": "nonsense", "SMARTEDGE_BACKENDS": "x"}
    flags = {"backends": ("http://a", "http://me:pw@b", "http://A:80"), "admin_bind": "8080", "strategy": "best"}
    with pytest.raises(ConfigError) as caught:
        load(file, env, flags)

    paths = [problem.path for problem in caught.value.problems]
    assert sorted(paths) == ["--admin-bind", "--backend[1]", "--backend[2]", "--strategy", "SMARTEDGE_BIND"]
    assert str(file) not in str(caught.value)
    assert "pw" not in str(caught.value)


def test_a_value_of_the_file_that_is_hidden_by_a_flag_is_not_judged(file: Path) -> None:
    file.write_text('{"backends": [5], "backends": [6], "bind": 7}')
    env = {"SMARTEDGE_BIND": "127.0.0.1:2"}

    assert load(file, env, {"backends": ["http://a:1"]}).bind == "127.0.0.1:2"


def test_the_file_may_be_missing_when_the_backends_are_given_otherwise(tmp_path: Path) -> None:
    missing = tmp_path / "none.json"

    assert load(missing, {"SMARTEDGE_BACKENDS": "http://a:1"}).backends[0].url == "http://a:1"
    assert load(missing, {}, {"backends": ["http://b:1"]}).backends[0].url == "http://b:1"


def test_a_missing_file_is_a_problem_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.json")
    assert caught.value.status == 400
    assert str(caught.value).startswith(f"{tmp_path}/none.json: there is no such file; write one")
    assert "--config" in str(caught.value)


@pytest.mark.parametrize(("name", "said"), [("", "Is a directory"), ("a\0b", "null byte"), ("x" * 300, "too long")])
def test_a_file_that_cannot_be_read_is_a_problem_that_says_why(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        load(f"{tmp_path}/{name}", {"SMARTEDGE_BACKENDS": "http://a:1"})
    assert said in str(caught.value)
    assert "--config" in str(caught.value)


def test_a_file_that_is_too_large_is_refused_without_reading_all_of_it() -> None:
    with pytest.raises(ConfigError, match="larger than 8 MiB"):
        load("/dev/zero")


def test_the_path_is_the_flags_else_the_variables_else_the_usual_one() -> None:
    assert config_path("a.json", {"SMARTEDGE_CONFIG": "b.json"}) == "a.json"
    assert config_path(None, {"SMARTEDGE_CONFIG": "b.json"}) == "b.json"
    assert config_path(None, {"SMARTEDGE_CONFIG": ""}) == "backends.json"


def test_the_variable_with_the_path_is_followed(file: Path) -> None:
    assert load(None, {"SMARTEDGE_CONFIG": str(file)}) == parse(FILE)


def test_the_token_is_taken_from_its_variable_alone() -> None:
    assert admin_token({"SMARTEDGE_ADMIN_TOKEN": "s3cret\n"}) == "s3cret"
    assert admin_token({"SMARTEDGE_ADMIN_TOKEN": ""}) is None
    assert admin_token({}) is None


@pytest.mark.parametrize("token", ["s3 cret", "s3cret\u20ac", "s3\r\ncret"])
def test_a_token_that_no_header_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError) as caught:
        admin_token({"SMARTEDGE_ADMIN_TOKEN": token})
    assert str(caught.value).startswith("SMARTEDGE_ADMIN_TOKEN: may hold only")
    assert "cret" not in str(caught.value)


def test_the_token_is_in_no_configuration(file: Path) -> None:
    config = load(file, {"SMARTEDGE_ADMIN_TOKEN": "s3cret"})
    assert "s3cret" not in repr(config) + str(config) + config.to_json()


def test_the_secret_of_sticky_cookies_is_long_enough_or_refused() -> None:
    assert sticky_secret({}) is None
    assert sticky_secret({"SMARTEDGE_STICKY_SECRET": " "}) is None
    assert sticky_secret({"SMARTEDGE_STICKY_SECRET": "sixteen bytes, ok\n"}) == b"sixteen bytes, ok"
    with pytest.raises(ConfigError) as caught:
        sticky_secret({"SMARTEDGE_STICKY_SECRET": "fifteen bytes.."})
    assert str(caught.value) == "SMARTEDGE_STICKY_SECRET: must be at least 16 bytes long"
    assert "fifteen" not in str(caught.value)


def test_a_file_of_a_secret_is_read_when_the_configuration_is(tmp_path: Path) -> None:
    short, long = tmp_path / "short", tmp_path / "long"
    short.write_text("too short\n")
    long.write_text("sixteen bytes, ok\n")

    def load_with(path: Path) -> Config:
        file = tmp_path / "backends.json"
        file.write_text(json.dumps({"backends": ["http://a"], "sticky": {"cookie": "SRV", "secret_file": str(path)}}))
        return load(file)

    assert load_with(long).sticky.secret_file == str(long)
    with pytest.raises(ConfigError) as caught:
        load_with(short)
    assert [problem.path for problem in caught.value.problems] == ["sticky.secret_file"]
    assert "must hold at least 16 bytes" in caught.value.problems[0].message


def test_a_short_secret_in_the_environment_refuses_the_start(tmp_path: Path) -> None:
    file = tmp_path / "backends.json"
    file.write_text('{"backends": ["http://a"]}')
    with pytest.raises(ConfigError, match="SMARTEDGE_STICKY_SECRET"):
        load(file, {"SMARTEDGE_STICKY_SECRET": "short"})
