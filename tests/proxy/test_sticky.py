"""The sticky cookie: only the edge can make one, it tells nothing, and what is not one selects nobody."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartedge.config.model import parse
from smartedge.edge.policies import sticky_of
from smartedge.http.headers import RequestFields
from smartedge.proxy.sticky import Sticky

SECRET = b"a secret of thirty-two bytes ...."


def sticky(secret: bytes = SECRET, max_age_s: int | None = None, ids: tuple[str, ...] = ("b1", "b2")) -> Sticky:
    return Sticky("SRV", secret, ids, max_age_s)


def cookie_of(one: Sticky, backend_id: str) -> bytes:
    return one.line(backend_id, secure=False).partition(b"=")[2].partition(b";")[0]


def named_by(cookie: bytes, one: Sticky | None = None) -> str | None:
    return (one or sticky()).take(RequestFields(b"Host: h\r\nCookie: SRV=%b\r\n" % cookie))[0]


def test_the_cookie_that_was_given_names_its_backend() -> None:
    assert [named_by(cookie_of(sticky(), name)) for name in ("b1", "b2")] == ["b1", "b2"]


def test_the_line_is_for_browsers_and_nobody_else() -> None:
    value = cookie_of(sticky(), "b1")
    assert sticky().line("b1", secure=False) == b"Set-Cookie: SRV=%b; Path=/; HttpOnly; SameSite=Lax\r\n" % value
    assert sticky(max_age_s=60).line("b1", secure=True) == (
        b"Set-Cookie: SRV=%b; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n" % value
    )


@pytest.mark.parametrize(
    ("attributes", "came_by_https", "said"),
    [
        ({"path": "/shop"}, False, b"Path=/shop; HttpOnly; SameSite=Lax"),
        ({"domain": "example.com"}, True, b"Path=/; Domain=example.com; HttpOnly; SameSite=Lax; Secure"),
        ({"same_site": "strict"}, False, b"Path=/; HttpOnly; SameSite=Strict"),
        ({"same_site": "none"}, False, b"Path=/; HttpOnly; SameSite=None; Secure"),
        ({"same_site": "none", "secure": True}, False, b"Path=/; HttpOnly; SameSite=None; Secure"),
        ({"secure": True}, False, b"Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"secure": False}, True, b"Path=/; HttpOnly; SameSite=Lax"),
        ({"max_age_s": 60, "path": "/a", "domain": ".A.b"}, False, b"Path=/a; Domain=a.b; Max-Age=60; HttpOnly; SameSite=Lax"),
        ({"cookie": "__Host-S"}, False, b"Path=/; HttpOnly; SameSite=Lax; Secure"),
        ({"cookie": "__secure-S", "path": "/x"}, False, b"Path=/x; HttpOnly; SameSite=Lax; Secure"),
    ],
)
def test_the_attributes_are_what_the_operator_says_and_browsers_take(
    attributes: dict[str, Any], came_by_https: bool, said: bytes
) -> None:
    """`SameSite=None` without `Secure`, and `__Host-` names without it, are cookies that browsers throw away."""
    config = parse(json.dumps({"backends": ["http://b"], "sticky": {"cookie": "S"} | attributes}))
    one = sticky_of(config, SECRET, ["b-80"])
    assert one.line("b-80", secure=came_by_https).partition(b"; ")[2] == said + b"\r\n"


def test_the_cookie_is_256_bits_that_tell_nothing_of_the_backend() -> None:
    value = cookie_of(sticky(ids=("secret-host-8081",)), "secret-host-8081")
    raw = base64.urlsafe_b64decode(value + b"=")
    assert len(raw) == 32
    assert b"secret" not in raw
    assert cookie_of(sticky(b"another secret"), "b1") != cookie_of(sticky(), "b1") != cookie_of(sticky(), "b2")


def test_every_worker_and_every_start_with_one_secret_makes_the_same_cookie() -> None:
    assert cookie_of(sticky(), "b1") == b"Yw758cN8K7wviBlhzwFqV8VVtqqH80D48v4HdSV7uNg"


@given(st.from_regex(rb"[!#-+\--:<-\[\]-~]{0,64}", fullmatch=True))
@example(b"")
@example(b"b1")
@example(b'"b1"')
def test_a_forged_cookie_selects_nobody(forged: bytes) -> None:
    assert named_by(forged) is None


@pytest.mark.parametrize("place", [0, 1, 15, 16, 17, 42])
def test_a_cookie_with_one_character_changed_selects_nobody(place: int) -> None:
    value = bytearray(cookie_of(sticky(), "b1"))
    value[place] = ord("A") if value[place] != ord("A") else ord("B")
    assert named_by(bytes(value)) is None


def test_a_part_of_a_cookie_or_more_than_it_selects_nobody() -> None:
    value, other = cookie_of(sticky(), "b1"), cookie_of(sticky(), "b2")
    for forged in (value[:16], value[:-1], value + b"A", value[:16] + other[16:], b'"%b"' % value, value + b" x"):
        assert named_by(forged) is None


def test_the_cookie_of_another_secret_or_of_a_backend_that_left_selects_nobody() -> None:
    assert named_by(cookie_of(sticky(b"another secret"), "b1")) is None
    assert named_by(cookie_of(sticky(ids=("b1", "b3")), "b3")) is None


def test_the_backend_gets_no_such_cookie_to_see_and_all_others() -> None:
    value = cookie_of(sticky(), "b1")
    fields = RequestFields(b"Host: h\r\nCookie: a=1; SRV=forged; SRV=%b; b=2\r\nX: y\r\n" % value)
    before = fields.block
    backend_id, own = sticky().take(fields)
    assert backend_id == "b1"
    assert own.block == b"Host: h\r\nCookie: a=1; b=2\r\nX: y\r\n"
    assert fields.block == before  # the next request of the connection has the same


def test_a_request_without_the_cookie_goes_on_as_it_came() -> None:
    fields = RequestFields(b"Host: h\r\nX-SRV: SRV=1\r\nCookie: a=1\r\n")
    backend_id, own = sticky().take(fields)
    assert backend_id is None
    assert own.block == fields.block


def test_a_backend_that_came_by_a_reload_meanwhile_has_a_cookie_too() -> None:
    assert cookie_of(sticky(ids=("b1",)), "b2") == cookie_of(sticky(), "b2")
