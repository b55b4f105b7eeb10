"""What a backend is told of the client: a stranger's word is replaced, a trusted proxy's kept and extended."""

from __future__ import annotations

import pytest

from smartedge.http.forwarded import MOST_HOPS, client_address, forwarded_lines, key_field, plain_address, told
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request

FOREIGN = (
    b"Host: h\r\nX-Forwarded-For: 1.1.1.1\r\nx-forwarded-for:2.2.2.2 \r\nX-Forwarded-Proto: https\r\n"
    b"Forwarded: for=1.1.1.1\r\nX-Real-Ip: 1.1.1.1\r\nX-Forwarded-Port: 99\r\n"
)


def test_what_a_stranger_says_of_its_client_is_replaced() -> None:
    said = forwarded_lines(RequestFields(FOREIGN), b"9.9.9.9", b"http", trusted=False)
    assert said == b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: http\r\n"


def test_what_a_trusted_proxy_says_of_its_client_is_extended() -> None:
    said = forwarded_lines(RequestFields(FOREIGN), b"9.9.9.9", b"http", trusted=True)
    assert said == (
        b"X-Forwarded-For: 1.1.1.1, 2.2.2.2, 9.9.9.9\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: https\r\n"
        b"Forwarded: for=1.1.1.1\r\nX-Real-Ip: 1.1.1.1\r\nX-Forwarded-Port: 99\r\n"
    )


def test_a_trusted_proxy_that_says_nothing_is_a_client() -> None:
    said = forwarded_lines(RequestFields(b"Host: h\r\n"), b"9.9.9.9", b"https", trusted=True)
    assert said == b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Host: h\r\nX-Forwarded-Proto: https\r\n"


def test_an_empty_chain_of_a_trusted_proxy_leaves_no_empty_member() -> None:
    fields = RequestFields(b"Host: h\r\nX-Forwarded-For: \r\nX-Forwarded-Host: other\r\n")
    assert forwarded_lines(fields, b"9.9.9.9", b"http", trusted=True) == (
        b"X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: other\r\n"
    )


def test_a_request_without_a_host_is_forwarded_without_saying_one() -> None:
    said = forwarded_lines(RequestFields(b""), b"unix", b"http", trusted=False)
    assert said == b"X-Forwarded-For: unix\r\nX-Forwarded-Proto: http\r\n"


def made(block: bytes, peer: bytes = b"9.9.9.9") -> Request:
    return Request(b"GET", b"/", 11, block, RequestFields(block), peer, False)


def test_what_only_proxies_say_is_looked_for_in_what_backends_are_told() -> None:
    asked = made(FOREIGN + b"X-Own: 1\r\n")
    assert told(asked, b"x-real-ip", None) is None
    assert told(asked, b"x-forwarded-for", None) == b"9.9.9.9"
    assert told(asked, b"x-forwarded-proto", None) == b"http"
    assert told(asked, b"x-real-ip", lambda peer: peer == b"9.9.9.9") == b"1.1.1.1"
    assert told(asked, b"x-own", None) == b"1"


def test_no_client_tells_of_its_own_certificate() -> None:
    asked = made(b"Host: h\r\nX-Client-Cert-Subject: CN=forged\r\n")
    assert told(asked, b"x-client-cert-subject", None) is None
    asked.fields = asked.fields.with_certificate(b"X-Client-Cert-Subject: CN=ann\r\n")
    assert told(asked, b"x-client-cert-subject", None) == b"CN=ann"
    assert key_field(asked, b"x-client-cert-subject") == b"CN=ann"
    assert key_field(made(b"X-Client-Cert-Subject: CN=forged\r\n"), b"x-client-cert-subject") is None
    assert key_field(made(FOREIGN), b"x-forwarded-for") == b"1.1.1.1"


@pytest.mark.parametrize("hop", [b"192.0.2.1", b"192.0.2.1:50123", b"::ffff:192.0.2.1", b"[::FFFF:192.0.2.1]:443"])
def test_a_client_is_one_however_its_proxy_writes_it(hop: bytes) -> None:
    asked = made(b"Host: h\r\nX-Forwarded-For: 6.6.6.6, %b\r\n" % hop)
    assert client_address(asked, lambda peer: peer == b"9.9.9.9") == b"192.0.2.1"


