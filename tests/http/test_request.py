"""A request as bytes: its target, and a body that can be sent again."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartedge.balancer.errors import ClientError, ClientGone
from smartedge.http.request import Replay, origin_form
from tests.fakes import Pieces

# ---- targets ----

ABSOLUTE = re.compile(rb"(?i:https?)://([^/?]*)(.*)", re.DOTALL)


@given(st.text("/?#%aF0;:.&=@[]~", max_size=20).map(str.encode))
@example(b"/a%2Fb//c/%2e%2e/../x?")
@example(b"/%00;p?a=b?c")
def test_a_target_that_begins_with_a_slash_is_not_touched(rest: bytes) -> None:
    target = b"/" + rest
    if b"#" in target:
        with pytest.raises(ClientError):
            origin_form(target)
    else:
        assert origin_form(target) == (target, None)


@given(st.sampled_from([b"http", b"HTTP", b"https", b"Https"]), st.text("/?%aF0:.@[]", max_size=20).map(str.encode))
@example(b"http", b"h")
@example(b"http", b"h?")
@example(b"http", b"[::1]:80//a?b=//c")
@example(b"https", b"h:8443/?a")
def test_an_absolute_target_is_taken_apart_at_the_end_of_its_authority(scheme: bytes, rest: bytes) -> None:
    target = scheme + b"://" + rest
    found = ABSOLUTE.fullmatch(target)
    assert found
    try:
        path, authority = origin_form(target)
    except ClientError:
        assert not re.fullmatch(rb"[a-zA-Z0-9.]+(:[0-9]{1,5})?", found[1])
    else:
        assert authority == found[1]
        assert b"@" not in authority
        assert path == (found[2] if found[2].startswith(b"/") else b"/" + found[2])


@pytest.mark.parametrize(
    "target",
    [b"", b"a", b"a/b", b"*", b"ftp://a/", b"http:/a", b"http//a", b"http://", b"http:///a", b"http://u@a/", b"a:80", b"://a"],
)
def test_a_target_that_is_none_is_refused(target: bytes) -> None:
    with pytest.raises(ClientError):
        origin_form(target)


# ---- a body that can be sent again ----

pieces = st.lists(st.binary(min_size=1, max_size=6), max_size=6)


@given(pieces, st.integers(0, 30), st.booleans(), st.lists(st.sampled_from(["read", "read", "buffered", "rewind"]), max_size=12))
def test_a_replay_gives_the_same_bytes_again_for_as_long_as_it_says_so(
    parts: list[bytes], cap: int, arrived: bool, steps: list[str]
) -> None:
    whole = b"".join(parts)
    body = Pieces(*parts, here=arrived, length=len(whole))
    replay = Replay(body, cap)
    assert replay.length == len(whole)
    given = b""
    for step in steps:
        if step == "read":
            piece = replay.read()
            assert piece or given == whole
            given += piece
        elif step == "buffered":
            found = replay.buffered()
            if found is not None:
                assert not given
                assert found == whole
                given = whole
        elif replay.rewind():
            given = b""
        else:
            assert body.received_bytes > cap
        assert whole.startswith(given)
        assert replay.received_bytes == body.received_bytes
        if replay.complete:
            assert given == whole
    given += b"".join(iter(replay.read, b""))
    assert given == whole
    assert replay.complete
    assert replay.rewind() == (len(whole) <= cap)


def test_a_replay_keeps_no_more_than_its_cap() -> None:
    replay = Replay(Pieces(*[b"x" * 100] * 100), 1000)
    for _ in range(10):
        replay.read()
    assert replay.rewind()
    for _ in range(11):
        replay.read()
    assert not replay.rewind()
    assert replay._kept is None


def test_a_replay_that_was_stopped_in_the_middle_of_a_read_is_not_sent_again() -> None:
    replay = Replay(Pieces(b"a", ClientGone("left"), b"b"), 1000)
    replay.read()
    with pytest.raises(ClientGone):
        replay.read()
    assert not replay.rewind()
    assert replay.buffered() is None
    assert replay.read() == b"b"


def test_a_twin_is_the_whole_body_from_its_beginning_while_the_other_is_being_sent() -> None:
    replay = Replay(Pieces(b"ab", b"cd"), 10)
    assert replay.twin() is None  # the client still sends
    while replay.read():
        pass
    twin = replay.twin()
    assert twin is not None
    assert (twin.buffered(), twin.read(), replay.read()) == (b"abcd", b"", b"")
    assert not replay.spent
    large = Replay(Pieces(b"x" * 11), 10)
    large.read()
    assert large.spent
    assert large.twin() is None
