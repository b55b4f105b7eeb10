"""The key `cluster`: an object, or the text that is short for one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import Config, ConfigError, parse

ENDPOINTS = ("http://10.0.0.1:2379", "http://b:2380", "http://[::1]:2379")


def config(cluster: Any, **env: str) -> Config:
    return parse(json.dumps({"backends": ["http://a:1"]} | ({} if cluster is None else {"cluster": cluster})), env=env)


@pytest.mark.parametrize(
    ("said", "endpoints", "prefix", "user"),
    [
        ("etcd://10.0.0.1,b:2380,[::1]/prod/", ENDPOINTS, "/prod", None),
        ("etcds://me@a:2379", ("https://a:2379",), "/smartedge", "me"),
        ({"endpoints": ["https://a:1"], "prefix": "/x/y", "user": "u"}, ("https://a:1",), "/x/y", "u"),
    ],
)
def test_a_text_is_short_for_the_object(said: Any, endpoints: Any, prefix: str, user: str | None) -> None:
    made = config(said)

    assert made.cluster is not None
    assert (made.cluster.endpoints, made.cluster.prefix, made.cluster.user) == (endpoints, prefix, user)
    assert parse(made.to_json()) == made


def test_the_variable_says_it_too() -> None:
    made = config(None, SMARTEDGE_CLUSTER="etcd://a/p")

    assert made.cluster is not None
    assert made.cluster.endpoints == ("http://a:2379",)


@pytest.mark.parametrize(
    ("said", "path", "message"),
    [
        ("etcd://u:secret@a/x", "cluster", "must not hold a password; SMARTEDGE_ETCD_PASSWORD does"),
        ("consul://a", "cluster", 'must be like "etcd://10.0.0.1:2379,10.0.0.2:2379/prod", not "consul://a"'),
        ("etcd://", "cluster", 'must be like "etcd://10.0.0.1:2379,10.0.0.2:2379/prod", not "etcd://"'),
        ("etcd://a:x", "cluster", '"etcd://a:x" needs a port from 1 to 65535 after the colon'),
        ({"prefix": "/x"}, "cluster.endpoints", "is missing"),
        ({"endpoints": ["http://a"], "prefix": "x"}, "cluster.prefix", 'must be a path such as "/smartedge", not "x"'),
        (3, "cluster", "must be an object, not 3"),
    ],
)
def test_what_is_wrong_is_said(said: Any, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(said)

    assert {problem.path: problem.message for problem in caught.value.problems} == {path: message}
