"""What the operator wrote of a backend."""

from __future__ import annotations

import dataclasses

import pytest

from tests.house import backend
from tests.policies import backend_spec


def test_what_the_operator_wrote_cannot_be_changed() -> None:
    spec = backend_spec(id="a", url="http://a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.weight = 3  # type: ignore[misc]


def test_a_backend_is_known_by_id_and_url_together() -> None:
    keys = {backend_spec(id=i, url=u).key for i in ("a", "b") for u in ("http://a", "http://b")}
    assert len(keys) == 4
    assert backend("a").key == backend_spec(id="a", url="http://a:80", weight=9).key
    assert "a http://a:80" in repr(backend("a"))
