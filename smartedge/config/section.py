"""What every section of `backends.json` is made of: the model that all share, and the types of their keys."""

from __future__ import annotations

import ast
import inspect
import json
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core.core_schema import ModelSchema

from smartedge.config import values

MOST_FILE_BYTES = 16 * 1024 * 1024
"""Of a file that is named in a configuration, and kept in memory."""


def where(name: str) -> str:
    """Where a file or folder was looked for, as the end of a sentence: a relative name depends on who started the program."""
    return "here" if os.path.isabs(name) else f"in {values.shown(os.getcwd())}"


def existing_file(text: str) -> str:
    """Give a file's name back; raises ValueError when there is no such file, or it is too long."""
    if not os.path.isfile(values.line(text)):
        raise ValueError(f"names {values.shown(text)}, which is no file {where(text)}")
    if os.path.getsize(text) > MOST_FILE_BYTES:
        raise ValueError(f"names {values.shown(text)}, which is longer than {MOST_FILE_BYTES} bytes")
    return text


def existing_folder(text: str) -> str:
    """Give a folder's name back; raises ValueError when there is no such folder."""
    if not os.path.isdir(values.line(text)):
        raise ValueError(f"names {values.shown(text)}, which is no folder {where(text)}")
    return text


def beside(certificate: str) -> AfterValidator:
    """Make the check of a key's file, which needs that of its certificate: the key of the same section that names it."""

    def check(key_file: str | None, info: ValidationInfo) -> str | None:
        if key_file and info.data.get(certificate, "wrong in itself") is None:
            raise ValueError(f"needs a {certificate} beside it")
        return key_file

    return AfterValidator(check)


def _object(pairs: Iterable[tuple[Any, Any]]) -> Any:
    return dict(pairs)


def _cap(value: object) -> object:
    if value is None or value == "adaptive" or (type(value) is int and 1 <= value <= 1_000_000):
        return value
    raise ValueError(f'must be a whole number from 1 to 1000000, "adaptive" or null, not {values.shown(value)}')


_LABELS_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 16}
_STATUS_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 100, "maximum": 599}, {"type": "string"}]}

Seconds = Annotated[float, Field(gt=0, le=86_400)]  # a day: sockets and timers take no number without end
Grace = Annotated[float, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Size = Annotated[int, Field(ge=1_024, le=1 << 30)]
Label = Annotated[str, AfterValidator(values.label)]
Text = Annotated[str, AfterValidator(values.line)]
File = Annotated[str, AfterValidator(existing_file)]
Folder = Annotated[str, AfterValidator(existing_folder)]
# Pairs are written as an object. Not by `dict` itself: to find out what a builtin is called with takes pydantic 10 ms.
AS_OBJECT = PlainSerializer(_object)
# Lists are read as tuples, which do not change; strict=False allows just that, the items stay strict.
Listed = Field(strict=False)
Cap = Annotated[int | Literal["adaptive"], BeforeValidator(_cap)]
Networks = Annotated[tuple[Annotated[str, AfterValidator(values.network)], ...], Listed]
Labels = Annotated[tuple[tuple[str, str], ...], PlainValidator(values.labels), AS_OBJECT, WithJsonSchema(_LABELS_SCHEMA)]
_HEADERS_SCHEMA = {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 32}
ProbeHeaders = Annotated[
    tuple[tuple[str, str], ...], PlainValidator(values.probe_headers), AS_OBJECT, WithJsonSchema(_HEADERS_SCHEMA)
]
StatusItem = Annotated[int | str, PlainValidator(values.status_item), WithJsonSchema(_STATUS_SCHEMA)]


class Section(BaseModel):
    """What all sections share: frozen, no unknown keys, no conversions, no NaN."""

    # defer_build: only a few are ever checked by themselves; what checks the others is part of the whole.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """The JSON Schema of what such a section is part of or stands above, with what is written below each key."""
        return cls.model_json_schema(schema_generator=_WithDocstrings)


def canonical_json(value: object) -> str:
    """Write a value as canonical text: JSON without a space, its keys sorted."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def canonical_object(texts: Mapping[str, str]) -> str:
    """Write an object as canonical text, of the texts of its values."""
    return ",".join(f"{json.dumps(key)}:{texts[key]}" for key in sorted(texts)).join("{}")


class _WithDocstrings(GenerateJsonSchema):
    """Reads the docstrings when somebody asks: pydantic's `use_attribute_docstrings` does so at each start."""

    def model_schema(self, schema: ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for name, text in docstrings(schema["cls"]).items():
            made["properties"][name].setdefault("description", text)
        return made


def docstrings(section: type[Section]) -> dict[str, str]:
    """What is written below each key of a section, and of those that it is made of."""
    found: dict[str, str] = {}
    for part in reversed(section.__mro__):
        if issubclass(part, Section):
            found |= _docstrings_of(part.__module__)[part.__name__]
    return {name: text for name, text in found.items() if name in section.model_fields}


@cache
def _docstrings_of(module: str) -> dict[str, dict[str, str]]:
    """What stands below the keys of each class of a module. `inspect` would parse the module once for each of them."""
    found: dict[str, dict[str, str]] = {}
    for written in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(written, ast.ClassDef):
            said = found[written.name] = {}
            for above, below in pairwise(written.body):
                match above, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        said[name] = inspect.cleandoc(text)
    return found
