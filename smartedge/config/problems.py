"""What is wrong with a configuration, in plain words: strict JSON, and pydantic's findings explained.

Everything that is wrong is reported at once, each problem with its path (`backends[2].wieght`).
"""

from __future__ import annotations

import difflib
import json
import re
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from smartedge.config.not_json import looks_like
from smartedge.config.values import escaped, shown

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32  # a configuration needs five levels
SMALLEST = '{"backends": ["http://localhost:8081"]}'

Step = str | int
Finding = tuple[tuple[Step, ...], str]  # where and what, before the path becomes text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (empty for the whole text), and what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(Exception):
    """A configuration that is refused; nothing of it was applied.

    problems: all of them. status: 400 when it cannot be read or is not JSON, 422 when it is JSON but wrong.
    origin: the file or other place it came from. `str()` is text for a terminal, one line for each problem.
    """

    def __init__(self, problems: Iterable[Problem], *, status: Literal[400, 422], origin: str = "backends.json") -> None:
        self.problems = tuple(problems)
        self.status = status
        self.origin = origin
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [self._line(problem) for problem in self.problems]
        if len(lines) == 1:
            return lines[0]
        return "\n  ".join([f"{len(lines)} problems in the configuration:", *lines])

    def _line(self, problem: Problem) -> str:
        """Flags and variables speak for themselves, everything else is in the file."""
        if problem.path.startswith(("--", "SMARTEDGE_", "OTEL_")):
            return str(problem)
        return f"{escaped(self.origin)}: {problem}"


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys came twice."""

    repeated: tuple[str, ...] = ()


def decode(text: bytes | str, origin: str, pause: Callable[[], None] = lambda: None) -> tuple[object, list[Finding]]:
    """Read strict JSON (RFC 8259) and find keys that come twice; else ConfigError with line and column.

    pause: called between the steps, of which there is one for each object and list.
    """

    def refuse(message: str) -> NoReturn:
        raise ConfigError([Problem("", message)], status=400, origin=origin) from None

    if len(text) > MAX_BYTES:
        refuse(f"is larger than {MAX_BYTES // 1024**2} MiB")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            refuse(f"is not UTF-8 text (at byte {error.start}); save it as UTF-8")
    if text.startswith("\ufeff"):
        refuse("starts with a byte order mark; save it as UTF-8 without one")
    if not text.strip():
        refuse(f"is empty; the smallest configuration is {SMALLEST}")
    constants: list[str] = []
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=constants.append)
    except json.JSONDecodeError as error:
        at, what = looks_like(text, error)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        refuse(f"is not JSON at line {line}, column {column}: {what}")
    except RecursionError:
        refuse(f"is nested more than {MAX_DEPTH} levels deep")
    except ValueError:  # Python converts no more than some 4300 digits
        refuse("holds a number with thousands of digits")
    if constants:
        line, column = _position_of(constants[0], text)
        refuse(f"is not JSON at line {line}, column {column}: JSON has no {constants[0]}")
    repeated: list[Finding] = []
    for path, value in _containers(document):
        pause()
        if len(path) >= MAX_DEPTH:
            refuse(f"is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, _Object):
            repeated += [((*path, key), "is written twice") for key in value.repeated]
    return document, repeated


def explain(errors: Iterable[ErrorDetails], model: type[BaseModel], document: object) -> list[Finding]:
    """Put what pydantic found into plain words: one finding for each wrong place."""
    errors = list(errors)
    return [(_written(error["loc"], document), _message(error, model)) for error in errors if not _is_of_items(error, errors)]


def _is_of_items(error: ErrorDetails, errors: Iterable[ErrorDetails]) -> bool:
    """Whether a list is called too short only because pydantic does not count its wrong items, which are told themselves."""
    at = error["loc"]
    return error["type"] == "too_short" and any(len(one["loc"]) > len(at) and one["loc"][: len(at)] == at for one in errors)


def path_text(steps: Sequence[Step]) -> str:
    """Write a path as people do: ("backends", 2, "weight") is `backends[2].weight`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"\w+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def _message(error: ErrorDetails, model: type[BaseModel]) -> str:
    kind = error["type"]
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"], model)
    if kind == "missing":
        hint = f"; the smallest configuration is {SMALLEST}" if error["loc"] == ("backends",) else ""
        return f"is missing{hint}"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    value, context = error["input"], error.get("ctx", {})
    if kind == "too_short":
        return f"must hold at least {context['min_length']}, not {context['actual_length']}"
    if kind == "int_parsing_size" or (kind == "float_type" and type(value) is int):
        return "is far too large a number"
    return _WORDS[kind](context) + f", not {shown(value)}" + _quotes_hint(kind, value)


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "model_type": lambda _: "must be an object",
    "dict_type": lambda _: "must be an object",
    "tuple_type": lambda _: "must be a list",
    "string_type": lambda _: "must be a string",
    "string_unicode": lambda _: "must be a string of whole characters",
    "bool_type": lambda _: "must be true or false",
    "int_type": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']:.10g}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']:.10g}",
    "literal_error": lambda ctx: f"must be {ctx['expected'].replace(chr(39), chr(34))}",
}