def test_ipv6_stays_and_loses_only_what_is_around_it() -> None:
    assert [plain_address(text) for text in (b"2001:db8::1", b"[2001:db8::1]:443", b"unknown")] == [
        b"2001:db8::1",
        b"2001:db8::1",
        b"unknown",
    ]


def test_of_addresses_without_end_the_last_are_read() -> None:
    asked = made(b"Host: h\r\nX-Forwarded-For: 6.6.6.6, %b\r\n" % b", ".join([b"10.0.0.1"] * 5000))
    seen: list[bytes] = []
    assert client_address(asked, lambda peer: not seen.append(peer)) == b"10.0.0.1"  # type: ignore[func-returns-value]
    assert len(seen) == MOST_HOPS + 1


def standard(block: bytes, *, trusted: bool = True, peer: bytes = b"9.9.9.9") -> list[bytes]:
    """What a backend is told by Forwarded where that is sent."""
    said = forwarded_lines(RequestFields(b"Host: h\r\n" + block), peer, b"http", trusted, standard=True)
    return [line[11:] for line in said.split(b"\r\n") if line.startswith(b"Forwarded: ")]


OURS = b'for=9.9.9.9;host="h";proto=http'


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (b"", [OURS]),
        (b"X-Forwarded-For: 192.0.2.43\r\n", [b"for=192.0.2.43, " + OURS]),
        (
            b"X-Forwarded-For: 192.0.2.43, 2001:db8:cafe::17\r\nX-Forwarded-For: [2001:db8::1]:443,10.0.0.1:80\r\n",
            [b'for=192.0.2.43, for="[2001:db8:cafe::17]", for="[2001:db8::1]", for=10.0.0.1, ' + OURS],
        ),
        (
            b"X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: shop.test:8443\r\n",
            [b'for=1.1.1.1;host="shop.test:8443";proto=https, for=2.2.2.2, ' + OURS],
        ),
        (b"X-Forwarded-Proto: https, http\r\n", [b"for=unknown;proto=https, " + OURS]),
        (b'X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: a;b\r\nX-Forwarded-Host: a"b\r\n', [b"for=1.1.1.1, " + OURS]),
        (b'X-Forwarded-For: "x";by=y, evil, 1.1.1.1\r\n', [b"for=unknown, for=unknown, for=1.1.1.1, " + OURS]),
        (b"X-Forwarded-For: , \r\n", [OURS]),
        (b"Forwarded: for=1.1.1.1;proto=https\r\n", [b"for=1.1.1.1;proto=https", OURS]),
        (b"Forwarded: for=_x, FOR=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\n", [b"for=_x, FOR=1.1.1.1", OURS]),
        (b'Forwarded: for="[2001:db8::1]:4"\r\nX-Forwarded-For: 2001:db8::1\r\n', [b'for="[2001:db8::1]:4"', OURS]),
        (b"Forwarded: for=6.6.6.6;proto=https\r\nX-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n", [b"for=6.6.6.6, for=1.1.1.1, " + OURS]),
        (b"Forwarded: nonsense\r\nX-Forwarded-For: 1.1.1.1\r\n", [b"for=1.1.1.1, " + OURS]),
    ],
)
def test_what_a_trusted_proxy_says_by_the_older_fields_is_said_by_the_standards_too(block: bytes, said: list[bytes]) -> None:
    """Regression: Forwarded named the proxy alone, and its scheme. Of a stranger nothing is told."""
    assert standard(block) == said
    assert standard(block, trusted=False) == [OURS]


def test_a_chain_without_end_is_said_by_its_last_hops() -> None:
    (line,) = standard(b"X-Forwarded-For: %b\r\n" % b", ".join([b"10.0.0.1"] * 5000))
    assert line.count(b"for=") == MOST_HOPS + 1


def test_what_is_no_address_is_no_part_of_the_standards_field() -> None:
    assert standard(b"", peer=b"unix") == [b'for=_unix;host="h";proto=http']
    assert standard(b"", peer=b"::1") == [b'for="[::1]";host="h";proto=http']
    assert standard(b"X-Forwarded-For: 1.1.1.1;by=\x00\r\n")[0].startswith(b"for=unknown, ")
