"""What a reload did, in one line and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import Config, parse
from smartedge.edge.reload_report import Applied, report, settings_of
from smartedge.workers.generations import Confirmed


def config(*urls: str, **keys: Any) -> Config:
    return parse(json.dumps({"backends": list(urls) or ["http://a"], **keys}))


def reported(old: Config, new: Config, at_start: Config | None = None, **more: Any) -> Applied:
    usual: dict[str, Any] = {"changed": True, "renewed": (), "persisted": True, "took_s": 0.25}
    return report(old, new, settings_of(at_start or old), 7, more.pop("confirmed", Confirmed(1, {})), **(usual | more))


def test_backends_are_told_by_id_and_settings_by_key() -> None:
    applied = reported(config("http://a", "http://b"), config("http://b", "http://c", strategy="random"))
    assert (applied.added, applied.removed, applied.changed_backends) == (("c-80",), ("a-80",), ())
    assert applied.settings_changed == ("strategy",)
    assert applied.message == (
        "generation 7 applied by 1/1 workers in 250 ms; added c-80; removed a-80; settings changed: strategy"
    )


@pytest.mark.parametrize("key", ["bind", "admin_bind", "workers"])
def test_what_a_running_process_cannot_change_waits_for_a_restart_until_it_is_taken_back(key: str) -> None:
    new = config(**{key: 3 if key == "workers" else "127.0.0.1:9"})
    assert reported(config(), new).restart_needed == (key,)
    assert reported(new, new, at_start=config()).restart_needed == (key,)
    assert reported(new, config(), at_start=config()).restart_needed == ()


def site(**services: Any) -> Config:
    """A configuration of these services; what is no service's stands at the top."""
    top = {key: services.pop(key) for key in ("health", "strategy") if key in services}
    routes = [{"path": f"/{name}", "to": name} for name in services]
    return parse(json.dumps({"services": services, "routes": routes, **top}))


def test_backends_of_services_are_told_with_their_service_and_settings_with_theirs() -> None:
    web = {"backends": ["http://a", "http://b"]}
    applied = reported(
        site(web=web, api={"backends": ["http://a"]}),
        site(web={"backends": ["http://a", {"url": "http://b", "weight": 3}, "http://c"]}, api={"backends": ["http://a"]}),
    )
    assert (applied.added, applied.changed_backends, applied.settings_changed) == (("web/c-80",), ("web/b-80",), ())
    applied = reported(site(web=web), site(web={**web, "strategy": "random", "health": {"path": "/up"}}))
    assert applied.settings_changed == ("services.web.strategy", "services.web.health")
    applied = reported(site(**{"my-api": web}), site(**{"my-api": {**web, "strategy": "random"}}))
    assert applied.settings_changed == ('services["my-api"].strategy',)


def test_a_service_that_comes_or_goes_is_told_once() -> None:
    one, two = site(web={"backends": ["http://a"]}), site(web={"backends": ["http://a"]}, api={"backends": ["http://b"]})
    applied = reported(one, two)
    assert (applied.added, applied.settings_changed) == (("api/b-80",), ("routes", "services.api"))
    applied = reported(two, one)
    assert (applied.removed, applied.settings_changed) == (("api/b-80",), ("routes", "services.api"))


def test_what_services_only_follow_is_told_at_the_top_alone() -> None:
    own = {"backends": ["http://a"], "health": {"path": "/up"}}
    before, after = (site(web={"backends": ["http://a"]}, api=own, health={"interval_s": s}) for s in (1, 3))
    assert reported(before, after).settings_changed == ("health",)
    before, after = (
        site(web={"backends": ["http://a"]}, api={**own, "strategy": "random"}, strategy=s) for s in ("ewma", "random")
    )
    assert reported(before, after).settings_changed == ("strategy",)


def test_a_worker_that_is_late_is_named() -> None:
    applied = reported(config(), config("http://b"), confirmed=Confirmed(3, {2: 4711}))
    assert (applied.live, applied.applied) == (3, 2)
    assert "applied by 2/3 workers" in applied.message
    assert applied.message.endswith("late: slot 2 (process 4711)")
    assert applied.to_json()["workers"] == {"applied": 2, "live": 3, "late": [{"slot": 2, "pid": 4711}]}


def test_nothing_new_is_said_to_be_nothing_new() -> None:
    applied = reported(config(), config(), changed=False)
    assert applied.message == "unchanged: generation 7 has been in use"
    assert "not persisted" in reported(config(), config(), changed=False, persisted=False).message


def test_renewed_files_are_told_by_their_keys() -> None:
    applied = reported(config(), config(), changed=False, renewed=("backends[0].tls", "certfile"))
    assert applied.certificate_renewed
    assert applied.message.endswith("; certificate renewed; files of backends[0].tls renewed")
