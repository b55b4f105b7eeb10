"""All of a new configuration or nothing of it: with real files, the real parser, and a builder that can refuse."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smartedge.balancer.errors import EdgeError
from smartedge.config import model as config
from smartedge.config.model import Config, ConfigError
from smartedge.edge.files import Files
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload import Reloader
from smartedge.edge.reload_errors import ConfigNotReadable, NotPersisted, NotShared, PreconditionFailed, ReloadError
from smartedge.edge.reload_report import Applied
from smartedge.edge.setup import Setup
from smartedge.workers.generations import Alone
from smartedge.workers.state_dir import StateError
from tests.fakes import FakeClock, full_disk
from tests.house import setup_builder
from tests.live.peers import CERTS

ONE = b'{"backends": ["http://localhost:8081"]}'
TWO = b'{"backends": ["http://localhost:8081", "http://localhost:8082"]}'
CERTIFICATE = (CERTS / "localhost.pem").read_bytes()


class Edge:
    """A reloader on a file, and the configurations that it put to use; `refuse` makes the next setup fail to be built.

    text: what the file says, None for no file. more: of the ConfigOrigin.
    """

    def __init__(self, path: Path | None, text: bytes | None = ONE, **more: Any) -> None:
        self.path = path or Path("none")
        self.applied: list[Config] = []
        self.refuse: BaseException | None = None
        self.clock = FakeClock()
        if path is not None and text is not None:
            path.write_bytes(text)
        origin = ConfigOrigin(path, {}, **more)
        self.builder = setup_builder(origin, self.clock)
        setup = self.builder.build_setup(origin.parse_text(text or ONE), None)
        self.reloader = Reloader(origin, setup, self.build, self.use, self.clock)

    def build(self, config: Config, before: Setup | None, files: Files | None) -> Setup:
        self.clock.advance(0.25)
        if self.refuse is not None:
            raise self.refuse
        return self.builder.build_setup(config, before, files)

    def use(self, setup: Setup) -> None:
        self.applied.append(setup.config)

    def reload(self, body: bytes | None = None, **options: Any) -> Applied:
        return self.reloader.reload(body, **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "conf" / "backends.json"


@pytest.fixture
def edge(path: Path) -> Edge:
    path.parent.mkdir()
    return Edge(path)


@contextmanager
def nothing_changes(edge: Edge) -> Iterator[None]:
    """Neither on the disk (content, mode, and no file left beside it) nor in memory."""

    def state() -> object:
        files = {p.name: (p.read_bytes(), p.stat().st_mode, p.stat().st_ino) for p in edge.path.parent.iterdir()}
        held = edge.reloader
        return files, held.generation, held.etag, held.setup, list(edge.applied)

    before = state()
    yield
    assert state() == before


def test_without_a_body_the_file_is_read_again(edge: Edge) -> None:
    edge.path.write_bytes(TWO)
    applied = edge.reload()
    assert applied == Applied(
        config=config.parse(TWO),
        generation=2,
        changed=True,
        etag=config.parse(TWO).etag,
        added=("localhost-8082",),
        removed=(),
        changed_backends=(),
        settings_changed=(),
        restart_needed=(),
        took_s=0.25,
        persisted=True,
    )
    assert edge.applied == [config.parse(TWO)]
    assert edge.reloader.setup.config == config.parse(TWO)
    assert (edge.reloader.generation, edge.reloader.etag) == (2, applied.etag)


def test_a_body_is_persisted_as_it_is_and_applied(edge: Edge) -> None:
    body = b'{ "backends": [\n  "http://localhost:8082"\n] }\n'
    applied = edge.reload(body)
    assert edge.path.read_bytes() == body
    assert (applied.added, applied.removed) == (("localhost-8082",), ("localhost-8081",))
    assert edge.applied == [config.parse(body)]
    assert applied.persisted


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(edge: Edge) -> None:
    real = edge.path.rename(edge.path.with_name("real.json"))
    real.chmod(0o640)
    edge.path.symlink_to(real.name)
    edge.reload(TWO)
    assert edge.path.is_symlink()
    assert real.read_bytes() == TWO
    assert real.stat().st_mode & 0o7777 == 0o640


def test_what_a_restart_reads_is_what_was_applied(edge: Edge) -> None:
    edge.reload(TWO)
    assert config.load(edge.path) == edge.reloader.setup.config


def test_all_differences_are_told_by_name(edge: Edge) -> None:
    edge.reload(b'{"backends": [{"url": "http://a", "id": "a"}, {"url": "http://b", "id": "b"}, {"url": "http://c", "id": "c"}]}')
    applied = edge.reload(
        b"""{"backends": [{"url": "http://d", "id": "d"}, {"url": "http://b", "id": "b", "weight": 2},
             {"url": "http://c", "id": "c"}], "strategy": "ewma", "health": {"fall": 5}, "bind": "127.0.0.1:9"}"""
    )
    assert (applied.added, applied.removed, applied.changed_backends) == (("d",), ("a",), ("b",))
    assert sorted(applied.settings_changed) == ["bind", "health", "strategy"]
    assert applied.restart_needed == ("bind",)
    assert applied.message == (
        "generation 3 applied by 1/1 workers in 250 ms; added d; removed a; changed b; "
        f"settings changed: {', '.join(applied.settings_changed)}; only after a restart: bind"
    )


def test_an_override_of_a_common_value_counts_as_a_change_even_if_it_repeats_the_default(edge: Edge) -> None:
    """Models of pydantic are equal whether a default was written or not; for a backend's own health it matters."""
    text = '{"backends": [{"url": "http://a", "id": "a", "health": %s}], "health": {"interval_s": 5}}'
    edge.reload((text % "{}").encode())
    applied = edge.reload((text % '{"interval_s": 2.0}').encode())
    assert applied.changed_backends == ("a",)
    assert edge.applied[-1].specs()[0].health.interval_s == 2.0


