"""A Caddyfile, made into backends.json that is right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.convert.caddyfile import read_caddyfile
from smartedge.convert.words import NotReadable
from tests.convert.asked import taken

Document = dict[str, Any]


def converted(text: str) -> tuple[Document, list[tuple[int, str]]]:
    """The document, which must be right, and the lines that were left out."""
    draft = read_caddyfile(text)
    document = draft.document()
    parse(json.dumps(document))
    return document, [(note.line, note.text) for note in draft.notes]


def test_a_site_without_a_name_is_the_short_form() -> None:
    document, notes = converted(
        ":8080\n\nreverse_proxy 10.0.0.1:8000 10.0.0.2 {\n lb_policy least_conn\n lb_retries 2\n health_uri /up\n"
        " health_interval 5s\n health_status 2xx\n fail_duration 30s\n max_fails 3\n header_up Host {upstream_hostport}\n}\n"
    )
    assert document == {
        "bind": "0.0.0.0:8080",
        "backends": ["http://10.0.0.1:8000", "http://10.0.0.2:80"],
        "strategy": "least_requests",
        "retry": {"attempts": 3},
        "health": {"path": "/up", "interval_s": 5, "statuses": ["2xx"]},
        "breaker": {"open_s": 30, "failures": 3},
        "preserve_host": False,
    }
    assert notes == []


def test_a_name_gets_its_certificate() -> None:
    document, _ = converted("{\n email me@example.com\n}\nshop.example {\n reverse_proxy 10.0.0.1:80\n}\n")
    assert document["certificates"] == ["shop.example"]
    assert (document["bind"], document["http_bind"]) == ("0.0.0.0:443", "0.0.0.0:80")
    assert document["acme"] == {"email": "me@example.com", "agree_tos": True}


def test_handles_matchers_redirects_and_answers_are_routes() -> None:
    document, notes = converted(
        "http://shop.example {\n"
        " reverse_proxy 10.0.0.1:80\n"
        " handle_path /api/* {\n  reverse_proxy 10.0.0.2:80\n }\n"
        " @beta header X-Beta 1\n reverse_proxy @beta unix//run/beta.sock\n"
        " redir /old https://new.example{uri} permanent\n"
        ' respond /ping "pong" 200\n'
        "}\n"
    )
    host = {"host": "shop.example"}
    assert document["routes"] == [
        host | {"path": "/api", "strip_prefix": True, "to": "shop-example-api"},
        host | {"header": {"X-Beta": "1"}, "to": "shop-example-2"},
        host | {"path_exact": "/old", "redirect": {"status": 301, "scheme": "https", "host": "new.example"}},
        host | {"path_exact": "/ping", "respond": {"status": 200, "text": "pong"}},
        host | {"to": "shop-example"},
    ]
    assert document["services"]["shop-example-2"] == {"backends": ["unix:/run/beta.sock"]}
    assert notes == []


@pytest.mark.parametrize(
    ("policy", "keys"),
    [
        ("ip_hash", {"strategy": "consistent_hash", "hash": {"by": "client"}}),
        ("header X-User", {"strategy": "consistent_hash", "hash": {"by": "header:X-User"}}),
        ("cookie lb", {"sticky": {"cookie": "lb"}}),
    ],
)
def test_policies(policy: str, keys: Document) -> None:
    document, _ = converted(f":80 {{\n reverse_proxy a b {{\n lb_policy {policy}\n }}\n}}\n")
    assert {key: document[key] for key in keys} == keys


def test_the_first_that_is_up_has_priority() -> None:
    document, _ = converted(":80 {\n reverse_proxy a b {\n lb_policy first\n }\n}\n")
    assert document["backends"] == ["http://a:80", {"url": "http://b:80", "priority": 1}]


@pytest.mark.parametrize(
    "line",
    [
        "php_fastcgi unix//run/php.sock",
        "file_server",
        "encode gzip",
        "reverse_proxy {args.0}:80",
        "@x expression `a`",
        "import common",
        "header /static/* Cache-Control max-age=9",
    ],
)
def test_what_is_not_taken_over_is_told_with_its_line(line: str) -> None:
    draft = read_caddyfile(f":80 {{\n reverse_proxy a\n {line}\n}}\n")
    assert [note.line for note in draft.notes] == [3]


def test_a_file_without_a_proxy_is_refused() -> None:
    with pytest.raises(NotReadable, match="no site"):
        read_caddyfile(":80 {\n file_server\n}\n")


def test_a_pattern_that_is_no_prefix_does_not_match_everything() -> None:
    """Its matcher took all requests of the site, without a word."""
    document, notes = converted(":80 {\n @php path *.php\n reverse_proxy @php b\n reverse_proxy a\n}\n")
    assert [(route.get("path_regex"), route["to"]) for route in document["routes"]] == [("(?i)[.]php$", "web"), (None, "web-2")]
    assert document["services"]["web"] == {"backends": ["http://b:80"]}
    assert notes == []


def test_a_field_of_answers_counts_for_what_stands_before_it_and_within() -> None:
    """Caddy puts `header` before whatever answers; it counted for what stood behind it alone."""
    document, notes = converted(":80 {\n handle /x/* {\n reverse_proxy b\n }\n reverse_proxy a\n header X-By us\n}\n")
    assert [one["set_answer_headers"] for one in document["routes"]] == [{"X-By": "us"}] * 2
    assert notes == []


@pytest.mark.parametrize(
    ("value", "keys"),
    [("app.example", {"set_headers": {"Host": "app.example"}}), ("{host}", {})],
)
def test_backends_get_the_host_that_they_got(value: str, keys: Document) -> None:
    document, _ = converted(f":80 {{\n reverse_proxy /x/* a {{\n header_up Host {value}\n }}\n}}\n")
    assert document["routes"] == [{"path": "/x", "to": "x"} | keys]


@pytest.mark.parametrize(("site", "port"), [("shop.example", 443), (":8443", 8443), ("https://10.0.0.1", 443)])
def test_a_site_with_files_asks_no_authority(site: str, port: int) -> None:
    """The name was asked for at Let's Encrypt besides, and its terms agreed to."""
    draft = read_caddyfile(f"{site} {{\n tls /none/a.pem /none/a.key\n reverse_proxy a\n}}\n")
    document = draft.document()
    assert document["certificates"] == [{"certfile": "/none/a.pem", "keyfile": "/none/a.key"}]
    assert document["bind"] == f"0.0.0.0:{port}"
    assert "acme" not in document
    assert draft.notes == []


