"""What `parse` refuses, and in which words; what it accepts is in test_config.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from smartedge.config.model import Config, ConfigError, parse
from tests.config.sections import models

A, B = "http://a:1", "http://b:2"


def problems(document: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(document if isinstance(document, str) else json.dumps(document))
    assert caught.value.status == 422
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert len(found) == len(caught.value.problems)
    return found


def entry(**keys: Any) -> dict[str, Any]:
    return {"backends": [{"url": "https://a", **keys}]}


def test_files_of_tls_settings_must_be_there(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.touch()
    assert parse(json.dumps(entry(tls={"cert_file": str(pem), "key_file": str(pem)}))).specs()[0].tls
    assert problems(entry(tls={"key_file": str(pem)})) == {"backends[0].tls.key_file": "needs a cert_file beside it"}
    assert list(problems(entry(tls={"cert_file": "none.pem", "key_file": str(pem)}))) == ["backends[0].tls.cert_file"]
    assert problems({"backends": [A], "keyfile": str(pem)}) == {"keyfile": "needs a certfile beside it"}
    assert list(problems({"backends": [A], "certfile": "none.pem", "keyfile": str(pem)})) == ["certfile"]


ONE_PROBLEM: list[tuple[object, str, str]] = [
    ([], "", 'must be an object, not a list'),
    ("[5]", "", "must be an object, not a list"),
    ({}, "backends", 'is missing; the smallest configuration is {"backends": ["http://localhost:8081"]}'),
    ({"backends": []}, "backends", "must hold at least one backend"),
    ({"backends": {}}, "backends", "must be a list, not an object"),
    ({"backends": A}, "backends", 'must be a list, not "http://a:1"'),
    ({"backends": [A, 5]}, "backends[1]", 'must be a URL or an object with a "url", not 5'),
    ({"backends": [A, "b:2"]}, "backends[1]", '"b:2" has no scheme'),
    ({"backends": [{"id": "x"}]}, "backends[0].url", "is missing"),
    ({"backends": [{"url": 5}]}, "backends[0].url", "must be a string, not 5"),
    ({"backends": [{"url": "x"}]}, "backends[0].url", '"x" has no scheme'),
    ({"backends": [A, B, {"url": "http://c", "wieght": 2}]}, "backends[2].wieght",
     'is an unknown key; did you mean "weight"? Allowed: health, id, labels, location, max_in_flight, preserve_host, '
     "priority, protocol, region, state, tls, url, weight, zone"),
    ({"backends": [A, B, "http://A:1/"]}, "backends[2]", '"http://A:1/" is already the url of backends[0]'),
    ({"backends": ["http://a", {"url": "http://a:80"}]}, "backends[1].url", "is already the url of backends[0]"),
    ({"backends": [{"url": A, "id": "x"}, {"url": B, "id": "x"}]}, "backends[1].id", '"x" is already the id of'),
    (entry(weight=-1), "backends[0].weight", "must be at least 0, not -1"),
    (entry(state="drain"), "backends[0].state", 'must be "enabled", "draining" or "disabled", not "drain"'),
    ({"backends": [A], "explain": {"sample_ratio": 1.5}}, "explain.sample_ratio", "must be at most 1, not 1.5"),
    ({"backends": [A], "explain": {"sample_ratio": -0.1}}, "explain.sample_ratio", "must be at least 0, not -0.1"),
    (entry(weight=1001), "backends[0].weight", "must be at most 1000, not 1001"),
    (entry(weight="2"), "backends[0].weight", 'must be a whole number, not "2" (write it without quotes)'),
    (entry(weight=True), "backends[0].weight", "must be a whole number, not true"),
    (entry(weight=2.0), "backends[0].weight", "must be a whole number, not 2.0"),
    (entry(id=""), "backends[0].id", "must be 1 to 64 of the characters"),
    (entry(id=None), "backends[0].id", "must be a string, not null"),
    (entry(zone="a b"), "backends[0].zone", "must be 1 to 64 of the characters"),
    (entry(max_in_flight=0), "backends[0].max_in_flight", 'from 1 to 1000000, "adaptive" or null, not 0'),
    (entry(health={"rise": 0}), "backends[0].health.rise", "must be at least 1, not 0"),
    (entry(health={"pth": "/"}), "backends[0].health.pth", 'did you mean "path"?'),
    (entry(protocol="h3"), "backends[0].protocol", 'must be "http/1.1", "h2" or "h2c", not "h3"'),
    (entry(protocol="h2c"), "backends[0].protocol", 'for an https:// URL it is "h2"'),
    ({"backends": [{"url": A, "protocol": "h2"}]}, "backends[0].protocol", 'without TLS it is "h2c"'),
    ({"protocol": "h2", "backends": [A]}, "backends[0]", 'is for "protocol": "h2", which is HTTP/2 over TLS'),
    ({"protocol": "h2c", "services": {"s": {"backends": [{"url": "https://a"}]}}, "routes": [{"to": "s"}]},
     "services.s.backends[0]", 'is for "protocol": "h2c", which is HTTP/2 without TLS'),
    (entry(tls=True), "backends[0].tls", "must be an object, not true"),
    (entry(tls={"ca_file": "none.pem"}), "backends[0].tls.ca_file", 'names "none.pem", which is no file in "'),
    (entry(tls={"ca_file": "a\x00"}), "backends[0].tls.ca_file", "must be a text of one line"),
    (entry(tls={"server_name": " "}), "backends[0].tls.server_name", "must be a text of one line"),
    (entry(url=A, tls={}), "backends[0].tls", "is for an https:// URL only"),
    ({"backends": [A], "strategy": "ewm"}, "strategy",
     'must be "adaptive", "round_robin", "ewma", "least_requests", "random", "consistent_hash" or a class such as '
     '"package.module:Class", not "ewm"; did you mean "ewma"?'),
    ({"backends": [A], "strategy": 1}, "strategy", "must be a string, not 1"),
    ({"backends": [A], "strategy": "nowhere.at_all:Class"}, "strategy",
     '"nowhere.at_all:Class" cannot be imported: ModuleNotFoundError: No module named \'nowhere\''),
    ({"backends": [A], "hash": {"by": "query"}}, "hash.by",
     'must be "client", "path", "header:NAME" or "cookie:NAME", not "query"'),
    ({"backends": [A], "hash": {"by": "client:x"}}, "hash.by", 'must be "client", "path", "header:NAME" or "cookie:NAME"'),
    ({"backends": [A], "hash": {"by": "header:"}}, "hash.by", "must be a name of 1 to 64 letters"),
    ({"backends": [A], "hash": {"by": "cookie:a b"}}, "hash.by", "must be a name of 1 to 64 letters"),
    ({"backends": [A], "hash": {"bounded_load_ratio": 1}}, "hash.bounded_load_ratio", "must be more than 1, not 1"),
    ({"backends": [A], "sticky": {"cookie": "a;b"}}, "sticky.cookie", "must be a name of 1 to 64 letters"),
    ({"backends": [A], "sticky": {"cookie": ""}}, "sticky.cookie", "must be a name of 1 to 64 letters"),
    ({"backends": [A], "sticky": {"max_age_s": 60}}, "sticky.max_age_s", "needs a cookie beside it"),
    ({"backends": [A], "sticky": {"cookie": "a", "max_age_s": 0}}, "sticky.max_age_s", "must be at least 1, not 0"),
    ({"backends": [A], "sticky": {"cookie": "a", "secret_file": "/nowhere"}}, "sticky.secret_file", "which is no file here"),
    *(({"backends": [A], "sticky": {key: value}}, f"sticky.{key}", "needs a cookie beside it")
      for key, value in {"path": "/", "domain": "a.b", "same_site": "lax", "secure": False}.items()),
    *(({"backends": [A], "sticky": {"cookie": "a", "path": path}}, "sticky.path", 'must be a path such as "/app"')
      for path in ("", "app", "/a b", "/a;Domain=b", "/a\r\nX: y", "/\u00fc")),
    *(({"backends": [A], "sticky": {"cookie": "a", "domain": domain}}, "sticky.domain", "must be a host name")
      for domain in ("", ".", "a b", "a;b", "a.b:80", "10.0.0.1", "a.b.", "..a", "http://a")),
    ({"backends": [A], "sticky": {"cookie": "a", "same_site": "Laxx"}}, "sticky.same_site", "must be"),
    ({"backends": [A], "sticky": {"cookie": "a", "same_site": "none", "secure": False}}, "sticky.secure",
     'must not be false with same_site "none"'),
    ({"backends": [A], "sticky": {"cookie": "__Secure-a", "secure": False}}, "sticky.secure", "cookie of that name"),
    ({"backends": [A], "sticky": {"cookie": "__Host-a", "secure": False}}, "sticky.secure", "cookie of that name"),
    ({"backends": [A], "sticky": {"cookie": "__Host-a", "path": "/app"}}, "sticky.path", "must not be set"),
    ({"backends": [A], "sticky": {"cookie": "__Host-a", "domain": "a.b"}}, "sticky.domain", "must not be set"),
    (entry(labels=[]), "backends[0].labels", "must be an object, not a list"),
    (entry(labels={"a b": "1"}), "backends[0].labels", "must have names of 1 to 64 of the characters"),
    (entry(labels={"a": 1}), "backends[0].labels", "must have texts of one line, up to 256 characters, as values, not 1"),
    (entry(labels={"a": "x" * 257}), "backends[0].labels", "must have texts of one line, up to 256 characters"),
    (entry(labels={"a": "x\ny"}), "backends[0].labels", "must have texts of one line"),
    (entry(labels={f"l{n}": "" for n in range(17)}), "backends[0].labels", "must hold at most 16 labels, not 17"),
    ({"backends": [A], "healt": {}}, "healt", 'did you mean "health"?'),
    ({"backends": [A], "connect_s": 1}, "connect_s", 'did you mean "timeouts.connect_s"?'),
    ({"backends": [A], "qqq": 1}, "qqq", "is an unknown key; allowed: access_log, access_log_compress, access_log_format,"),
    ({"backends": [A], "health": []}, "health", "must be an object, not a list"),
    ({"backends": [A], "health": {"path": "health"}}, "health.path", 'must be a path such as "/health"'),
    ({"backends": [A], "health": {"type": "udp"}}, "health.type", 'must be "http", "tcp", "grpc" or "none", not "udp"'),
    ({"backends": [A], "health": {"type": "tcp", "path": "/x"}}, "health.path", 'says nothing to a probe of type "tcp"'),
    ({"backends": [A], "health": {"type": "none", "port": 80}}, "health.port", 'says nothing to a probe of type "none"'),
    ({"backends": [A], "health": {"method": "get"}}, "health.method", 'must be "GET", "HEAD", "OPTIONS" or "POST", not "get"'),
    ({"backends": [A], "health": {"method": "HEAD", "body": "x"}}, "health.body", "the answer to a HEAD, which has none"),
    ({"backends": [A], "health": {"body": ""}}, "health.body", "must be a text of 1 to 1000 characters, not of 0"),
    ({"backends": [A], "health": {"body": "\ud800"}}, "health.body", "must be a string of whole characters"),
    ({"backends": [A], "health": {"host": "a/b"}}, "health.host", "must be a host, perhaps with a port"),
    ({"backends": [A], "health": {"host": "a:99999"}}, "health.host", "needs a port from 1 to 65535"),
    ({"backends": [A], "health": {"port": 0}}, "health.port", "must be at least 1, not 0"),
    ({"backends": [A], "health": {"headers": [1]}}, "health.headers", "must be an object, not a list"),
    ({"backends": [A], "health": {"headers": {"Host": "a"}}}, "health.headers", 'that is the key "host" beside it'),
    ({"backends": [A], "health": {"headers": {"TE": "a"}}}, "health.headers", "which is the edge's own affair"),
    ({"backends": [A], "health": {"headers": {"a b": "c"}}}, "health.headers", "must have names of 1 to 64 letters"),
    ({"backends": [A], "health": {"headers": {"a": "b", "A": "c"}}}, "health.headers", "must not have a field twice"),
    ({"backends": [A], "health": {"headers": {"Cookie": "hunter2\r\nX: y"}}}, "health.headers", "as the value of Cookie"),
    ({"backends": [A], "health": {"headers": {str(n): "" for n in range(33)}}}, "health.headers", "at most 32 fields, not 33"),
    ({"backends": [{"url": "unix:/a", "health": {"port": 8}}]}, "backends[0].health", "which a unix socket has none of"),
    ({"backends": [A], "health": {"fall": 0}}, "health.fall", "must be at least 1, not 0"),
    ({"backends": [A], "health": {"statuses": []}}, "health.statuses", "must hold at least one status"),
    ({"backends": [A], "health": {"statuses": 200}}, "health.statuses", "must be a list, not 200"),
    ({"backends": [A], "health": {"statuses": [200, "ok"]}}, "health.statuses[1]", 'must be a status like 200'),
    ({"backends": [A], "timeouts": {"idle_s": 0}}, "timeouts.idle_s", "must be more than 0, not 0"),
    ({"backends": [A], "timeouts": {"idle_s": 86401}}, "timeouts.idle_s", "must be at most 86400, not 86401"),
    ({"backends": [A], "timeouts": {"idle_s": "2.5"}}, "timeouts.idle_s", "(write it without quotes)"),
    ({"backends": [A], "timeouts": {"idle_s": True}}, "timeouts.idle_s", "must be a number, not true"),
    ({"backends": [A], "timeouts": {"idle_s": 10**400}}, "timeouts.idle_s", "is far too large a number"),
    ('{"backends": ["http://a:1"], "timeouts": {"idle_s": 1e999}}', "timeouts.idle_s", "must be a finite number"),
    ({"backends": [A], "retry": {"statuses": [399]}}, "retry.statuses[0]", "must be at least 400, not 399"),
    ({"backends": [A], "retry": {"statuses": [600]}}, "retry.statuses[0]", "must be at most 599, not 600"),
    ({"backends": [A], "retry": {"attempts": 0}}, "retry.attempts", "must be at least 1, not 0"),
    ({"backends": [A], "retry": {"hedge": 0}}, "retry.hedge", "must be true or false, not 0"),
    ({"backends": [A], "retry": {"hedge": True, "attempts": 1}}, "retry.hedge", "needs attempts to be at least 2, not 1"),
    ({"backends": [A], "retry": {"hedge": True, "budget_ratio": 0, "budget_per_s": 0}}, "retry.hedge", "needs a budget"),
    ({"backends": [A], "retry": {"hedge_percentile": 1}}, "retry.hedge_percentile", "must be at most 0.999, not 1"),
    ({"backends": [A], "retry": {"hedge_percentile": 0.1}}, "retry.hedge_percentile", "must be at least 0.5, not 0.1"),
    ({"backends": [A], "retry": {"budget_ratio": -0.1}}, "retry.budget_ratio", "must be at least 0, not -0.1"),
    ({"backends": [A], "retry": {"budget_per_s": 1e9}}, "retry.budget_per_s", "must be at most 1000000"),
    ({"backends": [A], "retry": {"deadline_s": 0}}, "retry.deadline_s", "must be more than 0, not 0"),
    ({"backends": [A], "limits": {"in_flight_per_backend": 0}}, "limits.in_flight_per_backend",
     'must be a whole number from 1 to 1000000, "adaptive" or null, not 0'),
    ({"backends": [A], "limits": {"in_flight_per_backend": "auto"}}, "limits.in_flight_per_backend", 'not "auto"'),
    ({"backends": [A], "limits": {"in_flight_per_backend": True}}, "limits.in_flight_per_backend", "not true"),
    ({"backends": [A], "limits": {"queue": -1}}, "limits.queue", "must be at least 0, not -1"),
    ({"backends": [A], "limits": {"queue_s": 0}}, "limits.queue_s", "must be more than 0, not 0"),
    ({"backends": [A], "rate_limit": {"per_s": 0}}, "rate_limit.per_s", "must be at least 0.0001, not 0"),
    ({"backends": [A], "rate_limit": {"per_s": 5e-324}}, "rate_limit.per_s", "must be at least 0.0001"),
    ({"backends": [A], "rate_limit": {"burst": 5}}, "rate_limit.burst", "needs a per_s beside it"),
    ({"backends": [A], "rate_limit": {"per_s": 1, "burst": 0}}, "rate_limit.burst", "must be at least 1, not 0"),
    ({"backends": [A], "rate_limit": {"by": "path"}}, "rate_limit.by", 'must be "client" or "header:NAME", not "path"'),
    ({"backends": [A], "rate_limit": {"by": "header:"}}, "rate_limit.by", "must be a name"),
    ({"backends": [A], "rate_limit": {"by": "header:a b"}}, "rate_limit.by", "must be a name"),
    ({"backends": [A], "breaker": {"ratio": 1.1}}, "breaker.ratio", "must be at most 1, not 1.1"),
    ({"backends": [A], "breaker": {"max_ejected_ratio": 0}}, "breaker.max_ejected_ratio", "must be more than 0, not 0"),
    ({"backends": [A], "breaker": {"observe": 1}}, "breaker.observe", "must be true or false, not 1"),
    ({"backends": [A], "outliers": {"latency_factor": 1}}, "outliers.latency_factor", "must be more than 1, not 1"),
    ({"backends": [A], "outliers": {"failure_ratio": 1.1}}, "outliers.failure_ratio", "must be at most 1, not 1.1"),
    ({"backends": [A], "panic": "none"}, "panic", 'must be "all" or "fail", not "none"'),
    ({"backends": [A], "slow_start_s": -1}, "slow_start_s", "must be at least 0, not -1"),
    ({"backends": [A], "breaker": {"open_s": 301}}, "breaker.max_open_s", "must be at least open_s (301), not 300"),
    ({"backends": [A], "limits": {"headers": -1}}, "limits.headers", "must be at least 16, not -1"),
    ({"backends": [A], "limits": {"body_bytes": 10**40}}, "limits.body_bytes", "must be at most"),
    ({"backends": [A], "preserve_host": "true"}, "preserve_host",
     'must be true or false, not "true" (write it without quotes)'),
    ({"backends": [A], "trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies[0]", 'the range is "10.0.0.0/8"'),
    ({"backends": [A], "trusted_proxies": "10.0.0.0/8"}, "trusted_proxies", "must be a list"),
    ({"backends": [A], "admin_allow": [1]}, "admin_allow[0]", "must be a string, not 1"),
    ({"backends": [A], "shutdown_grace_s": -1}, "shutdown_grace_s", "must be at least 0, not -1"),
    ({"backends": [A], "drain_s": None}, "drain_s", "must be a number, not null"),
    ({"backends": [A], "bind": 8080}, "bind", "must be a string, not 8080"),
    ({"backends": [A], "bind": "8080"}, "bind", 'write "127.0.0.1:8080"'),
    ({"backends": [A], "bind": "a:1", "admin_bind": "A:1"}, "admin_bind", "must differ from bind"),
    ({"backends": [A], "access_log": 1}, "access_log", "must be true, false or the name of a file, not 1"),
    ({"backends": [A], "access_log": ""}, "access_log", "must be a text of one line"),
    ({"backends": [A], "access_log_format": "xml"}, "access_log_format", 'must be "json", "combined" or "logfmt", not "xml"'),
    ({"backends": [A], "access_log_headers": "Accept"}, "access_log_headers", "must be a list"),
    ({"backends": [A], "access_log_headers": ["a b"]}, "access_log_headers[0]", "must be a name of 1 to 64 letters"),
    ({"backends": [A], "access_log_headers": ["reply:X"]}, "access_log_headers[0]", 'must be "NAME" or "answer:NAME", not'),
    ({"backends": [A], "access_log_headers": ["A", "request:a"]}, "access_log_headers", 'must name "a" only once'),
    ({"backends": [A], "access_log_headers": [f"a{n}" for n in range(33)]}, "access_log_headers", "at most 32"),
    ({"backends": [A], "access_log_format": "combined", "access_log_headers": ["A"]}, "access_log_headers", "which has no place"),
    ({"backends": [A], "access_log_sample_ratio": 1.5}, "access_log_sample_ratio", "must be at most 1, not 1.5"),
    ({"backends": [A], "access_log_slow_s": 0}, "access_log_slow_s", "must be more than 0, not 0"),
    ({"backends": [A], "access_log_rotate_bytes": 100}, "access_log_rotate_bytes", "must be at least 65536, not 100"),
    ({"backends": [A], "access_log_rotate_s": 1}, "access_log_rotate_s", "must be at least 60, not 1"),
    ({"backends": [A], "access_log": True, "access_log_rotate_s": 60}, "access_log_rotate_s", "needs access_log to be the name"),
    ({"backends": [A], "access_log_keep": -1}, "access_log_keep", "must be at least 0, not -1"),
    ({"backends": [A], "access_log_compress": 1}, "access_log_compress", "must be true or false, not 1"),
    ({"backends": [A], "workers": 0}, "workers", 'must be a whole number from 1 to 64, or "auto", not 0'),
    ({"backends": [A], "workers": "2"}, "workers", 'must be a whole number from 1 to 64, or "auto", not "2"'),
    ({"backends": [A], "workers": True}, "workers", 'or "auto", not true'),
    ('{"backends": ["http://a:1"], "health": {"rise": 1, "rise": 2}}', "health.rise", "is written twice"),
]  # fmt: skip


@pytest.mark.parametrize(("document", "path", "said"), ONE_PROBLEM)
def test_a_wrong_entry_gives_one_problem_with_its_path_and_what_would_be_right(document: object, path: str, said: str) -> None:
    found = problems(document)
    assert list(found) == [path]
    assert said in found[path]


def test_all_problems_are_told_at_once() -> None:
    found = problems(
        '{"backends": ["http://a", "http://a", {"url": "x", "id": "i"}, {"url": "http://c", "id": "i", "z": 1}],'
        '"strategy": 1, "health": {"rise": 1, "rise": 1}, "retry": {"hedge": 1}, "bnid": ""}'
    )
    assert set(found) == {
        "backends[1]",
        "backends[2].url",
        "backends[3].id",
        "backends[3].z",
        "strategy",
        "retry.hedge",
        "bnid",
        "health.rise",
    }


@pytest.mark.parametrize(
    "document",
    [
        {"backends": ["http://user:hunter2@a"]},
        {"backends": ["user:hunter2@a"]},
        {"backends": ["http://user:hun/hunter2@a:x"]},
        {"backends": ["http://a/?token=hunter2", "http://a#hunter2"]},
        {"backends": [{"url": "http://user:hunter2@a"}, {"url": "http://user:hunter2@a"}]},
        {"backends": [A], "bind": "user:hunter2@a:1", "strategy": "http://u:hunter2@x"},
        {"backends": [A], "http://user:hunter2@a": 1, "password": "hunter2"},
        {"backends": [A], "limits": {"head_bytes": {"password": "hunter2"}}, "health": ["hunter2"]},
        {"backends": [A], "access_log": ["hunter2"], "admin_allow": ["u:hunter2@10.0.0.0/8"]},
    ],
)
def test_no_secret_is_repeated_in_an_error(document: object) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(document))
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(caught.value)


def test_text_that_is_no_json_is_a_bad_request() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("{", origin="the request")
    assert caught.value.status == 400
    assert str(caught.value).startswith("the request: is not JSON at line 1, column 2")


def parsed(text: bytes | str) -> tuple[Any, ConfigError | None]:
    try:
        return parse(text), None
    except ConfigError as error:
        return None, error


def known_keys(model: type[BaseModel]) -> list[str]:
    return sorted({name for found in models(model) for name in found.model_fields})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([A, B, "http://a", "https://h", "2xx", "/health", "10.0.0.0/8", "127.0.0.1:1", "ewma", "x"])
)
KEYS = st.sampled_from(known_keys(Config)) | st.text(max_size=5)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)


@given(st.dictionaries(KEYS, DOCUMENTS, max_size=6) | DOCUMENTS, st.booleans())
def test_any_json_is_a_configuration_or_a_clear_error(document: object, with_backend: bool) -> None:
    if with_backend and isinstance(document, dict):
        document = {"backends": [A, {"url": "https://b", **{k: v for k, v in document.items() if k != "url"}}]}
    loaded, error = parsed(json.dumps(document))
    if error is not None:
        assert error.problems
        for line in str(error).splitlines():
            assert line.isprintable()
            assert not any(jargon in line for jargon in ("function-", "Input should", "pydantic", "Value error"))
    else:
        assert parse(loaded.to_json()) == loaded
        assert len(loaded.specs()) == len(loaded.backends)


@given(st.binary() | st.text())
def test_any_text_is_a_configuration_or_a_clear_error(text: bytes | str) -> None:
    loaded, error = parsed(text)
    assert isinstance(loaded, Config) or (error and error.problems)
