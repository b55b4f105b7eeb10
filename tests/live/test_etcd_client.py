"""The client of etcd against a real one."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from smartedge.discovery.etcd_client import (
    Compacted,
    EtcdClient,
    EtcdError,
    EtcdWatch,
    Event,
    absent,
    delete_op,
    put_op,
    range_op,
    unchanged,
)
from tests.certificates import Authority
from tests.live.etcd_server import EtcdServer, etcd, etcd_of_three


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with etcd(tmp_path_factory.mktemp("etcd")) as found:
        yield found


@pytest.fixture
def client(server: EtcdServer) -> Iterator[EtcdClient]:
    found = EtcdClient([server.url])
    found.delete("", prefix=True)
    yield found
    found.close()


def next_events(watch: EtcdWatch) -> tuple[int, tuple[Event, ...]]:
    """The next batch with events in it."""
    with gevent.Timeout(40):
        return next(batch for batch in watch if batch[1])


def test_a_key_is_written_read_and_deleted(client: EtcdClient) -> None:
    revision = client.put("/a", b"\x00\xff")
    assert client.put("/a", b"two") == revision + 1
    at, found = client.range("/a")
    assert at == revision + 1
    assert [(kv.key, kv.value, kv.version, kv.create_revision, kv.mod_revision, kv.lease) for kv in found] == [
        ("/a", b"two", 2, revision, revision + 1, 0)
    ]
    assert client.range("/a", at_revision=revision)[1][0].value == b"\x00\xff"
    assert client.delete("/a") == 1
    assert client.range("/a")[1] == []


def test_a_prefix_has_its_own_keys_in_order_and_no_others(client: EtcdClient) -> None:
    for key in ("/s/b", "/s/a", "/s", "/s0", "/t", "/s/\udcff"):
        client.put(key, b"x")
    assert [kv.key for kv in client.range("/s/", prefix=True)[1]] == ["/s/a", "/s/b", "/s/\udcff"]
    assert len(client.range("", prefix=True)[1]) == 6
    assert client.delete("/s/", prefix=True) == 3
    assert [kv.key for kv in client.range("", prefix=True)[1]] == ["/s", "/s0", "/t"]


def test_a_large_prefix_is_read_in_pages_at_one_revision(client: EtcdClient) -> None:
    for start in range(0, 2100, 100):
        client.txn([], [put_op(f"/many/{number:04}", b"%d" % number) for number in range(start, start + 100)])
    revision, found = client.range("/many/", prefix=True)
    assert [kv.key for kv in found] == [f"/many/{number:04}" for number in range(2100)]
    client.put("/many/0001", b"later")
    assert client.range("/many/", prefix=True, at_revision=revision)[1][1].value == b"1"


def test_a_transaction_compares_and_swaps(client: EtcdClient) -> None:
    made = client.txn([absent("/c")], [put_op("/c", b"one")])
    assert made.succeeded
    again = client.txn([absent("/c")], [put_op("/c", b"two")], [range_op("/c")])
    assert not again.succeeded
    assert [kv.value for kv in again.responses[0]] == [b"one"]
    assert client.txn([unchanged("/c", made.revision)], [put_op("/c", b"two"), range_op("/c")]).responses[1][0].value == b"two"
    assert not client.txn([unchanged("/c", made.revision)], [delete_op("/c")]).succeeded
    assert client.txn([unchanged("/c", made.revision + 1)], [delete_op("/c")]).succeeded
    assert client.range("/c")[1] == []


def test_a_watch_tells_what_happens_from_a_revision_on(client: EtcdClient) -> None:
    revision = client.put("/w/old", b"1")
    client.put("/w/missed", b"2")
    watch = client.watch("/w/", True, revision + 1)
    assert next_events(watch) == (revision + 1, (Event("put", "/w/missed", b"2", revision + 1),))
    client.put("/elsewhere", b"")
    client.txn([], [put_op("/w/new", b"3"), delete_op("/w/old")])
    at, events = next_events(watch)
    assert at == revision + 3
    assert events == (Event("put", "/w/new", b"3", at), Event("delete", "/w/old", b"", at))
    watch.close()
    assert list(watch) == []


def test_a_watch_that_is_closed_ends_for_whoever_waits(client: EtcdClient) -> None:
    watch = client.watch("/w/", True, 1 + client.put("/x", b""))
    waiting = gevent.spawn(list, watch)
    gevent.sleep(0.05)
    watch.close()
    watch.close()
    assert waiting.get(timeout=20) == []


def test_a_quiet_watch_says_that_it_lives(client: EtcdClient) -> None:
    revision = client.put("/x", b"")
    watch = client.watch("/quiet/", True, revision + 1)
    with gevent.Timeout(40):
        assert next(watch) == (revision, ())
    client.put("/quiet/a", b"")
    assert next_events(watch)[0] == revision + 1
    watch.close()


def test_a_compacted_revision_is_told(server: EtcdServer, client: EtcdClient) -> None:
    first = client.put("/x", b"1")
    latest = client.put("/x", b"2")
    server.ctl("compact", str(latest))
    with pytest.raises(Compacted, match=rf"etcd at {server.url}: .*has been compacted"):
        client.range("/x", at_revision=first)
    with pytest.raises(Compacted) as raised:
        next_events(client.watch("/x", False, first))
    assert raised.value.revision == latest


def test_a_watch_from_the_future_means_that_etcd_is_another_one(client: EtcdClient) -> None:
    latest = client.put("/x", b"1")
    with pytest.raises(Compacted, match=f"went back from {latest + 9} to {latest}"):
        client.watch("/x", False, latest + 10)


def test_a_lease_takes_its_keys_along(client: EtcdClient) -> None:
    lease = client.grant(60)
    revision = client.put("/leased", b"", lease)
    assert client.range("/leased")[1][0].lease == lease
    watch = client.watch("/leased", False, revision + 1)
    assert client.keep_alive(lease) == 60
    client.revoke(lease)
    assert next_events(watch)[1] == (Event("delete", "/leased", b"", revision + 1),)
    watch.close()
    assert client.keep_alive(lease) == 0
    client.revoke(lease)


def test_a_lease_that_nobody_renews_is_over(client: EtcdClient) -> None:
    lease = client.grant(1)
    watch = client.watch("/leased", False, 1 + client.put("/leased", b"", lease))
    assert next_events(watch)[1][0].kind == "delete"
    watch.close()
    with pytest.raises(EtcdError, match="requested lease not found") as raised:
        client.put("/leased", b"", lease)
    assert not raised.value.retriable


def test_greenlets_run_while_etcd_is_asked(client: EtcdClient) -> None:
    """The sockets are gevent's, though nothing is patched here."""
    watch = client.watch("/w/", True, 1 + client.put("/x", b""))
    waiting = gevent.spawn(next_events, watch)
    client.put("/w/a", b"")
    assert waiting.get(timeout=20)[1][0].key == "/w/a"
    watch.close()