def test_the_order_of_backends_alone_is_a_change(edge: Edge) -> None:
    edge.reload(TWO)
    applied = edge.reload(b'{"backends": ["http://localhost:8082", "http://localhost:8081"]}')
    assert applied.changed
    assert applied.generation == 3


def test_an_unchanged_configuration_is_a_no_op_that_says_so(edge: Edge) -> None:
    with nothing_changes(edge):
        from_file, from_body = edge.reload(), edge.reload(ONE)
    for applied in (from_file, from_body):
        assert (applied.generation, applied.changed, applied.persisted) == (1, False, True)
        assert "unchanged" in applied.message


def test_a_body_that_only_writes_the_same_in_another_way_is_persisted_but_not_applied(edge: Edge) -> None:
    body = b'{"strategy": "adaptive", "backends": ["http://localhost:8081"]}'
    applied = edge.reload(body)
    assert (applied.changed, applied.generation) == (False, 1)
    assert edge.path.read_bytes() == body
    assert edge.applied == []


def test_a_value_that_a_flag_hides_is_kept_for_the_restart_without_it(path: Path) -> None:
    path.parent.mkdir()
    edge = Edge(path, overrides={"strategy": "ewma"})
    body = b'{"backends": ["http://localhost:8081"], "strategy": "round_robin"}'
    assert not edge.reload(body).changed
    assert edge.reloader.setup.config.strategy == "ewma"
    assert edge.path.read_bytes() == body


@pytest.mark.parametrize(
    ("body", "status", "problems"),
    [
        (b"", 400, [""]),
        (b'{"backends": [', 400, [""]),
        (b"\xff\xfe", 400, [""]),
        (b'{"backends": ["http://a"], "strategi": "ewma"}', 422, ["strategi"]),
        (
            b'{"backends": ["ftp://a", {"url": "http://b", "weight": -1}]}',
            422,
            ["backends[0]", "backends[1].weight"],
        ),
    ],
)
@pytest.mark.parametrize("way", ["body", "file"])
def test_a_wrong_configuration_is_refused_with_all_its_errors(
    edge: Edge, way: str, body: bytes, status: int, problems: list[str]
) -> None:
    if way == "file":
        edge.path.write_bytes(body)
    with nothing_changes(edge), pytest.raises(ConfigError) as caught:
        edge.reload(body if way == "body" else None)
    assert caught.value.status == status
    assert [problem.path for problem in caught.value.problems] == problems


@pytest.mark.parametrize("body", [None, TWO])
def test_an_application_that_fails_leaves_the_file_and_the_configuration_as_they_were(edge: Edge, body: bytes | None) -> None:
    if body is None:
        edge.path.write_bytes(TWO)
    edge.path.chmod(0o640)
    before = edge.path.read_bytes(), edge.reloader.generation, edge.reloader.etag, edge.reloader.setup.config
    for failure in (RuntimeError("cannot build it"), KeyboardInterrupt()):
        edge.refuse = failure
        with pytest.raises(type(failure)):
            edge.reload(body)
    after = edge.path.read_bytes(), edge.reloader.generation, edge.reloader.etag, edge.reloader.setup.config
    assert after == before
    assert edge.path.stat().st_mode & 0o7777 == 0o640
    assert os.listdir(edge.path.parent) == ["backends.json"]
    edge.refuse = None
    assert edge.reload(TWO).generation == 2, "and the next reload works"


