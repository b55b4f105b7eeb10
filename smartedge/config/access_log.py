"""The keys of the access log: where it goes, and the names of the fields whose values are logged."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo, WithJsonSchema

from smartedge.config import values
from smartedge.config.section import Listed

SECRET = frozenset(("authorization", "cookie", "proxy-authorization", "set-cookie"))
"""Fields that let in whoever reads them: logged only where they are named, and then with a caution (edge/cautions.py)."""

MOST_HEADERS = 32

LogFormat = Literal["json", "combined", "logfmt"]


def _target(value: object) -> bool | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return values.line(value)
    raise ValueError(f"must be true, false or the name of a file, not {values.shown(value)}")


def _header(text: str) -> str:
    """The name of a request's field, or of an answer's with `answer:` before it, in lower case."""
    side, separator, name = text.rpartition(":")
    if separator and side not in ("request", "answer"):
        raise ValueError(f'must be "NAME" or "answer:NAME", not {values.shown(text)}')
    low = values.field_name(name).lower()
    return f"answer:{low}" if side == "answer" else low


def _once(names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    if names and info.data.get("access_log_format") == "combined":
        raise ValueError('must be empty with access_log_format "combined", which has no place for them')
    if len(names) > MOST_HEADERS:
        raise ValueError(f"must hold at most {MOST_HEADERS} names, not {len(names)}")
    for name in {name for name in names if names.count(name) > 1}:
        raise ValueError(f"must name {values.shown(name)} only once")
    return names


def _of_a_file(value: object, info: ValidationInfo) -> object:
    if value is not None and info.data.get("access_log") is True:
        raise ValueError("needs access_log to be the name of a file: what goes to standard output is for its reader to rotate")
    return value


_TARGET_SCHEMA = {"anyOf": [{"type": "boolean"}, {"type": "string"}]}
LogTarget = Annotated[bool | str, PlainValidator(_target), WithJsonSchema(_TARGET_SCHEMA)]
LogHeaders = Annotated[tuple[Annotated[str, AfterValidator(_header)], ...], Listed, AfterValidator(_once)]
RotateBytes = Annotated[Annotated[int, Field(ge=65_536, le=1 << 40)] | None, AfterValidator(_of_a_file)]
RotateSeconds = Annotated[Annotated[int, Field(ge=60, le=31_622_400)] | None, AfterValidator(_of_a_file)]


def split_headers(names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give the names of a request's fields, and those of an answer's."""
    answers = tuple(name.removeprefix("answer:") for name in names if name.startswith("answer:"))
    return tuple(name for name in names if not name.startswith("answer:")), answers


def secret_headers(names: tuple[str, ...]) -> list[str]:
    """Give those of the names that are of fields which nobody should read."""
    return [name for name in names if name.removeprefix("answer:") in SECRET]
