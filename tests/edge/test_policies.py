"""What the parts need of a configuration: each key arrives where it is to count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import Config, parse
from smartedge.edge import policies
from tests.house import backend, request

SECRET = b"a secret of 16 bytes"


def config(**keys: Any) -> Config:
    return parse(json.dumps({"backends": ["http://a"], **keys}))


@pytest.mark.parametrize(
    ("peer", "trusted"), [(b"10.1.2.3", True), (b"::ffff:10.1.2.3", True), (b"::1", True), (b"11.1.2.3", False), (b"unix", False)]
)
def test_whose_word_is_believed(peer: bytes, trusted: bool) -> None:
    is_trusted = policies.trust(config(trusted_proxies=["10.0.0.0/8", "::1/128"]))
    assert is_trusted is not None
    assert is_trusted(peer) is trusted


def test_nobodys_word_is_believed_unless_somebody_is_named() -> None:
    assert policies.trust(config()) is None


def test_no_try_lasts_longer_than_all_tries_may() -> None:
    limits = policies.backend_limits(config(timeouts={"connect_s": 9, "first_byte_s": 20}, retry={"deadline_s": 5}))
    assert (limits.connect_s, limits.first_byte_s) == (5, 5)
    limits = policies.backend_limits(config(timeouts={"connect_s": 9, "first_byte_s": 90}))
    assert (limits.connect_s, limits.first_byte_s) == (9, 90)


def test_a_service_treats_its_requests_as_it_is_written() -> None:
    written = config(limits={"queue": 3, "queue_s": 4}, timeouts={"idle_s": 5, "tunnel_idle_s": 6}, failure={"statuses": [500]})
    policy = policies.service_policy(written, None, None)
    assert (policy.queue, policy.queue_s, policy.idle_s, policy.tunnel_idle_s) == (3, 4, 5, 6)
    assert policy.failures == {500}
    assert (policy.affinity, policy.limiter) == (None, None)


@pytest.mark.parametrize("keys", [{}, {"strategy": "ewma", "hash": {"by": "path"}}])
def test_where_nobody_asks_what_a_request_is_known_by_nobody_finds_out(keys: dict[str, Any]) -> None:
    assert policies.affinity_of(config(**keys), None, (), []) is None


def test_consistent_hashing_knows_a_request_by_what_is_written() -> None:
    affinity = policies.affinity_of(config(strategy="consistent_hash", hash={"by": "path"}), None, (), [])
    assert affinity is not None
    assert affinity.read(request(target=b"/a?b")) == (b"/a", None, None)


@pytest.mark.parametrize(
    ("sticky", "secure"),
    [
        ({"cookie": "S"}, False),
        ({"cookie": "S", "same_site": "none"}, True),
        ({"cookie": "__Secure-S"}, True),
        ({"cookie": "S", "secure": True}, True),
    ],
)
def test_a_cookie_is_secure_where_browsers_ask_for_it(sticky: dict[str, Any], secure: bool) -> None:
    affinity = policies.affinity_of(config(sticky=sticky), None, [SECRET], ["a"])
    assert affinity is not None
    assert affinity.answer_lines(request(), backend("a"), None).endswith(b"; Secure\r\n") is secure
