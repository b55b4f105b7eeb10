"""nginx.conf, made into backends.json that is right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.convert.nginx import read_nginx
from smartedge.convert.words import NotReadable

Document = dict[str, Any]


def converted(text: str) -> tuple[Document, list[tuple[int, str]]]:
    """The document, which must be right, and the lines that were left out."""
    draft = read_nginx(text)
    document = draft.document()
    parse(json.dumps(document))
    return document, [(note.line, note.text) for note in draft.notes]


def site(location: str, upstream: str = "server 10.0.0.1:80;", server: str = "") -> str:
    return f"http {{ upstream web {{ {upstream} }}\n server {{ listen 80; {server}\n {location} }} }}"


def test_the_usual_pool_is_the_short_form() -> None:
    document, notes = converted(site("location / { proxy_pass http://web; proxy_set_header Host $host; }"))
    assert document == {"bind": "0.0.0.0:80", "backends": ["http://10.0.0.1:80"]}
    assert notes == []


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("least_conn;", {"strategy": "least_requests"}),
        ("random two least_conn;", {"strategy": "random"}),
        ("ip_hash;", {"strategy": "consistent_hash", "hash": {"by": "client"}}),
        ("hash $request_uri consistent;", {"strategy": "consistent_hash", "hash": {"by": "path"}}),
        ("hash $http_x_user;", {"strategy": "consistent_hash", "hash": {"by": "header:x-user"}}),
        ("hash $cookie_id;", {"strategy": "consistent_hash", "hash": {"by": "cookie:id"}}),
        ("sticky cookie srv expires=1h;", {"sticky": {"cookie": "srv"}}),
        ("keepalive 32; zone web 64k;", {}),
    ],
)
def test_how_a_backend_is_chosen(word: str, keys: Document) -> None:
    document, notes = converted(site("location / { proxy_pass http://web; }", f"{word} server a:80;"))
    assert {key: value for key, value in document.items() if key not in ("bind", "backends")} == keys
    assert notes == []


def test_what_is_said_of_a_server() -> None:
    members = (
        "server a:80 weight=3 max_conns=9; server b:80 backup; server c:80 down;"
        " server unix:/run/d.sock max_fails=2 fail_timeout=9s;"
    )
    document, notes = converted(site("location / { proxy_pass http://web; }", members))
    assert document["backends"] == [
        {"url": "http://a:80", "weight": 3, "max_in_flight": 9},
        {"url": "http://b:80", "priority": 1},
        {"url": "http://c:80", "state": "disabled"},
        "unix:/run/d.sock",
    ]
    assert document["breaker"] == {"failures": 2, "open_s": 9}
    assert notes == []


def test_locations_are_routes() -> None:
    document, notes = converted(
        site(
            "location = /ping { return 200 pong; }"
            ' location /api/ { proxy_pass http://web/; proxy_set_header X-Who "$remote_addr";'
            " proxy_read_timeout 5m; client_max_body_size 1m; }"
            " location /old/ { return 301 https://new.example$request_uri; }"
            " location /v1/ { proxy_pass http://10.9.9.9:81/v2/; }"
            " location / { proxy_pass http://web; deny 10.1.0.0/16; add_header X-By us; proxy_hide_header X-Powered-By; }",
            server="server_name shop.example *.shop.example;",
        )
    )
    host = {"host": ["shop.example", "*.shop.example"]}
    assert document["routes"] == [
        host | {"path_exact": "/ping", "respond": {"status": 200, "text": "pong"}},
        host
        | {
            "path": "/api/",
            "to": "web",
            "strip_prefix": True,
            "set_headers": {"X-Who": "{client}"},
            "timeouts": {"first_byte_s": 300},
            "body_bytes": 1 << 20,
        },
        host | {"path": "/old/", "redirect": {"status": 301, "scheme": "https", "host": "new.example"}},
        host | {"path": "/v1/", "to": "10-9-9-9-81", "rewrite": "/v2/"},
        host
        | {
            "to": "web",
            "deny": ["10.1.0.0/16"],
            "set_answer_headers": {"X-By": "us"},
            "remove_answer_headers": ["X-Powered-By"],
        },
    ]
    assert document["services"]["10-9-9-9-81"] == {"backends": ["http://10.9.9.9:81"]}
    assert notes == []


def test_https_and_the_server_that_sends_there() -> None:
    text = (
        "server { listen 80; return 301 https://$host$request_uri; }\n"
        "server { listen 443 ssl; listen [::]:443 ssl; ssl_certificate /none/a.pem; ssl_certificate_key /none/a.key;\n"
        " location / { proxy_pass http://10.0.0.1; } }"
    )
    draft = read_nginx(text)
    assert draft.document() == {
        "bind": "0.0.0.0:443",
        "http_bind": "0.0.0.0:80",
        "certfile": "/none/a.pem",
        "keyfile": "/none/a.key",
        "backends": ["http://10.0.0.1"],
    }
    assert draft.notes == []


@pytest.mark.parametrize(
    "line",
    [
        "location ~ \\.php$ { proxy_pass http://web; }",
        "location /files/ { alias /var/www; }",
        "location /x { proxy_pass http://$target; }",
        "gzip on;",
        "include sites/*.conf;",
        "location / { auth_request /auth; proxy_pass http://web; }",
    ],
)
def test_what_is_not_taken_over_is_told_with_its_line(line: str) -> None:
    draft = read_nginx(site(f"location / {{ proxy_pass http://web; }}\n{line}"))
    assert {note.line for note in draft.notes} == {4}
    assert all(note.why for note in draft.notes)


def test_a_file_without_backends_is_refused() -> None:
    with pytest.raises(NotReadable, match="no upstream"):
        read_nginx("events {} http { server { listen 80; root /var/www; } }")
