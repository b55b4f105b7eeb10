"""Lines of the access log in each format: what they tell, and that nobody can write into them from outside."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.errors import BackendTimeout, ConnectFailed
from smartedge.http.request import Request
from smartedge.observe.log_combined import CombinedLines, escaped
from smartedge.observe.log_json import JsonLines
from smartedge.observe.log_line import (
    FIELDS,
    LONGEST_KNOWN,
    MOST_KNOWN,
    NO_HEADERS,
    TRY_FIELDS,
    HeaderNames,
    Known,
    LineFormat,
    OwnLine,
    rfc3339,
    seconds,
    tls_of,
)
from smartedge.observe.log_logfmt import LogfmtLines, pairs
from smartedge.proxy.exchange import Exchange
from tests.fakes import FakeAnswer
from tests.house import House, request, running, served
from tests.peers import backend, says

WHEN, STAMP = 1795749000.123, "2026-11-27T03:10:00.123Z"
BROWSER = (
    b"Host: a\r\nUser-Agent: Mozilla/5.0 (X11)\r\nreferer:  https://example.com/?q=1 \r\nCookie: id=1\r\n"
    b"Accept: a\r\nACCEPT: b\r\n"
)


def client_of(asked: Request) -> bytes:
    return asked.peer


def ended(*answers: object, block: bytes = BROWSER, target: bytes = b"/shop?token=1", method: bytes = b"GET") -> Exchange:
    """An exchange that has ended, with these answers of its backends."""
    house = House(*[[answer] for answer in answers])
    exchange = house.ask(method, target=target, block=block)
    served(exchange)
    return exchange


def as_json(exchange: Exchange, headers: HeaderNames = NO_HEADERS) -> dict[str, Any]:
    lines = JsonLines(client_of, headers)
    text = lines.lines(lines.stamp(WHEN), [exchange])[0]
    assert text.index("\n") == len(text) - 1
    line: dict[str, Any] = json.loads(text)
    return line


def as_logfmt(text: str) -> dict[str, str]:
    """Read logfmt as its users do: `key=value` or `key="value"`, where the quoted value is a JSON text."""
    assert text.index("\n") == len(text) - 1
    found = re.findall(r'([^\s="]+)=("(?:[^"\\]|\\.)*"|[^\s"=]*)(?: |\n)', text)
    assert "".join(f"{key}={value} " for key, value in found).rstrip() == text.rstrip()
    return {key: json.loads(value) if value.startswith('"') else value for key, value in found}


# JSON.


def test_a_line_of_json_has_every_field_in_its_order() -> None:
    line = as_json(ended(FakeAnswer(200, b"ok")))
    assert list(line) == ["time", *FIELDS]
    assert (line["time"], line["status"], line["path"], line["service"], line["route"]) == (STAMP, 200, "/shop", "default", None)
    assert (line["user_agent"], line["referer"], line["tls"]) == ("Mozilla/5.0 (X11)", "https://example.com/?q=1", None)
    assert (line["backend"], line["try_count"], line["hedges"], line["queue_s"], line["bytes_out"]) == ("a", 1, 0, 0.0, 2)
    (one,) = line["tries"]
    assert tuple(one) == TRY_FIELDS
    assert one | {"latency_s": 0} == {
        "backend": "a",
        "kind": "first",
        "outcome": "ok",
        "status": 200,
        "connect_s": None,
        "latency_s": 0,
        "reason": None,
    }
    assert one["latency_s"] == line["latency_s"]


def test_each_try_is_told_with_its_reason() -> None:
    line = as_json(ended(ConnectFailed("refused"), FakeAnswer(503, b"no"), FakeAnswer(200, b"ok")))
    told = [(one["backend"], one["kind"], one["outcome"], one["status"], one["reason"]) for one in line["tries"]]
    assert told == [
        ("a", "first", "failed", None, "connect"),
        ("b", "retry", "failed", 503, "status"),
        ("c", "retry", "ok", 200, None),
    ]
    assert (line["try_count"], line["backend"]) == (3, "c")


def test_what_the_usual_line_says_in_short_is_what_the_long_way_says() -> None:
    """The usual try is written without making a list of tries of it."""
    exchange = ended(FakeAnswer(200, b"ok"))
    short = as_json(exchange)
    exchange.attempts.tried = tuple(exchange.tries())
    assert as_json(exchange) == short


def test_an_error_has_its_reason_behind_the_other_fields() -> None:
    line = as_json(ended(BackendTimeout("The backend did not answer in time.")))
    assert list(line) == ["time", *FIELDS, "error"]
    assert line["error"].startswith("The backend did not answer in time.")
    assert line["latency_s"] is None


def test_chosen_headers_are_written_and_no_others() -> None:
    exchange = ended(FakeAnswer(200, b"ok", block=b"X-Cache: HIT\r\nSet-Cookie: id=2\r\n"))
    line = as_json(exchange, HeaderNames(("accept", "dnt"), ("x-cache",)))
    assert line["request_headers"] == {"accept": "a, b", "dnt": None}
    assert line["answer_headers"] == {"x-cache": "HIT"}
    plain = json.dumps(as_json(exchange))
    assert "id=1" not in plain + json.dumps(line)
    assert as_json(exchange, HeaderNames(("cookie",), ("set-cookie",)))["request_headers"] == {"cookie": "id=1"}


def test_an_answer_of_the_edges_own_has_the_same_fields() -> None:
    lines = JsonLines(client_of, NO_HEADERS)
    asked = request(target=b"/api/status?x", block=BROWSER)
    admin = json.loads(lines.lines(lines.stamp(WHEN), [OwnLine("r-1", b"::1", 200, asked, None)])[0])
    refused = json.loads(lines.lines(lines.stamp(WHEN), [OwnLine("r-2", b"::1", 400, None, 'no "HTTP"')])[0])
    assert (list(admin), list(refused)) == (["time", *FIELDS], ["time", *FIELDS, "error"])
    assert (admin["path"], admin["user_agent"], admin["status"]) == ("/api/status", "Mozilla/5.0 (X11)", 200)
    assert (refused["path"], refused["error"], refused["user_agent"]) == (None, 'no "HTTP"', None)


def test_tls_is_told_of_our_own_server_and_of_another() -> None:
    exchange = ended(FakeAnswer(200, b"ok"))
    asked = exchange.request
    asked.secure = True
    asked.tls = ("TLSv1.3", "TLS_AES_256_GCM_SHA384", "shop.example")
    expected = {"version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "server_name": "shop.example"}
    assert as_json(exchange)["tls"] == expected
    lines = LogfmtLines(client_of, NO_HEADERS)
    assert as_logfmt(lines.lines(lines.stamp(WHEN), [exchange])[0])["tls.server_name"] == "shop.example"
    other = request()
    other.secure = True
    other.sock = SimpleNamespace(version=lambda: "TLSv1.2", cipher=lambda: ("AES128-SHA", "TLSv1.0", 128))
    assert tls_of(other) == ("TLSv1.2", "AES128-SHA", None)
    other.sock = None
    assert tls_of(other) == (None, None, None)


# Combined.

GOACCESS = re.compile(r'(\S+) [^\[]*\[(\d\d/\w{3}/\d{4}):(\d\d:\d\d:\d\d) [^\]]*\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"')
"""COMBINED of goaccess(1): `%h %^[%d:%t %^] "%r" %s %b "%R" "%u"`, date `%d/%b/%Y`, time `%T`."""

APACHE = re.compile(
    r'(?P<host>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<size>\d+|-)'
    r' "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'
)
"""`%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"` (httpd.apache.org/docs/2.4/logs.html)."""

FAIL2BAN = {
    "apache-badbots": r'^192\.0\.2\.7 -.*"(GET|POST|HEAD).*HTTP.*"(?:EmailCollector|Mozilla/5\.0 \(X11\))"$',
    "nginx-botsearch": r'^192\.0\.2\.7 \- \S+ \[\] "(GET|POST|HEAD) \/shop\S* \S+" 404 .+$',
}
"""fail2ban's filters; the time is taken out before they see a line."""


