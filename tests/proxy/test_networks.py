"""Whether an address is in a range, however a proxy writes it."""

from __future__ import annotations

import pytest

from smartedge.proxy.networks import Networks


@pytest.mark.parametrize(
    ("ranges", "address", "held"),
    [
        (("10.0.0.0/8",), b"10.1.2.3", True),
        (("10.0.0.0/8",), b"11.1.2.3", False),
        (("10.0.0.0/8", "192.0.2.7/32"), b"192.0.2.7", True),
        (("fe80::/10",), b"fe80::1%eth0", True),  # its scope is no part of a range
        (("0.0.0.0/0",), b"::1", False),
        (("0.0.0.0/0", "::/0"), b"unix", False),  # a peer on a unix socket has no address
        ((), b"10.1.2.3", False),
    ],
)
def test_an_address_is_in_a_range_or_in_none(ranges: tuple[str, ...], address: bytes, held: bool) -> None:
    assert Networks(ranges).holds(address) is held


@pytest.mark.parametrize(
    ("inner", "outer", "within"),
    [
        (("10.1.0.0/16",), ("10.0.0.0/8",), True),
        (("10.0.0.0/8",), ("10.1.0.0/16",), False),
        (("10.1.0.0/16", "::1/128"), ("10.0.0.0/8",), False),
        (("10.1.0.0/16", "::1/128"), ("10.0.0.0/8", "::/0"), True),
        ((), ("10.0.0.0/8",), True),
    ],
)
def test_ranges_are_within_others_if_each_is_in_one(inner: tuple[str, ...], outer: tuple[str, ...], within: bool) -> None:
    assert Networks(inner).is_within(Networks(outer)) is within


def test_ranges_say_what_they_are() -> None:
    assert repr(Networks(("10.0.0.0/8", "::1/128"))) == "<Networks 10.0.0.0/8, ::1/128>"


@pytest.mark.parametrize(
    "text", ["10.1.2.3", "::ffff:10.1.2.3", "10.1.2.3:55555", "[::ffff:10.1.2.3]:80", "::ffff:0a01:0203", "[::ffff:10.1.2.3]"]
)
def test_an_address_is_in_its_range_in_any_spelling(text: str) -> None:
    assert Networks(["10.0.0.0/8"]).holds(text.encode())


@pytest.mark.parametrize("text", ["fe80::1", "fe80::1%eth0", "[fe80::1]", "[FE80::1]:8080", "[fe80::1%eth0]:1"])
def test_so_is_one_of_ipv6(text: str) -> None:
    assert Networks(["fe80::/10"]).holds(text.encode())


@pytest.mark.parametrize("text", ["unix", "", "[", "10.1.2", "10.1.2.3:4:5", "a:b"])
def test_what_is_no_address_is_in_no_range(text: str) -> None:
    assert not Networks(["0.0.0.0/0", "::/0"]).holds(text.encode())
