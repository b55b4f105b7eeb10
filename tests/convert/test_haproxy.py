"""haproxy.cfg, made into backends.json that is right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.config.model import parse
from smartedge.convert.haproxy import read_haproxy
from smartedge.convert.words import NotReadable
from tests.convert.asked import taken

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
        (" acl a path_beg /a\n use_backend api if a", [5]),
        (" acl a hdr_beg(host) a.\n use_backend api if a", [5, 6]),
        (" acl a hdr(host) -m reg ^a\n use_backend api if a", [5, 6]),
        (" acl a src -f /etc/list\n use_backend api if !a", [5, 6]),
        (" use_backend api if { path_beg /a }", [5]),
        (" use_backend api if { path_beg /a/", [5]),
        (" use_backend api unless !{ path_beg /a/ }", [5]),
        (" use_backend api if a", [5]),
        (" use_backend api if { path_reg (?R) }", [5, 5]),
        (" http-response set-header X-A %[src]", [5]),
        (" http-request set-header X-A %[ssl_c_s_dn(cn)]", [5]),
        (" http-request redirect location /x?y=z", [5]),
        (" http-request redirect location http://%[var(a)]/ if { path /x }", [5]),
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
    ("first", "second"),
    [
        ("path_beg /img/", "hdr(host) shop.example"),
        ("path_end .php", "path_beg /api/"),
    ],
)
def test_the_first_rule_wins_where_a_later_one_is_narrower(first: str, second: str) -> None:
    """It was told, and requests went elsewhere than in HAProxy."""
    document, notes = converted(front(f" use_backend web if {{ {first} }}\n use_backend api if {{ {second} }}"))
    both = "http://shop.example/img/big/x" if "img" in first else "http://x/api/a.php"
    assert taken(document, both) == "web"
    assert notes == []


ADMIN = " acl adm path_beg /admin\n acl inside src 10.0.0.0/8\n"


@pytest.mark.parametrize(
    ("rules", "answers"),
    [
        ("http-request deny if { path_beg /admin }", {"/admin": 403, "/adminer": 403, "/%61dmin/": 403, "/a": "web"}),
        ("http-request deny if { path_end .php }", {"/a.php": 403, "/a/b%2ephp": 403, "/api/a.php": 403, "/a": "web"}),
        ("http-request deny if { path /x } or { path -i /y } { method POST }", {"/x": 403, "/Y": "web", "/a": "web"}),
        ("http-request deny unless { path_beg /api/ }", {"/api/x": "api", "/api": 403, "/a": 403}),
        ("http-request deny if !{ path_reg ^/(api|x)/ }", {"/api/x": "api", "/x/y": "web", "/y": 403}),
        ("http-request tarpit if { path_sub wp- }", {"/wp-admin": 500, "/a": "web"}),
        ("http-request deny deny_status 404 if { path,lower -m beg /adm }", {"/ADMIN": 404, "/a": "web"}),
        (r"http-request deny if { path_reg \.php$ }", {"/a.php": 403, "/aphp": "web"}),
        ("block if { path_dir .git }", {"/x/.git/y": 403, "/.gitx": "web"}),
        ("tcp-request content reject if { src 192.0.2.0/24 }", {"/": 403, "/api/": 403}),
        (f"{ADMIN} http-request deny if adm !inside", {"/admin": 403, "/a": "web", "/api/a": "api"}),
        (f"{ADMIN} http-request deny if adm inside", {"/admin": "web", "/a": "web", "/api/a": "api"}),
        (f"{ADMIN} http-request allow if inside\n http-request deny if adm", {"/admin": 403, "/a": "web"}),
        ("http-request allow if { path /ok }\n http-request deny", {"/ok": "web", "/api/": 403, "/": 403}),
        ("http-request return status 410 if { path_beg /old }", {"/old/x": 410, "/": "web"}),
        ("monitor-uri /up", {"/up": 200, "/up/x": "web"}),
        (f"{ADMIN} http-request deny if adm {{ src -f /etc/list }}", {"/admin": 403, "/a": "web"}),
        (f"{ADMIN} http-request deny if adm !{{ lua.ok }}", {"/admin": 403, "/a": "web"}),
        ("http-request redirect location http://%[var(a)]/ if { path /x }", {"/x": 403, "/y": "web"}),
        ("redirect scheme https code 301 if !{ ssl_fc }", {"/x": {"scheme": "https", "status": 301}}),
    ],
)
def test_what_haproxy_refuses_is_refused(rules: str, answers: dict[str, object]) -> None:
    """`http-request deny` was noted alone, so that what was refused was let in."""
    document, _ = converted(front(f" {rules}\n use_backend api if {{ path_beg /api/ }}"))
    assert {path: taken(document, f"http://h{path}") for path in answers} == answers


def test_who_is_inside_may_come_in() -> None:
    for rules in ("http-request deny if adm !inside", "http-request allow if inside\n http-request deny if adm"):
        document, _ = converted(front(f"{ADMIN} {rules}"))
        assert taken(document, "http://h/admin", client="10.1.2.3") == "web"
        assert taken(document, "http://h/admin") == 403


def test_what_a_backend_refuses_holds_for_what_comes_to_it() -> None:
    backends = (
        "backend web\n http-request deny if { path_beg /admin }\n server w1 10.0.0.1:80\nbackend api\n server a1 10.0.1.1:80\n"
    )
    document, _ = converted(front(" use_backend api if { hdr(host) a.example }", backends))
    assert taken(document, "http://h/admin") == 403
    assert taken(document, "http://a.example/admin") == "api"


def test_without_a_default_backend_nothing_else_comes_in() -> None:
    document, _ = converted(
        "frontend f\n bind :80\n mode http\n use_backend w if { path_beg /a/ }\nbackend w\n mode http\n server w 10.0.0.1:80\n"
    )
    assert document["routes"] == [{"path": "/a", "to": "w"}, {"respond": {"status": 503}}]


@pytest.mark.parametrize(
    "rule",
    [
        "http-request deny if { src -f /etc/blocked }",
        "http-request deny unless { src -f /etc/allowed }",
        "http-request deny if { sc_conn_rate(0) gt 10 }",
        "http-request deny if { path_beg /a } or { lua.bad }",
        "http-request deny if {",
        "http-request deny if { path_reg a{9999999999} }",  # Python counts less far
        "http-request deny if { hdr(x) -m reg a{9999999999} }",
        "http-request auth unless { src -f /etc/list }",
        "tcp-request connection reject if { src_is_bad }",
        "reqideny ^x",
    ],
)
def test_a_file_that_refuses_what_cannot_be_said_is_not_converted(rule: str) -> None:
    with pytest.raises(NotReadable, match=r"line 5: .*would be let in"):
        read_haproxy(front(f" {rule}"))


def test_a_password_is_asked_for_where_haproxy_asks_for_one() -> None:
    """It was noted alone, so that nobody was asked."""
    draft = read_haproxy(
        front(
            " acl ok http_auth(people)\n http-request auth realm Staff if { path_beg /staff/ } !ok\n"
            " use_backend api if { path_beg /staff/api/ }",
        )
    )
    guard = {"basic_auth": {"file": "haproxy.htpasswd", "realm": "Staff"}}
    assert draft.routes == [
        {"path": "/staff/api", "to": "api"} | guard,
        {"path_regex": "^/staff/", "to": "web"} | guard,
        {"to": "web"},
    ]
    assert [note.line for note in draft.notes] == [6]


def test_a_rate_is_a_rate_limit() -> None:
    document, notes = converted(
        front(
            " stick-table type ip size 1m expire 1m store http_req_rate(10s)\n http-request track-sc0 src\n"
            " http-request deny deny_status 429 if { sc_http_req_rate(0) gt 50 }"
        )
    )
    assert document["rate_limit"] == {"per_s": 5, "burst": 50}
    assert [line for line, _ in notes] == [7]


def test_what_is_changed_in_requests_and_answers() -> None:
    document, notes = converted(
        front(
            " http-request set-header X-Who %[src]\n http-request del-header X-User\n"
            " http-request set-header X-Forwarded-Proto https\n"
            " http-response del-header Server\n http-response set-header X-By us\n use_backend api if { path_beg /api/ }",
            "backend web\n server w1 10.0.0.1:80\nbackend api\n http-request replace-path /api/(.*) /\\1\n"
            " http-response set-header X-By api\n server a1 10.0.1.1:80\n",
        )
    )
    edits = {
        "remove_headers": ["X-User"],
        "set_headers": {"X-Who": "{client}"},
        "remove_answer_headers": ["Server"],
        "set_answer_headers": {"X-By": "us"},
    }
    assert document["routes"] == [{"path": "/api", "to": "api", "strip_prefix": True} | edits, {"to": "web"} | edits]
    assert notes == []


def test_of_several_fronts_one_is_taken_and_the_others_are_told() -> None:
    """All were one table, so that what only an inner address served was served to everybody."""
    document, notes = converted(
        "defaults\n mode http\nfrontend a\n bind :80\n use_backend w if { path_beg /a/ }\nfrontend inner\n bind 127.0.0.1:81\n"
        " default_backend w\nlisten stats\n bind :82\n stats enable\nlisten redis\n mode tcp\n bind :83\n"
        " server r 10.0.0.3:6379\n"
        "backend w\n server w 10.0.0.1:80\n"
    )
    assert document["routes"] == [{"path": "/a", "to": "w"}, {"respond": {"status": 503}}]
    assert notes == [(12, "listen redis"), (6, "frontend inner")]


@pytest.mark.parametrize(
    ("server", "backend"),
    [
        ("a [2001:db8::1]:80", "http://[2001:db8::1]:80"),
        ("a 2001:db8::1:80", "http://[2001:db8::1]:80"),
        ("a ipv4@10.0.0.1:80", "http://10.0.0.1:80"),
        ("a unix@/run/a.sock", "unix:/run/a.sock"),
        ("a h:80 weight 0", {"url": "http://h:80", "weight": 0}),
        ("a h:80 check port 81", {"url": "http://h:80", "health": {"port": 81}}),
        ("a h:80 resolvers dns init-addr none", "http://h:80"),
    ],
)
def test_addresses_and_words_of_servers(server: str, backend: Any) -> None:
    document, notes = converted(f"listen w\n mode http\n bind :80\n server {server}\n")
    assert document["backends"] == [({"url": backend} if isinstance(backend, str) else backend) | {"id": "a"}]
    assert notes == []


def test_backends_that_dns_tells() -> None:
    document, _ = converted("listen w\n mode http\n bind :80\n server-template w 3 app.local:80 check resolvers d maxconn 9\n")
    assert document["discover"] == {"dns": {"name": "app.local", "port": 80, "defaults": {"max_in_flight": 9}}}


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
