"""What a configuration means, as a value: built whole or not at all, and taking over from the one before what still fits."""

from __future__ import annotations

import json
import logging
from dataclasses import FrozenInstanceError
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import pytest

from smartedge.balancer.cells import GAUGES, LAYOUT, ROW_CELLS
from smartedge.balancer.errors import TooManyRequests
from smartedge.balancer.spec import DEFAULT_SERVICE
from smartedge.balancer.strategies.menu import Adaptive, ConsistentHash, LeastRequests
from smartedge.config.model import ConfigError
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.setup import ClusterShare, ServiceSetup, Setup, follow_bound, own_via
from smartedge.proxy.affinity import Sticky
from smartedge.workers.membership import open_membership
from tests.house import request, setup_builder


class Broken:
    """A strategy that is made only so often."""

    left = 0

    def __init__(self) -> None:
        if Broken.left == 0:
            raise RuntimeError("no more")
        Broken.left -= 1

    def pick(self, candidates: Any, now: float, rng: Random, key: bytes) -> Any:
        return None


class Builder:
    """Builds one setup after another of one worker, which has no place among others."""

    def __init__(self) -> None:
        self.origin = ConfigOrigin(None, {})
        self.builder = setup_builder(self.origin)
        self.setup: Setup | None = None

    def build(self, **keys: Any) -> Setup:
        document = {"backends": ["http://localhost:8081", "http://localhost:8082"], **keys}
        self.setup = self.builder.build_setup(self.origin.parse_text(json.dumps(document).encode()), self.setup)
        return self.setup

    def service(self, **keys: Any) -> ServiceSetup:
        return self.build(**keys).services[DEFAULT_SERVICE]


def test_it_is_all_there_and_does_not_change() -> None:
    setup = Builder().build(limits={"queue": 7, "headers": 99}, forwarded_header=True, trusted_proxies=["10.0.0.0/8"])
    service = setup.services[DEFAULT_SERVICE]
    assert [backend.id for backend in service.backends] == ["localhost-8081", "localhost-8082"]
    assert (service.panic, service.policy.queue, service.policy.limiter) == ("all", 7, None)
    assert (setup.server_limits.headers, setup.hop.forwarded_header, setup.access_log) == (99, True, None)
    assert setup.hop.is_trusted is not None
    assert (setup.hop.is_trusted(b"10.1.2.3"), setup.hop.is_trusted(b"11.1.2.3"), setup.hop.is_trusted(b"unix")) == (
        True,
        False,
        False,
    )
    with pytest.raises(FrozenInstanceError):
        setup.hop = setup.hop  # type: ignore[misc]


def test_a_backend_that_is_the_same_keeps_its_connections_and_one_that_is_not_gets_others() -> None:
    builder = Builder()
    first = builder.service().backends
    second = builder.service(backends=["http://localhost:8082", "http://localhost:8083"], strategy="ewma").backends
    assert second[0].transport is first[1].transport
    third = builder.service(backends=["http://localhost:8082"], timeouts={"idle_s": 7}).backends
    assert third[0].transport is not first[1].transport


def test_a_backend_of_which_nothing_is_another_goes_on_as_the_same_object() -> None:
    """Of 500 of which 50 were others each was built anew, and had to be put to use."""
    builder = Builder()
    plain = {"url": "http://localhost:8081"}
    first = builder.service(backends=[plain, "http://localhost:8082"]).built
    second = builder.service(backends=[plain | {"weight": 2}, "http://localhost:8082", "http://localhost:8083"]).built
    assert second.backends[0] is not first.backends[0]
    assert second.backends[0].transport is first.backends[0].transport
    assert second.backends[1] is first.backends[1]
    assert second.fresh == (second.backends[0], second.backends[2])
    third = builder.service(backends=["http://localhost:8082"], health={"path": "/ready"}).built
    assert third.backends[0] is not second.backends[1]


def test_what_cannot_be_used_is_named_and_nothing_is_built(tmp_path: Path) -> None:
    builder = Builder()
    builder.build()
    before = builder.setup
    pem = tmp_path / "a.pem"
    pem.write_bytes(b"no PEM")
    with pytest.raises(ConfigError, match=r"backends\[0\]\.tls: cannot be used"):
        builder.build(backends=[{"url": "https://a", "tls": {"ca_file": str(pem)}}])
    assert builder.setup is before


