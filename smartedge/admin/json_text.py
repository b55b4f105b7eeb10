"""Documents as indented JSON, a piece at a time: what `json` writes with an indent of 2, letters as they are, but sooner.

The standard library writes in C only what is not indented; of 10,000 backends the status is 27 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from json import JSONEncoder
from json.encoder import encode_basestring
from math import isfinite
from typing import Any, Final

_encode: Final = JSONEncoder(ensure_ascii=False).encode


def _float_text(value: float) -> str:
    return repr(value) if isfinite(value) else _encode(value)


_TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    str: encode_basestring,
    int: repr,
    float: _float_text,
    bool: {True: "true", False: "false"}.__getitem__,
    type(None): lambda _: "null",
}
"""How plain values are written; those of other classes, such as an enumeration's, as the library does."""

_LONG: Final = 50
"""Lists of so many are written an entry at a time."""


def json_pieces(document: Mapping[str, Any]) -> Iterator[str]:
    """Give the text in pieces. A long list that stands in it twice, as the same object, is written once and indented again."""
    return _pieces(document, "\n", {})


def _pieces(value: Any, line: str, written: dict[int, list[str]]) -> Iterator[str]:
    """Give the text of a value. line: begins one of its level. written: the entries of long lists by the list, unindented."""
    if isinstance(value, list | tuple) and len(value) >= _LONG:
        yield from _long_list(value, line, written)
    elif isinstance(value, dict) and value:
        inner = line + "  "
        begin = "{" + inner
        for key, one in value.items():
            yield begin + _key_text(key)
            yield from _pieces(one, inner, written)
            begin = "," + inner
        yield line + "}"
    else:
        yield _text(value, line)


def _long_list(entries: Any, line: str, written: dict[int, list[str]]) -> Iterator[str]:
    inner = line + "  "
    begin = "[" + inner
    texts = written.get(id(entries))
    if texts is None:
        texts = written[id(entries)] = []
        for entry in entries:
            texts.append(text := _text(entry, "\n"))
            yield begin + text.replace("\n", inner)  # a string's own line feed is written as its escape
            begin = "," + inner
    else:
        for text in texts:
            yield begin + text.replace("\n", inner)
            begin = "," + inner
    yield line + "]"


def _text(value: Any, line: str) -> str:
    """Write a value whole."""
    if (write := _TEXTS.get(type(value))) is not None:
        return write(value)
    inner = line + "  "
    if isinstance(value, dict) and value:
        parts = []
        for key, one in value.items():
            write = _TEXTS.get(type(one))
            parts.append(_key_text(key) + (_text(one, inner) if write is None else write(one)))
        return f"{{{inner}{f',{inner}'.join(parts)}{line}}}"
    if isinstance(value, list | tuple) and value:
        return f"[{inner}{f',{inner}'.join([_text(one, inner) for one in value])}{line}]"
    return _encode(value)


@lru_cache(4096, typed=True)  # 1 and True are equal
def _key_text(key: Any) -> str:
    return _encode({key: 0})[1:-2]
