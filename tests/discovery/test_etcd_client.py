"""What the client does with answers that a real etcd gives seldom; what a real one shows is in tests/live/test_etcd_client.py."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import gevent
import pytest

from smartedge.discovery.etcd_client import Compacted, EtcdClient, EtcdError, EtcdWatch, absent, put_op
from smartedge.discovery.etcd_values import encoded
from tests.discovery.scripted_etcd import header, lines, refused, scripted_etcd
from tests.peers import backend, head_of

OK = (200, {"header": header()})


def dead_url() -> str:
    """Where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_the_endpoint_that_answered_last_is_asked_first() -> None:
    with scripted_etcd(kv_put=lambda _: refused(503, 14, "no leader")) as sick, scripted_etcd(kv_put=lambda _: OK) as well:
        client = EtcdClient([dead_url(), sick.url, well.url + "/"])
        assert client.put("/a", b"") == 7
        assert client.put("/a", b"") == 7
        assert (len(sick.asked), len(well.asked)) == (1, 2)


def test_an_endpoint_is_asked_whose_member_it_is_without_becoming_the_first_to_be_asked() -> None:
    with scripted_etcd(kv_put=lambda _: OK) as first, scripted_etcd(kv_put=lambda _: OK, kv_range=lambda _: OK) as second:
        client = EtcdClient([first.url, second.url])
        assert client.cluster_of(second.url, "/a") == "1"
        client.put("/a", b"")
        assert (len(first.asked), len(second.asked)) == (1, 1)


def test_when_none_answers_each_is_named_with_its_cause() -> None:
    dead = dead_url()
    with scripted_etcd(kv_range=lambda _: refused(503, 14, "no leader")) as sick:
        with pytest.raises(EtcdError) as raised:
            EtcdClient([dead, sick.url]).range("/a")
        assert str(raised.value) == f"etcd at {dead}: connection refused; {sick.url}: no leader"
        assert (raised.value.retriable, raised.value.sent, raised.value.code) == (True, True, 14)
        with pytest.raises(EtcdError) as raised:
            EtcdClient([dead, dead]).range("/a")
        assert (raised.value.retriable, raised.value.sent) == (True, False)


def test_what_would_be_refused_anywhere_is_asked_once() -> None:
    with scripted_etcd(kv_put=lambda _: refused(400, 3, "request is too large")) as first, scripted_etcd() as second:
        with pytest.raises(EtcdError, match=f"^etcd at {first.url}: request is too large$") as raised:
            EtcdClient([first.url, second.url]).put("/a", b"")
        assert (raised.value.retriable, raised.value.sent, raised.value.code, second.asked) == (False, False, 3, [])


def test_a_transaction_that_may_have_been_done_is_not_sent_again() -> None:
    """Done twice, its condition would fail the second time: it would seem that somebody else has won."""

    def hang_up(sock: Any, _number: int) -> None:
        head_of(sock)

    with backend(hang_up) as cut, scripted_etcd(kv_txn=lambda _: (200, {"header": header(), "succeeded": True})) as well:
        client = EtcdClient([cut, well.url])
        with pytest.raises(EtcdError, match=f"etcd at {cut}: ") as raised:
            client.txn([absent("/a")], [put_op("/a", b"")])
        assert raised.value.sent
        assert well.asked == []
        assert client.txn([absent("/a")], [put_op("/a", b"")]).succeeded  # whoever sends it again gets to another one
        assert EtcdClient([dead_url(), well.url]).txn([absent("/a")], [put_op("/a", b"")]).succeeded