def test_a_member_that_is_gone_is_passed_over(tmp_path: Path) -> None:
    """Killed, held, started again: with two of three there is always an answer.

    Each time it is the one that is watched: a client on a loaded machine goes on to the next one by itself.
    """
    with etcd_of_three(tmp_path) as servers:

        def watched(watch: EtcdWatch) -> EtcdServer:
            return next(server for server in servers if server.url == watch.endpoint)

        client = EtcdClient([server.url for server in servers], timeout_s=1.0)
        revision = eventually(lambda: client.put("/x", b"1"))
        watch = eventually(lambda: client.watch("/x", False, revision + 1))
        gone = watched(watch)
        gone.kill()
        with pytest.raises(EtcdError, match=f"etcd at {gone.url}: the watch has ended"), gevent.Timeout(40):
            list(watch)
        assert eventually(lambda: client.put("/x", b"2")) > revision
        assert next_events(eventually(lambda: client.watch("/x", False, revision + 1)))[1][0].value == b"2"
        gone.start()
        latest = eventually(lambda: client.put("/x", b"3"))
        watch = eventually(lambda: client.watch("/x", False, latest + 1))
        held = watched(watch)
        held.pause()
        with pytest.raises(EtcdError, match=f"etcd at {held.url}: the watch has ended: no answer within 1 s"), gevent.Timeout(40):
            list(watch)
        assert eventually(lambda: client.put("/x", b"4")) > latest
        held.resume()
        left = EtcdClient([held.url])
        latest = eventually(lambda: left.put("/x", b"5"))
        watch = eventually(lambda: left.watch("/x", False, latest + 1))
        for server in servers:
            if server is not held:
                server.kill()
        with pytest.raises(EtcdError), gevent.Timeout(40):  # no majority: told, or found out by a check
            list(watch)
        with pytest.raises(EtcdError) as raised:
            client.range("/x")
        assert raised.value.retriable
        assert all(server.url in str(raised.value) for server in servers)
        client.close()


