"""Messages: RFC 9113 sections 8.1 to 8.5, and what of RFC 9110 an answer of HTTP/2 has to mind."""

from __future__ import annotations

import pytest

from smartedge.server.server import EdgeServer
from tests.http2.client import END, END_HEADERS, GET, POST, client, data, frame, having, headers, open_headers, plus
from tests.http2.house import Case, EchoApp, serving

BAD = "RST PROTOCOL_ERROR"
POST_1 = open_headers(1, POST)


def get(what: str, *more: tuple[bytes, bytes], comes: str = BAD, section: str = "8.3.1", **changes: bytes | None) -> Case:
    """A GET that is changed. more: fields behind its own."""
    return Case(section, what, (headers(1, plus(*more, of=having(GET, **changes))),), comes)


def field(what: str, name: bytes, value: bytes = b"x", comes: str = BAD, section: str = "8.2.1") -> Case:
    """A GET with another field."""
    return get(what, (name, value), comes=comes, section=section)


def post(what: str, *sends: bytes, comes: str = BAD, section: str = "8.1.1", length: bytes | None = None, **has: object) -> Case:
    """A POST with a body. length: its content-length."""
    fields = POST if length is None else plus((b"content-length", length), of=POST)
    return Case(section, what, (open_headers(1, fields), *sends), comes, has=dict(has))


FIVE = (b"content-length", b"5")
X5 = data(1, b"xxxxx", end=True)