def test_a_file_that_was_not_there_before_a_failed_application_is_not_there_after_it(path: Path) -> None:
    path.parent.mkdir()
    edge = Edge(path, text=None)
    edge.refuse = RuntimeError("cannot build it")
    with nothing_changes(edge), pytest.raises(RuntimeError):
        edge.reload(TWO)
    edge.refuse = None
    assert edge.reload(TWO).persisted
    assert path.read_bytes() == TWO


class Unreachable(Alone):
    """Other workers that cannot be told; what else happens then is `act`'s."""

    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.act = act
        self.published = 0

    def publish(self, number: int, serial: int, config: str, found: str) -> None:
        self.published += 1
        if self.published > 1:
            self.act()
            raise StateError("no space left")


def test_what_the_other_workers_cannot_be_told_is_not_applied_nor_persisted(edge: Edge) -> None:
    edge.reloader.join_workers(Unreachable())
    with pytest.raises(NotShared, match="no space left; nothing changed") as caught:
        edge.reload(TWO)
    assert caught.value.status == 503
    assert edge.path.read_bytes() == ONE
    assert (edge.reloader.generation, edge.reloader.setup.config, edge.applied) == (1, config.parse(ONE), [])


def test_an_old_file_that_cannot_be_put_back_is_mentioned_beside_the_failure(edge: Edge) -> None:
    def lose_the_directory() -> None:
        edge.path.unlink()
        edge.path.parent.rmdir()

    edge.reloader.join_workers(Unreachable(lose_the_directory))
    with pytest.raises(NotShared) as caught:
        edge.reload(TWO)
    assert caught.value.__cause__ is not None
    assert "could not be put back: No such file or directory" in caught.value.__cause__.__notes__[0]
    assert edge.reloader.generation == 1


def test_what_cannot_be_persisted_is_not_applied(edge: Edge) -> None:
    with nothing_changes(edge), pytest.raises(NotPersisted) as caught, full_disk(10):
        edge.reload(TWO)
    assert caught.value.status == 500
    assert str(edge.path) in caught.value.detail
    assert "File too large" in caught.value.detail


def test_a_file_that_could_not_be_put_back_is_not_replaced(edge: Edge) -> None:
    edge.path.unlink()
    edge.path.mkdir()
    with pytest.raises(NotPersisted, match="Is a directory"):
        edge.reload(TWO)
    assert edge.reloader.generation == 1
    assert edge.applied == []


def test_a_missing_file_is_said_and_changes_nothing(edge: Edge) -> None:
    edge.path.unlink()
    with nothing_changes(edge), pytest.raises(ConfigNotReadable) as caught:
        edge.reload()
    assert caught.value.status == 400
    assert caught.value.detail == f"{edge.path} cannot be read: No such file or directory"


def test_without_a_file_a_body_is_applied_and_the_answer_says_that_a_restart_forgets_it() -> None:
    edge = Edge(None)
    with pytest.raises(ConfigNotReadable, match="there is no configuration file"):
        edge.reload()
    result = edge.reload(TWO)
    assert not result.persisted
    assert "not persisted" in result.message
    assert edge.applied == [config.parse(TWO)]


@pytest.mark.parametrize("header", ['"{etag}"', '"other", "{etag}"', "*"])
def test_a_reload_with_the_right_etag_is_let_through(edge: Edge, header: str) -> None:
    assert edge.reload(TWO, if_match=header.format(etag=edge.reloader.etag)).changed


@pytest.mark.parametrize("header", ['"0123456789abcdef"', 'W/"{etag}"', "{etag}", "", '"'])
@pytest.mark.parametrize("body", [None, TWO, ONE, b"not JSON"])
def test_a_reload_for_another_etag_changes_nothing(edge: Edge, header: str, body: bytes | None) -> None:
    with nothing_changes(edge), pytest.raises(PreconditionFailed) as caught:
        edge.reload(body, if_match=header.format(etag=edge.reloader.etag))
    assert caught.value.status == 412
    assert caught.value.etag == edge.reloader.etag
    assert edge.reloader.etag in str(caught.value)
    assert isinstance(caught.value, ReloadError)
    assert isinstance(caught.value, EdgeError), "the admin pages answer it like every other error of ours"


