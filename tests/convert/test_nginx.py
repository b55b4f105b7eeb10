"""nginx.conf, made into backends.json that is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.convert.nginx import read_nginx
from smartedge.convert.words import NotReadable
from tests.convert.asked import taken

Document = dict[str, Any]


def converted(text: str) -> tuple[Document, list[tuple[int, str]]]:
    """The document, which must be right, and the lines that were left out."""
    draft = read_nginx(text)
    document = draft.document()
    parse(json.dumps(document))
    return document, [(note.line, note.text) for note in draft.notes]


def site(location: str, upstream: str = "server 10.0.0.1:80;", server: str = "") -> str:
    around = f"proxy_set_header Host $host; upstream web {{ {upstream} }}\n"
    return f"http {{ {around} server {{ listen 80; {server}\n {location} }} }}"


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
            ' location /api/ { proxy_pass http://web/; proxy_set_header X-Who "$remote_addr"; proxy_set_header Host $host;'
            " proxy_read_timeout 5m; client_max_body_size 1m; }"
            " location /old/ { return 301 https://new.example$request_uri; }"
            " location /v1/ { proxy_pass http://10.9.9.9:81/v2/; }"
            " location / { proxy_pass http://web; deny 10.1.0.0/16; add_header X-By us; proxy_hide_header X-Powered-By; }",
            server="server_name _; } server { listen 80; server_name shop.example *.shop.example;",
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
        " location / { proxy_pass http://10.0.0.1; proxy_set_header Host $http_host; } }"
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
        "location ~ \\.jpg$ { expires 30d; }",
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


def routes_of(locations: str, around: str = "") -> list[Document]:
    document, _ = converted(site(f"{locations} location /last/ {{ proxy_pass http://web; }}", server=around))
    return [one for one in document["routes"] if one.get("path") != "/last/"]


@pytest.mark.parametrize(
    ("rules", "keys"),
    [
        ("deny all;", {"respond": {"status": 403}}),
        ("allow 10.0.0.0/8; deny all;", {"allow": ["10.0.0.0/8"], "to": "web"}),
        ("deny 10.0.0.1; allow 10.0.0.0/8; deny all;", {"deny": ["10.0.0.1"], "allow": ["10.0.0.0/8"], "to": "web"}),
        ("deny 10.0.0.1; allow all;", {"deny": ["10.0.0.1"], "to": "web"}),
        ("allow 10.0.0.1; deny 192.0.2.0/24;", {"deny": ["192.0.2.0/24"], "to": "web"}),
        ("internal;", {"respond": {"status": 404}}),
    ],
)
@pytest.mark.parametrize("around", [False, True])
def test_who_may_is_what_it_was(rules: str, keys: Document, around: bool) -> None:
    """`deny all` alone let everybody in, and one `allow` without it kept everybody out; around the location neither counted."""
    if around and rules == "internal;":
        rules, around = f"{rules} ", False  # stands in locations alone
    inside, outside = ("", rules) if around else (rules, "")
    assert routes_of(f"location /x/ {{ proxy_pass http://web; {inside} }}", outside) == [{"path": "/x/"} | keys]


def test_files_that_nobody_may_read_are_no_part_of_the_application() -> None:
    assert routes_of("location /private/ { deny all; }") == [{"path": "/private/", "respond": {"status": 403}}]


def test_a_password_stays_one(tmp_path: Path) -> None:
    """It was left out with a note, and everybody was let in."""
    users = tmp_path / "users"
    users.write_text("ann:$6$salt$" + "a" * 86)
    said = f'auth_basic "for us"; auth_basic_user_file {users};'
    password = {"basic_auth": {"file": str(users), "realm": "for us"}}
    assert routes_of("location /x/ { proxy_pass http://web; }", said) == [{"path": "/x/", "to": "web"} | password]
    assert routes_of("location /x/ { proxy_pass http://web; auth_basic off; }", said) == [{"path": "/x/", "to": "web"}]


def test_what_names_no_server_goes_to_the_default_one() -> None:
    """It got 404. The default is the server that says so, else the first; one without a name that is neither gets nothing."""
    text = (
        "server { listen 80; server_name a.example; location / { proxy_pass http://10.0.0.1; } }\n"
        "server { listen 80; location / { proxy_pass http://10.0.0.2; } }\n"
        "server { listen 80 %s; server_name c.example; location / { proxy_pass http://10.0.0.3; } }"
    )
    document, notes = converted(text % "")
    assert [(one.get("host"), one["to"]) for one in document["routes"]] == [(None, "10-0-0-1"), ("c.example", "10-0-0-3")]
    assert [line for line, _ in notes] == [2]
    document, _ = converted(text % "default_server")
    assert [(one.get("host"), one["to"]) for one in document["routes"]] == [("a.example", "10-0-0-1"), (None, "10-0-0-3")]


@pytest.mark.parametrize(
    ("header", "keys"),
    [
        ("", {"set_headers": {"Host": "web"}}),
        ("proxy_set_header Host $proxy_host;", {"set_headers": {"Host": "web"}}),
        ("proxy_set_header Host app.example;", {"set_headers": {"Host": "app.example"}}),
        ("proxy_set_header Host $host;", {}),
    ],
)
def test_backends_get_the_host_that_they_got(header: str, keys: Document) -> None:
    """Without a word on it nginx sends the name that proxy_pass has."""
    location = f"location /x/ {{ proxy_pass http://web; proxy_set_header X-Forwarded-For $remote_addr; {header} }}"
    assert routes_of(location) == [{"path": "/x/", "to": "web"} | keys]


def test_an_address_gets_its_own_name_as_host() -> None:
    document, _ = converted("server { listen 80; location / { proxy_pass http://10.0.0.1:81; } }")
    assert document == {"bind": "0.0.0.0:80", "backends": ["http://10.0.0.1:81"], "preserve_host": False}


def test_what_stands_behind_a_location_counts_for_it_too() -> None:
    document, notes = converted(
        site("location /x/ { proxy_pass http://web; } add_header X-By us; client_max_body_size 1k; proxy_read_timeout 9;")
    )
    keys = {"set_answer_headers": {"X-By": "us"}, "body_bytes": 1024, "timeouts": {"first_byte_s": 9}}
    assert document["routes"] == [{"path": "/x/", "to": "web"} | keys]
    assert notes == []


@pytest.mark.parametrize(
    ("location", "keys"),
    [
        ("location /api { proxy_pass http://web/; }", {"path": "/api", "strip_prefix": True}),
        ("location = /api { proxy_pass http://web/; }", {"path_exact": "/api", "rewrite": "/"}),
        ("location / { proxy_pass http://web/v2/; }", {"path": "/", "rewrite": "/v2/"}),
        ("location / { proxy_pass http://web/; }", {}),
    ],
)
def test_the_path_of_proxy_pass_stands_in_for_that_of_the_location(location: str, keys: Document) -> None:
    assert routes_of(location) == [keys | {"to": "web"}]


def test_the_configuration_that_gunicorn_recommends() -> None:
    """`location @app` became the path "@app", and fail_timeout=0 a time that is refused: the result could not be used."""
    document, notes = converted(
        site(
            "location / { try_files $uri @app; }\n"
            " location @app { proxy_set_header Host $http_host; proxy_redirect off; proxy_pass http://web; }",
            upstream="server unix:/tmp/gunicorn.sock fail_timeout=0;",
            server="access_log /var/log/nginx/access.log;",
        )
    )
    assert document == {
        "bind": "0.0.0.0:80",
        "access_log": "/var/log/nginx/access.log",
        "access_log_format": "combined",
        "backends": ["unix:/tmp/gunicorn.sock"],
    }
    assert [line for line, _ in notes] == [1, 3]


@pytest.mark.parametrize(
    ("target", "redirect"),
    [
        ("$scheme://www.shop.example$request_uri", {"host": "www.shop.example"}),
        ("https://$host$request_uri", {"scheme": "https"}),
        ("/new", {"path": "/new"}),
        ("http://new.example", {"scheme": "http", "host": "new.example", "path": "/"}),
    ],
)
def test_redirects(target: str, redirect: Document) -> None:
    """With $scheme it became an answer with this text; to https it was left out, although nothing else did it."""
    assert routes_of(f"location /x/ {{ return 301 {target}; }}") == [{"path": "/x/", "redirect": {"status": 301} | redirect}]


def test_a_server_without_tls_sends_to_https_where_nothing_else_does() -> None:
    document, _ = converted(
        "server { listen 80; return 301 https://$host$request_uri; } server { listen 80; server_name a.example;"
        " location / { proxy_pass http://10.0.0.1; } }"
    )
    assert {"redirect": {"status": 301, "scheme": "https"}} in document["routes"]


def test_certificates_of_backends_which_nginx_does_not_look_at_are_told() -> None:
    _, notes = converted(site("location / { proxy_pass https://web; }"))
    assert [text for _, text in notes] == ["proxy_pass https://web"]


AUTH = "location = /auth { internal; proxy_pass http://10.0.0.9:9000/check; proxy_pass_request_body off; %s }"


def guarded(auth: str, inside: str = "", around: str = "", asks: str = "auth_request /auth;") -> Document:
    """The route of a location that asks."""
    users = f"{auth} location /x/ {{ {asks} proxy_pass http://web; {inside} }}"
    (route,) = [one for one in routes_of(users, around) if one.get("path") == "/x/"]
    return route


@pytest.mark.parametrize(
    ("auth", "inside", "said"),
    [
        (AUTH % "", "", {"url": "http://10.0.0.9:9000/check"}),
        (
            AUTH % 'proxy_set_header Content-Length ""; proxy_set_header X-Real-IP $remote_addr; proxy_read_timeout 3s;',
            "",
            {"url": "http://10.0.0.9:9000/check", "timeout_s": 3},
        ),
        ("location /auth { proxy_pass http://web; }", "", {"url": "http://10.0.0.1:80/auth"}),
        (
            AUTH % "",
            "auth_request_set $user $upstream_http_x_user; proxy_set_header X-User $user; proxy_set_header X-Else a;",
            {"url": "http://10.0.0.9:9000/check", "copy_headers": ["X-User"]},
        ),
    ],
)
def test_who_is_asked_about_a_request(auth: str, inside: str, said: Document) -> None:
    route = guarded(auth, inside)
    assert route["forward_auth"] == said
    assert route["to"] == "web"
    assert guarded(auth, inside, "auth_request /auth;", asks="") == route
    assert "forward_auth" not in guarded(auth, inside, "auth_request /auth;", asks="auth_request off;")


@pytest.mark.parametrize(
    "auth",
    [
        "",
        "location = /auth { return 200; }",
        "location = /auth { proxy_pass http://10.0.0.9$request_uri; }",
        "location = /auth { proxy_pass http://unix:/run/auth.sock:/; }",
        AUTH % "proxy_set_header X-Original-URI $request_uri;",
        AUTH % "proxy_set_header X-Forwarded-Uri /other;",
        AUTH % "proxy_pass_request_headers off;",
        AUTH % "allow 10.0.0.0/8; deny all;",
        AUTH % "rewrite ^ /else break;",
    ],
)
def test_where_nobody_can_be_asked_as_nginx_does_nobody_comes_in(auth: str) -> None:
    """Regression: such a location was open to all, and a note said that auth_request has no counterpart."""
    assert guarded(auth) == {"path": "/x/", "respond": {"status": 403}}


def test_no_clients_word_stands_for_what_nginx_says_itself() -> None:
    inside = (
        "auth_request_set $u $upstream_http_x_user; proxy_set_header Remote-User $u; proxy_set_header X-Seen $ssl_client_verify;"
    )
    assert guarded(AUTH % "", inside)["remove_headers"] == ["Remote-User", "X-Seen"]
    assert "remove_headers" not in guarded(AUTH % "", "proxy_set_header Authorization $http_authorization;")


@pytest.mark.parametrize(
    ("location", "keys"),
    [
        ("location ~ ^/api/ { proxy_pass http://web; }", {"path": "/api/"}),
        ("location ~ ^/api/.*$ { proxy_pass http://web; }", {"path": "/api/"}),
        ("location ~ ^/api(/|$) { proxy_pass http://web; }", {"path": "/api"}),
        (r"location ~ ^/robots\.txt$ { proxy_pass http://web; }", {"path_exact": "/robots.txt"}),
        ("location ~* ^/1/(.*) { proxy_pass http://web; }", {"path": "/1/"}),
        ("location ~ ^/a/b/ { proxy_pass http://web; } location ~ ^/a/ { proxy_pass http://web; }", {"path": "/a/b/"}),
        ("location /api/ { rewrite ^/api/(.*)$ /$1 break; proxy_pass http://web; }", {"path": "/api/", "strip_prefix": True}),
        ("location /api { rewrite ^/api(/.*)$ $1 break; proxy_pass http://web; }", {"path": "/api", "strip_prefix": True}),
        ("location /api/ { rewrite ^/api/(.*) /v2/$1 break; proxy_pass http://web/; }", {"path": "/api/", "rewrite": "/v2/"}),
        ("location / { rewrite ^/(.*)$ /app/$1 break; proxy_pass http://web; }", {"path": "/", "rewrite": "/app/"}),
        ("location = /x { rewrite ^/x$ /y break; proxy_pass http://web; }", {"path_exact": "/x", "rewrite": "/y"}),
    ],
)
def test_an_expression_that_is_a_path_is_one(location: str, keys: Document) -> None:
    assert routes_of(location)[0] == keys | {"to": "web"}


WEB, API = "proxy_pass http://web;", "proxy_pass http://10.9.9.9;"
API_NAME = "10-9-9-9"


@pytest.mark.parametrize(
    ("locations", "answers"),
    [
        (
            rf"location ~ \.php$ {{ deny all; }} location / {{ {WEB} }}",
            {"/a.php": 403, "/a%2ephp": 403, "/b/a.php": 403, "/a": "web"},
        ),
        (rf"location ~* \.PHP$ {{ {API} }} location / {{ {WEB} }}", {"/a.php": API_NAME, "/a.phpx": "web"}),
        (r"location ~ /\. { return 404; } location / { proxy_pass http://web; }", {"/.git/x": 404, "/x": "web"}),
        (
            rf"location ~ \.php$ {{ deny all; }} location /api/ {{ {API} }}",
            {"/api/a.php": 403, "/api/a": API_NAME, "/a.php": 403},
        ),
        (rf"location ~ \.php$ {{ deny all; }} location ^~ /api/ {{ {API} }}", {"/api/a.php": API_NAME, "/a.php": 403}),
        (rf"location ~ \.php$ {{ deny all; }} location = /a.php {{ {WEB} }}", {"/a.php": "web", "/b.php": 403}),
        (rf"location ~ ^/a {{ {WEB} }} location ~ ^/ab {{ deny all; }}", {"/ab": "web", "/b": 404}),
        (rf"location ~ ^/(?<n>a|b)/ {{ {API} }} location / {{ {WEB} }}", {"/a/x": API_NAME, "/c/": "web"}),
        (f"location ~ ^/api/ {{ {API} }} location /api/admin/ {{ deny all; }}", {"/api/admin/x": API_NAME, "/api/x": API_NAME}),
        (f"location ^~ / {{ deny all; }} location ~ ^/api/ {{ {API} }}", {"/api/x": 403}),
        (
            f"location /admin {{ deny all; }} location / {{ {WEB} }}",
            {"/admin": 403, "/adminer": 403, "/admin/x": 403, "/a": "web"},
        ),
        (
            f"location /in {{ allow 10.0.0.0/8; deny all; {WEB} }} location / {{ {WEB} }}",
            {"/in": 403, "/inner": 403, "/a": "web"},
        ),
        (f"location /f/ {{ root /var; auth_basic off; allow 10.0.0.0/8; deny all; }} location / {{ {WEB} }}", {"/f/x": 403}),
        (f"location /j/ {{ auth_jwt x; {WEB} }} location / {{ {WEB} }}", {"/j/x": 403, "/": "web"}),
        (f"location /m/ {{ limit_except GET {{ deny all; }} {WEB} }} location / {{ {WEB} }}", {"/m/x": 403, "/": "web"}),
        (f"if ($host = old.example) {{ return 403; }} location / {{ {WEB} }}", {"/": "web"}),
        (f"if ($http_x_key != secret) {{ return 403; }} location / {{ {WEB} }}", {"/": 403, "/api": 403}),
        (f"if ($uri ~ ^/wp) {{ return 404; }} location / {{ {WEB} }}", {"/wp-login": 404, "/": "web"}),
        (f"location / {{ if ($request_method !~ ^(POST|PUT)$) {{ return 405; }} {WEB} }}", {"/": 405}),
        (
            f"location / {{ if ($http_user_agent ~* bot) {{ return 403; }} {WEB} }} location /a/ {{ {API} }}",
            {"/": "web", "/a/": API_NAME},
        ),
        (f"return 410; location / {{ {WEB} }}", {"/": 410, "/x": 410}),
        (f"location /x/ {{ return 301 https://$1.example/; }} location / {{ {WEB} }}", {"/x/y": 403, "/": "web"}),
    ],
)
def test_the_location_counts_that_counts_in_nginx(locations: str, answers: dict[str, object]) -> None:
    """Regular expressions were only noted: what `location ~ \\.php$ { deny all; }` refuses was let in."""
    document, _ = converted(site(f"{locations} location /last/ {{ {API} }}"))
    assert {path: taken(document, f"http://h{path}") for path in answers} == answers


def test_an_if_asks_what_routes_do() -> None:
    document, _ = converted(
        site(
            f"if ($host = old.example) {{ return 301 https://new.example$request_uri; }} location / {{ {WEB} }}"
            " location /p/ { if ($http_user_agent ~* bot) { return 403; }"
            " if ($cookie_s != 1) { return 401; } proxy_pass http://web; }"
        )
    )
    assert taken(document, "http://old.example/p/")["host"] == "new.example"
    assert taken(document, "http://h/p/", User_Agent="aBot", Cookie="s=1") == 403
    assert taken(document, "http://h/p/", User_Agent="me") == 401
    assert taken(document, "http://h/p/", User_Agent="me", Cookie="a=b; s=1") == "web"


@pytest.mark.parametrize(
    "location",
    [
        "if ($bad_agent) { return 403; }",
        "if ($invalid_referer) { return 403; }",
        "location / { if (-f $request_filename) { return 404; } proxy_pass http://web; }",
        r"location ~ ^/(?R)x { deny all; }",
    ],
)
def test_a_file_that_refuses_what_cannot_be_said_is_not_converted(location: str) -> None:
    with pytest.raises(NotReadable, match=r"line [23]: .*convert again"):
        read_nginx(site(location))


def test_what_a_server_has_no_location_for_goes_to_no_other_server() -> None:
    """It fell through to the routes of the default server, whose backend nginx never asks for this host."""
    document, _ = converted(
        f"server {{ listen 80 default_server; location / {{ {WEB} }} }} upstream web {{ server 10.0.0.1; }}"
        f" server {{ listen 80; server_name a.example; location /api/ {{ {API} }} }}"
    )
    assert taken(document, "http://a.example/api/x") == API_NAME
    assert taken(document, "http://a.example/x") == 404
    assert taken(document, "http://h/x") == "web"


@pytest.mark.parametrize(
    "rewrite",
    [
        "rewrite ^/api/(.*)$ /$1;",
        "rewrite ^/api/(.*)$ /$1 last;",
        "rewrite ^/api/(.*)$ /$1?a=b break;",
        "rewrite ^/other/(.*)$ /$1 break;",
        "rewrite ^/api(.*)$ /$1 break;",
        "rewrite ^/api/(.*)$ /v2$1 break;",
        "rewrite ^/api/(.*)$ /a/$1 break; rewrite ^/a/(.*)$ /b/$1 break;",
    ],
)
def test_a_rewrite_that_is_no_other_prefix_is_told(rewrite: str) -> None:
    locations = f"location /api/ {{ {rewrite} proxy_pass http://web; }} location / {{ proxy_pass http://web; }}"
    document, notes = converted(site(locations))
    assert document["routes"][0] == {"path": "/api/", "to": "web"}
    assert any(text.startswith("rewrite") for _, text in notes)