def test_requests_are_known_by_something_only_where_somebody_asks() -> None:
    assert Builder().service().policy.affinity is None
    assert Builder().service(strategy="consistent_hash").policy.affinity is not None
    assert Builder().service(sticky={"cookie": "S"}).policy.affinity is not None


# ---- the strategy ----


def test_what_the_nodes_of_a_cluster_share_is_built_anew_when_there_are_more_of_them_and_nothing_else_is() -> None:
    one = Builder()
    backends = {"backends": ["http://localhost:8081"]}
    shared = {**backends, "limits": {"in_flight_per_backend": 9, "shared_by_nodes": True}}
    document = {"services": {"shared": shared, "own": backends}, "routes": [{"path": "/own", "to": "own"}, {"to": "shared"}]}
    config = one.origin.parse_text(json.dumps(document).encode())
    before = one.builder.build_setup(config, None)
    assert not one.builder.use_share(ClusterShare())
    assert one.builder.use_share(ClusterShare(nodes=3))
    after = one.builder.build_setup(config, before)
    assert [setup.services["shared"].backends[0].spec.max_in_flight for setup in (before, after)] == [9, 3]
    assert after.services["own"] is before.services["own"]
    assert one.builder.build_setup(config, after).services["shared"] is after.services["shared"]


def test_sticky_cookies_of_a_cluster_are_made_with_its_secrets_and_others_are_built_anew() -> None:
    one = Builder()
    one.builder = setup_builder(one.origin, secret=None)
    before = one.service(sticky={"cookie": "edge"})
    one.builder.use_share(ClusterShare(sticky_secrets=(b"n" * 32, b"o" * 32)))
    after = one.service(sticky={"cookie": "edge"})
    assert after is not before
    affinity, expected = after.policy.affinity, Sticky("edge", [b"n" * 32], ["localhost-8081"])
    assert affinity is not None
    assert affinity.answer_lines(request(), after.backends[0], None) == expected.cookie_line("localhost-8081", secure=False)


def test_a_strategy_goes_on_until_the_configuration_names_another() -> None:
    builder = Builder()
    first = builder.service().strategy
    assert isinstance(first, Adaptive)
    assert builder.service(panic="fail").strategy is first
    assert isinstance(builder.service(strategy="least_requests").strategy, LeastRequests)


def test_a_changed_bound_is_followed_by_the_one_in_use() -> None:
    builder = Builder()
    used = builder.service(strategy="consistent_hash").strategy
    again = builder.service(strategy="consistent_hash", hash={"bounded_load_ratio": None})
    assert again.strategy is used
    follow_bound(used, again.bounded_load_ratio)
    assert isinstance(used, ConsistentHash)
    assert used.bounded_load_ratio == inf


def test_a_class_that_can_be_made_no_more_refuses_the_configuration() -> None:
    Broken.left = 1  # one is made to see whether it can be
    with pytest.raises(ConfigError) as caught:
        Builder().build(strategy="tests.edge.test_setup:Broken")
    assert caught.value.problems[0].path == "strategy"
    assert "RuntimeError: no more" in caught.value.problems[0].message


def test_all_workers_of_an_edge_have_one_name_and_no_other_edge_has_it() -> None:
    assert own_via("one") == own_via("one") != own_via("another")
    assert own_via("one").startswith(b"smartedge (")


def test_each_route_counts_the_requests_of_its_clients_by_itself(tmp_path: Path) -> None:
    worker = Builder()
    membership = open_membership("one", ROW_CELLS, LAYOUT, {"SMARTEDGE_STATE_DIR": str(tmp_path)}, logging.getLogger(), GAUGES)
    worker.builder.join_workers(membership, "one")
    limit = {"rate_limit": {"per_s": 0.001, "burst": 1}, "to": "default"}
    setup = worker.build(routes=[limit | {"path": "/a"}, limit | {"path": "/b"}, {"to": "default"}])
    first, second, third = (route.guard for route in setup.routes)
    assert third is None
    for guard in (first, second):
        assert guard is not None
        assert guard.limiter is not None
        guard.limiter.admit(request(), 1.0)
        with pytest.raises(TooManyRequests):
            guard.limiter.admit(request(), 1.0)
    membership.close()
