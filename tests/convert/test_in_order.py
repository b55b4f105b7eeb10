"""Rules of which the first counts, made into routes: each request goes where the first rule that fits sends it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.config.routes import RouteConfig
from smartedge.convert.conditions import Where, covers, meet, written
from smartedge.convert.in_order import MOST, Rules, in_order, tidy
from smartedge.convert.words import NotReadable
from smartedge.edge.plain_routes import plain_table
from tests.house import request_for

HOSTS = ("a.example", "*.a.example", "b.a.example", "c.example")
PATHS = ("/x", "/x/y", "/x/y/z", "/admin")
REGEXES = ("[.]php$", "^/x", "^/x/y", "(?i)^/ADMIN", "^/(x|admin)/", "^/admin|[.]php$", "^(?:/x|/admin)")

WHERES = st.fixed_dictionaries(
    {},
    optional={
        "host": st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True),
        "path": st.sampled_from(PATHS),
        "path_regex": st.sampled_from(REGEXES),
        "method": st.lists(st.sampled_from(["GET", "PUT"]), min_size=1, max_size=2, unique=True),
        "header": st.dictionaries(
            st.sampled_from(["X-A", "x-a", "X-B"]), st.sampled_from(["1", "2", "~1", "~(?i)[12]$"]), max_size=1
        ),
        "client": st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24"]), min_size=1, max_size=2, unique=True),
    },
)
EXACT = st.builds(
    lambda where, path: {**{k: v for k, v in where.items() if k != "path"}, "path_exact": path}, WHERES, st.sampled_from(PATHS)
)


def table(routes: list[dict[str, Any]]) -> Any:
    return plain_table([RouteConfig.model_validate({"id": f"r{index}"} | route) for index, route in enumerate(routes)])


def asked(rng: Random) -> Any:
    fields = {name: rng.choice(["1", "2", "12"]) for name in ("X_A", "X_B") if rng.random() < 0.6}
    path = rng.choice(["/", "/x", "/x/", "/x/y", "/x/y/z", "/xy", "/admin", "/Admin", "/admin/a.php", "/x/y/a.php", "/x%2ephp"])
    peer = rng.choice(["10.1.2.3", "10.9.9.9", "192.0.2.9", "::1"])
    return request_for(
        path, rng.choice(["a.example", "b.a.example", "c.example", "d"]), rng.choice(["GET", "PUT"]), peer=peer, **fields
    )


@given(st.lists(WHERES | EXACT, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_request_goes_where_the_first_rule_that_fits_sends_it(wheres: list[Where], rng: Random) -> None:
    rules = [(where, {"to": f"s{index}"}) for index, where in enumerate([*wheres, {}])]
    made = table(in_order(rules))
    alone = [table([written(where) | what]) for where, what in rules]
    for _ in range(20):
        request = asked(rng)
        first = next(index for index, one in enumerate(alone) if one.find(request) is not None)
        found = made.find(request)
        assert found is not None
        assert found.to is not None
        assert found.to.only == f"s{first}"


@given(WHERES | EXACT, WHERES | EXACT, st.randoms(use_true_random=False))
def test_what_two_conditions_take_is_what_both_take(one: Where, other: Where, rng: Random) -> None:
    both = meet(one, other)
    tables = [table([written(where) | {"to": "s"}]) for where in (one, other)]
    together = None if both is None else table([written(both) | {"to": "s"}])
    for _ in range(20):
        request = asked(rng)
        first, second = (each.find(request) is not None for each in tables)
        assert (together is not None and together.find(request) is not None) == (first and second)
        assert not covers(one, other) or first or not second


def test_routes_are_added_only_where_a_later_rule_would_win() -> None:
    rules = [({"path": "/img"}, {"to": "a"}), ({"host": ["h.example"]}, {"to": "b"}), ({}, {"to": "c"})]
    assert in_order(rules) == [
        {"path": "/img", "to": "a"},
        {"host": "h.example", "path": "/img", "to": "a"},
        {"host": "h.example", "to": "b"},
        {"to": "c"},
    ]
    assert in_order([rules[1], rules[0], rules[2]]) == [
        {"host": "h.example", "to": "b"},
        {"path": "/img", "to": "a"},
        {"to": "c"},
    ]


def test_a_rule_that_no_request_comes_to_is_left_out() -> None:
    assert in_order(
        [({"path": "/a"}, {"to": "a"}), ({"path": "/a/b"}, {"to": "b"}), ({}, {"to": "c"}), ({"path": "/c"}, {"to": "d"})]
    ) == [
        {"path": "/a", "to": "a"},
        {"to": "c"},
    ]


def test_too_many_combinations_are_refused() -> None:
    first: Rules = [({"header": {f"X-{index}": "1"}}, {"to": f"s{index}"}) for index in range(5)]
    with pytest.raises(NotReadable, match="more combinations"):
        in_order([*first, *(({"host": [f"h{index}.example"]}, {"to": f"h{index}"}) for index in range(1500))])
    with pytest.raises(NotReadable, match="more combinations"):
        tidy([({"host": [f"h{index}.example"]}, {"to": "a"}) for index in range(MOST + 1)])