def as_combined(exchange: Exchange) -> str:
    lines = CombinedLines(client_of)
    stamp = lines.stamp(datetime(2026, 11, 7, 3, 10, 5, tzinfo=UTC).timestamp())
    text = lines.lines(stamp, [exchange])[0]
    assert text.index("\n") == len(text) - 1
    return text[:-1]


def test_the_combined_format_is_what_apache_and_nginx_write() -> None:
    exchange = ended(FakeAnswer(404, b"none"))
    exchange.request.peer = b"192.0.2.7"
    text = as_combined(exchange)
    assert text == (
        '192.0.2.7 - - [07/Nov/2026:03:10:05 +0000] "GET /shop?token=1 HTTP/1.1" 404 4 "https://example.com/?q=1"'
        ' "Mozilla/5.0 (X11)"'
    )
    found = GOACCESS.fullmatch(text)
    assert found is not None
    assert found.groups()[3:6] == ("GET /shop?token=1 HTTP/1.1", "404", "4")
    assert datetime.strptime(text[text.index("[") + 1 : text.index("]")], "%d/%b/%Y:%H:%M:%S %z").timestamp() == 1794021005
    for failregex in FAIL2BAN.values():
        assert re.search(failregex, re.sub(r"\[[^\]]*\]", "[]", text))


