"""Where each value comes from, and which are masked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.config.origins import effective, masked, origins
from smartedge.config.sources import Overlay


def origins_of(document: Any, env: dict[str, str] | None = None, **flags: Any) -> dict[str, tuple[object, str]]:
    text, env = json.dumps(document).encode(), env or {}
    config = parse(text, env=env, overrides=flags)
    return {one.path: (one.value, one.origin) for one in origins(config, text, Overlay(env, flags), "site.json")}


def test_a_flag_goes_before_a_variable_before_the_file_before_the_default() -> None:
    found = origins_of(
        {"backends": ["http://a:1"], "strategy": "ewma", "workers": 2, "retry": {"attempts": 2}},
        {"SMARTEDGE_WORKERS": "3", "SMARTEDGE_BIND": "127.0.0.1:1"},
        bind="127.0.0.1:2",
    )
    assert found["bind"] == ("127.0.0.1:2", "--bind")
    assert found["workers"] == (3, "SMARTEDGE_WORKERS")
    assert found["strategy"] == ("ewma", "site.json")
    assert found["retry.attempts"] == (2, "site.json")
    assert found["retry.wait_s"][1] == "default"


def test_what_something_short_was_made_of_comes_from_the_file() -> None:
    found = origins_of({"backends": ["http://a:1", {"url": "http://b:2", "weight": 3}]})
    assert found["backends[0].url"] == ("http://a:1", "site.json")
    assert found["backends[1].weight"] == (3, "site.json")
    assert found["backends[1].priority"] == (0, "default")


def test_what_a_service_does_not_say_itself_comes_from_the_top() -> None:
    found = origins_of(
        {
            "strategy": "ewma",
            "services": {"web": {"backends": ["http://a:1"], "retry": {"attempts": 2}}},
            "routes": [{"to": "web"}],
        }
    )
    assert found["services.web.retry.attempts"] == (2, "site.json")
    assert found["services.web.strategy"] == ("ewma", "site.json (strategy)")
    assert found["services.web.retry.wait_s"][1] == "default"


def test_secrets_are_masked_wherever_they_stand() -> None:
    config = parse(
        json.dumps(
            {
                "backends": ["http://a:1"],
                "health": {"headers": {"Authorization": "Bearer x", "X-Probe": "1"}},
                "routes": [{"to": "default", "set_headers": {"X-Api-Key": "s3cret"}, "header": {"Cookie": "~id=1"}}],
                "sticky": {"cookie": "edge"},
            }
        )
    )
    found = effective(config)
    assert found["health"]["headers"] == {"Authorization": "***", "X-Probe": "1"}
    assert found["routes"][0]["set_headers"] == {"X-Api-Key": "***"}
    assert "s3cret" not in json.dumps(found)
    assert found["sticky"]["cookie"] == "edge"


@pytest.mark.parametrize(
    ("key", "kept"),
    [("token", False), ("password", False), ("api_key", False), ("token_file", True), ("secret_file", True), ("url", True)],
)
def test_which_keys_hold_secrets(key: str, kept: bool) -> None:
    assert (masked({"deep": [{key: "x"}]}) == {"deep": [{key: "x"}]}) is kept
