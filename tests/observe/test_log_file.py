"""What is written at once where another process may write, too; the rest of a LogFile is in test_log_writer.py."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from smartedge.observe.log_file import _pieces

LINES = st.lists(st.binary(max_size=40).map(lambda said: said.replace(b"\n", b"") + b"\n"), max_size=40).map(b"".join)


@given(LINES, st.integers(1, 100), st.booleans())
def test_pieces_are_whole_lines_as_many_as_fit(data: bytes, most_bytes: int, ends: bool) -> None:
    if not ends:
        data = data[:-1]
    pieces = list(_pieces(data, most_bytes))
    assert b"".join(pieces) == data
    assert all(pieces)
    assert all(piece.endswith(b"\n") for piece in pieces[:-1])
    assert all(len(piece) <= most_bytes or piece.count(b"\n") <= 1 for piece in pieces)
    for piece, following in pairwise(pieces):
        assert len(piece) + len(following.partition(b"\n")[0]) + 1 > most_bytes
