"""The section `routes`: what it accepts, what it refuses and in which words, and how all of it is named at once."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from smartedge.config.problems import explain, path_text
from smartedge.config.routes import RouteConfig, problems, unused_services, with_ids
from smartedge.config.section import MOST_FILE_BYTES, Listed, Section

SERVICES = ("web", "api", "beta")


class Document(Section):
    """A configuration as far as its routes go."""

    routes: Annotated[tuple[RouteConfig, ...], Listed] = ()


def read(*routes: dict[str, Any]) -> tuple[RouteConfig, ...]:
    assert found(*routes) == {}
    return with_ids(Document.model_validate({"routes": list(routes)}).routes)


def found(*routes: object) -> dict[str, str]:
    """Everything that is wrong, by its path."""
    document = {"routes": list(routes)}
    findings = []
    try:
        Document.model_validate(document)
    except ValidationError as error:
        findings += explain(error.errors(include_url=False), Document, document)
    findings += problems(document["routes"], SERVICES)
    by_path = {path_text(path): message for path, message in findings}
    assert len(by_path) == len(findings)
    return by_path


def test_the_routes_of_the_design_are_read() -> None:
    routes = read(
        {"host": "shop.example", "path": "/api/", "to": "api", "strip_prefix": True},
        {"host": "shop.example", "to": "web"},
        {"host": "*.shop.example", "to": {"web": 95, "beta": 5}},
        {"host": "old.example", "redirect": {"host": "shop.example", "status": 301}},
    )
    assert [route.id for route in routes] == ["shop.example-api", "shop.example", "any.shop.example", "old.example"]
    assert routes[0].path == "/api/"
    assert routes[2].to == (("web", 95), ("beta", 5))
    assert routes[3].redirect is not None
    assert routes[3].redirect.status == 301


def test_a_route_is_written_as_it_was_read() -> None:
    written = {"host": ["a.example", "*.b.example"], "to": {"web": 1, "beta": 0}, "header": {"X-A": "~^1"}, "method": "GET"}
    (route,) = read(written)
    again = route.model_dump(mode="json")
    assert RouteConfig.model_validate(again) == route
    assert again["to"] == {"web": 1, "beta": 0}
    assert again["method"] == ["GET"]
    assert read({"to": "web"})[0].model_dump(mode="json")["to"] == "web"


HOSTS = [
    ("Shop.Example.", "shop.example"),
    ("shop.example:8080", "shop.example"),
    ("*.Shop.Example", "*.shop.example"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("straße.example", "xn--strae-oqa.example"),
    ("*.bücher.example", "*.xn--bcher-kva.example"),
    ("127.0.0.1", "127.0.0.1"),
    ("[::1]:80", "[::1]"),
]


@pytest.mark.parametrize(("text", "normal"), HOSTS)
def test_hosts_are_compared_without_case_port_and_last_dot(text: str, normal: str) -> None:
    assert read({"host": text, "to": "web"})[0].host == (normal,)


PATHS = [
    ("/api", "/api"),
    ("/api/", "/api/"),
    ("/café", "/caf%C3%A9"),
    ("/caf%c3%a9", "/caf%C3%A9"),
    ("/%61pi", "/api"),
    ("/%40me", "/@me"),
    ("/.well-known/x", "/.well-known/x"),
]


@pytest.mark.parametrize(("text", "normal"), PATHS)
def test_paths_get_the_normal_form_that_requests_are_compared_in(text: str, normal: str) -> None:
    assert read({"path": text, "to": "web"})[0].path == normal


def test_a_short_rewrite_is_a_prefix_or_a_path() -> None:
    routes = read({"path": "/a", "to": "web", "rewrite": "/b"}, {"path_exact": "/a", "to": "web", "rewrite": "/b"})
    assert [(route.rewrite.prefix, route.rewrite.path) for route in routes if route.rewrite] == [("/b", None), (None, "/b")]


def test_ids_are_made_of_host_and_path_and_are_unique() -> None:
    routes = read(
        {"to": "web", "method": "GET"},
        {"to": "web"},
        {"host": "a.example", "path": "/x y".replace(" ", "%20"), "to": "web"},
        {"host": "a.example", "path": "/x", "to": "web", "method": "GET"},
        {"host": "a.example", "path": "/x", "to": "web"},
        {"host": "b.example", "to": "web", "id": "a.example-x-2"},
        {"path": "/none", "to": "web"},
        {"path": "/" + "x" * 200, "to": "web"},
    )
    ids = [route.id for route in routes]
    assert ids[:7] == ["route-1", "route-2", "a.example-x-20y", "a.example-x", "a.example-x-3", "a.example-x-2", "none-2"]
    assert len(ids[7]) <= 64


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"host": "a.example"}, "routes[0]", 'says nowhere where requests go: write "to", "redirect" or "respond"'),
    ({"to": "web", "respond": {}}, "routes[0]", "has to and respond; only one of them may be there"),
    ({"to": "wbe"}, "routes[0].to", 'names "wbe", which is no service; there are: api, beta, web'),
    ({"to": {"web": 1, "wbe": 1}}, "routes[0].to.wbe", 'names "wbe", which is no service'),
    ({"to": "web", "mirror": {"to": "shadow"}}, "routes[0].mirror.to", 'names "shadow", which is no service'),
    ({"to": {"web": 0, "beta": 0}}, "routes[0].to", "has weights that add up to nothing"),
    ({"to": {}}, "routes[0].to", "has weights that add up to nothing"),
    (
        {"to": {"web": 0.5, "beta": -1}},
        "routes[0].to",
        "must have whole numbers from 0 to 1000000 as weights, not 0.5 of web, -1 of beta",
    ),
    ({"to": "Web"}, "routes[0].to", "must be the name of a service, 1 to 63 of the characters a-z 0-9 -"),
    ({"to": "none"}, "routes[0].to", 'must not be "none", which stands for no service in the metrics'),
    ({"to": 5}, "routes[0].to", "must be the name of a service, or an object of names and weights, not 5"),
    ({"to": "web", "hots": "a"}, "routes[0].hots", 'is an unknown key; did you mean "host"?'),
    ({"to": "web", "host": "http://a"}, "routes[0].host[0]", 'must be a host name such as "shop.example"'),
    ({"to": "web", "host": "a.*.example"}, "routes[0].host[0]", 'may have "*" only as its first label'),
    ({"to": "web", "host": "*"}, "routes[0].host[0]", 'may have "*" only as its first label'),
    ({"to": "web", "host": "*.10.0.0.1"}, "routes[0].host[0]", "must have a name behind the *"),
    ({"to": "web", "host": []}, "routes[0].host", "must hold at least one"),
    ({"to": "web", "path": "api"}, "routes[0].path", 'must be a path such as "/api"'),
    ({"to": "web", "path": "/a/../b"}, "routes[0].path", "must have no empty segments"),
    ({"to": "web", "path": "/a/%2e%2e/b"}, "routes[0].path", "must have no empty segments"),
    ({"to": "web", "path": "//a"}, "routes[0].path", "must have no empty segments"),
    ({"to": "web", "path": "/a%2fb"}, "routes[0].path", "no slash that is encoded"),
    ({"to": "web", "path": "/a;b"}, "routes[0].path", "must hold no"),
    ({"to": "web", "path": "/a", "path_exact": "/a"}, "routes[0].path_exact", "must not stand beside path"),
    ({"to": "web", "method": "get"}, "routes[0].method[0]", 'must be a method such as "GET", in capitals'),
    ({"to": "web", "header": {"X-A": "~("}}, "routes[0].header", 'has a regular expression that is none for "X-A"'),
    ({"to": "web", "header": {"Host": "a"}}, "routes[0].header", "for Host there is the key host"),
    ({"to": "web", "header": {"X-A": "1", "x-a": "2"}}, "routes[0].header", "must not have a field twice"),
    ({"to": "web", "header": {f"X-{i}": "" for i in range(17)}}, "routes[0].header", "must hold at most 16 names, not 17"),
    ({"to": "web", "query": {"a": 1}}, "routes[0].query", 'must have a text as the value of "a", not 1'),
    ({"to": "web", "client": "10.0.0.1/8"}, "routes[0].client[0]", 'the range is "10.0.0.0/8"'),
    ({"to": "web", "split_by": "client"}, "routes[0].split_by", "needs several services in to"),
    ({"redirect": {"path": "/a", "status": 10**20}}, "routes[0].redirect.status", "is far too large a number"),
    ({"to": {"web": 1, "beta": 1}, "split_by": "path"}, "routes[0].split_by", 'must be "client", "header:NAME"'),
    ({"to": "web", "path_regex": "("}, "routes[0].path_regex", "has a regular expression that is none: missing )"),
    ({"to": "web", "path_regex": ""}, "routes[0].path_regex", "must be a regular expression"),
    ({"to": "web", "path_regex": "x", "strip_prefix": True}, "routes[0].strip_prefix", "needs a path"),
    ({"to": "web", "strip_prefix": True}, "routes[0].strip_prefix", "needs a path"),
    ({"to": "web", "rewrite": "/x"}, "routes[0].rewrite", "needs a path"),
    (
        {"to": "web", "path": "/a", "strip_prefix": True, "rewrite": "/x"},
        "routes[0].rewrite",
        "must not stand beside strip_prefix",
    ),
    ({"to": "web", "path": "/a", "rewrite": "//x"}, "routes[0].rewrite.prefix", 'must be a path such as "/v2"'),
    ({"respond": {}, "path": "/a", "strip_prefix": True}, "routes[0].strip_prefix", "says nothing beside respond"),
    ({"redirect": {"scheme": "https"}, "mirror": {"to": "api"}}, "routes[0].mirror", "says nothing beside redirect"),
    ({"redirect": {}}, "routes[0].redirect", "needs a scheme, host or path"),
    ({"redirect": {"scheme": "ftp"}}, "routes[0].redirect.scheme", 'must be "http" or "https"'),
    ({"redirect": {"host": "a/b"}}, "routes[0].redirect.host", "must be a host, perhaps with a port"),
    ({"redirect": {"path": "/a", "status": 200}}, "routes[0].redirect.status", "must be 301, 302, 303, 307 or 308"),
    ({"respond": {"status": 101}}, "routes[0].respond.status", "must be at least 200"),
    ({"respond": {"status": 204, "text": "x"}}, "routes[0].respond.text", "must be empty with the status 204"),
    ({"to": "web", "set_headers": {"Connection": "x"}}, "routes[0].set_headers", "must not have Connection"),
    ({"to": "web", "set_headers": {"X-A": "a\r\nb"}}, "routes[0].set_headers", "must have a text of one line"),
    ({"to": "web", "add_answer_headers": {"X-A": "{hots}"}}, "routes[0].add_answer_headers", "names {hots} in the value of X-A"),
    ({"to": "web", "add_headers": {"host": "x"}}, "routes[0].add_headers", "must not have Host"),
    ({"to": "web", "remove_headers": ["Host"]}, "routes[0].remove_headers", "must not have Host"),
    ({"to": "web", "remove_headers": ["a b"]}, "routes[0].remove_headers[0]", "must have names"),
    ({"to": "web", "basic_auth": {"file": "none"}}, "routes[0].basic_auth.file", 'names "none", which cannot be read'),
    ({"to": "web", "forward_auth": {"url": "auth"}}, "routes[0].forward_auth.url", "must be a URL such as"),
    ({"to": "web", "forward_auth": {}}, "routes[0].forward_auth.url", "is missing"),
    ({"to": "web", "error_pages": {"200": "x"}}, "routes[0].error_pages", "must have statuses from 400 to 599"),
    ({"to": "web", "error_pages": {"5xx": "none.html"}}, "routes[0].error_pages", 'which is no file in "'),
    ({"to": "web", "mirror": {"to": "api", "ratio": 0}}, "routes[0].mirror.ratio", "must be more than 0"),
    ({"to": "web", "retry": {"budget_ratio": 1}}, "routes[0].retry.budget_ratio", "is an unknown key"),
    ({"to": "web", "timeouts": {"connect_s": 1}}, "routes[0].timeouts.connect_s", "is an unknown key"),
    ({"to": "web", "rate_limit": {"burst": 5}}, "routes[0].rate_limit.burst", "needs a per_s"),
]


@pytest.mark.parametrize(("route", "path", "message"), WRONG)
def test_what_is_wrong_is_named_with_its_path(route: dict[str, Any], path: str, message: str) -> None:
    wrong = found(route)
    assert list(wrong) == [path], wrong
    assert message in wrong[path]


def test_everything_is_named_at_once() -> None:
    wrong = found(
        {"host": "a b", "to": "web"},
        {"to": "wbe"},
        "web",
        {"to": "web", "header": {"A": "~["}},
        {"to": {"web": 0}},
        {"to": "api", "id": "x"},
        {"host": "b.example", "to": "api", "id": "x"},
        {"to": "web", "path": "/"},
    )
    assert list(wrong) == [
        "routes[0].host[0]",
        "routes[2]",
        "routes[3].header",
        "routes[4].to",
        "routes[1].to",
        "routes[5]",
        "routes[6].id",
        "routes[7]",
    ]


def test_an_unknown_service_is_named_whatever_else_is_wrong_with_its_route() -> None:
    """It was not: who had mended the regular expression was told of the service only then."""
    wrong = found({"to": {"wbe": 1, "web": -1}, "header": {"A": "~["}, "mirror": {"to": "shadow"}})
    assert list(wrong) == ["routes[0].header", "routes[0].to", "routes[0].to.wbe", "routes[0].mirror.to"]


SAME = [
    ({"host": "a.example"}, {"host": "A.example:80"}),
    ({"host": "a.example"}, {"host": ["b.example", "a.example"]}),
    ({"path": "/api"}, {"path": "/api/"}),
    ({"path_regex": "[.]php$"}, {"path": "/", "path_regex": "[.]php$"}),
    ({}, {"path": "/"}),
    ({"path": "/a", "method": ["GET", "PUT"]}, {"path": "/a", "method": ["PUT", "GET"]}),
    ({"header": {"X-A": "1", "X-B": "2"}}, {"header": {"x-b": "2", "x-a": "1"}}),
    ({"query": {"a": "1"}, "client": "10.0.0.0/8"}, {"query": {"a": "1"}, "client": ["10.0.0.0/8"]}),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_routes_that_match_the_same_are_refused(one: dict[str, Any], other: dict[str, Any]) -> None:
    wrong = found({**one, "to": "web"}, {**other, "to": "api"})
    assert list(wrong) == ["routes[1]"]
    assert "that routes[0] takes" in wrong["routes[1]"]


DIFFERENT = [
    ({"path": "/api"}, {"path_exact": "/api"}),
    ({"path_exact": "/api"}, {"path_exact": "/api/"}),
    ({"path": "/api"}, {"path": "/api", "method": "GET"}),
    ({"path": "/api"}, {"path": "/api", "path_regex": "x"}),
    ({"path_regex": "y"}, {"path_regex": "x"}),
    ({"host": "a.example"}, {"host": "*.a.example"}),
    ({"query": {"a": "1"}}, {"query": {"A": "1"}}),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_routes_that_differ_in_what_they_ask_for_may_stand_together(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert found({**one, "to": "web"}, {**other, "to": "api"}) == {}


def test_services_that_no_route_names_are_found() -> None:
    routes = read({"to": {"web": 1, "beta": 0}, "mirror": {"to": "api"}})
    assert unused_services(routes, SERVICES) == []
    assert unused_services(read({"to": "web"}), SERVICES) == ["api", "beta"]
    assert unused_services((), SERVICES) == []


BCRYPT: bool | str = True if find_spec("bcrypt") else "pip install 'smartedge[auth]'"
HASHES = [
    ("ann:$2y$10$" + "a" * 53, BCRYPT),
    ("ann:$6$salt$" + "a" * 86, True),
    ("ann:$5$rounds=9000$salt$" + "a" * 43, True),
    ("# a comment\n\nann:$2b$05$" + "a" * 53, BCRYPT),
    ("ann:$apr1$salt$abc", "neither bcrypt"),
    ("ann:plain", "neither bcrypt"),
    ("ann", 'no "user:hash" in line 1'),
    ("", "holds no user"),
    ("ann:$6$rounds=9999999$salt$" + "a" * 86, "more than 1000000 rounds"),
]


@pytest.mark.parametrize(("text", "verdict"), HASHES)
def test_a_password_file_is_checked_and_no_message_shows_a_hash(text: str, verdict: bool | str, tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    file.write_text(text)
    wrong = found({"to": "web", "basic_auth": {"file": str(file)}})
    if verdict is True:
        assert wrong == {}
    else:
        assert str(verdict) in wrong["routes[0].basic_auth.file"]
        assert "$abc" not in str(wrong)
        assert "plain" not in str(wrong)


def test_a_pipe_is_no_password_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "is no file here" in str(found({"to": "web", "basic_auth": {"file": str(pipe)}}))


def test_a_file_without_end_is_named_before_it_is_read(tmp_path: Path) -> None:
    with open(tmp_path / "large", "wb") as file:
        file.truncate(MOST_FILE_BYTES + 1)
    for keys in ({"basic_auth": {"file": file.name}}, {"error_pages": {"5xx": file.name}}):
        assert f"longer than {MOST_FILE_BYTES} bytes" in str(found({"to": "web", **keys}))
