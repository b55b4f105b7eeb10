"""What the source makes of etcd's keys; a real etcd is in tests/live/test_discovery_etcd.py."""

from __future__ import annotations

import json
from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartedge.config.discover import EtcdConfig
from smartedge.discovery.check import EntryChecker
from smartedge.discovery.etcd import EtcdSource, KeyEntries
from smartedge.discovery.etcd_values import encoded
from smartedge.discovery.source import SourceError
from tests.discovery.scripted_etcd import header, lines, refused, scripted_etcd

PREFIX = "/services/api/"


def entry(value: bytes | str, key: str = PREFIX + "a") -> Any:
    return KeyEntries(PREFIX).entry_of(key, value if isinstance(value, bytes) else value.encode())


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("http://a:8000", {"id": "a", "url": "http://a:8000"}),
        (" http://a:8000\n", {"id": "a", "url": "http://a:8000"}),
        ('"http://a:8000"', {"id": "a", "url": "http://a:8000"}),
        ('{"url": "http://a", "weight": 2}', {"id": "a", "url": "http://a", "weight": 2}),
        ('{"url": "http://a", "id": "own"}', {"id": "own", "url": "http://a"}),
    ],
)
def test_a_value_is_a_url_or_an_object(value: str, made: Any) -> None:
    assert entry(value) == made


@pytest.mark.parametrize(
    ("prefix", "key", "label"),
    [
        ("/services/api/", "/services/api/web-1", "web-1"),
        ("/services/api", "/services/api/web-1", "web-1"),
        ("/services/api/", "/services/api/dc1/web-1", "dc1-web-1"),
        ("/services/api/", "/services/api/10.0.0.1:8000", "10.0.0.1-8000"),
        ("/services/api/web-", "/services/api/web-1", "web-1"),
        ("api.", "api.one", "api.one"),
    ],
)
def test_an_id_is_what_follows_the_prefix(prefix: str, key: str, label: str) -> None:
    assert KeyEntries(prefix).entry_of(key, b"http://a") == {"id": label, "url": "http://a"}


def test_a_directory_is_no_backend() -> None:
    assert entry("", PREFIX) is None
    assert entry("", PREFIX + "dc1/") is None


RUBBISH = [
    b"",
    b"\xff\xfe",
    b"{",
    b"[1]",
    b'{"url": 7}',
    b'{"url": "ftp://a"}',
    b"7",
    b'"',
    b"{" * 5000,
    b'{"a":' * 100_000,
    b"a b",
]


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("good", ["http://a:8000", '{"url": "http://a:8000", "id": "own", "weight": 3}'])
def test_rubbish_in_a_key_leaves_its_backend_as_it_was(good: str, rubbish: bytes) -> None:
    entries, checker = KeyEntries(PREFIX), EntryChecker({})
    before = checker.check_entries([entries.entry_of(PREFIX + "a", good.encode())])
    after = checker.check_entries([entries.entry_of(PREFIX + "a", rubbish)])
    assert after.backends == before.backends
    assert len(after.findings) == 1
    assert checker.check_entries([entries.entry_of(PREFIX + "new", rubbish)]).backends == ()


@given(st.binary(max_size=60))
def test_no_value_raises(value: bytes) -> None:
    EntryChecker({}).check_entries([entry(value)])


def pairs(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"key": encoded(PREFIX + name), "value": encoded(value), "mod_revision": "7"} for name, value in said]


def event(name: str, value: str | None, revision: int) -> dict[str, Any]:
    kv = {"key": encoded(PREFIX + name), "value": encoded(value or ""), "mod_revision": str(revision)}
    return {"kv": kv} if value is not None else {"type": "DELETE", "kv": kv}


def batch(*events: dict[str, Any]) -> dict[str, Any]:
    return {"result": {"header": header(9), "events": list(events)}}


def source_of(*urls: str, **environ: str) -> EtcdSource:
    return EtcdSource(EtcdConfig(prefix=PREFIX, endpoints=urls), environ)


def urls(snapshot: Any) -> dict[str, str]:
    return {one["id"]: one["url"] for one in snapshot}