def eventually(ask: Any) -> Any:
    """An answer, once the members have agreed on a new leader."""
    with gevent.Timeout(60):
        while True:
            try:
                return ask()
            except EtcdError as error:
                if not error.retriable:
                    raise
            gevent.sleep(0.1)


def test_users_and_tokens(tmp_path: Path) -> None:
    with etcd(tmp_path, "--auth-token-ttl", "1") as server:
        early = EtcdClient([server.url], user="edge", password="se cret")
        early.put("/before", b"")  # no users yet: the password waits
        for command in (
            "user add root:root",
            "user grant-role root root",
            "role add reader",
            "role grant-permission reader --prefix=true readwrite /s/",
            "auth enable",
        ):
            server.ctl(*command.split())
        root = "--user=root:root"
        server.ctl(root, "user", "add", "edge:se cret")
        server.ctl(root, "user", "grant-role", "edge", "reader")
        client = EtcdClient([server.url], user="edge", password="se cret")
        for one in (early, client):
            revision = one.put("/s/a", b"1")
        with pytest.raises(EtcdError, match=f"etcd at {server.url}: permission denied") as raised:
            client.put("/other", b"1")
        assert not raised.value.retriable
        server.ctl(root, "auth", "disable")  # forgets all tokens
        server.ctl("auth", "enable")
        assert client.range("/s/a")[1][0].value == b"1"
        watch = client.watch("/s/", True, revision + 1)
        server.stop()
        with pytest.raises(EtcdError), gevent.Timeout(40):
            list(watch)
        server.start(wait=False)  # with the flag for short tokens gone, and every token forgotten
        assert eventually(lambda: client.put("/s/a", b"2")) == revision + 1
        assert next_events(client.watch("/s/", True, revision + 1))[0] == revision + 1
        for user, password in (("edge", "wr ong"), ("nobody", "se cret")):
            with pytest.raises(EtcdError, match="authentication failed, invalid user ID or password") as raised:
                EtcdClient([server.url], user=user, password=password).range("/s/a")
            assert not raised.value.retriable
            assert password not in str(raised.value)
        with pytest.raises(EtcdError, match="user name is empty"):
            EtcdClient([server.url]).range("/s/a")


def test_tls_with_an_authority_and_a_certificate_of_its_own(tmp_path: Path) -> None:
    authority, stranger = Authority(), Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "other.pem").write_bytes(stranger.pem)
    usages = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    own = authority.sign(tmp_path / "etcd.pem", "127.0.0.1", extensions=[usages])
    ours = authority.sign(tmp_path / "client.pem", subject=[(NameOID.COMMON_NAME, "edge")], extensions=[usages])
    ca_file = str(tmp_path / "ca.pem")
    server = EtcdServer(tmp_path, scheme="https")
    try:
        server.start("--cert-file", own, "--key-file", own, "--client-cert-auth", "--trusted-ca-file", ca_file)
        client = EtcdClient([server.url], ca_file=ca_file, cert_file=ours, key_file=ours)
        revision = eventually(lambda: client.put("/x", b"1"))
        watch = client.watch("/x", False, revision)
        assert next_events(watch)[0] == revision
        waiting = gevent.spawn(list, watch)
        gevent.sleep(0.05)
        watch.close()
        assert waiting.get(timeout=20) == []
        with pytest.raises(EtcdError, match=f"etcd at {server.url}: TLS: "):
            EtcdClient([server.url], ca_file=ca_file).put("/x", b"1")
        with pytest.raises(EtcdError, match=r"TLS: (certificate|self.signed|unable)"):
            EtcdClient([server.url], ca_file=str(tmp_path / "other.pem"), cert_file=ours).put("/x", b"1")
        with pytest.raises(EtcdError, match=r"TLS: (certificate|self.signed|unable)"):
            EtcdClient([server.url], cert_file=ours).put("/x", b"1")
    finally:
        server.kill()


def test_base64_is_what_etcdctl_reads(server: EtcdServer, client: EtcdClient) -> None:
    client.put("/é", "ü".encode())
    assert server.ctl("get", "/é", "--print-value-only").strip() == "ü"
    assert base64.b64encode("/é".encode()).decode() in server.ctl("get", "/é", "-w", "json")
