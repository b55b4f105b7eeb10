"""Fields and cookies by name: exact, and nothing else of the block is touched."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.http.cookies import cookies, field, take_cookie, without_cookie

BLOCK = b"Host: h\r\nX-User:  ann \r\nCookie: a=1; SRV=two; b=\r\nx-user: bob\r\ncookie: c=x=y;SRV=three\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"x-user", b"ann"), (b"host", b"h"), (b"x-use", None), (b"user", None), (b"cookie", b"a=1; SRV=two; b=")],
)
def test_a_field_is_found_whatever_its_case_and_the_first_counts(name: bytes, value: bytes | None) -> None:
    assert field(BLOCK, name) == value


def test_a_value_that_looks_like_a_field_is_none() -> None:
    assert field(b"A: x-user: ann\r\n", b"x-user") is None


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"a", [b"1"]),
        (b"SRV", [b"two", b"three"]),
        (b"srv", []),
        (b"b", [b""]),
        (b"c", [b"x=y"]),
        (b"RV", []),
        (b"SRV=two", []),
        (b"Host", []),
    ],
)
def test_cookies_are_found_by_their_exact_name(name: bytes, found: list[bytes]) -> None:
    assert list(cookies(BLOCK, name)) == found


@pytest.mark.parametrize(
    ("block", "left"),
    [
        (BLOCK, b"Host: h\r\nX-User:  ann \r\nCookie: a=1; b=\r\nx-user: bob\r\ncookie: c=x=y\r\n"),
        (b"Cookie: SRV=1\r\nHost: h\r\n", b"Host: h\r\n"),
        (b"Host: h\r\nCookie:SRV=1;\r\n", b"Host: h\r\n"),
        (b"Cookie: SRV=1; SRV=2; x=3\r\n", b"Cookie: x=3\r\n"),
        (b"Cookie: xSRV=1;  y=SRV=2\r\n", b"Cookie: xSRV=1;  y=SRV=2\r\n"),
        (b"Cookie: SRV; a=1\r\n", b"Cookie: SRV; a=1\r\n"),
        (b"X: SRV=1\r\n", b"X: SRV=1\r\n"),
        (b"Host: h\r\n", b"Host: h\r\n"),
    ],
)
def test_a_cookie_is_taken_out_and_all_else_stays_as_it_is(block: bytes, left: bytes) -> None:
    assert without_cookie(block, b"SRV") == left
    assert take_cookie(block, b"SRV")[1] == left


@pytest.mark.parametrize(
    ("line", "value", "left"),
    [
        (b"Cookie: SRV=1\r\n", b"1", b""),
        (b"cookie:SRV=1; a=2\r\n", b"1", b"cookie: a=2\r\n"),
        (b"Cookie: a=2;SRV= 1 \r\n", b" 1", b"Cookie: a=2\r\n"),
        (b"Cookie: a=2; SRV=1=1; b=3\r\n", b"1=1", b"Cookie: a=2; b=3\r\n"),
        (b"Cookie: ; SRV=; \r\n", b"", b""),
    ],
)
def test_the_usual_one_is_cut_out(line: bytes, value: bytes, left: bytes) -> None:
    assert take_cookie(b"A: b\r\n%bC: d\r\n" % line, b"SRV") == ([value], b"A: b\r\n%bC: d\r\n" % left)
    assert take_cookie(line, b"SRV") == ([value], left)


NAMES = st.sampled_from([b"SRV", b"srv", b"SRVX", b"XSRV", b"a", b""])
VALUES = st.from_regex(rb"[A-Za-z0-9=_ \t-]{0,6}", fullmatch=True)
PAIRS = st.lists(st.builds(lambda name, value: name + b"=" + value, NAMES, VALUES) | VALUES, max_size=5)
SEPARATORS = st.sampled_from([b";", b"; ", b" ;\t"])


@given(st.lists(st.tuples(st.sampled_from([b"Cookie", b"cookie", b"X-Cookie", b"Cookie2"]), PAIRS, SEPARATORS), max_size=4))
def test_finding_and_taking_out_agree_whatever_the_client_sends(fields: list[tuple[bytes, list[bytes], bytes]]) -> None:
    block = b"".join(b"%b: %b\r\n" % (name, separator.join(pairs)) for name, pairs, separator in fields)
    left = without_cookie(block, b"SRV")
    assert list(cookies(left, b"SRV")) == []
    assert list(cookies(left, b"a")) == list(cookies(block, b"a"))
    assert [line for line in left.split(b"\r\n") if not re.match(rb"(?i)cookie:", line)] == [
        line for line in block.split(b"\r\n") if not re.match(rb"(?i)cookie:", line)
    ]


def kept(block: bytes) -> list[bytes]:
    """All cookie pairs, in order."""
    lines = [line[7:] for line in block.split(b"\r\n") if line[:7].lower() == b"cookie:"]
    return [pair.strip(b" \t") for line in lines for pair in line.split(b";") if pair.strip(b" \t")]


@given(st.lists(st.tuples(st.sampled_from([b"Cookie", b"cookie", b"X-Cookie"]), PAIRS, SEPARATORS), max_size=3))
def test_the_short_way_and_the_long_way_say_the_same(fields: list[tuple[bytes, list[bytes], bytes]]) -> None:
    block = b"".join(b"%b: %b\r\n" % (name, separator.join(pairs)) for name, pairs, separator in fields)
    values, left = take_cookie(block, b"SRV")
    assert values == list(cookies(block, b"SRV"))
    assert kept(left) == kept(without_cookie(block, b"SRV"))
    if not values:
        assert left == block