def test_all_at_first_then_each_change() -> None:
    found = {"header": header(7), "kvs": pairs(("a", "http://a"), ("b", "http://b"))}
    said = lines(
        {"result": {"header": header(7), "created": True}},
        batch(event("c", "http://c", 8), event("a", None, 8)),
        batch(event("b", "http://b:81", 9), event("nothing", None, 9)),
    )
    with scripted_etcd(kv_range=lambda _: (200, found), watch=lambda _: (200, said)) as etcd, gevent.Timeout(40):
        snapshots = source_of(etcd.url).snapshots()
        assert urls(next(snapshots)) == {"a": "http://a", "b": "http://b"}
        assert urls(next(snapshots)) == {"b": "http://b", "c": "http://c"}
        assert urls(next(snapshots)) == {"b": "http://b:81", "c": "http://c"}
        snapshots.close()
        watched = next(question for path, question, _ in etcd.asked if path == "watch")["create_request"]
        assert watched["start_revision"] == "8"


def test_a_revision_that_is_compacted_meanwhile_is_no_error() -> None:
    """Read at 7; the watch from 8 on is refused, and everything is read again."""
    answers = iter(([("a", "http://a")], [], [("b", "http://b")], []))  # each time read, then asked for the revision by the watch
    watches = iter(
        ({"result": {"header": header(), "canceled": True, "compact_revision": "12"}}, batch(event("c", "http://c", 9)))
    )

    def found(_: Any) -> Any:
        return 200, {"header": header(7), "kvs": pairs(*next(answers))}

    with scripted_etcd(kv_range=found, watch=lambda _: (200, lines(next(watches)))) as etcd, gevent.Timeout(40):
        snapshots = source_of(etcd.url).snapshots()
        assert [urls(next(snapshots)) for _ in range(3)] == [
            {"a": "http://a"},
            {"b": "http://b"},
            {"b": "http://b", "c": "http://c"},
        ]
        snapshots.close()


def test_an_error_is_a_sentence_that_names_endpoint_and_cause() -> None:
    with scripted_etcd(kv_range=lambda _: refused(403, 7, "permission denied")) as etcd:
        with pytest.raises(SourceError) as raised:
            next(source_of(etcd.url).snapshots())
        assert str(raised.value) == f"etcd at {etcd.url}: permission denied"


def test_a_watch_that_is_lost_at_once_is_an_error() -> None:
    ended = {"result": {"header": header(), "canceled": True, "cancel_reason": "no leader"}}
    with (
        scripted_etcd(kv_range=lambda _: (200, {"header": header()}), watch=lambda _: (200, lines(ended))) as etcd,
        pytest.raises(SourceError, match="the watch has ended: no leader"),
        gevent.Timeout(40),
    ):
        list(source_of(etcd.url).snapshots())


def test_a_revision_that_is_compacted_again_and_again_is_an_error_at_last() -> None:
    gone = {"result": {"header": header(), "canceled": True, "compact_revision": "12"}}
    with (
        scripted_etcd(kv_range=lambda _: (200, {"header": header()}), watch=lambda _: (200, lines(gone))) as etcd,
        pytest.raises(SourceError, match="revision 8 has been compacted"),
        gevent.Timeout(40),
    ):
        list(source_of(etcd.url).snapshots())


def test_an_own_id_that_is_taken_back_makes_it_another_backend() -> None:
    entries = KeyEntries(PREFIX)
    assert urls([entries.entry_of(PREFIX + "a", b'{"url": "http://a", "id": "own"}')]) == {"own": "http://a"}
    assert urls([entries.entry_of(PREFIX + "a", b'{"url": "http://a"}')]) == {"a": "http://a"}


def test_a_watch_that_is_lost_later_is_begun_again_without_an_error() -> None:
    with (
        scripted_etcd(
            kv_range=lambda _: (200, {"header": header(), "kvs": pairs(("a", "http://a"))}),
            watch=lambda _: (200, lines({"result": {"header": header(), "created": True}}, end=True)),
        ) as etcd,
        gevent.Timeout(40),
    ):
        snapshots = EtcdSource(EtcdConfig(prefix=PREFIX, endpoints=(etcd.url,)), {}, short_s=0).snapshots()
        assert [urls(next(snapshots)) for _ in range(3)] == [{"a": "http://a"}] * 3
        snapshots.close()


def test_user_and_password_come_from_the_environment() -> None:
    with scripted_etcd(kv_range=lambda _: (200, {"header": header()}), auth_authenticate=lambda _: (200, {"token": "t"})) as etcd:
        next(source_of(etcd.url, SMARTEDGE_ETCD_USER="edge", SMARTEDGE_ETCD_PASSWORD="secret").snapshots())
        assert etcd.asked[0][1] == {"name": "edge", "password": "secret"}
        assert json.dumps(etcd.asked[1][1]).count("secret") == 0
