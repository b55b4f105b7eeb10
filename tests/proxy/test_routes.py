"""The table of routes: which one wins, that no rule is walked around, and why each other one was not taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.errors import ClientError
from smartedge.http.headers import RequestFields
from smartedge.http.request import Request, origin_form
from smartedge.proxy.networks import Networks
from smartedge.proxy.route import Route
from smartedge.proxy.route_match import RouteMatch, Wanted
from smartedge.proxy.routes import LONGEST_SPELLING, MOST_HOSTS, RouteTable
from tests.house import request_for as request


def route(
    label: str,
    *hosts: str,
    path: str = "",
    exact: bool = False,
    methods: Sequence[str] = (),
    headers: dict[str, str] | None = None,
    query: dict[str, str] | None = None,
    clients: Sequence[str] | None = None,
    regex: str | None = None,
) -> Route:
    match = RouteMatch(
        tuple(host.encode() for host in hosts),
        path.encode(),
        exact,
        frozenset(method.encode() for method in methods),
        conditions(headers),
        conditions(query),
        None if clients is None else Networks(clients),
        path_regex=None if regex is None else re.compile(regex.encode()),
    )
    return Route(label, match)


def conditions(texts: dict[str, str] | None) -> tuple[tuple[bytes, Wanted], ...]:
    return tuple(
        (name.encode(), re.compile(text[1:].encode()) if text[:1] == "~" else text.encode())
        for name, text in (texts or {}).items()
    )


def table(*routes: Route) -> RouteTable:
    return RouteTable(routes, lambda request: request.peer)


def taken(routes: RouteTable, asked: Request) -> str | None:
    found = routes.find(asked)
    return None if found is None else found.id


# ---- hosts ----

HOSTS = table(
    route("any"),
    route("below", "*.shop.example"),
    route("far below", "*.img.shop.example"),
    route("shop", "shop.example"),
    route("other", "other.example", path="/only"),
    route("address", "[::1]"),
)


@pytest.mark.parametrize(
    ("host", "label"),
    [
        ("shop.example", "shop"),
        ("SHOP.example:8443", "shop"),
        ("shop.example.", "shop"),
        ("www.shop.example", "below"),
        ("a.b.shop.example:80", "below"),
        ("A.Img.Shop.Example", "far below"),
        ("img.shop.example", "below"),
        ("notshop.example", "any"),
        (".shop.example", "any"),
        ("example", "any"),
        ("other.example", "any"),
        ("[::1]:8080", "address"),
        (None, "any"),
        ("a." * 150 + "shop.example", "any"),
    ],
)
def test_an_exact_host_goes_before_a_wildcard_and_that_before_none(host: str | None, label: str) -> None:
    for _ in range(2):  # the second time from memory
        assert taken(HOSTS, request("/", host)) == label


def test_a_host_that_no_route_knows_gets_none() -> None:
    routes = table(route("shop", "shop.example"), route("below", "*.shop.example"))
    assert taken(routes, request("/", "other.example")) is None
    assert not routes.knows(b"other.example")
    assert routes.knows(b"WWW.shop.example:1")
    assert HOSTS.knows(b"other.example")


def test_a_name_in_two_routes_falls_through_to_the_wildcard_where_the_path_does_not_fit() -> None:
    routes = table(route("below", "*.example"), route("api", "shop.example", path="/api"), route("any"))
    assert taken(routes, request("/api/x")) == "api"
    assert taken(routes, request("/apis")) == "below"
    assert taken(routes, request("/apis", "example")) == "any"


def test_a_thousand_hosts_a_second_take_no_memory() -> None:
    routes = table(route("any"))
    for number in range(3 * MOST_HOSTS):
        assert taken(routes, request("/", f"h{number}.example")) == "any"
        assert len(routes._remembered) <= MOST_HOSTS
    assert taken(routes, request("/", "x" * 10_000)) == "any"
    assert all(host is None or len(host) <= LONGEST_SPELLING for host in routes._remembered)


# ---- paths ----

PATHS = table(
    route("all"),
    route("api", path="/api"),
    route("users", path="/api/v1/users"),
    route("me", path="/api/v1/users/me", exact=True),
    route("root", path="/", exact=True),
)


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("/", "root"),
        ("/?a=/api", "root"),
        ("/x", "all"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api?x", "api"),
        ("/apis", "all"),
        ("/api/v1/user", "api"),
        ("/api/v1/users", "users"),
        ("/api/v1/users/17/orders", "users"),
        ("/api/v1/users/me", "me"),
        ("/api/v1/users/me/", "users"),
        ("/api/v1/usersx/me", "api"),
        ("/x/api", "all"),
        ("*", "all"),
    ],
)
def test_an_exact_path_goes_before_the_longest_prefix_of_whole_segments(target: str, label: str) -> None:
    assert taken(PATHS, request(target)) == label


class Counted(dict[bytes, Any]):
    """Counts how often something is looked up."""

    looks = 0

    def get(self, key: bytes, default: Any = None) -> Any:
        self.looks += 1
        return super().get(key, default)


def test_a_path_of_thousands_of_segments_is_cut_to_what_the_routes_have() -> None:
    routes = table(route("all"), route("api", path="/api"), route("users", path="/api/v1/users"))
    (of_any_host,) = routes._any
    counted = of_any_host.prefixes = Counted(of_any_host.prefixes)
    assert taken(routes, request("/api" + "/a" * 4000)) == "api"
    assert taken(routes, request("/a" * 4000)) == "all"
    assert counted.looks < 20


# ---- what else is asked ----


def test_a_method_goes_before_headers_and_those_before_the_query_and_that_before_the_client_and_the_file() -> None:
    routes = table(
        route("last", path="/a"),
        route("client", path="/a", clients=["192.0.2.0/24"]),
        route("query", path="/a", query={"q": "1"}),
        route("header", path="/a", headers={"x-a": "1"}),
        route("headers", path="/a", headers={"x-a": "1", "x-b": "~^[0-9]+$"}),
        route("method", path="/a", methods=["GET", "HEAD"]),
    )
    assert taken(routes, request("/a?q=1", X_a="1", X_b="22")) == "method"
    assert taken(routes, request("/a?q=1", X_a="1", X_b="22", method="PUT")) == "headers"
    assert taken(routes, request("/a?q=1", X_a="1", X_b="x", method="PUT")) == "header"
    assert taken(routes, request("/a?x=&q=1&q=2", X_a="2", method="PUT")) == "query"
    assert taken(routes, request("/a?q=2&q=1", method="PUT")) == "client"
    assert taken(routes, request("/a", method="PUT", peer="198.51.100.7")) == "last"
    assert taken(routes, request("/a", method="PUT", peer="unix")) == "last"


def test_of_two_that_fit_alike_the_first_of_the_file_is_taken() -> None:
    one, other = route("one", headers={"x-a": "1"}), route("other", headers={"x-b": "1"})
    assert taken(table(one, other), request(X_a="1", X_b="1")) == "one"
    assert taken(table(other, one), request(X_a="1", X_b="1")) == "other"


def test_the_address_that_a_trusted_proxy_tells_is_the_client() -> None:
    routes = RouteTable((route("inside", clients=["10.0.0.0/8"]), route("all")), lambda request: b"10.1.2.3")
    assert taken(routes, request(peer="192.0.2.1")) == "inside"


# ---- regular expressions ----

PATTERNS = table(
    route("all"),
    route("php", regex="(?i)[.]php$"),
    route("put php", regex="(?i)[.]php$", methods=["PUT"]),
    route("static", path="/static", regex="^/static/(img|css)/"),
    route("files", path="/files"),
    route("just", path="/just.php", exact=True),
)


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("/index.php", "php"),
        ("/INDEX.PHP?a=b", "php"),
        ("/x?y=.php", "all"),
        ("/x/../index.php", "php"),
        ("/index%2ephp", "php"),
        ("/index.%70hp", "php"),
        ("/index.php;x", "php"),
        ("/a%2fb.php", "php"),
        ("/index.php/", "all"),
        ("/index.php%0a", "php"),  # as PCRE has it
        ("/static/img/a", "static"),
        ("//static/./img/a", "static"),
        ("/static/other", "all"),
        ("/static/a.php", "php"),
        ("/files/a.php", "files"),
        ("/just.php", "just"),
        ("/index%252ephp", "refused"),
        ("/static%2fimg/a", "refused"),
    ],
)
def test_a_regular_expression_is_looked_for_in_the_decoded_path(target: str, label: str) -> None:
    if label == "refused":
        with pytest.raises(ClientError):
            PATTERNS.find(request(target))
    else:
        assert taken(PATTERNS, request(target)) == label


def test_of_routes_with_one_path_the_one_with_a_regular_expression_goes_first() -> None:
    assert taken(PATTERNS, request("/a.php", method="PUT")) == "put php"
    routes = table(route("put", methods=["PUT"]), route("php", regex="[.]php$"), route("any php", regex="php"))
    assert taken(routes, request("/a.php", method="PUT")) == "php"
    assert taken(routes, request("/a/php", method="PUT")) == "any php"
    assert taken(routes, request("/a", method="PUT")) == "put"
    assert [verdict.why_not for verdict in routes.explain(request("/a%2Ex", method="PUT"))] == [
        "",
        'the path is "/a.x", in which ~[.]php$ is not found',
        'the path is "/a.x", in which ~php is not found',
    ]


def test_a_regular_expression_hides_a_route_with_the_same_one_alone() -> None:
    routes = table(route("php", regex="php"), route("put php", regex="php", methods=["PUT"]), route("get", methods=["GET"]))
    assert routes.never_taken() == []
    routes = table(route("one", regex="php"), route("two", regex="php"), route("other", regex="phpx"), route("rest"))
    assert [(one.id, other.id) for one, other in routes.never_taken()] == [("two", "one")]


# ---- tricks ----

GUARDED = table(
    route("all"),
    route("admin", path="/admin"),
    route("public", path="/public"),
    route("api", path="/api"),
    route("below admin", path="/admin/public"),
    route("user", path="/@user"),
)

TRICKS = [
    # what all who read paths take for /admin
    ("/admin", "admin"),
    ("//admin", "admin"),
    ("/api/../admin", "admin"),
    ("/api/%2e%2e/admin", "admin"),
    ("/api/.%2E/admin", "admin"),
    ("/./admin", "admin"),
    ("/%61dmin", "admin"),
    ("/%61%64%6D%69%6e/users", "admin"),
    ("/admin/.", "admin"),
    ("/../admin", "admin"),
    ("/admin;x=1", "admin"),
    ("/admin;x=1/users", "admin"),
    ("/admin?x=/../../public", "admin"),
    ("/admin/public//x", "below admin"),
    ("/public/x/../../admin", "admin"),
    ("/%40user", "user"),
    # what some take for it, and others not: refused
    ("/%2fadmin", "refused"),
    ("/admin%2fusers", "refused"),
    ("/x%2f..%2fadmin", "refused"),
    ("/public/..%2fadmin", "refused"),
    ("/public/..%252fadmin", "refused"),
    ("/\\admin", "refused"),
    ("/admin\\users", "refused"),
    ("/public\\..\\admin", "refused"),
    ("/public/..%5cadmin", "refused"),
    ("/%2561dmin", "refused"),
    ("/public/..;/admin", "refused"),
    ("/admin/..;/x", "refused"),
    ("/admin//../x", "refused"),
    ("/admin%00", "refused"),
    ("/public%00/../admin", "refused"),
    ("/%252e%252e/admin", "refused"),
    # unusual, but all go the same way
    ("/api/v4/projects/group%2Fproject", "api"),
    ("/api/a%20b", "api"),
    ("/api/a\\b", "api"),
    ("/api/100%25", "api"),
    ("/%zz", "all"),
    # other paths
    ("/ADMIN", "all"),
    ("/admins", "all"),
    ("/x/admin", "all"),
    ("/...", "all"),
    ("/%c0%ae%c0%ae/admin", "refused"),
]


@pytest.mark.parametrize(("target", "label"), TRICKS)
def test_no_rule_is_walked_around(target: str, label: str) -> None:
    asked = request(target)
    if label == "refused":
        with pytest.raises(ClientError) as caught:
            GUARDED.find(asked)
        assert caught.value.status == 400
    else:
        assert taken(GUARDED, asked) == label
    assert asked.target == target.encode()  # what goes on is what came


def test_the_host_of_an_absolute_target_goes_before_the_field() -> None:
    """RFC 9112 section 3.2.2: such a client would otherwise choose its rules by a field that its backend does not see."""
    asked = request("/", "public.example")
    target, authority = origin_form(b"http://Admin.example:80/x/../y")
    assert authority is not None
    asked.target, asked.fields = target, asked.fields.with_host(authority)
    routes = table(route("public", "public.example"), route("admin", "admin.example", path="/y"))
    assert taken(routes, asked) == "admin"


# ---- for people ----


def test_a_route_is_explained_by_why_each_other_one_was_not_taken() -> None:
    routes = table(
        route("other", "other.example", "*.other.example"),
        route("root", "shop.example", path="/", exact=True),
        route("api", "shop.example", path="/api"),
        route("post", "shop.example", methods=["POST", "PUT"]),
        route("beta", "shop.example", headers={"x-beta": "1"}),
        route("phone", "shop.example", headers={"user-agent": "~iPhone|Android"}),
        route("new", "shop.example", query={"v": "2"}),
        route("inside", "shop.example", clients=["10.0.0.0/8"]),
        route("old", "shop.example", query={"v": "1"}),
        route("shop", "shop.example"),
        route("below", "*.example"),
        route("any"),
    )
    verdicts = routes.explain(request("/apis?v=1", User_Agent="curl", X_beta="2"))
    assert {verdict.route.id: verdict.why_not for verdict in verdicts} == {
        "other": "the host is shop.example, not other.example or *.other.example",
        "root": "the path is /apis, not just /",
        "api": "the path is /apis, not /api or below",
        "post": "the method is GET, not POST or PUT",
        "beta": 'the header x-beta is "2", not "1"',
        "phone": 'the header user-agent is "curl", in which ~iPhone|Android is not found',
        "new": 'the parameter v is "1", not "2"',
        "inside": "the client 192.0.2.1 is not in 10.0.0.0/8",
        "old": "",
        "shop": '"old" goes before it: it asks for more',
        "below": '"old" goes before it: its host is closer',
        "any": '"old" goes before it: its host is closer',
    }
    first, second = table(route("a", query={"v": "1"}), route("b", query={"w": "1"})).explain(request("/?v=1&w=1"))
    assert (first.why_not, second.why_not) == ("", '"a" goes before it: it comes first in the file')
    (longer, shorter) = table(route("a", path="/a/b"), route("b", path="/a")).explain(request("/a/b"))
    assert (longer.why_not, shorter.why_not) == ("", '"a" goes before it: its path is closer')
    (missing,) = table(route("a", "a.example", headers={"x": "1"})).explain(request(host="a.example"))
    assert missing.why_not == "the header x is missing"
    (none,) = table(route("a", "a.example")).explain(request(host=None))
    assert none.why_not == "the host is missing, not a.example"


def test_routes_that_can_never_match_are_found() -> None:
    routes = table(
        route("all", "a.example", "b.example", methods=["GET", "PUT"]),
        route("put", "a.example", methods=["PUT"]),
        route("both", "b.example", "c.example", methods=["PUT"]),
        route("more", "a.example", methods=["PUT"], headers={"x": "1"}),
        route("wide", clients=["10.0.0.0/8"]),
        route("narrow", clients=["10.1.0.0/16"]),
        route("other", clients=["10.1.0.0/16", "192.0.2.1/32"]),
        route("rest"),
    )
    assert [(one.id, other.id) for one, other in routes.never_taken()] == [("put", "all"), ("narrow", "wide")]


NAMES = st.sampled_from(["a.example", "*.a.example", "b.a.example", "*.example"])
ROUTES = st.lists(
    st.builds(
        lambda hosts, path, exact, method, header: (hosts, path, exact, method, header),
        st.lists(NAMES, max_size=2, unique=True),
        st.sampled_from(["", "/x", "/x/y", "/z"]),
        st.booleans(),
        st.sampled_from([(), ("GET",), ("PUT",)]),
        st.sampled_from([None, {"x-a": "1"}]),
    ),
    max_size=12,
)


@given(ROUTES, st.randoms(use_true_random=False))
def test_the_table_finds_what_the_rule_says_and_explains_the_same(found: list[tuple[object, ...]], rng: Random) -> None:
    """The rule read plainly: all that fit, sorted by host, path, method, headers, file."""
    routes = [
        route(str(i), *hosts, path=path, exact=exact and bool(path), methods=methods, headers=headers)  # type: ignore
        for i, (hosts, path, exact, methods, headers) in enumerate(found)
    ]
    made = table(*routes)
    for _ in range(5):
        host = rng.choice(["a.example", "b.a.example", "c.b.a.example", "other.example", "example"])
        path = rng.choice(["/", "/x", "/x/", "/x/y", "/xy", "/z/x/y"])
        asked = request(path, host, rng.choice(["GET", "PUT"]), **rng.choice([{}, {"X_A": "1"}]))
        fitting = []
        for index, one in enumerate(routes):
            match = one.match
            names = [h.decode() for h in match.hosts]
            fit = [h for h in names if h == host or (h[0] == "*" and host.endswith(h[1:]))]
            prefix = match.path.decode()
            path_fits = path == prefix if match.exact else (path + "/").startswith(prefix + "/")
            if (fit or not names) and path_fits and match.lacking(asked, path.encode(), lambda request: request.peer) is None:
                host_rank = min(((h[0] == "*", -len(h)) for h in fit), default=(2, 0))
                fitting.append((host_rank, not match.exact, -len(prefix), not match.methods, -len(match.headers), index))
        expected = str(min(fitting)[-1]) if fitting else None
        assert taken(made, asked) == expected
        verdicts = made.explain(asked)
        assert [verdict.route.id for verdict in verdicts if not verdict.why_not] == ([] if expected is None else [expected])


def test_a_method_counts_in_any_case_as_frameworks_read_it() -> None:
    routes = table(route("deny", path="/admin", methods=["POST"]), route("all"))
    assert taken(routes, request("/admin", method="post")) == "deny"
    assert taken(routes, request("/admin", method="GET")) == "all"


def test_a_query_may_hold_any_bytes() -> None:
    routes = table(route("asked", query={"q": "é"}), route("any"))
    assert taken(routes, Request(b"GET", b"/?q=\xff&\xfe", 11, b"", RequestFields(b""), b"1.1.1.1", False)) == "any"
    assert taken(routes, Request(b"GET", b"/?q=\xc3\xa9", 11, b"", RequestFields(b""), b"1.1.1.1", False)) == "asked"
    assert taken(routes, Request(b"GET", b"/?&x&q=%c3%a9&q=2", 11, b"", RequestFields(b""), b"1.1.1.1", False)) == "asked"


def test_no_client_chooses_a_route_by_a_certificate_that_it_has_not_shown() -> None:
    routes = table(route("ann", headers={"x-client-cert-subject": "CN=ann"}), route("all"))
    asked = request("/", X_Client_Cert_Subject="CN=ann")
    assert taken(routes, asked) == "all"
    asked.fields = asked.fields.with_certificate(b"X-Client-Cert-Subject: CN=ann\r\n")
    assert taken(routes, asked) == "ann"
