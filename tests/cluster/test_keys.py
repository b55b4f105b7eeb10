"""The names of a cluster's keys."""

from __future__ import annotations

from smartedge.cluster.keys import Keys, unquoted


def test_every_key_lies_below_the_prefix_and_a_name_is_one_part_of_it() -> None:
    keys = Keys("/prod")
    found = [
        keys.config,
        keys.secrets,
        keys.secrets_fresh,
        keys.node("a/b%"),
        keys.answer("1", "é"),
        keys.proposal("1"),
        keys.will,
    ]
    assert all(key.startswith(keys.all) for key in found)
    assert keys.node("a/b%") == "/prod/nodes/a%2Fb%25"
    assert unquoted("a%2Fb%25") == "a/b%"