def test_what_was_no_request_has_a_dash_and_is_found_by_fail2ban() -> None:
    lines = CombinedLines(client_of)
    text = lines.lines(lines.stamp(0), [OwnLine("r", b"192.0.2.7", 400, None, "no HTTP")])[0]
    assert text == '192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] "-" 400 - "-" "-"\n'
    assert re.search(r'^192\.0\.2\.7 - \S+ \[\] "[^"]*" 400', re.sub(r"\[[^\]]*\]", "[]", text))  # nginx-bad-request
    admin = lines.lines(lines.stamp(0), [OwnLine("r", b"unix", 200, request(target=b"/metrics", block=BROWSER), None)])[0]
    assert GOACCESS.fullmatch(admin[:-1])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b'a"b', r"a\x22b"),
        (b"a\\b", r"a\x5Cb"),
        (b"\x1b[31m\r\n\x00\x7f", r"\x1B[31m\x0D\x0A\x00\x7F"),
        ("ä€".encode(), r"\xC3\xA4\xE2\x82\xAC"),
        (b"\xff", r"\xFF"),
        (b"plain ~", "plain ~"),
    ],
)
def test_what_could_end_a_text_is_escaped_as_nginx_does(value: bytes, written: str) -> None:
    assert escaped(value) == written


# logfmt.


def test_logfmt_has_the_same_fields_and_leaves_out_what_is_not_there() -> None:
    lines = LogfmtLines(client_of, HeaderNames(("accept", "dnt"), ("x-cache",)))
    exchange = ended(FakeAnswer(200, b"ok", block=b"X-Cache: a HIT\r\n"))
    line = as_logfmt(lines.lines(lines.stamp(1.5), [exchange])[0])
    assert line["time"] == "1970-01-01T00:00:01.500Z"
    assert (line["method"], line["path"], line["status"], line["service"], line["backend"]) == (
        "GET",
        "/shop",
        "200",
        "default",
        "a",
    )
    assert (line["user_agent"], line["request_headers.accept"]) == ("Mozilla/5.0 (X11)", "a, b")
    assert line["answer_headers.x-cache"] == "a HIT"
    assert (line["tries.0.backend"], line["tries.0.outcome"], line["tries.0.latency_s"]) == ("a", "ok", line["latency_s"])
    assert {"route", "trace_id", "tls", "error", "request_headers.dnt"}.isdisjoint(line)
    assert {key.partition(".")[0] for key in line} <= {"time", *FIELDS, "request_headers", "answer_headers"}


def test_logfmt_says_of_tries_what_json_says() -> None:
    exchange = ended(ConnectFailed("refused"), FakeAnswer(200, b"ok"))
    lines = LogfmtLines(client_of, NO_HEADERS)
    line = as_logfmt(lines.lines(lines.stamp(WHEN), [exchange])[0])
    whole = as_logfmt(f"x=1{pairs('tries', as_json(exchange)['tries'])}\n")
    assert {key: value for key, value in line.items() if key.startswith("tries.")} == {
        key: value for key, value in whole.items() if key != "x"
    }
    usual = ended(FakeAnswer(200, b"ok"))
    short = lines.lines(lines.stamp(WHEN), [usual])[0]
    usual.attempts.tried = tuple(usual.tries())
    assert {**as_logfmt(lines.lines(lines.stamp(WHEN), [usual])[0])}.keys() == as_logfmt(short).keys()


def test_logfmt_of_the_edges_own_answers() -> None:
    lines = LogfmtLines(client_of, NO_HEADERS)
    line = as_logfmt(lines.lines(lines.stamp(WHEN), [OwnLine("r", b"::1", 400, request(target=b"/a b"), 'no "HTTP"\n')])[0])
    assert (line["client"], line["path"], line["error"], line["status"]) == ("::1", "/a b", 'no "HTTP"\n', "400")


# What is remembered.

