from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.config import values
from smartedge.workers.membership import MAX_ROWS


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("http://localhost:8081", "http://localhost:8081"),
        ("http://localhost:8081/", "http://localhost:8081"),
        ("HTTP://LocalHost:8081", "http://localhost:8081"),
        ("https://example.com", "https://example.com"),
        ("http://example.com:80", "http://example.com:80"),
        ("http://10.0.0.1:00080", "http://10.0.0.1:80"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("http://[FE80::1]", "http://[fe80::1]"),
        ("http://my_service.default.svc.", "http://my_service.default.svc."),
        ("http://A/App", "http://a/App"),
        ("https://a:8443/app/v1/", "https://a:8443/app/v1"),
        ("http://a/~u/%41;x=1,@:", "http://a/~u/%41;x=1,@:"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("UNIX:///run/app.sock", "unix:/run/app.sock"),
        ("unix:/run/App.sock:/app/", "unix:/run/App.sock:/app"),
        ("unix:/run/app.sock:/", "unix:/run/app.sock"),
        (f"unix:/{'a' * 106}", f"unix:/{'a' * 106}"),
    ],
)
def test_a_backend_url_is_brought_into_normal_form(written: str, normal: str) -> None:
    assert values.backend_url(written) == normal
    assert values.backend_url(normal) == normal


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("localhost:8081", "has no scheme"),
        ("", "has no scheme"),
        ("ftp://a", "must start with http:// or https://"),
        ("://a", "must start with http:// or https://"),
        ("http://", "has no host"),
        ("http://:80", "has no host"),
        ("http:///x", "has no host"),
        ("http://a//", "has a path that is not like /app"),
        ("http://a//x", "has a path that is not like /app"),
        ("http://a/x//y", "has a path that is not like /app"),
        ("http://a/x/../y", "has a path that is not like /app"),
        ("http://a/.", "has a path that is not like /app"),
        ("http://a/%zz", "has a path that is not like /app"),
        ("http://a/x<y", "has a path that is not like /app"),
        ("http://u:p@a/x", "user name or password"),
        ("http://a/x?y", "query or a fragment"),
        ("http://unix:/run/app.sock", 'write "unix:/run/app.sock"'),
        ("unix:", "needs the whole path of a socket"),
        ("unix:run/app.sock", "needs the whole path of a socket"),
        ("unix:/", "needs the whole path of a socket"),
        ("unix:/run/", "needs the whole path of a socket"),
        ("unix://run/app.sock", "needs the whole path of a socket"),
        ("unix:/run/app.sock:", "needs a path after the colon"),
        ("unix:/run/app.sock:app", "needs a path after the colon"),
        ("unix:/run/app.sock:/a//b", "has a path that is not like /app"),
        ("unix:/run/app.sock?x", "must not hold any of the characters ? # @"),
        ("unix:/run/a b", "printable ASCII"),
        (f"unix:/{'a' * 107}", "longer than the 107 bytes"),
        ("http://a?x", "query or a fragment"),
        ("http://a/#x", "query or a fragment"),
        ("http://u@a", "user name or password"),
        ("http://a:", "needs a port from 1 to 65535"),
        ("http://a:x", "needs a port from 1 to 65535"),
        ("http://a:+1", "needs a port from 1 to 65535"),
        ("http://a:65536", "needs a port from 1 to 65535"),
        ("http://a:000080", "needs a port from 1 to 65535"),
        ("http://a:0", "has port 0"),
        ("http://::1:80", "in brackets"),
        ("http://[::1", 'is not like "[::1]:8080"'),
        ("http://[::1]80", 'is not like "[::1]:8080"'),
        ("http://[10.0.0.1]", "no valid IPv6 address"),
        ("http://[fe80::1%25eth0]", "must not name a network interface"),
        ("http://10.0.0.256", "no valid IPv4 address"),
        ("http://127.1", "no valid IPv4 address"),
        ("http://-a", "names do not have"),
        ("http://a..b", "names do not have"),
        ("http://a\\b", "names do not have"),
        (f"http://{'a' * 64}", "names do not have"),
        (f"http://{'a.' * 127}b", "names do not have"),
        ("http://a b", "printable ASCII"),
        ("http://a\n", "printable ASCII"),
        ("http://ü\n", "printable ASCII"),
        ("http://ü..de", "printable ASCII"),
        ("http://bücher.example:80", 'the host is "xn--bcher-kva.example" in ASCII'),
    ],
)
def test_a_url_that_is_none_for_a_backend_is_refused_with_the_reason(written: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.backend_url(written)
    assert said in str(caught.value)


def accepted(text: str) -> str | None:
    try:
        return values.backend_url(text)
    except ValueError:
        return None


@given(st.text())
def test_any_text_is_a_backend_url_or_a_value_error(text: str) -> None:
    for written in (text, f"http://{text}", f"unix:/{text}", f"http://a/{text}", f"https://a:{text}", f"http://[{text}]"):
        normal = accepted(written)
        if normal is not None:
            assert values.backend_url(normal) == normal
            assert values.origin(normal).port in range(1, 65536) or normal.startswith("unix:/")


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://a", ("http", "a", 80, "")),
        ("https://a", ("https", "a", 443, "")),
        ("https://a:80", ("https", "a", 80, "")),
        ("http://[::1]:1", ("http", "::1", 1, "")),
        ("http://a/app/v1", ("http", "a", 80, "/app/v1")),
        ("unix:/run/app.sock", ("unix", "/run/app.sock", 0, "")),
        ("unix:/run/app.sock:/app", ("unix", "/run/app.sock", 0, "/app")),
    ],
)
def test_an_origin_has_the_port_that_is_really_used(url: str, origin: tuple[str, str, int, str]) -> None:
    assert values.origin(url) == origin


