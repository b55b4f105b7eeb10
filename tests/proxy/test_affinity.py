"""What a request is known by, and what the sticky cookie does on a request's way."""

from __future__ import annotations

from typing import Any

import pytest

from smartedge.balancer.cells import HEALTH
from smartedge.balancer.errors import ConnectFailed
from smartedge.proxy.affinity import Affinity, came_by_https, client_address, key_reader
from smartedge.proxy.exchange import Exchange
from smartedge.proxy.sticky import Sticky
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
        self.sticky = Sticky("SRV", b"secret", ["a", "b", "c"])
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
        return self.sticky.line(backend_id, secure=False).partition(b"=")[2].partition(b";")[0]


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
    assert all(b"SRV" not in outbound.head for transport in house.transports for outbound in transport.sent)
    assert b"Cookie: x=1\r\n" in house.transports[0].sent[-1].head


def test_a_forged_cookie_is_replaced() -> None:
    house = StickyHouse()
    backend, given = house.visit(b"forged")
    assert given == [house.sticky.line(backend, secure=False)[12:-2].decode()]


def test_when_the_backend_fails_the_session_moves() -> None:
    house = StickyHouse([ConnectFailed("no")] * 9, [FakeAnswer() for _ in range(9)], [])
    assert house.visit(house.cookie("a")) == ("b", [house.sticky.line("b", secure=False)[12:-2].decode()])


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