def _quotes_hint(kind: str, value: object) -> str:
    numeric = kind in ("int_type", "float_type") and isinstance(value, str) and value[:1].isdigit()
    boolean = kind == "bool_type" and value in ("true", "false")
    return " (write it without quotes)" if numeric or boolean else ""


def _unknown_key(loc: Sequence[Step], model: type[BaseModel]) -> str:
    """Name what was probably meant: a key here with nearly this name, or the section it belongs to."""
    key, here = str(loc[-1]), _model_at(loc[:-1], model)
    allowed = sorted(here.model_fields)
    close = difflib.get_close_matches(key, allowed, n=1)
    if loc[0] == "services" and _holds_for_all(loc[2:], model):
        return f"holds for the whole edge; write it at the top, as {path_text(loc[2:])}; here are allowed: {', '.join(allowed)}"
    # What has sections of its own, as the whole text and a service, is looked through first.
    around = here if loc[0] == "services" and len(loc) == 3 else model
    close = close or [
        f"{name}.{key}"
        for name, field in around.model_fields.items()
        if (section := model_in(field.annotation)) and key in section.model_fields and name not in _LISTS
    ]
    meant = f'did you mean "{close[0]}"?' if close else ""
    if meant and len(allowed) > _MOST_NAMED:
        return f"is an unknown key; {meant}"
    return f"is an unknown key; {f'{meant} Allowed' if meant else 'allowed'}: {', '.join(allowed)}"


_MOST_NAMED = 20
"""So many keys are named beside the one that was meant; of more, that one would not be seen."""


_LISTS = ("backends", "services", "routes")
"""Keys whose entries are no sections of what they stand in."""


def _holds_for_all(loc: Sequence[Step], model: type[BaseModel]) -> bool:
    """Whether what a service has no key for has one at the top."""
    return all(isinstance(step, str) for step in loc) and loc[-1] in _model_at(loc[:-1], model).model_fields


def _model_at(loc: Sequence[Step], model: type[BaseModel]) -> type[BaseModel]:
    steps = iter(loc)
    for step in steps:
        if isinstance(step, str):
            if step not in model.model_fields:  # a source of the user's own
                continue
            annotation = model.model_fields[step].annotation
            model = model_in(annotation) or model
            if get_origin(annotation) is dict:
                next(steps, None)  # a name of the user's
    return model


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model in an annotation such as `Tls | None` or `tuple[Annotated[Backend, ...], ...]`."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in get_args(annotation) if (found := model_in(part))), None)


def _written(loc: tuple[Step, ...], document: object) -> tuple[Step, ...]:
    """The path as the text has it: that of a backend which is a plain URL ends at the entry, that of a wrong name at the name."""
    if loc[-1:] == ("[key]",):
        return loc[:-1]
    if loc[-1:] == ("url",) and loc[-3:-2] == ("backends",):
        entry: Any = document
        for step in loc[:-1]:
            entry = entry[step]
        return loc[:-1] if isinstance(entry, str) else loc
    return loc


def _unique(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    if len(found) != len(pairs):
        found.repeated = tuple(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
    return found


def _containers(document: object) -> Iterator[tuple[tuple[Step, ...], object]]:
    """Every object and list with its path, in the order of the text; no recursion, so no depth breaks it."""
    waiting: list[tuple[tuple[Step, ...], object]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict | list):
            yield path, value
            inner = list(value.items() if isinstance(value, dict) else enumerate(value))
            waiting += [((*path, step), item) for step, item in reversed(inner) if isinstance(item, dict | list)]


def _position_of(constant: str, text: str) -> tuple[int, int]:
    """Line and column of the first NaN or Infinity outside of a string."""
    tokens = re.finditer(r'"(?:[^"\\]|\\.)*"|-?Infinity|NaN', text)
    start = next(token.start() for token in tokens if token.group() == constant)
    return text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
