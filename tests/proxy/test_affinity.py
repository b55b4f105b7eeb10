"""What a request is known by, and what the sticky cookie does on a request's way."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartedge.balancer.cells import HEALTH, SESSION_REQUESTS
from smartedge.balancer.errors import ConnectFailed
from smartedge.config.model import parse
from smartedge.edge.policies import sticky_of
from smartedge.http.forwarded import came_by_https, client_address
from smartedge.http.headers import RequestFields
from smartedge.proxy.affinity import Affinity, Sticky, key_reader
from smartedge.proxy.exchange import Exchange
from tests.fakes import FakeAnswer
from tests.house import House, policy_of, request

PROXY = b"10.0.0.9"


def trusted(peer: bytes) -> bool:
    return peer.startswith(b"10.")


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("client", b"10.0.0.9"),
        ("path", b"/a/b"),
        ("header:X-User", b"ann"),
        ("header:x-forwarded-for", b"1.1.1.1"),
        ("header:Nothing", b""),
        ("cookie:id", b"7"),
        ("cookie:ID", b""),
    ],
)
def test_the_key_is_what_the_configuration_says(by: str, key: bytes) -> None:
    block = b"Host: h\r\nx-user: ann\r\nCookie: a=1; id=7\r\nX-Forwarded-For: 1.1.1.1\r\n"
    assert key_reader(by, None)(request(block=block, target=b"/a/b?q=1", peer=PROXY)) == key


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (b"", b"10.0.0.9"),
        (b"X-Forwarded-For: 1.1.1.1\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.7\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 10.0.0.7 ,\r\n", b"1.1.1.1"),
        (b"X-Forwarded-For: 10.0.0.5, 10.0.0.7\r\n", b"10.0.0.5"),
        (b"X-Forwarded-For:\r\n", b"10.0.0.9"),
        (b"X-Forwarded-Proto: https\r\n", b"10.0.0.9"),
    ],
)
def test_the_client_behind_trusted_proxies_is_the_last_that_they_name_and_is_none_of_them(said: bytes, address: bytes) -> None:
    assert client_address(request(fields=said, peer=PROXY), trusted) == address


def test_nobody_else_is_believed() -> None:
    block = b"Host: h\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
    for is_trusted in (None, lambda _: False):
        assert client_address(request(block=block, target=b"/a/b?q=1", peer=PROXY), is_trusted) == b"10.0.0.9"
        assert not came_by_https(request(block=block, target=b"/a/b?q=1", peer=PROXY), is_trusted)


@pytest.mark.parametrize(
    ("said", "secure", "expected"),
    [
        (b"", True, True),
        (b"", False, False),
        (b"X-Forwarded-Proto: https\r\n", False, True),
        (b"X-Forwarded-Proto: HTTPS\r\n", False, True),
        (b"X-Forwarded-Proto: http\r\n", True, False),
        (b"X-Forwarded-For: 1.1.1.1\r\n", True, True),
    ],
)
def test_https_is_what_the_client_spoke(said: bytes, secure: bool, expected: bool) -> None:
    assert came_by_https(request(fields=said, peer=PROXY, secure=secure), trusted) is expected


# on a request's way


class StickyHouse(House):
    """Three backends that answer, and sticky sessions."""

    def __init__(self, *scripts: Any, key_by: str | None = None) -> None:
        super().__init__(*(scripts or [[FakeAnswer() for _ in range(20)] for _ in "abc"]))
        self.sticky = Sticky("SRV", [b"secret"], ["a", "b", "c"])
        key_of = None if key_by is None else key_reader(key_by, None)
        self.forwarder.service.adapt_to(policy_of(affinity=Affinity(key_of, self.sticky, None)))

    def visit(self, cookie: bytes = b"", method: bytes = b"GET") -> tuple[str, list[str]]:
        """Ask with a cookie; the backend that answered, and the cookies that the client is given."""
        exchange = self.ask(method, block=b"Host: h\r\n" + (b"Cookie: x=1; SRV=%b\r\n" % cookie if cookie else b""))
        fields = pairs(exchange)
        exchange.close()
        assert exchange.attempts.backend is not None
        return exchange.attempts.backend.id, [value for name, value in fields if name == "Set-Cookie"]

    def cookie(self, backend_id: str) -> bytes:
        return self.sticky.cookie_line(backend_id, secure=False).partition(b"=")[2].partition(b";")[0]


def pairs(exchange: Exchange) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    exchange({}, lambda _, fields: found.extend(fields))
    return found


def test_the_first_answer_gives_a_cookie_and_the_client_stays_and_is_given_no_other() -> None:
    house = StickyHouse()
    first, given = house.visit()
    assert len(given) == 1
    cookie = given[0].partition("=")[2].partition(";")[0].encode()
    assert [house.visit(cookie) for _ in range(5)] == [(first, [])] * 5
    counted = {one.id: one.learned.cells[SESSION_REQUESTS] for one in house.forwarder.service.pool.backends}
    assert counted == {**dict.fromkeys(counted, 0), first: 5}  # not the first: it came without a cookie
    assert all(b"SRV" not in outbound.head for transport in house.transports for outbound in transport.sent)
    assert b"Cookie: x=1\r\n" in house.transports[0].sent[-1].head


def test_a_forged_cookie_is_replaced() -> None:
    house = StickyHouse()
    backend, given = house.visit(b"forged")
    assert given == [house.sticky.cookie_line(backend, secure=False)[12:-2].decode()]


def test_when_the_backend_fails_the_session_moves() -> None:
    house = StickyHouse([ConnectFailed("no")] * 9, [FakeAnswer() for _ in range(9)], [])
    assert house.visit(house.cookie("a")) == ("b", [house.sticky.cookie_line("b", secure=False)[12:-2].decode()])


def test_a_backend_that_drains_keeps_its_sessions_and_gets_no_new_ones() -> None:
    house = StickyHouse()
    house.service.pool.set_state("b", "draining")
    assert house.visit(house.cookie("b")) == ("b", [])
    assert "b" not in {house.visit()[0] for _ in range(6)}
    house.service.pool.set_state("b", "disabled")
    assert house.visit(house.cookie("b"))[0] != "b"


def test_a_session_with_one_that_is_unhealthy_moves() -> None:
    house = StickyHouse()
    house.backends[1].learned.shared[HEALTH] = 2
    house.backends[1].learned.health.probed(False)
    for _ in range(3):
        house.backends[1].learned.health.probed(False)
    house.service.pool.renew_candidates()
    backend, given = house.visit(house.cookie("b"))
    assert backend != "b"
    assert len(given) == 1


def test_the_backends_own_cookies_go_on_untouched() -> None:
    block = b"Set-Cookie: mine=1\r\nX: y\r\nSet-Cookie: SRV=evil\r\n"
    house = StickyHouse([FakeAnswer(block=block) for _ in range(2)], [], [])
    house.service.pool.set_state("b", "disabled")
    house.service.pool.set_state("c", "disabled")
    assert house.visit(house.cookie("a")) == ("a", ["mine=1", "SRV=evil"])
    _, given = house.visit()
    assert given[:2] == ["mine=1", "SRV=evil"]
    assert given[2].startswith("SRV=")


def test_a_204_that_said_a_length_is_given_its_cookie_too() -> None:
    house = StickyHouse([FakeAnswer(204, block=b"Content-Length: 0\r\n")], [], [])
    assert len(house.visit()[1]) == 1


def test_an_error_of_our_own_gives_no_cookie() -> None:
    house = StickyHouse(*[[ConnectFailed("no")]] * 3)
    exchange = house.ask()
    assert exchange.status == 503
    assert "Set-Cookie" not in dict(pairs(exchange))
    exchange.close()


def test_the_key_reaches_the_strategy_on_retries_too() -> None:
    house = StickyHouse([ConnectFailed("no")] * 3, [FakeAnswer()], [FakeAnswer()], key_by="path")
    keys: list[bytes] = []
    strategy = house.service.pool.strategy
    pick = strategy.pick
    strategy.pick = lambda candidates, now, rng, key: keys.append(key) or pick(candidates, now, rng, key)  # type: ignore
    house.ask(target=b"/x?y").close()
    assert keys == [b"/x", b"/x"]


def test_a_cookie_of_the_secret_of_before_keeps_its_session_and_is_replaced() -> None:
    house = StickyHouse()
    old = house.cookie("b")
    house.sticky = Sticky("SRV", [b"newest", b"secret"], ["a", "b", "c"])
    house.forwarder.service.adapt_to(policy_of(affinity=Affinity(None, house.sticky, None)))
    backend, given = house.visit(old)
    assert (backend, given) == ("b", [house.sticky.cookie_line("b", secure=False)[12:-2].decode()])
    assert house.visit(house.cookie("b")) == ("b", []), "who has the newest is given no other"
    house.sticky = Sticky("SRV", [b"newest"], ["a", "b", "c"])
    assert house.sticky.take_cookie(RequestFields(b"Host: h\r\nCookie: SRV=%b\r\n" % old))[0] is None


# The cookie: only the edge can make one, it tells nothing, and what is not one selects nobody.

SECRET = b"a secret of thirty-two bytes ...."


def sticky(secret: bytes = SECRET, max_age_s: int | None = None, ids: tuple[str, ...] = ("b1", "b2")) -> Sticky:
    return Sticky("SRV", [secret], ids, max_age_s)


def cookie_of(one: Sticky, backend_id: str) -> bytes:
    return one.cookie_line(backend_id, secure=False).partition(b"=")[2].partition(b";")[0]


def named_by(cookie: bytes, one: Sticky | None = None) -> str | None:
    return (one or sticky()).take_cookie(RequestFields(b"Host: h\r\nCookie: SRV=%b\r\n" % cookie))[0]


def test_the_cookie_that_was_given_names_its_backend() -> None:
    assert [named_by(cookie_of(sticky(), name)) for name in ("b1", "b2")] == ["b1", "b2"]


def test_the_line_is_for_browsers_and_nobody_else() -> None:
    value = cookie_of(sticky(), "b1")
    assert sticky().cookie_line("b1", secure=False) == b"Set-Cookie: SRV=%b; Path=/; HttpOnly; SameSite=Lax\r\n" % value
    assert sticky(max_age_s=60).cookie_line("b1", secure=True) == (
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
    one = sticky_of(config, [SECRET], ["b-80"])
    assert one.cookie_line("b-80", secure=came_by_https).partition(b"; ")[2] == said + b"\r\n"


def test_the_cookie_is_256_bits_that_tell_nothing_of_the_backend() -> None:
    value = cookie_of(sticky(ids=("secret-host-8081",)), "secret-host-8081")
    raw = base64.urlsafe_b64decode(value + b"=")
    assert len(raw) == 32
    assert b"secret" not in raw
    assert cookie_of(sticky(b"another secret"), "b1") != cookie_of(sticky(), "b1") != cookie_of(sticky(), "b2")


def test_a_cookie_of_one_service_says_nothing_to_another_that_has_a_backend_of_that_id() -> None:
    shop, api = (Sticky("SRV", [b"secret"], ["a"], service=name) for name in ("default", "api"))
    cookie = cookie_of(api, "a")
    assert named_by(cookie, api) == "a"
    assert named_by(cookie, shop) is None
    assert shop.cookie_line("a", secure=False) == Sticky("SRV", [b"secret"], ["a"]).cookie_line("a", secure=False)


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
    backend_id, own = sticky().take_cookie(fields)
    assert backend_id == "b1"
    assert own.block == b"Host: h\r\nCookie: a=1; b=2\r\nX: y\r\n"
    assert fields.block == before  # the next request of the connection has the same


def test_a_request_without_the_cookie_goes_on_as_it_came() -> None:
    fields = RequestFields(b"Host: h\r\nX-SRV: SRV=1\r\nCookie: a=1\r\n")
    backend_id, own = sticky().take_cookie(fields)
    assert backend_id is None
    assert own.block == fields.block


def test_a_backend_that_came_by_a_reload_meanwhile_has_a_cookie_too() -> None:
    assert cookie_of(sticky(ids=("b1",)), "b2") == cookie_of(sticky(), "b2")
