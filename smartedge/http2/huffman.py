"""Strings in HPACK's Huffman code (RFC 7541 section 5.2), decoded a byte at a time; hpack goes by four bits.

The code is a tree of 256 inner nodes. Each is a state: the bits that have been read of a symbol. Its row says what each byte does
then, and is made when a string first comes into it: all rows take 4 MB, those of usual strings a quarter.
"""

from __future__ import annotations

from typing import Any, Final

from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

EOS: Final = 256
"""The symbol that no string holds; up to seven bits of its code, which are ones, fill the last byte."""

Row = list[tuple[Any, bytes]]
"""For each byte, the row of the state behind it, and the symbols that it ends; empty until it is made."""


class _Node:
    """An inner node of the tree. sides: what is behind a 0 and a 1, another node or a symbol. row: of its state."""

    __slots__ = ("row", "sides")

    def __init__(self) -> None:
        self.sides: list[_Node | int] = [EOS, EOS]
        self.row: Row = []


def _tree() -> _Node:
    root = _Node()
    for symbol, (code, length) in enumerate(zip(REQUEST_CODES, REQUEST_CODES_LENGTH, strict=True)):
        at = root
        for bit in range(length - 1, 0, -1):
            side = at.sides[code >> bit & 1]
            if not isinstance(side, _Node):
                side = at.sides[code >> bit & 1] = _Node()
            at = side
        at.sides[code & 1] = symbol
    return root


def _nodes(at: _Node) -> list[_Node]:
    return [at] + [node for side in at.sides if isinstance(side, _Node) for node in _nodes(side)]


_ROOT: Final = _tree()
_NODES: Final = {id(node.row): node for node in _nodes(_ROOT)}
_DEAD: Final[Row] = []
_DEAD.extend([(_DEAD, b"")] * 256)  # behind a whole EOS, which nothing leads out of


def _fill(row: Row) -> None:
    """Make a state's row."""
    found: list[tuple[_Node | None, bytes]] = [(_NODES[id(row)], b"")]
    for _ in range(8):
        found = [_behind(at, symbols, bit) for at, symbols in found for bit in (0, 1)]
    row += [(_DEAD if at is None else at.row, symbols) for at, symbols in found]


def _behind(at: _Node | None, symbols: bytes, bit: int) -> tuple[_Node | None, bytes]:
    side = EOS if at is None else at.sides[bit]
    if isinstance(side, _Node):
        return side, symbols
    return (None, b"") if side == EOS else (_ROOT, symbols + bytes((side,)))


def _ends() -> set[int]:
    """Give the rows in which a string may end: of nothing but ones, seven at most, behind its last symbol."""
    at: _Node | int = _ROOT
    ends = set()
    for _ in range(8):
        assert isinstance(at, _Node)
        ends.add(id(at.row))
        at = at.sides[1]
    return ends


_ENDS: Final = _ends()


def decode_huffman(data: bytes) -> bytes:
    """Give the bytes that a string stands for; raises ValueError for one that is none."""
    row, decoded = _ROOT.row, bytearray()
    for byte in data:
        if not row:
            _fill(row)
        row, symbols = row[byte]
        decoded += symbols
    if id(row) not in _ENDS:
        raise ValueError("a string in Huffman code that does not end as it must")
    return bytes(decoded)
