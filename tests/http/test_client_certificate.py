"""What backends are told of a client's certificate, and that no client can say it himself."""

from __future__ import annotations

from hashlib import sha256

import pytest

from smartedge.http.client_certificate import certificate_lines, distinguished_name
from smartedge.http.forwarded import forwarded_lines
from smartedge.http.headers import RequestFields

LINES = b"X-Client-Cert-Subject: CN=alice\r\nX-Client-Cert-Fingerprint: aa\r\n"


def test_subject_and_fingerprint_are_header_fields() -> None:
    said = {"subject": ((("organizationName", "Shop, Inc."),), (("commonName", "alice"),))}
    digest = sha256(b"der").hexdigest().encode()
    assert certificate_lines((said, b"der")) == (
        b"X-Client-Cert-Subject: CN=alice,O=Shop\\, Inc.\r\nX-Client-Cert-Fingerprint: %b\r\n" % digest
    )
    assert certificate_lines(None) == b""


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), ""),
        (((("commonName", "a"), ("userId", "7")),), "CN=a+UID=7"),
        (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
        (((("commonName", 'a,b+c"d\\e<f>g;h=i'),),), 'CN=a\\,b\\+c\\"d\\\\e\\<f\\>g\\;h\\=i'),
        (((("commonName", "#a "),),), "CN=\\#a\\ "),
        (((("commonName", "Zoë"),),), "CN=Zo\\C3\\AB"),
        (((("commonName", "a\r\nX-Admin: 1\0"),),), "CN=a\\0D\\0AX-Admin: 1\\00"),
    ],
)
def test_a_name_is_written_as_rfc_4514_has_it_and_breaks_no_line(parts: object, text: str) -> None:
    assert distinguished_name(parts) == text


@pytest.mark.parametrize("name", [b"X-Client-Cert-Subject", b"x-client-cert-fingerprint", b"X_Client_Cert_Subject"])
@pytest.mark.parametrize("trusted", [False, True])
def test_what_a_client_says_itself_goes_on_from_trusted_proxies_alone(name: bytes, trusted: bool) -> None:
    fields = RequestFields(b"Host: h\r\n%b: CN=root\r\n" % name)
    whole = fields.block + forwarded_lines(fields, b"1.2.3.4", b"https", trusted)
    assert (b"CN=root" in whole) is (trusted and b"_" not in name)


def test_our_own_word_stands_alone_also_behind_a_trusted_proxy() -> None:
    came = RequestFields(b"Host: h\r\nX-Client-Cert-Subject: CN=root\r\nX-Forwarded-For: 5.6.7.8\r\n")
    fields = came.with_certificate(LINES)
    whole = fields.block + forwarded_lines(fields, b"1.2.3.4", b"https", True)
    assert LINES in whole
    assert b"CN=root" not in whole
    assert b"5.6.7.8" in whole


def test_connection_cannot_have_it_removed() -> None:
    fields = RequestFields(b"Host: h\r\nConnection: X-Client-Cert-Subject\r\n").with_certificate(LINES)
    assert LINES in fields.block
