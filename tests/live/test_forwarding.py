"""What is sent arrives, and nothing else: requests as the backend sees them, under all three servers."""

from __future__ import annotations

import re

from tests.live.edges import LiveEdge, request
from tests.live.peers import Script, answers, chunked, echo
from tests.live.wire import Request as Seen
from tests.live.wire import Stream, read_request

METHODS = b"GET HEAD POST PUT PATCH DELETE OPTIONS TRACE PROPFIND REPORT MKCALENDAR M-SEARCH BREW get X'!".split()
TARGETS = [
    b"/a%2Fb//c/%2e%2e/../x?",
    b"/%zz",
    b"//double//slash//",
    b"/a;b=c;d/..;/e",
    b"/?",
    b"/?a=1?b=2&&c=%20+%00",
    b"/%00%0A%0d",
    b"/%68ealth",  # as it stands on the wire this is not our /health
    b"/health/",
    b"/healthy",
    b"/api/status/deep",
    b"/smartedge",
    b"/" + b"long" * 1000,
]


def seen(backend: Script, index: int = -1) -> Seen:
    """A request as the backend got it."""
    request = read_request(Stream(None, backend.requests[index]))
    assert request is not None
    return request


def test_every_method_is_forwarded_as_it_is(edge: LiveEdge) -> None:
    with Script(answers()) as backend:
        edge.configure(backend)
        for method in METHODS:
            answer = edge.ask(b"/path", method)
            assert answer.status == 200
            assert (seen(backend).method, seen(backend).target) == (method, b"/path")


def test_a_target_goes_on_byte_for_byte(edge: LiveEdge) -> None:
    with Script(answers()) as backend:
        edge.configure(backend)
        for target in TARGETS:
            assert edge.ask(target).status == 200
            assert seen(backend).target == target


