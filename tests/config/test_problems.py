from __future__ import annotations

import pytest

from smartedge.config.problems import MAX_BYTES, ConfigError, Problem, decode, path_text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty; the smallest configuration is"),
        ("\n \n", "is empty; the smallest configuration is"),
        (b'{"a": "\xff"}', "is not UTF-8 text (at byte 7)"),
        ("{}".encode("utf-16"), "is not UTF-8 text (at byte 0)"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
        ('{\n  "a": 1,\n}', "is not JSON at line 2, column 9: a comma before } is one too many"),
        ('{"a": 1} x', "is not JSON at line 1, column 10: the configuration has ended before this"),
        ("{'a': 1}", "is not JSON at line 1, column 2"),
        ('["a\tb"]', "is not JSON at line 1, column 4"),
        ('{"a": "NaN",\n "b\\"": NaN}', "is not JSON at line 2, column 9: JSON has no NaN"),
        ("[-Infinity]", "is not JSON at line 1, column 2: JSON has no -Infinity"),
        ("[" * 33 + "]" * 33, "is nested more than 32 levels deep"),
        ('{"a":' * 100_000, "is nested more than 32 levels deep"),
        ("1" * 5000, "holds a number with thousands of digits"),
        (b" " * (MAX_BYTES + 1), "is larger than 8 MiB"),
    ],
)
def test_what_is_not_json_is_one_problem_that_says_where(text: bytes | str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        decode(text, "some.json")

    (problem,) = caught.value.problems
    assert caught.value.status == 400
    assert problem.path == ""
    assert said in problem.message
    assert str(caught.value) == f"some.json: {problem.message}"


def test_json_of_the_deepest_and_the_largest_kind_that_is_allowed_is_read() -> None:
    deep = "[" * 32 + "]" * 32
    assert decode(deep + " " * (MAX_BYTES - len(deep)), "x")[1] == []


def test_keys_that_come_twice_are_found_wherever_they_are_in_the_order_of_the_text() -> None:
    document, found = decode('{"a": 1, "b": [{"c": 1, "c": 2, "d": {"e": 1, "e": 1, "e": 1}}], "a": 2}', "x")

    assert document == {"a": 2, "b": [{"c": 2, "d": {"e": 1}}]}
    assert [path_text(path) for path, _ in found] == ["a", "b[0].c", "b[0].d.e"]
    assert {message for _, message in found} == {"is written twice"}


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ((), ""),
        (("backends", 2, "health", "path"), "backends[2].health.path"),
        (("a.b",), '["a.b"]'),
        (("limits", ""), 'limits[""]'),
        (("\x1b[2J",), '["\\u001b[2J"]'),
        (("http://me:secret@host",), '["http://***@host"]'),
    ],
)
def test_a_path_is_written_as_people_do(steps: tuple[str | int, ...], text: str) -> None:
    assert path_text(steps) == text


def test_several_problems_are_listed_each_with_its_place() -> None:
    problems = [Problem("bind", "is wrong"), Problem("--strategy", "is worse"), Problem("", "is bad")]
    error = ConfigError(problems, status=422, origin="/etc/edge@home/a.json")

    assert str(error).splitlines() == [
        "3 problems in the configuration:",
        "  /etc/edge@home/a.json: bind: is wrong",
        "  --strategy: is worse",
        "  /etc/edge@home/a.json: is bad",
    ]