FORMATS: dict[str, Callable[[], LineFormat]] = {
    "json": lambda: JsonLines(client_of, NO_HEADERS),
    "json, headers": lambda: JsonLines(client_of, HeaderNames(("accept",), ())),
    "logfmt": lambda: LogfmtLines(client_of, NO_HEADERS),
    "combined": lambda: CombinedLines(client_of),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_connections_lines_are_what_each_would_be_alone(name: str) -> None:
    """What lines say of who asks is remembered with the connection; each request has its own target, method and fields."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    heads = [
        b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nReferer: /r\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nReferer: /r\r\n",
        b"GET /b?q HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nReferer: /r\r\n",
        b"PUT /b?q HTTP/1.1\r\nHost: a\r\nUser-Agent: x\r\nReferer: /r\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: y\r\nAccept: b\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nUSER-AGENT: z\r\nuser-agent: z\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX-Request-Id: a=b\r\ntraceparent: 00-%032x-%016x-01\r\n" % (1, 2),
        b"GET /a HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n",
    ]
    with backend(says(*[answer] * len(heads))) as url, running(url) as served_edge:
        client = served_edge.client()
        for count, head in enumerate(heads, 1):
            client.sendall(head + b"\r\n")
            served_edge.ended(count)
        client.close()
        exchanges = list(served_edge.logged)
    form = FORMATS[name]()
    stamp = form.stamp(WHEN)
    together = form.lines(stamp, exchanges)
    assert together == [FORMATS[name]().lines(stamp, [one])[0] for one in exchanges]
    assert len(set(together)) >= len(heads) - 1  # the first two are of the same request
    if name != "combined":
        assert ["a=b" in line for line in together] == [False] * 6 + [True, False]


def test_a_request_in_its_usual_way_and_in_full_is_the_same_line() -> None:
    for form in (JsonLines(client_of, NO_HEADERS), LogfmtLines(client_of, NO_HEADERS)):
        exchange = ended(FakeAnswer(200, b"ok"))
        usual = form.lines(form.stamp(WHEN), [exchange])
        form._has_more = True
        assert form.lines(form.stamp(WHEN), [exchange]) == usual


@given(st.floats(0, 2e9))
def test_a_stamp_is_what_the_library_writes(when: float) -> None:
    expected = datetime.fromtimestamp(when, UTC)
    apart = datetime.fromisoformat(rfc3339(when)) - expected.replace(microsecond=expected.microsecond // 1000 * 1000)
    assert abs(apart) <= timedelta(milliseconds=1 if expected.microsecond % 1000 in (0, 999) else 0)


@given(st.floats(0, 100))
def test_seconds_have_six_digits(value: float) -> None:
    assert re.fullmatch(r"\d+\.\d{6}", seconds(value))
    assert abs(float(seconds(value)) - value) <= 0.51e-6


# Nobody writes into the log from outside.


STRANGE = st.binary(max_size=60).map(lambda value: re.sub(rb"[\r\n\x00]", b"?", value))


@given(STRANGE, STRANGE, STRANGE)
def test_whatever_a_client_sends_is_one_whole_line_in_each_format(target: bytes, agent: bytes, peer: bytes) -> None:
    asked = request(target=b"/" + target.replace(b"?", b"!"), block=b"Host: a\r\nUser-Agent: %b\r\n" % agent)
    own = OwnLine("r", peer, 400, asked, target.decode("latin-1"))
    texts = [
        form.lines(form.stamp(0.0), [own])[0] for form in (JsonLines(client_of, NO_HEADERS), LogfmtLines(client_of, NO_HEADERS))
    ]
    combined = CombinedLines(client_of)
    for text in texts:
        assert text[:-1].isprintable()
        assert text[-1] == "\n"
        text.encode()
    said = agent.strip(b" \t").decode("utf-8", "backslashreplace")
    assert json.loads(texts[0])["user_agent"] == said
    assert as_logfmt(texts[1]).get("user_agent") == said
    line = combined.lines(combined.stamp(0.0), [own])[0]
    assert line[:-1].isascii()
    assert APACHE.fullmatch(line[:-1].replace(" - - ", " - - ", 1)) or not peer.strip() or b" " in peer


def test_names_that_a_terminal_would_obey_are_escaped() -> None:
    exchange = ended(FakeAnswer(200, b"ok"), target="/\u202egpj.exe\u2028\x9b31m".encode())
    lines = JsonLines(client_of, NO_HEADERS)
    text = lines.lines(lines.stamp(WHEN), [exchange])[0]
    assert "\\u202egpj.exe\\u2028\\u009b31m" in text
    assert as_json(exchange)["path"] == "/\u202egpj.exe\u2028\x9b31m"


def test_what_is_remembered_has_an_end() -> None:
    known = Known(lambda text: text + "!")
    for number in range(3 * MOST_KNOWN):
        assert known[f"{number}"] == known[f"{number}"] == f"{number}!"
    assert len(known) <= MOST_KNOWN
    known.clear()
    assert known["x" * (LONGEST_KNOWN + 1)]
    assert not known