def test_absolute_form_becomes_origin_form_and_its_authority_becomes_host(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        assert own.ask(b"http://other.test:81/a%2fb?c").status == 200
        assert seen(backend).target == b"/a%2fb?c"
        assert seen(backend).get(b"host") == b"other.test:81"
        assert own.ask(b"http://other.test").status == 200
        assert seen(backend).target == b"/"


def test_nothing_is_added_to_a_request_but_what_a_proxy_must_say(edge: LiveEdge) -> None:
    """requests adds User-Agent, Accept, Accept-Encoding and Connection to what is sent through it."""
    with Script(answers()) as backend:
        edge.configure(backend)
        edge.ask(b"/")
        request_id, via = seen(backend).get(b"x-request-id"), seen(backend).get(b"via")
        assert re.fullmatch(rb"1\.1 smartedge \([0-9a-f]{8}\)", via or b"")
        assert seen(backend).headers == [
            (b"Host", b"edge.test"),
            (b"X-Forwarded-For", b"127.0.0.1"),
            (b"X-Forwarded-Host", b"edge.test"),
            (b"X-Forwarded-Proto", b"http"),
            (b"Via", via),
            (b"X-Request-Id", request_id),
        ]


def test_a_request_with_150_header_fields_is_forwarded_whole(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        own.ask(headers=b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(150)))
        assert [value for name, value in seen(backend).headers if name[2:].isdigit()] == [b"%d" % i for i in range(150)]


def test_hop_by_hop_fields_of_a_request_end_here(own: LiveEdge) -> None:
    hop_by_hop = (
        b"Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        b"TE: trailers\r\nTrailer: X-Sum\r\nProxy-Authorization: Basic eDp5\r\nX-Kept: yes\r\n"
    )
    with Script(answers()) as backend:
        own.configure(backend)
        assert own.ask(headers=hop_by_hop).status == 200
        names = {name.lower() for name, _ in seen(backend).headers}
        assert (seen(backend).get(b"te"), seen(backend).get(b"connection")) == (b"trailers", b"TE")
        assert names == {b"host", b"te", b"connection", b"x-kept", b"via", b"x-request-id"} | {
            b"x-forwarded-" + end for end in (b"for", b"host", b"proto")
        }


def test_the_trailers_of_a_request_go_on(edge: LiveEdge) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: e\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    with Script(echo()) as backend, edge.client() as client:
        edge.configure(backend)
        end = b"3\r\ntwo\r\n0\r\nX-Sum: abc\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        for pieces in ([chunked + end], [chunked + b"3\r\none\r\n", end]):
            for piece in pieces:
                client.send(piece)
            assert client.answer().status == 200
            assert seen(backend).get(b"trailer") == b"X-Sum"
            assert seen(backend).trailers == [(b"X-Sum", b"abc")]


def test_connection_cannot_be_used_to_strip_what_backends_rely_on(own: LiveEdge) -> None:
    stripping = (
        b"Connection: close, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Host, Via, X-Request-Id, Content-Length\r\n"
    )
    with Script(echo()) as backend:
        own.configure(backend)
        assert own.ask(b"/", b"POST", stripping, b"body").status == 200
        for name in b"host x-forwarded-for x-forwarded-host x-forwarded-proto via x-request-id content-length".split():
            assert seen(backend).get(name)
        assert seen(backend).body == b"body"


def test_what_a_stranger_says_of_its_own_client_is_replaced(own: LiveEdge) -> None:
    forged = (
        b"X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 666\r\nForwarded: for=6.6.6.6\r\n"
        b"X-Real-IP: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\n"
    )
    with Script(answers()) as backend:
        own.configure(backend)
        own.ask(headers=forged)
        assert b"6.6.6.6" not in backend.requests[-1]
        assert b"evil" not in backend.requests[-1]
        assert b"666" not in backend.requests[-1].replace(seen(backend).get(b"x-request-id") or b"-", b"")
        assert seen(backend).get(b"x-forwarded-for") == b"127.0.0.1"
        assert seen(backend).get(b"x-forwarded-host") == b"edge.test"


def test_what_a_trusted_proxy_says_is_kept_and_extended(own: LiveEdge) -> None:
    told = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Host: shop.test\r\nX-Forwarded-Proto: https\r\nForwarded: for=a\r\n"
    with Script(answers()) as backend:
        own.configure(backend, trusted_proxies=["127.0.0.0/8"])
        own.ask(headers=told)
        assert seen(backend).get(b"x-forwarded-for") == b"203.0.113.9, 127.0.0.1"
        assert seen(backend).get(b"x-forwarded-host") == b"shop.test"
        assert seen(backend).get(b"x-forwarded-proto") == b"https"
        assert seen(backend).get(b"forwarded") == b"for=a"


def test_names_with_underscores_cannot_pass_for_those_with_dashes(own: LiveEdge) -> None:
    """A WSGI or CGI backend reads X_Forwarded_For and X-Forwarded-For under one name."""
    with Script(answers()) as backend:
        own.configure(backend)
        own.ask(headers=b"X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: evil\r\nContent_Length: 66\r\nX_Request_Id: evil\r\n")
        assert b"6.6.6.6" not in backend.requests[-1]
        assert b"evil" not in backend.requests[-1]
        assert b"66" not in seen(backend).all(b"content_length")


def test_a_request_id_is_made_and_a_good_one_is_kept(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        own.ask()
        own.ask()
        first, second = (seen(backend, index).get(b"x-request-id") for index in (-2, -1))
        assert first
        assert second
        assert first != second
        own.ask(headers=b"X-Request-Id: from-the-client-7\r\n")
        assert seen(backend).get(b"x-request-id") == b"from-the-client-7"
        own.ask(headers=b"X-Request-Id: <script>\r\n")
        assert b"<" not in (seen(backend).get(b"x-request-id") or b"<")


# Bodies on their way to the backend.


def test_a_body_with_a_length_arrives_whole_with_that_length(edge: LiveEdge) -> None:
    with Script(answers()) as backend:
        edge.configure(backend)
        for size in (1, 1000, 65_536, 65_537, 1_000_000):
            body = bytes(i % 251 for i in range(size))
            assert edge.ask(b"/", b"POST", body=body).status == 200
            assert seen(backend).body == body
            assert seen(backend).get(b"content-length") == b"%d" % size
            assert seen(backend).get(b"transfer-encoding") is None


def test_a_chunked_body_arrives_whole_and_chunked(edge: LiveEdge) -> None:
    with Script(answers()) as backend, edge.client() as client:
        edge.configure(backend)
        for size in (0, 1, 70_000, 1_000_000):
            body = bytes(i % 251 for i in range(size))
            pieces = [body[i : i + 9999] for i in range(0, size, 9999)]
            client.send(b"POST / HTTP/1.1\r\nHost: edge.test\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(*pieces))
            assert client.answer().status == 200
            assert (seen(backend).framing, seen(backend).body) == ("chunked", body)
        client.send(request())  # the body's end was found exactly: the connection goes on
        assert client.answer().status == 200


def test_a_length_of_zero_stays_and_no_length_is_invented(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        own.ask(b"/", b"POST", b"Content-Length: 0\r\n")
        assert seen(backend).get(b"content-length") == b"0"
        own.ask(b"/", b"POST")
        assert seen(backend).get(b"content-length") is None
        assert seen(backend).get(b"transfer-encoding") is None


def test_a_get_may_have_a_body(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        assert own.ask(b"/", b"GET", body=b"query").status == 200
        assert seen(backend).body == b"query"


def test_cookies_of_one_client_are_not_sent_with_the_request_of_another(own: LiveEdge) -> None:
    """A shared requests.Session keeps a Set-Cookie and sends it along with the next client's request."""
    with Script(answers(headers=[("Set-Cookie", "session=secret; Path=/")])) as backend:
        own.configure(backend)
        assert own.ask().get(b"set-cookie") == b"session=secret; Path=/"
        own.ask()
        assert b"secret" not in backend.requests[-1]
        own.ask(headers=b"Cookie: mine=1\r\n")
        assert seen(backend).all(b"cookie") == [b"mine=1"]


def test_connections_to_backends_are_used_again(own: LiveEdge) -> None:
    with Script(answers()) as backend:
        own.configure(backend)
        for _ in range(10):
            assert own.ask().status == 200
        assert backend.connections == 1
