"""Which backend an operator means by SERVICE/ID, or by the ID alone."""

from __future__ import annotations

import pytest

from smartedge.admin.named import AmbiguousBackend, UnknownBackend, UnknownService, find_backend
from tests.admin.small_edge import SmallEdge


@pytest.mark.parametrize(
    ("said", "service", "name"),
    [
        ("b2", None, "web/b2"),
        ("web/b2", None, "web/b2"),
        ("web/b1", None, "web/b1"),
        ("api/10.0.0.5", None, "api/10.0.0.5"),
        ("b1", "web", "web/b1"),
        ("b1", "api", "api/b1"),
    ],
)
def test_a_backend_is_found_by_service_and_id_or_by_an_id_that_only_one_service_has(
    services: SmallEdge, said: str, service: str | None, name: str
) -> None:
    found = find_backend(services, said, service)
    assert found.name == name
    assert [backend.spec.name for backend in found.backends] == [name]
    assert found.pool is services.services[found.service].pool


def test_an_id_alone_means_the_service_that_needs_no_name() -> None:
    found = find_backend(SmallEdge(), "b2")
    assert (found.service, found.name) == ("default", "b2")


@pytest.mark.parametrize(
    ("said", "service", "error", "text"),
    [
        ("b1", None, AmbiguousBackend, 'Several services have a backend "b1": say api/b1, web/b1.'),
        ("b9", None, UnknownBackend, 'There is no backend "b9". There are: api/b1, api/10.0.0.5, web/b1, web/b2.'),
        ("b2", "api", UnknownBackend, 'There is no backend "b2" in the service "api". There are: api/b1, api/10.0.0.5.'),
        ("b1", "shop", UnknownService, 'There is no service "shop". There are: api, web.'),
        ("api/b2", None, UnknownBackend, 'There is no backend "api/b2". There are: api/b1, api/10.0.0.5, web/b1, web/b2.'),
    ],
)
def test_what_means_none_or_several_is_told_with_what_there_is(
    services: SmallEdge, said: str, service: str | None, error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as raised:
        find_backend(services, said, service)
    assert raised.value.detail == text


def test_of_many_backends_the_first_are_named() -> None:
    many = SmallEdge(backends=[f"http://localhost:{port}" for port in range(8001, 8031)])
    with pytest.raises(UnknownBackend, match=r"localhost-8020 and 10 more\.$"):
        find_backend(many, "b9")


def test_a_backend_that_has_gone_since_is_said_to_have_gone(services: SmallEdge) -> None:
    found = find_backend(services, "b2")
    found.pool.replace_backends(found.pool.backends[:1], found.pool.strategy, "all")
    with pytest.raises(UnknownBackend, match=r'no backend "web/b2" any more'):
        _ = found.backends