def test_another_authority_is_told() -> None:
    _, notes = converted("shop.example {\n tls internal\n reverse_proxy a\n}\n")
    assert notes == [(2, "tls internal")]


@pytest.mark.parametrize("word", ["basic_auth", "basicauth"])
def test_who_needs_a_password_needs_it_here_too(word: str) -> None:
    """Regression: the site was open to all, and a note said that there is no counterpart."""
    draft = read_caddyfile(
        f"http://shop.example {{\n {word} bcrypt us {{\n  ann $2a$14$abc\n }}\n reverse_proxy 10.0.0.1\n respond /ping pong\n"
        " handle_path /api/* {\n  reverse_proxy 10.0.0.2\n }\n redir /old https://new.example{uri}\n}\n"
    )
    guard = {"file": "caddy.htpasswd", "realm": "us"}
    assert [route.get("basic_auth") for route in draft.routes if "redirect" not in route] == [guard] * 3
    (note,) = draft.notes
    assert (note.line, "caddy.htpasswd" in note.why, "made anew" in note.why) == (2, True, False)
    draft = read_caddyfile(":80 {\n basic_auth /admin/* argon2id {\n  ann $argon2id$x\n }\n reverse_proxy 10.0.0.1\n}\n")
    assert draft.routes == [{"to": "web", "basic_auth": {"file": "caddy.htpasswd"}}]
    assert ["made anew" in note.why for note in draft.notes] == [False, True]


def test_whom_caddy_asks_is_asked_here_too() -> None:
    document, notes = converted(
        ":80 {\n handle /private/* {\n  forward_auth auth:9091 {\n   uri /api/verify?x=1\n"
        "   copy_headers Remote-User A>Remote-Groups\n"
        "   copy_headers {\n    Remote-Name\n   }\n  }\n  reverse_proxy 10.0.0.1\n }\n reverse_proxy 10.0.0.2\n}\n"
    )
    said = {"url": "http://auth:9091/api/verify?x=1", "copy_headers": ["Remote-User", "Remote-Groups", "Remote-Name"]}
    assert [route.get("forward_auth") for route in document["routes"]] == [said, None]
    assert [line for line, _ in notes] == [5]


