"""Backends as keys in a real etcd, under steady load: they come and go, etcd fails in every way, and no request is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from smartedge.config.discover import EtcdConfig
from smartedge.discovery.check import EntryChecker
from smartedge.discovery.etcd import EtcdSource
from tests.certificates import Authority
from tests.live.edges import GEVENT, LiveEdge, start_edge
from tests.live.etcd_server import EtcdServer, etcd, etcd_of_three
from tests.live.found import backends_of, documented, named_backends, requests_of, source_of, wait_found, wait_kept, wait_state
from tests.live.processes import ask, running, wait_until
from tests.live.steady import SteadyLoad

PREFIX = "/services/api/"
TWO_WORKERS = ("-w", "2", "--worker-tmp-dir", "/dev/shm")

pytestmark = pytest.mark.timeout(300)


def edge_on(directory: Path, *servers: EtcdServer, server: str = "own", arguments: tuple[str, ...] = (), **more: Any) -> Any:
    """An edge whose backends are what these say."""
    env = more.pop("env", None)
    said = {"prefix": PREFIX, "endpoints": [one.url for one in servers], **more}
    return start_edge(directory, server=server, arguments=arguments, env=env, backends=[], discover={"etcd": said}, probed=False)


def test_keys_come_and_go_and_their_leases_end(tmp_path: Path) -> None:
    with named_backends(4) as scripts, etcd(tmp_path) as store:
        a, b, c, d = (script.url for script in scripts)
        store.put(PREFIX + "a", a)
        with edge_on(tmp_path, store) as edge, SteadyLoad(edge.port, clients=4) as load:
            wait_found(edge, "a")
            store.put(PREFIX + "b", {"url": b, "weight": 3, "labels": {"version": "7"}})
            found = wait_found(edge, "a", "b")
            assert (found["b"]["weight"], found["b"]["labels"]) == (3, {"version": "7"})
            lease = store.grant(60)
            store.put(PREFIX + "c", c, lease)
            wait_found(edge, "a", "b", "c")
            store.revoke(lease)
            wait_found(edge, "a", "b")
            store.put(PREFIX + "c", c, store.grant(3))  # nobody keeps this one alive
            wait_until(lambda: edge.process.output.count("(new c)") == 2, 10)
            wait_found(edge, "a", "b")

            store.put(PREFIX + "b", '{"url": ')
            store.put(PREFIX + "new", "no URL")
            wait_state(edge, "fresh", '"new": ')
            found = wait_found(edge, "a", "b")
            assert (found["b"]["url"], found["b"]["weight"]) == (b, 3)
            assert '"b": ' in source_of(edge)["problem"]
            store.put(PREFIX + "b", b)
            store.delete(PREFIX + "new")
            wait_until(lambda: source_of(edge)["problem"] is None, 10)
            wait_found(edge, "a", "b")

            store.put(PREFIX + "a", d)
            wait_until(lambda: backends_of(edge)["a"]["url"] == d, 10)
            wait_found(edge, "a", "b")
            store.delete(PREFIX + "a")
            wait_found(edge, "b")
            load.stop()
            assert (requests_of(edge, scripts[3]), requests_of(edge, scripts[1])) == (0, 20)
            assert load.failures == []
            assert load.answered > 20


def test_whatever_etcd_does_nothing_is_lost(tmp_path: Path) -> None:
    with named_backends(4) as scripts, etcd(tmp_path) as store:
        urls = dict(zip("abcd", (script.url for script in scripts), strict=True))
        for name in "ab":
            store.put(PREFIX + name, urls[name])
        with edge_on(tmp_path, store, server=GEVENT, arguments=TWO_WORKERS) as edge, SteadyLoad(edge.port, clients=4) as load:
            wait_found(edge, "a", "b")

            store.kill()
            wait_state(edge, "stale", f"etcd at {store.url}: connection refused")
            wait_found(edge, "a", "b")
            store.start()
            last = [store.put(PREFIX + "c", urls["c"]) for _ in range(3)][-1]
            store.ctl("compact", str(last))  # the revision that it had seen is no more
            wait_state(edge, "fresh")
            wait_found(edge, "a", "b", "c")

            store.pause()
            wait_state(edge, "stale", "no answer within 3 s")
            wait_found(edge, "a", "b", "c")
            store.resume()
            wait_state(edge, "fresh")

            store.delete(PREFIX, PREFIX + "\x7f")
            wait_state(edge, "stale", "its answer is empty")
            wait_found(edge, "a", "b", "c")
            for name in "abc":
                store.put(PREFIX + name, urls[name])
            wait_state(edge, "fresh")

            store.save(tmp_path / "backup")
            store.put(PREFIX + "d", urls["d"])
            wait_found(edge, "a", "b", "c", "d")
            store.restore(tmp_path / "backup")  # its revision goes back
            wait_found(edge, "a", "b", "c")
            store.put(PREFIX + "d", urls["d"])
            wait_found(edge, "a", "b", "c", "d")
            wait_kept(edge, "a", "b", "c", "d")
            assert load.failures == []
            assert load.answered > 100
            assert "Traceback" not in edge.process.output, edge.process

        store.kill()
        with edge_on(tmp_path, store) as edge:  # what was found before is used
            wait_found(edge, "a", "b", "c", "d")
            assert ask(edge.url).status == 200
            assert "connection refused" in source_of(edge)["problem"]
            store.start()
            store.delete(PREFIX + "a")
            wait_found(edge, "b", "c", "d")
            wait_state(edge, "fresh")


def test_with_half_of_the_members_the_last_good_set_stays(tmp_path: Path) -> None:
    with named_backends(3) as scripts, etcd_of_three(tmp_path) as members:
        first, second, third = members
        a, b, c = (script.url for script in scripts)
        first.put(PREFIX + "a", a)
        with edge_on(tmp_path, *members) as edge, SteadyLoad(edge.port, clients=4) as load:
            wait_found(edge, "a")
            first.kill()  # the one that is watched
            wait_until(lambda: third.put(PREFIX + "b", b), 20, "a write, by two of three")
            wait_found(edge, "a", "b")
            second.kill()
            wait_state(edge, "stale", third.url)
            wait_found(edge, "a", "b")
            first.start()
            wait_until(lambda: third.put(PREFIX + "c", c), 20, "a write, by two of three")
            wait_found(edge, "a", "b", "c")
            wait_state(edge, "fresh")
            assert load.failures == []


def test_a_user_and_tls_of_its_own(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    usages = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    own = authority.sign(tmp_path / "etcd.pem", "127.0.0.1", extensions=[usages])
    ours = authority.sign(tmp_path / "client.pem", subject=[(NameOID.ORGANIZATION_NAME, "edge")], extensions=[usages])
    tls = {"ca_file": str(tmp_path / "ca.pem"), "cert_file": ours}
    flags = ("--cacert", tls["ca_file"], "--cert", ours, "--key", ours)
    store = EtcdServer(tmp_path, scheme="https")
    with named_backends(2) as scripts:
        try:
            store.start("--cert-file", own, "--key-file", own, "--client-cert-auth", "--trusted-ca-file", tls["ca_file"])
            for command in (
                ("put", PREFIX + "a", scripts[0].url),
                ("user", "add", "root:root"),
                ("role", "add", "reader"),
                ("role", "grant-permission", "reader", "--prefix=true", "read", PREFIX),
                ("user", "add", "edge:wonderland"),
                ("user", "grant-role", "root", "root"),
                ("user", "grant-role", "edge", "reader"),
                ("auth", "enable"),
            ):
                store.ctl(*flags, *command)
            env = {"SMARTEDGE_ETCD_USER": "edge", "SMARTEDGE_ETCD_PASSWORD": "wonderland"}
            with edge_on(tmp_path, store, env=env, **tls) as edge:
                wait_found(edge, "a")
                store.ctl(*flags, "--user=root:root", "auth", "disable")  # all tokens are forgotten
                store.ctl(*flags, "auth", "enable")
                store.ctl(*flags, "--user=root:root", "put", PREFIX + "b", scripts[1].url)
                wait_found(edge, "a", "b")
                store.ctl(*flags, "--user=root:root", "user", "delete", "edge")
                store.kill()
                store.start(*("--cert-file", own, "--key-file", own, "--client-cert-auth", "--trusted-ca-file", tls["ca_file"]))
                wait_state(edge, "stale", "authentication failed")
                wait_found(edge, "a", "b")
                assert_told_to_nobody(edge, "wonderland")
        finally:
            store.kill()


def test_the_commands_of_the_documentation_make_these_backends(tmp_path: Path) -> None:
    with etcd(tmp_path) as store:
        env = {"ETCDCTL_ENDPOINTS": store.url, "ETCDCTL_API": "3"}
        script = "set -e\n" + "".join(documented("etcd")) + "echo done\nsleep 100\n"
        with running(["bash", "-c", script], "^done$", env=env):
            found = EntryChecker({}).check_entries(
                next(EtcdSource(EtcdConfig(prefix=PREFIX, endpoints=(store.url,))).snapshots())
            )
            assert found.findings == ()
            assert [(one.id, one.url, one.weight, one.state) for one in found.backends] == [
                ("web-2", "http://10.0.0.2:8000", 2, "draining"),
                ("web-3", "http://10.0.0.3:8000", 1, "enabled"),
                ("web-4", "http://10.0.0.4:8000", 1, "enabled"),
            ]


def assert_told_to_nobody(edge: LiveEdge, secret: str) -> None:
    """Neither the log, the pages nor the state directory know it."""
    assert secret not in edge.process.output
    for page in ("/api/status", "/metrics", "/smartedge/config"):
        assert secret not in ask(edge.url + page).text
    for path in edge.directory.rglob("*"):
        if path.is_file() and "default" not in path.parts:  # etcd's own
            assert secret.encode() not in path.read_bytes(), path
