"""When etcd has lost something of what a node holds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from smartedge.cluster.put_back import is_lost
from smartedge.cluster.stored import Stored
from smartedge.cluster.view import View

ONE = Stored(5, "text", "one", 0.0, "nonce", "id")


@pytest.mark.parametrize(
    ("held", "found", "expected"),
    [
        (View(9, ONE), View(9, ONE), False),
        (View(9, ONE), View(10, replace(ONE, generation=6)), False),
        (View(9, ONE), View(8, ONE), True),  # nothing of the configuration, but perhaps of the will
        (View(0, ONE), View(8, ONE), False),  # a copy of unknown age
        (View(0, ONE), View(8, replace(ONE, generation=4)), True),
        (View(9, ONE), View(20, replace(ONE, generation=4)), True),
        (View(9, ONE), View(1, None), True),
        (View(9, ONE), View(1, replace(ONE, id="another")), False),  # a cluster that was begun anew
        (View(9, None), View(1, None), False),
        (View(), View(1, ONE), False),
    ],
)
def test_is_seen_by_generation_and_revision(held: View, found: View, expected: bool) -> None:
    assert is_lost(held, found) is expected