def test_a_silent_endpoint_has_its_time_and_then_the_next_one_is_asked() -> None:
    def say_nothing(_: Any) -> Any:
        gevent.sleep(60)

    def drip(sock: Any, _number: int) -> None:
        head_of(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            sock.sendall(b" ")
            gevent.sleep(0.02)

    with scripted_etcd(kv_put=say_nothing) as silent, backend(drip) as slow, scripted_etcd(kv_put=lambda _: OK) as well:
        assert EtcdClient([silent.url, slow, well.url], timeout_s=0.1).put("/a", b"") == 7
        with pytest.raises(EtcdError, match=r"no answer within 0\.1 s; .*: no answer within 0\.1 s") as raised:
            EtcdClient([silent.url, slow], timeout_s=0.1).put("/a", b"")
        assert raised.value.sent


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'{"header": 7}', b'{"header": {"revision": "x"}}', b"\xff\xfe"])
def test_garbage_is_an_error_that_says_so(body: bytes) -> None:
    with scripted_etcd(kv_range=lambda _: (200, body)) as etcd:
        with pytest.raises(EtcdError, match=f"^etcd at {etcd.url}: it answered with what is (no JSON|not etcd's) ") as raised:
            EtcdClient([etcd.url]).range("/a")
        assert raised.value.retriable


def test_garbage_of_keys_is_an_error_too() -> None:
    found = {"header": header(), "kvs": [{"key": "***"}]}
    with scripted_etcd(kv_range=lambda _: (200, found)) as etcd, pytest.raises(EtcdError, match="not etcd's"):
        EtcdClient([etcd.url]).range("/a")


def test_a_token_is_got_once_and_again_when_it_is_over() -> None:
    tokens = iter(("first", "second"))

    def put(_: Any) -> Any:
        return OK if etcd.asked[-1][2] == valid[0] else refused(401, 16, "invalid auth token")

    with scripted_etcd(kv_put=put, auth_authenticate=lambda _: (200, {"header": header(), "token": next(tokens)})) as etcd:
        valid = ["first"]
        client = EtcdClient([etcd.url], user="edge", password="secret")
        client.put("/a", b"")
        client.put("/a", b"")
        valid = ["second"]
        client.put("/a", b"")
        assert etcd.paths == ["auth/authenticate", *["kv/put"] * 3, "auth/authenticate", "kv/put"]
        assert etcd.asked[0][1] == {"name": "edge", "password": "secret"}
        assert "secret" not in repr(client)


def test_a_token_that_is_never_good_is_an_error_and_no_circle() -> None:
    with scripted_etcd(
        kv_put=lambda _: refused(401, 16, "invalid auth token"), auth_authenticate=lambda _: (200, {"token": "t"})
    ) as etcd:
        with pytest.raises(EtcdError, match="invalid auth token"):
            EtcdClient([etcd.url], user="edge", password="secret").put("/a", b"")
        assert len(etcd.asked) == 4


def test_a_password_in_an_endpoint_is_not_in_its_errors() -> None:
    url = dead_url().replace("//", "//me:secret@")
    client = EtcdClient([url])
    with pytest.raises(EtcdError) as raised:
        client.put("/a", b"")
    assert str(raised.value) == f"etcd at {url.replace('me:secret@', '')}: connection refused"
    assert "secret" not in repr(client)


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    for file, cause in (("/nowhere/ca.pem", "no such file or directory"), (str(rubbish), ".*")):
        with pytest.raises(EtcdError, match=f"^etcd at https://localhost:1: {file} cannot be used: {cause}$") as raised:
            EtcdClient(["https://localhost:1"], ca_file=file).put("/a", b"")
        assert not raised.value.sent


def watch_of(url: str, revision: int = 8) -> EtcdWatch:
    return EtcdClient([url]).watch("/a/", True, revision)


def created(revision: int = 7) -> dict[str, Any]:
    return {"result": {"header": header(revision), "created": True}}


def put_event(key: str, revision: int) -> dict[str, Any]:
    return {"kv": {"key": encoded(key), "value": encoded(b"v"), "mod_revision": str(revision)}}


