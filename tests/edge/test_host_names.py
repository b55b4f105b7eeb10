"""The host names in the URLs of backends."""

from __future__ import annotations

import json

from smartedge.config.model import Config, parse
from smartedge.edge.host_names import HostNames


def config(**services: list[str]) -> Config:
    routes = [{"path": f"/{name}", "to": name} for name in services]
    return parse(json.dumps({"services": {name: {"backends": urls} for name, urls in services.items()}, "routes": routes}))


def test_addresses_and_sockets_are_no_names_and_each_name_is_given_once() -> None:
    written = config(web=["http://b.test:1", "http://10.0.0.1:1", "unix:/run/a.sock"], api=["http://a.test:2", "http://b.test:2"])
    assert sorted(HostNames().of_all(written)) == ["a.test", "b.test"]


def test_the_names_of_a_service_are_looked_for_once_until_it_is_of_no_configuration_any_more() -> None:
    names = HostNames()
    before, after = config(web=["http://a.test:1"]), config(web=["http://c.test:1"])
    first = names.of_service(before.services["web"])
    assert names.of_service(before.services["web"]) is first
    names.keep_only(after)
    assert names.of_service(before.services["web"]) is not first
    assert names.of_all(after) == ["c.test"]
