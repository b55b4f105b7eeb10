"""haproxy.cfg, made into backends.json that is right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.convert.haproxy import read_haproxy
from smartedge.convert.words import NotReadable

Document = dict[str, Any]


def converted(text: str) -> tuple[Document, list[tuple[int, str]]]:
    """The document, which must be right, and the lines that were left out."""
    draft = read_haproxy(text)
    document = draft.document()
    parse(json.dumps(document))
    return document, [(note.line, note.text) for note in draft.notes]


def front(rules: str, backends: str = "backend web\n server w1 10.0.0.1:80\nbackend api\n server a1 10.0.1.1:80\n") -> str:
    return f"defaults\n mode http\nfrontend www\n bind *:80\n{rules}\n default_backend web\n{backends}"


def test_a_listen_section_is_the_short_form() -> None:
    document, notes = converted(
        "global\n daemon\ndefaults\n mode http\n timeout connect 5s\n timeout server 50000\n timeout queue 2s\n retries 2\n"
        "listen web\n bind :8080\n balance leastconn\n option httpchk HEAD /up\n http-check expect status 204\n"
        " server w1 10.0.0.1:80 check inter 1s fall 5 rise 1 weight 20 maxconn 30 # the big one\n server w2 10.0.0.2:80 backup\n"
    )
    assert document == {
        "timeouts": {"connect_s": 5, "first_byte_s": 50},
        "limits": {"queue_s": 2},
        "retry": {"attempts": 3},
        "bind": "0.0.0.0:8080",
        "backends": [
            {
                "url": "http://10.0.0.1:80",
                "id": "w1",
                "health": {"interval_s": 1, "fall": 5, "rise": 1},
                "weight": 20,
                "max_in_flight": 30,
            },
            {"url": "http://10.0.0.2:80", "id": "w2", "priority": 1},
        ],
        "strategy": "least_requests",
        "health": {"path": "/up", "method": "HEAD", "statuses": [204]},
    }
    assert notes == []


@pytest.mark.parametrize(
    ("acl", "where"),
    [
        ("path_beg /api/", {"path": "/api"}),
        ("path /api", {"path_exact": "/api"}),
        ("hdr(host) -i api.example www.api.example", {"host": ["api.example", "www.api.example"]}),
        ("hdr_end(host) .api.example", {"host": "*.api.example"}),
        ("hdr_end(host) api.example", {"host": ["api.example", "*.api.example"]}),
        ("hdr_dom(host) -i api.example", {"host": ["api.example", "*.api.example"]}),
        ("req.hdr(host) -m end .api.example", {"host": "*.api.example"}),
        ("path -m beg /api/", {"path": "/api"}),
        ("hdr(X-Beta) -i Yes", {"header": {"X-Beta": "~(?i)^Yes$"}}),
        ("method POST", {"method": "POST"}),
        ("req.hdr(X-Beta) 1", {"header": {"X-Beta": "1"}}),
        ("src 10.0.0.0/8", {"client": "10.0.0.0/8"}),
    ],
)
def test_acls_are_what_routes_go_by(acl: str, where: Document) -> None:
    for rule in (f" acl it {acl}\n use_backend api if it", f" use_backend api if {{ {acl} }}"):
        document, notes = converted(front(rule))
        assert document["routes"] == [where | {"to": "api"}, {"to": "web"}]
        assert notes == []


def test_several_acls_hold_together() -> None:
    document, _ = converted(front(" acl a path_beg /api\n acl b method GET\n use_backend api if a b"))
    assert document["routes"][0] == {"path": "/api", "method": "GET", "to": "api"}
    document, _ = converted(front(" acl b method GET\n use_backend api if { path_beg /api/ } b { hdr(X-A) 1 } { hdr(X-B) 2 }"))
    where = {"path": "/api", "method": "GET", "header": {"X-A": "1", "X-B": "2"}}
    assert document["routes"][0] == where | {"to": "api"}


@pytest.mark.parametrize(
    ("rule", "left_out"),
    [
        (" acl php path_end .php\n use_backend api if php", [5, 6]),
        (" acl a path_beg /a/\n use_backend api if !a", [6]),
        (" acl a path_beg /a\n use_backend api if a", [5]),
        (" acl a hdr(X-A) -m found\n use_backend api if a", [5, 6]),
        (" acl a hdr(X-A) -m beg b\n use_backend api if a", [5, 6]),
        (" acl a hdr(host) -m reg ^a\n use_backend api if a", [5, 6]),
        (" acl a path_beg /a/\n acl a path_beg /b/\n use_backend api if a", [6, 7]),
        (" use_backend api if { path_beg /a }", [5]),
        (" use_backend api if !{ path_beg /a/ }", [5]),
        (" use_backend api if { path_beg /a/ } || { path_beg /b/ }", [5]),
        (" use_backend api if { path_beg /a/ } or { method GET }", [5]),
        (" use_backend api if { path_beg /a/", [5]),
        (" use_backend api if { path_end .php }", [5, 5]),
        (" use_backend api if { path_beg /a/ } { path /a/b }", [5]),
        (" use_backend api if { hdr(X-A) 1 } { hdr(X-A) 2 }", [5]),
        (" use_backend gone if TRUE", [5]),
        (" http-request lua.x", [5]),
    ],
)
def test_what_is_not_taken_over_is_told_with_its_line(rule: str, left_out: list[int]) -> None:
    _, notes = converted(front(rule))
    assert [line for line, _ in notes] == left_out


def test_an_acl_that_comes_again_is_another_way_for_it_to_hold() -> None:
    """The last line of the name counted alone, so that api.example went elsewhere, without a word."""
    document, notes = converted(front(" acl a hdr(host) api.example\n acl a hdr(host) www.api.example\n use_backend api if a"))
    assert document["routes"][0] == {"host": ["api.example", "www.api.example"], "to": "api"}
    assert notes == []


@pytest.mark.parametrize(
    ("first", "second", "is_told"),
    [
        ("path_beg /img/", "hdr(host) shop.example", True),
        ("hdr(host) shop.example", "path_beg /img/", False),
        ("path_beg /img/", "path_beg /img/big/", True),
        ("path_beg /a/", "path_beg /long/", False),
        ("hdr(host) a.example", "hdr(host) b.example", False),
    ],
)
def test_a_rule_that_wins_here_over_an_earlier_one_is_told(first: str, second: str, is_told: bool) -> None:
    """HAProxy takes the first that fits: the other order of routes sent requests elsewhere, without a word."""
    rules = f" acl a {first}\n acl b {second}\n use_backend web if a\n use_backend api if b"
    _, notes = converted(front(rules))
    assert [line for line, _ in notes] == ([8] if is_told else [])


def test_what_a_listen_section_refuses_is_told() -> None:
    """The front left it to the back, the back to the front: what was denied was let through, without a word."""
    draft = read_haproxy(
        "listen web\n bind :80\n acl adm path_beg /admin/\n http-request deny if adm\n"
        " redirect location /b if adm\n server a b:80\n"
    )
    assert [(note.line, note.text) for note in draft.notes] == [(4, "http-request deny if adm")]
    assert draft.routes[0] == {"path": "/admin", "redirect": {"status": 302, "path": "/b"}}


@pytest.mark.parametrize("host", [r"HTTP/1.1\r\nHost:\ shop.example", r'"HTTP/1.1\r\nHost: shop.example\r\nX-A: b"'])
def test_probes_and_words_of_servers_count_from_the_defaults(host: str) -> None:
    """They were passed over: backends were asked for another path and host, with TLS that was not meant."""
    document, notes = converted(
        f"defaults\n option httpchk GET /up {host}\n default-server check inter 5s\n"
        "listen web\n bind :80\n default-server ssl verify none\n server a 10.0.0.1:443 inter 3s\n"
    )
    assert document["health"] == {"path": "/up", "host": "shop.example"}
    (member,) = document["backends"]
    assert member == {"url": "https://10.0.0.1:443", "id": "a", "health": {"interval_s": 3}, "tls": {"verify": False}}
    assert notes == []


def test_https_cookies_and_tls_to_backends() -> None:
    draft = read_haproxy(
        front(
            " bind *:443 ssl crt /none/site.pem\n http-request redirect scheme https unless { ssl_fc }",
            "backend web\n cookie SRV insert\n server w1 10.0.0.1:443 ssl verify none cookie w1\n",
        )
    )
    assert draft.document() == {
        "bind": "0.0.0.0:443",
        "http_bind": "0.0.0.0:80",
        "certfile": "/none/site.pem",
        "backends": [{"url": "https://10.0.0.1:443", "id": "w1", "tls": {"verify": False}}],
        "sticky": {"cookie": "SRV"},
    }
    assert draft.notes == []


def test_a_redirect_to_another_host() -> None:
    document, notes = converted(front(" acl old hdr(host) old.example\n redirect prefix https://new.example code 301 if old"))
    assert document["routes"][0] == {"host": "old.example", "redirect": {"status": 301, "scheme": "https", "host": "new.example"}}
    assert notes == []


@pytest.mark.parametrize(
    ("text", "why"), [("a b\n", "stands in no section"), ("global\n daemon\n", "no backend"), ('global\n a "\n', "line 2")]
)
def test_what_is_no_such_file_is_told(text: str, why: str) -> None:
    with pytest.raises(NotReadable, match=why):
        read_haproxy(text)
