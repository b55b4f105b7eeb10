from __future__ import annotations

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.discovery.etcd_values import (
    EtcdRefusal,
    Event,
    KeyValue,
    encoded,
    event,
    key_value,
    keys,
    parsed,
    prefix_end,
    refusal,
    txn,
)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        ("/s/", b"/s0"),
        ("a", b"b"),
        ("a\udcff", b"b"),  # a byte that has none after it
        ("\udcff\udcff", b"\0"),
        ("", b"\0"),
        ("é", b"\xc3\xaa"),
    ],
)
def test_a_prefix_ends_where_its_last_byte_is_one_more(prefix: str, end: bytes) -> None:
    assert prefix_end(prefix) == end


@given(st.binary(min_size=1, max_size=8), st.binary(max_size=4))
def test_all_keys_with_a_prefix_are_in_its_range_and_no_others(prefix: bytes, rest: bytes) -> None:
    end = prefix_end(prefix.decode("utf-8", "surrogateescape"))
    assert prefix <= prefix + rest
    assert end == b"\0" or prefix + rest < end  # \0 as an end is etcd's "to the last key"
    assert end == b"\0" or not end.startswith(prefix)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_key_and_come_back(raw: bytes) -> None:
    key = raw.decode("utf-8", "surrogateescape")
    assert key_value({"key": encoded(key)}).key == key


def test_what_is_zero_or_empty_is_left_out_by_etcd() -> None:
    assert key_value({}) == KeyValue("", b"", 0, 0, 0, 0)
    assert event({"kv": {"key": encoded("/a"), "mod_revision": "9"}}) == Event("put", "/a", b"", 9)
    assert event({"type": "DELETE", "kv": {"key": encoded("/a"), "mod_revision": "9"}}).kind == "delete"


def test_numbers_above_53_bits_are_read_whole() -> None:
    assert key_value({"mod_revision": "9007199254740993", "lease": "7587848388426219010"}).lease == 7587848388426219010


def test_one_key_or_all_with_a_prefix() -> None:
    assert keys("/a", prefix=False) == {"key": encoded("/a")}
    assert {name: b64decode(value) for name, value in keys("/a", prefix=True).items()} == {"key": b"/a", "range_end": b"/b"}
    assert {name: b64decode(value) for name, value in keys("", prefix=True).items()} == {"key": b"\0", "range_end": b"\0"}


def test_a_transaction_has_an_answer_for_each_operation() -> None:
    found = txn(
        {
            "header": {"revision": "4"},
            "succeeded": True,
            "responses": [{"response_put": {}}, {"response_range": {"kvs": [{"key": encoded("/a")}]}}, {"response_range": {}}],
        }
    )
    assert (found.succeeded, found.revision) == (True, 4)
    assert [[pair.key for pair in response] for response in found.responses] == [[], ["/a"], []]
    assert not txn({"header": {}}).succeeded


@pytest.mark.parametrize(
    ("status", "body", "code", "text", "retriable"),
    [
        (503, b'{"error":"etcdserver: no leader","code":14}', 14, "no leader", True),
        (504, b'{"message":"context deadline exceeded","code":4}', 4, "context deadline exceeded", True),
        (429, b'{"error":"etcdserver: too many requests","code":8}', 8, "too many requests", True),
        (429, b'{"error":"etcdserver: mvcc: database space exceeded","code":8}', 8, "mvcc: database space exceeded", False),
        (403, b'{"error":"etcdserver: permission denied","code":7}', 7, "permission denied", False),
        (400, b'{"error":"etcdserver: request is too large","code":3}', 3, "request is too large", False),
        (404, b"404 page not found\n", 5, "there is no etcd API v3 (etcd 3.4 or newer has it)", False),
        (502, b"<html>Bad Gateway</html>", 14, "it answered with status 502", True),
        (301, b"", 3, "it answered with status 301", False),
        (500, b"[]", 14, "it answered with status 500", True),
        (500, b"{}", 14, "it answered with status 500", True),
        (401, b"no", 16, "it answered with status 401: no", False),
    ],
)
def test_a_refusal_says_whether_it_may_be_asked_again(status: int, body: bytes, code: int, text: str, retriable: bool) -> None:
    found = refusal(status, body)
    assert (found.code, found.text, found.is_retriable) == (code, text, retriable)


@pytest.mark.parametrize(
    ("found", "wants"),
    [
        (EtcdRefusal(16, "invalid auth token"), True),
        (EtcdRefusal(3, "user name is empty"), True),
        (EtcdRefusal(3, "revision of auth store is old"), True),
        (EtcdRefusal(3, "authentication failed, invalid user ID or password"), False),
        (EtcdRefusal(7, "permission denied"), False),
    ],
)
def test_a_new_token_helps_against_some(found: EtcdRefusal, wants: bool) -> None:
    assert found.wants_token == wants


def test_only_an_object_is_an_answer() -> None:
    for body in (b"[]", b"7", b"", b"\xff"):
        with pytest.raises(ValueError):
            parsed(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"CommonName of client will be ignored\n", ": CommonName of client will be ignored"),
        (b"<html>\n<h1>Bad request</h1>", ""),
        (b"\x1b[31m", ": \\u001b[31m"),
        (b"", ""),
        (b"x" * 1000, f": {'x' * 200}"),
    ],
)
def test_a_refusal_in_plain_words_is_told(body: bytes, said: str) -> None:
    assert refusal(400, body).text == f"it answered with status 400{said}"