def test_events_are_read_whatever_the_pieces_they_come_in() -> None:
    whole = b"".join(lines(created(), {"result": {"header": header(9), "events": [put_event("/a/b", 8)]}}, end=True))
    with scripted_etcd(kv_range=lambda _: OK, watch=lambda _: (200, (whole[i : i + 1] for i in range(len(whole))))) as etcd:
        watch = watch_of(etcd.url)
        with gevent.Timeout(20):
            revision, events = next(watch)
        assert (revision, [event.key for event in events]) == (8, ["/a/b"])
        with pytest.raises(EtcdError, match=f"etcd at {etcd.url}: the watch has ended: etcd closed the connection"):
            next(watch)
        assert list(watch) == []


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"result": {"header": header(), "canceled": True, "cancel_reason": "etcdserver: no leader"}}, "has ended: no leader"),
        ({"result": {"header": header(), "canceled": True}}, "has ended: etcd cancelled it"),
        ({"error": {"grpc_code": 14, "message": "etcdserver: no leader"}}, "has ended: no leader"),
        ({"result": {"events": [{"kv": 7}]}}, "what is no event of a watch"),
        ([], "what is no event of a watch"),
        ({}, "what is no event of a watch"),
    ],
)
def test_a_watch_that_etcd_ends_says_why(said: Any, text: str) -> None:
    with scripted_etcd(kv_range=lambda _: OK, watch=lambda _: (200, lines(created(), said))) as etcd:
        with pytest.raises(EtcdError, match=text) as raised, gevent.Timeout(20):
            next(watch_of(etcd.url))
        assert raised.value.retriable


def test_a_compacted_revision_says_the_first_that_there_is() -> None:
    said = {"result": {"header": header(), "canceled": True, "compact_revision": "12"}}
    with scripted_etcd(kv_range=lambda _: OK, watch=lambda _: (200, lines(said))) as etcd:
        with pytest.raises(Compacted) as raised, gevent.Timeout(20):
            next(watch_of(etcd.url))
        assert raised.value.revision == 12


def test_a_watch_that_is_refused_says_why() -> None:
    with (
        scripted_etcd(kv_range=lambda _: OK, watch=lambda _: refused(503, 14, "no leader")) as etcd,
        pytest.raises(EtcdError, match="the watch has ended: no leader"),
        gevent.Timeout(20),
    ):
        next(watch_of(etcd.url))


def said_once(*said: Any) -> Callable[[], AbstractContextManager[Iterator[bytes]]]:
    """The way of a watch to its answer: these lines, then nothing more."""
    return lambda: nullcontext(lines(*said))


def test_a_silent_watch_is_checked_and_says_so() -> None:
    watch = EtcdWatch("http://etcd", said_once(created()), lambda: 9, 8, check_s=0.01)
    with gevent.Timeout(20):
        assert [next(watch), next(watch)] == [(7, ()), (7, ())]
    watch.close()
    assert list(watch) == []


def test_a_watch_whose_etcd_has_gone_back_while_it_was_silent_is_over() -> None:
    watch = EtcdWatch("http://etcd", said_once(created()), lambda: 3, 8, check_s=0.01)
    with pytest.raises(Compacted, match="etcd at http://etcd: its revision went back from 7 to 3"), gevent.Timeout(20):
        next(watch)


def test_a_watch_whose_member_is_dead_is_over() -> None:
    def check() -> int:
        raise EtcdError("etcd at http://etcd: no answer within 3 s", retriable=True)

    watch = EtcdWatch("http://etcd", said_once(created()), check, 8, check_s=0.01)
    with pytest.raises(EtcdError, match="no answer within 3 s"), gevent.Timeout(20):
        next(watch)


def test_a_watch_of_which_nothing_comes_is_over() -> None:
    """As behind a proxy that collects an answer until it has ended."""
    watch = EtcdWatch("http://etcd", said_once(), lambda: 7, 8, check_s=0.01)
    with pytest.raises(EtcdError, match="nothing has come of it, though etcd answers"), gevent.Timeout(20):
        next(watch)


def test_pages_are_asked_for_at_one_revision() -> None:
    def page(question: Any) -> Any:
        if "revision" not in question:
            return 200, {"header": header(7), "kvs": [{"key": encoded("/a/1")}], "more": True, "count": "2"}
        return 200, {"header": header(9), "kvs": [{"key": encoded("/a/2")}], "count": "1"}

    with scripted_etcd(kv_range=page) as etcd:
        revision, found = EtcdClient([etcd.url]).range("/a/", prefix=True)
        assert (revision, [pair.key for pair in found]) == (7, ["/a/1", "/a/2"])
        assert (etcd.asked[1][1]["key"], etcd.asked[1][1]["revision"]) == (encoded("/a/1\0"), "7")
