"""What a backend is told of the client: a stranger's word is replaced, a trusted proxy's kept and extended."""

from __future__ import annotations

from smartedge.http.forwarded import forwarded_lines
from smartedge.http.headers import RequestFields

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
