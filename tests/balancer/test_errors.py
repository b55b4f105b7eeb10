from __future__ import annotations

import pytest

from smartedge.balancer import errors


def tree(root: type[errors.EdgeError]) -> list[type[errors.EdgeError]]:
    """All kinds that this module defines; other parts derive kinds of their own."""
    children = [child for child in root.__subclasses__() if child.__module__ == errors.__name__]
    return [root, *(error for child in children for error in tree(child))]


@pytest.mark.parametrize("kind", tree(errors.EdgeError))
def test_every_error_says_status_title_and_blame_and_keeps_its_detail(kind: type[errors.EdgeError]) -> None:
    has_own_words = kind is not errors.EdgeError and "__init__" in vars(kind)
    error = kind() if has_own_words else kind("what happened", retry_after_s=3.0)  # type: ignore[call-arg]
    assert 400 <= error.status <= 599
    assert error.title
    assert error.blame in ("client", "backend", "edge")
    assert error.detail
    assert str(error) == error.detail
    if not has_own_words:
        assert (error.detail, error.retry_after_s) == ("what happened", 3.0)


def test_the_backend_may_have_acted_unless_nothing_reached_it() -> None:
    assert errors.BackendClosed("").sent
    assert not errors.ConnectFailed("").sent
    assert not errors.NoBackend("").sent


@pytest.mark.parametrize("sent", [True, False])
def test_whoever_raises_it_may_know_better_whether_the_backend_acted(sent: bool) -> None:
    assert errors.BackendError("", sent=sent).sent is sent
