"""Where a server's frames end."""

from __future__ import annotations

import pytest

from smartedge.proxy.websocket import GOING_AWAY, ends_whole

TEXT = b"\x81\x05hello"
LONG = b"\x82\x7e\x01\x00" + bytes(256)
LONGEST = b"\x82\x7f" + (70_000).to_bytes(8, "big") + bytes(70_000)


@pytest.mark.parametrize("piece", [TEXT, LONG, LONGEST, TEXT + LONG + b"\x89\x00", b"\x01\x01a\x80\x01b", TEXT * 64])
def test_whole_frames_are_known(piece: bytes) -> None:
    assert ends_whole(piece)


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b"\x81",
        TEXT[:-1],
        TEXT + TEXT[:3],
        LONG[:3],
        LONGEST[:-1],
        b"hello",
        b"\x81\x85maskhello",
        TEXT + GOING_AWAY,
        TEXT * 65,
    ],
)
def test_what_is_none_or_ends_in_the_middle_or_is_the_last_is_not(piece: bytes) -> None:
    assert not ends_whole(piece)