@pytest.mark.parametrize(
    "asks", ["a:1 b:1 {\n uri /\n }", "unix//run/a {\n uri /\n }", "a:1 {\n header_up X-Path {uri}\n }", "{$A}"]
)
def test_where_nobody_can_be_asked_nobody_comes_in(asks: str) -> None:
    document, notes = converted(f":80 {{\n forward_auth {asks}\n reverse_proxy 10.0.0.1\n}}\n")
    assert [route["forward_auth"] for route in document["routes"]] == [{"url": "http://127.0.0.1:9/"}]
    assert notes[0][0] == 2


@pytest.mark.parametrize(
    ("rules", "answers"),
    [
        ("@a path /admin /admin/*\n respond @a 403", {"/admin": 403, "/admin/x": 403, "/ADMIN": 403, "/a": "web"}),
        ("respond /admin* 403", {"/adminer": 403, "/Admin/x": 403, "/a": "web"}),
        ("@php path *.php\n respond @php 404", {"/a.php": 404, "/api/a.php": 404, "/api/a": "api"}),
        (r"@git path_regexp /\.git" "\n error @git 403", {"/.git/x": 403, "/api/.git": 403, "/": "web"}),
        ("@in not_known x\n abort /x", {"/x": 403, "/": "web"}),
    ],
)
def test_what_caddy_refuses_is_refused(rules: str, answers: dict[str, object]) -> None:
    """A matcher of several paths, or of a regular expression, was noted alone, so that what was refused was let in."""
    text = f":80\n {rules}\n reverse_proxy /api/* 10.0.0.2:80\n reverse_proxy 10.0.0.1:80\n"
    document, _ = converted(text)
    names = {"http://10.0.0.1:80": "web", "http://10.0.0.2:80": "api"}
    services = {name: names[service["backends"][0]] for name, service in document["services"].items()}
    found = {path: taken(document, f"http://h{path}") for path in answers}
    assert {path: services.get(one, one) for path, one in found.items()} == answers


@pytest.mark.parametrize(
    ("word", "first", "deep"),
    [("handle", "respond", 403), ("handle", "proxy", 403), ("route", "respond", 403), ("route", "proxy", "api")],
)
def test_within_a_block_what_is_refused_comes_before_what_passes_on(word: str, first: str, deep: object) -> None:
    """Only `route` counts its lines as they stand there (seen with Caddy 2.6)."""
    lines = ["  respond /app/admin* 403\n", "  reverse_proxy /app/admin/x/* 10.0.0.2:80\n"]
    inner = "".join(lines if first == "respond" else reversed(lines))
    document, _ = converted(
        f":80 {{\n {word} /app/* {{\n{inner}  reverse_proxy 10.0.0.1:80\n }}\n reverse_proxy 10.0.0.3:80\n}}\n"
    )
    names = {"http://10.0.0.1:80": "web", "http://10.0.0.2:80": "api", "http://10.0.0.3:80": "rest"}
    services = {name: names[service["backends"][0]] for name, service in document["services"].items()}
    answers = {"/app/admin/x/1": deep, "/app/admin": 403, "/app/z": "web", "/": "rest"}
    found = {path: taken(document, f"http://h{path}") for path in answers}
    assert {path: services.get(one, one) for path, one in found.items()} == answers


@pytest.mark.parametrize(
    "rule",
    [
        "@a expression {path}.x()\n respond @a 403",
        "@a not path /x\n abort @a",
        "error @a 404",
        "@a path_regexp a{9999999999}\n abort @a",
    ],
)
def test_a_file_that_refuses_what_cannot_be_said_is_not_converted(rule: str) -> None:
    with pytest.raises(NotReadable, match="convert again"):
        read_caddyfile(f":80 {{\n {rule}\n reverse_proxy 10.0.0.1:80\n}}\n")


def test_no_client_says_what_caddy_takes_away() -> None:
    """`header_up -X-User` has one word, and was left out."""
    document, _ = converted(
        ":80\nreverse_proxy 10.0.0.1:80 {\n header_up -X-User\n header_up X-Who {remote_host}\n"
        " header_up X-Id {http.auth.user.id}\n}\n"
    )
    (route,) = document["routes"]
    assert route["remove_headers"] == ["X-User", "X-Id"]
    assert route["set_headers"] == {"X-Who": "{client}"}