CASES = [
    # 8.3: pseudo-header fields
    get("no :method", method=None),
    get("no :scheme", scheme=None),
    get("no :path", path=None),
    get("an empty :path", path=b""),
    get("an empty :method", method=b""),
    get("no authority at all", comes="400", authority=None),
    get("an empty :authority", comes="400", authority=b""),
    get("Host in its place", (b"host", b"h"), comes="200", authority=None),
    get("Host beside it, the same", (b"host", b"H"), comes="200"),
    get("Host beside it, another", (b"host", b"other")),
    get("Host with another port", (b"host", b"h:80")),
    get("two Hosts that differ", (b"host", b"a"), (b"host", b"b"), authority=None),
    get("an authority with a user", comes="400", authority=b"me@h"),
    get("an authority with a path", comes="400", authority=b"h/path"),
    get("an authority with a space", comes="400", authority=b"h h"),
    get("an IPv6 authority with a port", comes="200", authority=b"[::1]:443"),
    get(":method twice", (b":method", b"GET"), section="8.3"),
    get(":path twice", (b":path", b"/"), section="8.3"),
    get(":scheme twice", (b":scheme", b"http"), section="8.3"),
    get(":authority twice", (b":authority", b"h"), section="8.3"),
    get("one that nobody knows", (b":unknown", b"x"), section="8.3"),
    get("an answer's", (b":status", b"200"), section="8.3"),
    get("one behind a field", (b"x", b"y"), (b":path", b"/"), section="8.3", path=None),
    get("a name that is nothing but a colon", (b":", b"x"), section="8.3"),
    get("a scheme that is not HTTP's", scheme=b"ftp"),
    get("https without TLS: a proxy in front had it", comes="200", scheme=b"https"),
    get("a path that begins with nothing", path=b"x"),
    get("a path that is a URL", path=b"http://h/"),
    get("a path with a query", comes="200", path=b"/a?b=c&d"),
    get("a path with a fragment", path=b"/a#b"),
    get("a path that is '*'", path=b"*"),
    get("OPTIONS *", comes="200", method=b"OPTIONS", path=b"*"),
    get("a path too long", comes="414", path=b"/" + b"x" * 200, section="9110 15.5.15"),
    get("a method that is none", method=b"GET /", section="9110 9.1"),
    get("a method that nobody knows", comes="200", method=b"BREW"),
    # 8.5: CONNECT, and RFC 8441
    get("CONNECT", comes="501", section="8.5", method=b"CONNECT", scheme=None, path=None),
    get("CONNECT with a path", section="8.5", method=b"CONNECT"),
    get("CONNECT without authority", section="8.5", method=b"CONNECT", scheme=None, path=None, authority=None),
    get(":protocol without CONNECT", (b":protocol", b"websocket"), section="8441 4"),
    get("extended CONNECT without a path", (b":protocol", b"websocket"), section="8441 4", method=b"CONNECT", path=None),
    get("extended CONNECT without a scheme", (b":protocol", b"websocket"), section="8441 4", method=b"CONNECT", scheme=None),
    # 8.2: fields
    field("upper case in a name", b"X-Upper", section="8.2"),
    field("a name of nothing", b""),
    field("a space in a name", b"x y"),
    field("a space behind a name", b"content-length ", b"0"),
    field("a colon in a name", b"x:y"),
    field("a colon behind a name", b"host:", b"h"),
    field("a line break in a name", b"x\r\ny"),
    field("a NUL in a name", b"x\x00"),
    field("more than ASCII in a name", b"x\xe9"),
    field("DEL in a name", b"x\x7f"),
    field("CR in a value", b"x", b"a\rb"),
    field("LF in a value", b"x", b"a\nb"),
    field("NUL in a value", b"x", b"a\x00b"),
    field("a control character in a value", b"x", b"a\x01b"),
    field("a space before a value", b"x", b" a"),
    field("a tab behind a value", b"x", b"a\t"),
    field("an empty value", b"x", b"", comes="200"),
    field("a tab within a value", b"x", b"a\tb", comes="200"),
    field("more than ASCII in a value", b"x", b"\xe9\xff", comes="200"),
    field("connection", b"connection", b"close", section="8.2.2"),
    field("keep-alive", b"keep-alive", b"timeout=5", section="8.2.2"),
    field("proxy-connection", b"proxy-connection", b"close", section="8.2.2"),
    field("transfer-encoding", b"transfer-encoding", b"chunked", section="8.2.2"),
    field("upgrade", b"upgrade", b"websocket", section="8.2.2"),
    field("te that is more than trailers", b"te", b"gzip", section="8.2.2"),
    field("te that is trailers, and more", b"te", b"trailers, gzip", section="8.2.2"),
    field("te that is trailers", b"te", b"trailers", comes="200", section="8.2.2"),
    # 8.1.1: content-length against DATA
    post("as long as it says", X5, comes="200", length=b"5", body="xxxxx"),
    post("shorter than it says", X5, length=b"6"),
    post("longer than it says", X5, length=b"4"),
    post("longer than it says, by a later frame", data(1, b"xxxx"), X5, length=b"8"),
    post("nothing, where it says something", data(1, end=True), length=b"1"),
    Case("8.1.1", "no body at all, where it says something", (headers(1, plus((b"content-length", b"5"), of=POST)),), BAD),
    Case("8.1.1", "no body, as it says", (headers(1, plus((b"content-length", b"0"), of=POST)),), "200"),
    post("ended by trailers, and too short", data(1, b"x"), headers(1, ((b"x", b"y"),)), length=b"2"),
    post("not a number", X5, length=b"five"),
    post("a sign", X5, length=b"+5"),
    post("a list of the same", X5, length=b"5, 5"),
    post("nothing for a number", X5, length=b""),
    post("a number beyond all numbers", X5, length=b"9" * 30),
    Case("8.1.1", "two that differ", (open_headers(1, plus(FIVE, (b"content-length", b"6"), of=POST)), X5), BAD),
    Case("8.1.1", "two that are the same", (open_headers(1, plus(FIVE, FIVE, of=POST)), X5), "200",
         has={"body": "xxxxx", "length": "5"}),
    post("no length: the end is the stream's", data(1, b"ab"), data(1, b"cd"), data(1, end=True), comes="200", body="abcd"),
    # 8.1: trailers
    post("trailers", data(1, b"x"), headers(1, ((b"x-sum", b"1"),)), comes="200", section="8.1", body="x"),
    post("trailers without END_STREAM", headers(1, ((b"x", b"y"),), END_HEADERS), section="8.1"),
    post("pseudo-header fields in trailers", headers(1, ((b":path", b"/"),)), section="8.1"),
    post("trailers with a name that is none", headers(1, ((b"X", b"y"),)), section="8.1"),
    post("trailers with a value that is none", headers(1, ((b"x", b"a\r\nb"),)), section="8.1"),
    post("transfer-encoding in trailers", headers(1, ((b"transfer-encoding", b"chunked"),)), section="8.1"),
    post("empty trailers", data(1, b"x"), headers(1, b""), comes="200", section="8.1", body="x"),
    # 8.2.3: cookies
    Case("8.2.3", "several cookies are one field",
         (headers(1, plus((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2; c=3"))),), "200",
         has={"COOKIE": "a=1; b=2; c=3", "X": "y"}),
    # limits
    get("a head too long", (b"x", b"y" * 4000), comes="431", section="6585 5"),
    get("a field too many", *[(b"x%d" % at, b"y") for at in range(31)], comes="431", section="6585 5"),
    post("a body too long", *[data(1, b"x" * 16384)] * 7, comes="413", section="9110 15.5.14"),
    post("a body that says that it is too long", comes="413", section="9110 15.5.14", length=b"100001"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_messages(server: EdgeServer, case: Case) -> None:
    case.play(server.server_port)


@pytest.mark.parametrize("case", [case for case in CASES if case.comes == BAD and len(case.sends) == 1], ids=str)
def test_the_app_hears_nothing_of_a_head_that_is_none_and_the_log_does(server: EdgeServer, app: EchoApp, case: Case) -> None:
    with client(server.server_port) as one:
        before, told = app.asked, len(app.refused)
        one.send(*case.sends)
        one.answer(1)
        one.synced()
        assert app.asked == before
        assert [status for status, _ in app.refused[told:]] == [400]


# ---- answers ----


def test_a_streams_refusal_is_an_answer_and_the_other_streams_go_on() -> None:
    """431, 413 and 414 while another answer is under way."""
    app = EchoApp()
    with serving(app) as server, client(server.server_port) as one:
        one.send(headers(1, having(GET, path=b"/held")))
        one.send(headers(3, plus((b"x", b"y" * 4000))), headers(5, having(GET, path=b"/" + b"x" * 300)))
        one.send(open_headers(7, plus((b"content-length", b"100001"), of=POST)))
        assert [one.answer(at).status for at in (3, 5, 7)] == [431, 414, 413]
        assert one.of(3).get("content-type") == "application/problem+json"
        assert one.ask(9).status == 200
        app.go_on.set()
        assert one.answer(1).status == 200


def test_an_upload_that_is_answered_early_is_told_to_stop_without_an_error(server: EdgeServer) -> None:
    """8.1: RST_STREAM with NO_ERROR, behind the whole answer, which the client must not throw away."""
    with client(server.server_port) as one:
        one.send(open_headers(1, having(POST, path=b"/early")), data(1, b"x"))
        one.until(lambda: one.of(1).reset)
        got = one.of(1)
        assert (got.status, got.body, got.ended, got.reset) == (200, b"early", True, "NO_ERROR")
        one.send(data(1, b"what was on its way"), data(1, end=True))
        assert one.ask(3).status == 200


@pytest.mark.parametrize("path", [b"/bytes/100000", b"/status/204", b"/"])
def test_an_answer_to_head_is_its_head(server: EdgeServer, path: bytes) -> None:
    """9110 9.3.2: the length of what is not sent, and the end of the stream with the head."""
    with client(server.server_port) as one:
        got = one.ask(1, having(GET, method=b"HEAD", path=path))
        assert (got.body, got.frames, got.ended) == (b"", [], True)
        if path == b"/bytes/100000":
            assert got.get("content-length") == "100000"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_that_has_no_body_ends_with_its_head(server: EdgeServer, status: int) -> None:
    with client(server.server_port) as one:
        got = one.ask(1, having(GET, path=b"/status/%d" % status))
        assert (got.status, got.frames, got.ended) == (status, [], True)
        assert got.get("content-length") is None


def test_every_name_of_an_answer_is_in_lower_case_and_none_is_of_a_connection(server: EdgeServer) -> None:
    """8.2 and 8.2.2."""
    with client(server.server_port) as one:
        names = [name for name, _ in one.ask(1).fields]
        assert names == [name.lower() for name in names]
        assert not {"connection", "keep-alive", "transfer-encoding", "upgrade"} & set(names)
        assert "date" in names


def test_a_body_that_is_expected_is_asked_for() -> None:
    """8.1 and 9110 10.1.1: 100 when somebody reads it."""
    with serving() as server, client(server.server_port) as one:
        one.send(open_headers(1, plus((b"expect", b"100-continue"), of=POST)))
        one.until(lambda: one.of(1).interim)
        assert one.of(1).interim == [(100, {})]
        one.send(data(1, b"asked", end=True))
        assert one.answer(1).status == 200


def test_an_app_that_fails_is_answered_for() -> None:
    with serving() as server, client(server.server_port) as one:
        got = one.ask(1, having(GET, path=b"/bytes/none"))
        assert got.status == 500
        assert one.ask(3).status == 200


def test_an_answer_that_is_cut_short_is_reset_and_never_ended(server: EdgeServer) -> None:
    """8.1.1: a client can tell."""
    with client(server.server_port) as one:
        got = one.ask(1, having(GET, path=b"/short"))
        assert (got.status, got.ended, got.reset) == (200, False, "INTERNAL_ERROR")


def test_an_end_that_comes_by_itself_is_an_end(server: EdgeServer) -> None:
    """8.1: HEADERS, and nothing but an empty DATA behind."""
    with client(server.server_port) as one:
        one.send(open_headers(1, GET), frame(0, END, 1))
        assert one.answer(1).status == 200
