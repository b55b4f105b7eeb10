"""Lines of the access log in each format: what they tell, and that nobody can write into them from outside."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.errors import BackendTimeout, ConnectFailed
from smartedge.http.request import Request
from smartedge.observe.log_combined import CombinedLines, escaped
from smartedge.observe.log_json import JsonLines
from smartedge.observe.log_line import FIELDS, MOST_KNOWN, NO_HEADERS, TRY_FIELDS, HeaderNames, Known, OwnLine, tls_of
from smartedge.observe.log_logfmt import LogfmtLines, pairs
from smartedge.proxy.exchange import Exchange
from tests.fakes import FakeAnswer
from tests.house import House, request, served

STAMP = "2026-11-27T03:10:00.123Z"
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
    text = JsonLines(client_of, headers).of_exchange(STAMP, exchange)
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
    exchange.attempts.tried = exchange.tries()
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
    plain = JsonLines(client_of, NO_HEADERS).of_exchange(STAMP, exchange)
    assert "id=1" not in plain + json.dumps(line)
    assert as_json(exchange, HeaderNames(("cookie",), ("set-cookie",)))["request_headers"] == {"cookie": "id=1"}


def test_an_answer_of_the_edges_own_has_the_same_fields() -> None:
    lines = JsonLines(client_of, NO_HEADERS)
    admin = json.loads(lines.of_own(STAMP, OwnLine("r-1", b"::1", 200, request(target=b"/api/status?x", block=BROWSER), None)))
    refused = json.loads(lines.of_own(STAMP, OwnLine("r-2", b"::1", 400, None, 'no "HTTP"')))
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
    assert as_logfmt(LogfmtLines(client_of, NO_HEADERS).of_exchange(STAMP, exchange))["tls.server_name"] == "shop.example"
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
    text = lines.of_exchange(stamp, exchange)
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
    text = lines.of_own(lines.stamp(0), OwnLine("r", b"192.0.2.7", 400, None, "no HTTP"))
    assert text == '192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] "-" 400 - "-" "-"\n'
    assert re.search(r'^192\.0\.2\.7 - \S+ \[\] "[^"]*" 400', re.sub(r"\[[^\]]*\]", "[]", text))  # nginx-bad-request
    admin = lines.of_own(lines.stamp(0), OwnLine("r", b"unix", 200, request(target=b"/metrics", block=BROWSER), None))
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
    line = as_logfmt(lines.of_exchange(lines.stamp(1.5), exchange))
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
    line = as_logfmt(lines.of_exchange(STAMP, exchange))
    whole = as_logfmt(f"x=1{pairs('tries', as_json(exchange)['tries'])}\n")
    assert {key: value for key, value in line.items() if key.startswith("tries.")} == {
        key: value for key, value in whole.items() if key != "x"
    }
    usual = ended(FakeAnswer(200, b"ok"))
    short = lines.of_exchange(STAMP, usual)
    usual.attempts.tried = usual.tries()
    assert {**as_logfmt(lines.of_exchange(STAMP, usual))}.keys() == as_logfmt(short).keys()


def test_logfmt_of_the_edges_own_answers() -> None:
    lines = LogfmtLines(client_of, NO_HEADERS)
    line = as_logfmt(lines.of_own(STAMP, OwnLine("r", b"::1", 400, request(target=b"/a b"), 'no "HTTP"\n')))
    assert (line["client"], line["path"], line["error"], line["status"]) == ("::1", "/a b", 'no "HTTP"\n', "400")


# Nobody writes into the log from outside.


STRANGE = st.binary(max_size=60).map(lambda value: re.sub(rb"[\r\n\x00]", b"?", value))


@given(STRANGE, STRANGE, STRANGE)
def test_whatever_a_client_sends_is_one_whole_line_in_each_format(target: bytes, agent: bytes, peer: bytes) -> None:
    asked = request(target=b"/" + target.replace(b"?", b"!"), block=b"Host: a\r\nUser-Agent: %b\r\n" % agent)
    own = OwnLine("r", peer, 400, asked, target.decode("latin-1"))
    texts = [form.of_own(form.stamp(0.0), own) for form in (JsonLines(client_of, NO_HEADERS), LogfmtLines(client_of, NO_HEADERS))]
    combined = CombinedLines(client_of)
    for text in texts:
        assert text[:-1].isprintable()
        assert text[-1] == "\n"
        text.encode()
    said = agent.strip(b" \t").decode("utf-8", "backslashreplace")
    assert json.loads(texts[0])["user_agent"] == said
    assert as_logfmt(texts[1]).get("user_agent") == said
    line = combined.of_own(combined.stamp(0.0), own)
    assert line[:-1].isascii()
    assert APACHE.fullmatch(line[:-1].replace(" - - ", " - - ", 1)) or not peer.strip() or b" " in peer


def test_names_that_a_terminal_would_obey_are_escaped() -> None:
    exchange = ended(FakeAnswer(200, b"ok"), target="/\u202egpj.exe\u2028\x9b31m".encode())
    text = JsonLines(client_of, NO_HEADERS).of_exchange(STAMP, exchange)
    assert "\\u202egpj.exe\\u2028\\u009b31m" in text
    assert as_json(exchange)["path"] == "/\u202egpj.exe\u2028\x9b31m"


def test_what_is_remembered_of_requests_has_an_end() -> None:
    known = Known(lambda block: block.decode())
    kept = [object() for _ in range(3 * MOST_KNOWN)]
    for number, fields in enumerate(kept):
        assert known.of(fields, b"%d" % number) == str(number)
        assert known.of(fields, b"another") == str(number)
    assert len(known) <= MOST_KNOWN