@pytest.mark.parametrize(
    ("text", "address", "normal"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080), "127.0.0.1:8080"),
        ("localhost:0", ("localhost", 0), "localhost:0"),
        ("[::]:80", ("::", 80), "[::]:80"),
        ("LOCALHOST:080", ("localhost", 80), "localhost:80"),
    ],
)
def test_an_address_is_host_and_port(text: str, address: tuple[str, int], normal: str) -> None:
    assert values.address(text) == address
    assert values.bind_text(text) == normal


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8080", 'write "127.0.0.1:8080"'),
        (":8080", 'write "0.0.0.0:8080" for every interface'),
        ("localhost", "has no port"),
        ("::1:80", "in brackets"),
        ("a b:80", "is not HOST:PORT"),
        ("ä:80", "is not HOST:PORT"),
        ("a:80\n", "is not HOST:PORT"),
        ("a:99999", "needs a port"),
        ("http://a:80", "in brackets"),
        ("", "has no host"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.address(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "normal"), [("10.0.0.0/8", "10.0.0.0/8"), ("10.0.0.1", "10.0.0.1/32"), ("::1", "::1/128")])
def test_an_address_alone_is_a_network_too(text: str, normal: str) -> None:
    assert values.network(text) == normal


@pytest.mark.parametrize(
    ("text", "said"),
    [("10.0.0.1/8", 'the range is "10.0.0.0/8"'), ("x", "is not an address"), ("10.0.0.0/33", "is not an address")],
)
def test_a_network_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        values.network(text)
    assert said in str(caught.value)


def test_statuses_are_codes_classes_and_ranges_and_become_the_shortest_ranges() -> None:
    items = [values.status_item(item) for item in (204, "2xx", "3XX", "400-401", 402, 404)]

    assert values.status_ranges(items) == ("200-402", 404)
    assert values.status_codes(items) == frozenset(range(200, 403)) | {404}


@pytest.mark.parametrize("item", [99, 600, True, 200.0, "200", "0xx", "6xx", "299-200", "200-600", "", None, [], "²xx"])
def test_a_status_that_is_none_is_refused(item: object) -> None:
    with pytest.raises(ValueError, match="must be a status like 200"):
        values.status_item(item)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "ä", "a" * 65, "a\n"])
def test_a_label_has_plain_characters_only(text: str) -> None:
    assert values.label("A.b_c-9") == "A.b_c-9"
    with pytest.raises(ValueError, match="must be 1 to 64 of the characters"):
        values.label(text)


@pytest.mark.parametrize("text", ["", "health", "/a b", "/ä", "/a#b", "/a\r\nX: y"])
def test_a_health_path_goes_into_a_request_line(text: str) -> None:
    assert values.health_path("/health?full=1") == "/health?full=1"
    with pytest.raises(ValueError, match="must be a path"):
        values.health_path(text)


@pytest.mark.parametrize("text", ["", "  ", "a\nb", "\udc80", "\x00"])
def test_a_line_is_one_line_that_is_not_empty(text: str) -> None:
    assert values.line("/var/log/access log") == "/var/log/access log"
    with pytest.raises(ValueError, match="one line"):
        values.line(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", '"plain"'),
        ("http://me:secret@host", '"http://***@host"'),
        ("http://me:sec/re@t@host", '"http://***@host"'),
        ("me:secret@host", '"***@host"'),
        ("http://host?token=secret", '"http://host..."'),
        ("http://host#secret", '"http://host..."'),
        ("a\x1b[31m\ud800", '"a\\u001b[31m\\ud800"'),
        ("x" * 81, f'"{"x" * 80}..."'),
        (True, "true"),
        (None, "null"),
        (1.5, "1.5"),
        ({"password": "secret"}, "an object"),
        (["secret"], "a list"),
        (10**100, "1" + "0" * 79 + "..."),
    ],
)
def test_a_value_is_shown_without_secrets_and_safe_for_a_terminal(value: object, text: str) -> None:
    assert values.shown(value) == text


@pytest.mark.parametrize("asked", [values.backend_url, values.origin])
def test_the_urls_of_as_many_backends_as_an_edge_has_room_for_are_remembered(asked: Any) -> None:
    """One more than are remembered, asked for in turn, and none is ever found: 10,000 were parsed four times at each reload."""
    assert asked.cache_info().maxsize > MAX_ROWS
