"""Header fields set, added, removed: bytes in, bytes out, order and repetition of all others kept."""

from __future__ import annotations

from typing import NoReturn

from smartedge.http.headers import RequestFields
from smartedge.proxy.header_edits import EditValues, HeaderEdits

BLOCK = b"Host: a\r\nX-A: 1\r\nAccept: */*\r\nx-a:2\r\nX-B: \xe9\r\n"
VALUES = EditValues(b"shop.example:8080", b"192.0.2.1", b"id-7", b"web")


def nobody_asks() -> NoReturn:
    raise AssertionError("no field names a value")


def test_a_field_is_set_in_place_of_all_of_its_name() -> None:
    edits = HeaderEdits(set_fields=[("X-A", "3")])
    assert edits.edit_block(BLOCK, nobody_asks) == b"Host: a\r\nAccept: */*\r\nX-B: \xe9\r\nX-A: 3\r\n"


def test_a_field_is_added_beside_those_of_its_name() -> None:
    edits = HeaderEdits(add_fields=[("X-A", "3"), ("X-C", "\xe9")])
    assert edits.edit_block(BLOCK, nobody_asks) == BLOCK + b"X-A: 3\r\nX-C: \xe9\r\n"


def test_fields_are_removed_in_any_case() -> None:
    edits = HeaderEdits(remove_fields=["X-a", "none"])
    assert edits.edit_block(BLOCK, nobody_asks) == b"Host: a\r\nAccept: */*\r\nX-B: \xe9\r\n"


def test_all_three_at_once_and_a_removed_one_may_be_added_again() -> None:
    edits = HeaderEdits([("X-B", "b")], [("X-A", "new")], ["X-A"])
    assert edits.edit_block(BLOCK, nobody_asks) == b"Host: a\r\nAccept: */*\r\nX-B: b\r\nX-A: new\r\n"


def test_values_name_what_is_known_of_the_request() -> None:
    edits = HeaderEdits(set_fields=[("X-All", "{host} {client} {request_id} {service}"), ("X-Json", '{"a": {"b": "{client}"}}')])
    assert edits.edit_block(b"", lambda: VALUES) == (
        b'X-All: shop.example:8080 192.0.2.1 id-7 web\r\nX-Json: {"a": {"b": "192.0.2.1"}}\r\n'
    )


def test_of_a_request_what_a_backend_folds_to_the_same_name_goes_too_and_what_proxies_said() -> None:
    fields = RequestFields(b"Host: a\r\nX_User: forged\r\nx-user: forged\r\nX-Real-Ip: 1.1.1.1\r\nX-Forwarded-Port: 80\r\n")
    edits = HeaderEdits([("X-User", "ann"), ("X-Real-IP", "{client}")], [("X-More", "1")])
    edited = edits.edit_request(fields, lambda: VALUES)
    assert edited.block == b"Host: a\r\nX-User: ann\r\nX-Real-IP: 192.0.2.1\r\nX-More: 1\r\n"
    assert edited.forwarded == ((b"x-forwarded-port", b"X-Forwarded-Port: 80\r\n"),)
    assert HeaderEdits(add_fields=[("X-A", "1")]).edit_request(fields, nobody_asks).block == fields.block + b"X-A: 1\r\n"
