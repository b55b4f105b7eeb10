"""Header fields on their way through, against a slow and obvious reference that looks at one field after the other."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smartedge.http.answer_fields import keep_alive_s, read_answer_fields, retry_after
from smartedge.http.date import http_date
from smartedge.http.forwarded import forwarded_lines
from smartedge.http.headers import HOST, REQUEST_ID, RequestFields, last_chunk, pairs_of, tokens, without_length

# ---- the reference ----

Lines = list[tuple[str, str, str]]
"""Fields as (name, value, what stands between colon and value)."""

ENDS_HERE = {"connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"}
SAYS_OF_ITS_CLIENT = {"forwarded", "x-real-ip"} | {
    f"x-forwarded-{what}" for what in ("for", "host", "proto", "port", "server", "prefix", "ssl", "scheme", "by")
}
NOT_FOR_CONNECTION_TO_NAME = SAYS_OF_ITS_CLIENT | {"host", "content-length", "transfer-encoding", "via", "x-request-id"}


def nominated(lines: Lines) -> set[str]:
    named = {token.strip(" \t").lower() for name, value, _ in lines if name.lower() == "connection" for token in value.split(",")}
    return named - NOT_FOR_CONNECTION_TO_NAME


def goes_on_in_a_request(name: str, lines: Lines) -> bool:
    low = name.lower()
    if low in ENDS_HERE or low in nominated(lines) or low in SAYS_OF_ITS_CLIENT:
        return False
    if low in ("expect", "proxy-authorization", "x-request-id"):
        return False
    return "_" not in low or low.replace("_", "-") not in NOT_FOR_CONNECTION_TO_NAME


def goes_on_in_an_answer(name: str, lines: Lines) -> bool:
    return name.lower() not in ENDS_HERE | nominated(lines)


def raw(lines: Lines) -> bytes:
    return "".join(f"{name}:{space}{value}\r\n" for name, value, space in lines).encode("latin-1")


def values(name: str, lines: Lines) -> list[bytes]:
    return [value.strip(" \t").encode("latin-1") for found, value, _ in lines if found.lower() == name]


# ---- what it is fed with ----

PLAIN = ["accept", "cookie", "set-cookie", "x", "x-a", "x-forwarded", "hosts", "authorization", "content-type", "x-host", "date"]
NAMES = sorted(ENDS_HERE | NOT_FOR_CONNECTION_TO_NAME | {"expect", "proxy-authorization"}) + PLAIN
TOKEN_BYTES = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
VALUE_BYTES = "".join(map(chr, [9, *range(32, 127), *range(128, 256)]))


def spellings(name: str) -> list[str]:
    """Different cases, and the underscores that CGI and WSGI make of hyphens: all of them, and the first."""
    mixed = "".join(c.upper() if i % 3 else c for i, c in enumerate(name))
    return [name, name, name.title(), name.upper(), mixed, name.replace("-", "_"), mixed.replace("-", "_", 1)]


field_names = st.sampled_from([spelling for name in NAMES for spelling in spellings(name)]) | st.text(
    TOKEN_BYTES, min_size=1, max_size=8
)
spaces = st.sampled_from(["", " ", "\t", "  "])
some_values = st.sampled_from(["", "1", "a, b", "a:b", "Host: evil", '"quoted"', "\xff\x80", "x" * 200]) | st.text(
    VALUE_BYTES, max_size=8
)
options = st.sampled_from(["close", "keep-alive", "Upgrade", "TE", ""]) | field_names
connections = st.tuples(st.sampled_from([",", ", ", " ,\t", ",,"]), st.lists(options, max_size=4)).map(lambda v: v[0].join(v[1]))


@st.composite
def fields(draw: st.DrawFn) -> Lines:
    lines: Lines = []
    for name in draw(st.lists(field_names, max_size=8)):
        if name.lower() == "connection":
            value = draw(connections)
        elif name.lower() == "content-length":
            value = str(draw(st.integers(0, 2**63)))
        else:
            value = draw(some_values)
        lines.append((name, value.strip(" \t"), draw(spaces)))
    if lines and draw(st.booleans()):
        lines.append(draw(st.sampled_from(lines)))
    # `Close` is reserved as a field name because it is an option of Connection: nobody has one (RFC 9110 section 9.6).
    # Trailer, of which goes on what the edge can keep, has tests of its own.
    return [line for line in lines if line[0].lower() not in ("close", "trailer")]


@given(fields())
@example([("Host", "a", " "), ("Connection", "Host, Content-Length, X-Forwarded-For, Via, X-A", " "), ("x-a", "1", " ")])
@example([("HOST", "a", ""), ("X_Forwarded_For", "evil", " "), ("Content_Length", "5", " "), ("X_A", "stays", " ")])
@example([("X-A", "host: evil", " "), ("Host", "a", " ")])
def test_what_goes_on_of_a_request_is_what_the_reference_keeps_byte_for_byte(lines: Lines) -> None:
    found = RequestFields(raw(lines))
    assert found.block == raw([line for line in lines if goes_on_in_a_request(line[0], lines)])


@given(fields())
@example([("Transfer-Encoding", "gzip", " "), ("transfer-encoding", "chunked", " ")])
def test_what_the_edge_must_know_of_a_request_is_what_the_reference_reads(lines: Lines) -> None:
    found = RequestFields(raw(lines))
    assert found.hosts == len(values("host", lines))
    assert found.host == (values("host", lines) or [None])[-1]
    assert found.content_length == (values("content-length", lines) or [None])[-1]
    assert found.expect == (values("expect", lines) or [None])[-1]
    codings = values("transfer-encoding", lines)
    assert found.transfer_encoding == (b",".join(codings) if codings else None)
    offers = values("upgrade", lines)
    assert found.upgrade == (b", ".join(offers) if offers else None)
    said = set().union(*(tokens(value) for value in values("connection", lines)))
    assert tokens(found.connection) - {b""} == said - {b""}
    assert found.persists == (False if b"close" in said else True if b"keep-alive" in said else None)
    assert [line for _, line in found.forwarded or []] == raw(
        [line for line in lines if line[0].lower() in SAYS_OF_ITS_CLIENT]
    ).splitlines(True)


@given(fields())
@example([("connection", "keep-alive", " "), ("Set-Cookie", "a", " "), ("set-cookie", "b", "")])
@example([("Keep-Alive", "timeout=5", " "), ("Connection", "keep-alive, X-A", " "), ("X-a", "1", " ")])
@example([("X-A", "\xff", ""), ("CONNECTION", "close", ""), ("X_A", "", "")])
def test_what_goes_on_of_an_answer_is_what_the_reference_keeps_byte_for_byte(lines: Lines) -> None:
    found = read_answer_fields(raw(lines))
    assert found.block == raw([line for line in lines if goes_on_in_an_answer(line[0], lines)])
    assert found.dated == any(line[0].lower() == "date" for line in lines)
    lengths = values("content-length", lines)
    assert found.content_length == (int(lengths[-1]) if lengths else None)
    codings = values("transfer-encoding", lines)
    assert found.chunked == (b",".join(codings).lower() if codings else None)
    connection = b",".join(values("connection", lines)).lower()
    assert found.persists == (False if b"close" in connection else True if b"keep-alive" in connection else None)


# ---- what the reference leaves to be said one by one ----


@pytest.mark.parametrize("name", sorted(NOT_FOR_CONNECTION_TO_NAME - SAYS_OF_ITS_CLIENT - {"transfer-encoding", "x-request-id"}))
def test_connection_cannot_strip_what_routing_and_framing_rest_on(name: str) -> None:
    line = f"{name.title()}: 1\r\n".encode()
    found = RequestFields(line + f"Connection: close, {name}\r\nX: y\r\n".encode())
    assert found.block == line + b"X: y\r\n"


def test_connection_cannot_strip_what_a_trusted_proxy_says_of_its_client() -> None:
    found = RequestFields(b"Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: X-Forwarded-For, X-Forwarded-Proto\r\n")
    assert forwarded_lines(found, b"10.0.0.1", b"http", trusted=True).startswith(b"X-Forwarded-For: 1.2.3.4, 10.0.0.1\r\n")


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"x-forwarded_for", b"CONTENT_LENGTH", b"Transfer_Encoding", b"X_Real-IP"])
def test_a_name_that_a_backend_could_take_for_one_of_ours_is_dropped(name: bytes) -> None:
    found = RequestFields(b"Host: a\r\n%b: 1\r\n" % name)
    assert found.block == b"Host: a\r\n"
    assert found.content_length is found.transfer_encoding is found.forwarded is None


@pytest.mark.parametrize("name", [b"X_A", b"_", b"User_Agent", b"Keep_Alive", b"Set_Cookie"])
def test_other_names_with_an_underscore_go_on(name: bytes) -> None:
    block = b"Host: a\r\n%b: 1\r\n" % name
    assert RequestFields(block).block == block


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        (b"abc-1.2_3~4+5/6=7:8@9", True),
        (b"a" * 128, True),
        (b"a" * 129, False),
        (b"", False),
        (b"-starts-with-a-hyphen", False),
        (b"two words", False),
        (b'"quoted"', False),
        (b"caf\xe9", False),
        (b"a;b", False),
        (b"{}", False),
    ],
)
def test_a_request_id_is_taken_when_it_is_safe_in_logs_and_documents(said: bytes, taken: bool) -> None:
    found = RequestFields(b"Host: a\r\nX-Request-ID: %b\r\n" % said)
    assert found.request_id == (said if taken else None)
    assert found.block == b"Host: a\r\n"
    assert (REQUEST_ID.fullmatch(said) is not None) == taken


@pytest.mark.parametrize("host", [b"a", b"a.b:80", b"[::1]", b"[::1]:8080", b"a:", b"127.0.0.1", b"a_b", b"%C3%A9.test"])
def test_a_host_is_a_host(host: bytes) -> None:
    assert HOST.fullmatch(host)


@pytest.mark.parametrize(
    "host", [b"", b"a b", b"a/b", b"u@a", b"a,b", b"a:b", b"a:123456", b"[::1", b"a?", b"a#", b"\xff", b"a\n"]
)
def test_what_is_no_host_is_not_taken_for_one(host: bytes) -> None:
    assert not HOST.fullmatch(host)


# Host, of an absolute target.


def test_the_authority_of_an_absolute_target_takes_the_place_of_host() -> None:
    found = RequestFields(b"X: host: no\r\nhOST: old\r\nHosts: 1\r\n")
    assert found.without(b"host") == b"X: host: no\r\nHosts: 1\r\n"
    found = found.with_host(b"new:8080")
    assert (found.block, found.host) == (b"Host: new:8080\r\nX: host: no\r\nHosts: 1\r\n", b"new:8080")


@given(fields(), st.booleans())
def test_whatever_the_client_says_one_x_forwarded_for_ends_with_its_address(lines: Lines, trusted: bool) -> None:
    said = pairs_of(forwarded_lines(RequestFields(raw(lines)), b"9.9.9.9", b"http", trusted))
    chains = [value for name, value in said if name.lower() == "x-forwarded-for"]
    assert len(chains) == 1
    assert chains[0].split(", ")[-1] == "9.9.9.9"
    if not trusted:
        assert [name for name, _ in said] in (
            ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"],
            ["X-Forwarded-For", "X-Forwarded-Proto"],
        )


# Small readers.


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, None),
        (b"", None),
        (b"max=100", None),
        (b"timeout", None),
        (b"timeout=", None),
        (b"timeout=-5", None),
        (b"timeout=five", None),
        (b"timeout=5", 5.0),
        (b"max=100, Timeout = 15", 15.0),
        (b'timeout="7"', 7.0),
        (b"timeout=0", 0.0),
        (b"timeout=5.9", 5.0),
    ],
)
def test_a_backends_keep_alive_is_read(said: bytes | None, seconds: float | None) -> None:
    assert keep_alive_s(said) == seconds


@given(st.binary(max_size=60) | st.integers(0).map(lambda n: b"timeout=%d" % n))
@example(b"timeout=" + b"9" * 5000)
def test_whatever_a_backend_says_of_its_keep_alive_is_a_bounded_time_or_nothing(said: bytes) -> None:
    seconds = keep_alive_s(said)
    assert seconds is None or 0 <= seconds < 1e6


@given(st.lists(st.text("ab -\t", max_size=6), max_size=5))
def test_tokens_are_a_lists_members_in_lower_case(members: list[str]) -> None:
    said = ",".join(member.upper() for member in members).encode()
    assert tokens(said) == ({member.strip(" \t").encode() for member in members} if said else set())
    assert tokens(None) == set()


@given(fields())
def test_pairs_are_the_fields_as_text(lines: Lines) -> None:
    assert pairs_of(raw(lines)) == [(name, value.strip(" \t")) for name, value, _ in lines]


@pytest.mark.parametrize(
    ("peer", "node"), [(b"192.0.2.7", b"192.0.2.7"), (b"2001:db8::7", b'"[2001:db8::7]"')], ids=["IPv4", "IPv6"]
)
def test_the_standards_forwarded_is_sent_besides_when_it_is_asked_for(peer: bytes, node: bytes) -> None:
    fields = RequestFields(b"Host: example.com:8080\r\nForwarded: for=10.0.0.1\r\n")
    ours = b'Forwarded: for=%b;host="example.com:8080";proto=https\r\n' % node
    assert forwarded_lines(fields, peer, b"https", False, True).endswith(b"X-Forwarded-Proto: https\r\n" + ours)
    assert b"Forwarded: for=10.0.0.1\r\n" + ours in forwarded_lines(fields, peer, b"https", True, True)
    assert b"\r\nForwarded:" not in forwarded_lines(fields, peer, b"https", False)


def test_trailers_end_a_chunked_body_in_their_order() -> None:
    assert last_chunk() == b"0\r\n\r\n"
    assert last_chunk([(b"X-Sum", b"a"), (b"X-Sum", b"b"), (b"Server-Timing", b"c;dur=1")]) == (
        b"0\r\nX-Sum: a\r\nX-Sum: b\r\nServer-Timing: c;dur=1\r\n\r\n"
    )


@pytest.mark.parametrize(
    "name",
    b"Host Content-Length content_length Transfer-Encoding Connection TE Trailer Content-Type Content-Encoding If-Match Range"
    b" Authorization Cookie Set-Cookie X-Forwarded-For X_FORWARDED_FOR Forwarded X-Request-Id Via Expect".split(),
)
def test_no_trailer_says_what_only_a_header_may(name: bytes) -> None:
    """A backend that reads trailers into its header fields would believe it (RFC 9110 section 6.5.1)."""
    assert last_chunk([(name, b"x"), (b"X-Kept", b"1")]) == b"0\r\nX-Kept: 1\r\n\r\n"


def test_a_length_is_taken_out_of_a_block_that_may_not_have_one() -> None:
    assert without_length(b"Link: </a>\r\ncontent-LENGTH: 5\r\nX: y\r\n") == b"Link: </a>\r\nX: y\r\n"


def test_the_date_is_an_imf_fixdate() -> None:
    assert re.fullmatch(rb"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", http_date())


@pytest.mark.parametrize(
    ("block", "seconds"),
    [
        (b"Retry-After: 7\r\n", 7.0),
        (b"X: y\r\nretry-after:  12 \r\nZ: 1\r\n", 12.0),
        (b"Retry-After: 999999\r\n", 999_999.0),
        (b"Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", None),
        (b"X-Retry-After: 7\r\n", None),
        (b"", None),
    ],
)
def test_retry_after_is_read_in_seconds(block: bytes, seconds: float | None) -> None:
    assert retry_after(read_answer_fields(block)) == seconds