def test_what_waits_for_a_restart_is_named_until_it_is_taken_back(edge: Edge) -> None:
    moved = b'{"backends": ["http://localhost:8081"], "bind": "127.0.0.1:9999", "admin_bind": "127.0.0.1:9998"}'
    assert edge.reload(moved).restart_needed == ("bind", "admin_bind")
    later = edge.reload(moved.replace(b"8081", b"8082"))
    assert later.restart_needed == ("bind", "admin_bind")
    assert later.settings_changed == ()
    assert "only after a restart" in edge.reload().message
    assert edge.reload(ONE).restart_needed == ()


def test_concurrent_reloads_are_serialised_and_each_gets_its_own_generation(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(ONE)
    inside, orders = 0, []
    tangled = threading.Event()

    edge = Edge(path)

    def build(new: Config, before: Setup | None, files: Files | None) -> Setup:
        nonlocal inside
        inside += 1
        tangled.wait(0.005)  # let others in, if they can come in
        return edge.build(new, before, files)

    def use(new: Setup) -> None:
        nonlocal inside
        if inside > 1 or path.read_bytes() != new.config.to_json().encode():
            tangled.set()
        orders.append(new.config.etag)
        inside -= 1

    reloader = Reloader(ConfigOrigin(path, {}), edge.reloader.setup, build, use)
    bodies = [config.parse(json.dumps({"backends": [f"http://h{n}:1"]}).encode()).to_json().encode() for n in range(16)]
    results: list[Applied] = []
    start = threading.Barrier(len(bodies))

    def one(body: bytes) -> None:
        start.wait()
        results.append(reloader.reload(body))

    threads = [threading.Thread(target=one, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not tangled.is_set()
    results.sort(key=lambda result: result.generation)
    assert [result.generation for result in results] == list(range(2, 18))
    assert [result.etag for result in results] == orders
    assert reloader.etag == orders[-1]
    assert config.load(path).etag == orders[-1]


def test_of_two_writers_with_the_same_etag_only_one_gets_through(edge: Edge) -> None:
    tag = f'"{edge.reloader.etag}"'
    outcomes: list[str] = []
    start = threading.Barrier(8)

    def one(number: int) -> None:
        start.wait()
        body = json.dumps({"backends": [f"http://h{number}:1"]}).encode()
        try:
            edge.reload(body, if_match=tag)
            outcomes.append("applied")
        except PreconditionFailed:
            outcomes.append("refused")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["applied"] + ["refused"] * 7


def test_the_answer_is_plain_json(edge: Edge) -> None:
    answer = json.loads(json.dumps(edge.reload(TWO).to_json()))
    assert answer == {
        "generation": 2,
        "changed": True,
        "etag": config.parse(TWO).etag,
        "added": ["localhost-8082"],
        "removed": [],
        "changed_backends": [],
        "settings_changed": [],
        "restart_needed": [],
        "took_s": 0.25,
        "persisted": True,
        "certificate_renewed": False,
        "files_renewed": [],
        "workers": {"applied": 1, "live": 1},
        "message": "generation 2 applied by 1/1 workers in 250 ms; added localhost-8082",
    }


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    path = tmp_path / "cert.pem"
    path.write_bytes(CERTIFICATE)
    return path


def renewing(path: Path, pem: Path, **more: Any) -> Edge:
    """One whose clients are shown a certificate."""
    path.parent.mkdir()
    return Edge(path, json.dumps({"backends": ["http://localhost:8081"], "certfile": str(pem), **more}).encode())


def test_the_certificate_is_read_again_although_the_configuration_is_the_same(path: Path, pem: Path) -> None:
    edge = renewing(path, pem)
    first = edge.reloader.setup.files.shown
    assert edge.reload().certificate_renewed is False
    pem.write_bytes(CERTIFICATE + b"# another one\n")
    renewed = edge.reload()
    assert (renewed.changed, renewed.certificate_renewed) == (False, True)
    assert re.fullmatch(r"generation 2 applied by 1/1 workers in \d+ ms; certificate renewed", renewed.message)
    assert edge.reloader.setup.files.shown is not first
    assert len(edge.applied) == 1


def test_the_answer_names_the_other_files_that_hold_something_else(path: Path, pem: Path) -> None:
    (ca := pem.with_name("ca.pem")).write_bytes(CERTIFICATE)
    edge = renewing(path, pem, backends=[{"url": "https://a", "tls": {"ca_file": str(ca)}}])
    ca.write_bytes(pem.read_bytes() + b"# another one\n")
    renewed = edge.reload()
    assert (renewed.changed, renewed.certificate_renewed, renewed.files_renewed) == (False, False, ("backends[0].tls",))
    assert renewed.message.endswith("; files of backends[0].tls renewed")
    assert renewed.generation == 2


def test_a_file_that_was_replaced_is_used_at_the_next_look_and_named_by_the_next_reload(path: Path, pem: Path) -> None:
    edge = renewing(path, pem)
    first = edge.reloader.setup.files.shown
    assert edge.reloader.use_replaced_files() == ()
    pem.write_bytes(CERTIFICATE + b"# another one\n")
    assert edge.reloader.use_replaced_files() == ("certfile",)
    assert edge.reloader.setup.files.shown is not first
    assert edge.reloader.generation == 1
    assert edge.reload().files_renewed == ("certfile",)
    assert edge.reload().files_renewed == ()
    pem.touch()
    assert edge.reloader.use_replaced_files() == ()
    assert len(edge.applied) == 1


def test_where_flags_name_the_backends_a_reload_without_a_file_reads_the_certificate_again(path: Path, pem: Path) -> None:
    """SIGHUP after certbot said "there is no configuration file" under `run --backend ... --certfile ...`."""
    path.parent.mkdir()
    flags = {"backends": ["http://localhost:8081"], "certfile": str(pem)}
    edge = Edge(path, None, overrides=flags)
    assert edge.reload().changed is False
    pem.write_bytes(CERTIFICATE + b"# another one\n")
    assert edge.reload().certificate_renewed
    path.write_bytes(b"{")  # one that is there has to be right
    with pytest.raises(ConfigError):
        edge.reload()
    path.unlink()
    with pytest.raises(ConfigNotReadable):  # what else it said would be lost
        edge.reload()
    path.write_bytes(ONE)
    edge = Edge(path, overrides=flags)
    path.unlink()
    with pytest.raises(ConfigNotReadable):
        edge.reload()


def test_to_build_anew_is_to_use_the_same_configuration_again(edge: Edge) -> None:
    before = len(edge.applied)
    edge.reloader.rebuild_setup()
    assert edge.applied[before:] == [edge.reloader.setup.config]
    assert edge.reloader.generation == 1


def test_a_broken_certificate_changes_nothing_not_even_the_file(path: Path, pem: Path) -> None:
    edge = renewing(path, pem)
    body = path.read_bytes().replace(b"8081", b"8082")
    pem.write_bytes(b"no PEM")
    for said in (None, body):
        with nothing_changes(edge), pytest.raises(ConfigError, match="certfile"):
            edge.reload(said)


def test_another_certificate_applies_at_once_but_tls_itself_waits_for_a_restart(edge: Edge, tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(CERTIFICATE)
    (tmp_path / "b.pem").write_bytes(CERTIFICATE + b"# another one\n")

    def with_certificate(name: str) -> bytes:
        return json.dumps({"backends": ["http://localhost:8081"], "certfile": str(tmp_path / name)}).encode()

    assert edge.reload(with_certificate("a.pem")).restart_needed == ("certfile",)
    assert edge.reload(ONE).restart_needed == ()
    other = Edge(edge.path, with_certificate("a.pem"))
    assert other.reload(with_certificate("b.pem")).restart_needed == ()
    assert other.reload(ONE).restart_needed == ("certfile",)


# In a cluster.


def test_what_the_cluster_has_is_used_under_its_number_and_once(edge: Edge) -> None:
    applied = edge.reloader.use_cluster(TWO, 18)
    assert applied is not None
    assert (applied.generation, applied.added) == (18, ("localhost-8082",))
    assert (edge.reloader.generation, edge.applied) == (18, [config.parse(TWO)])
    assert edge.reloader.use_cluster(TWO, 18) is None
    assert edge.reloader.use_cluster(TWO, 19) is not None, "the same under another number is confirmed under that"
    assert (edge.reloader.generation, edge.applied) == (19, [config.parse(TWO)])
    assert edge.reloader.use_cluster(TWO, 18, counts_up=True) is None, "old news, which come after another worker's reload"
    assert edge.reloader.generation == 19
    assert edge.reloader.use_cluster(TWO, 18) is not None, "a cluster that was begun anew may count lower"
    assert edge.reloader.generation == 18
    assert edge.path.read_bytes() == ONE


def test_what_this_node_cannot_use_of_the_cluster_changes_nothing(edge: Edge) -> None:
    with nothing_changes(edge), pytest.raises(ConfigError):
        edge.reloader.use_cluster(b'{"backends": [3]}', 18)
    edge.refuse = ConfigError([], status=422)
    with nothing_changes(edge), pytest.raises(ConfigError):
        edge.reloader.use_cluster(TWO, 18)
    with nothing_changes(edge), pytest.raises(ConfigError):
        edge.reloader.check(TWO)


def test_a_check_changes_nothing(edge: Edge) -> None:
    with nothing_changes(edge):
        edge.reloader.check(TWO)
