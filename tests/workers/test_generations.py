"""Several workers, one configuration: reloaders over one directory, as each worker has one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smartedge.config import model as config
from smartedge.config.backends import BackendConfig
from smartedge.config.found import Change
from smartedge.config.model import Config, ConfigError, Problem
from smartedge.edge.files import Files
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload import NotShared, PreconditionFailed, Reloader
from smartedge.edge.reload_report import Applied
from smartedge.edge.setup import Setup
from smartedge.workers.generations import Generations, Heirloom, newest_in
from smartedge.workers.state_dir import StateError
from tests.house import setup_builder

CERTIFICATE = (Path(__file__).parents[1] / "live" / "certs" / "localhost.pem").read_bytes()


def text(*ports: int) -> bytes:
    return json.dumps({"backends": [f"http://localhost:{port}" for port in ports]}).encode()


class GreenletPool:
    """The workers of one edge: what each has applied, and how far each has said that it is."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.state.mkdir()
        self.file = directory / "backends.json"
        self.file.write_bytes(text(1))
        self.numbers: dict[int, int] = {}
        self.workers: list[Worker] = []

    def start(self, file: bytes | None = None, lock_s: float = 5.0) -> Worker:
        """Another worker begins; file: what the configuration file says by then."""
        if file is not None:
            self.file.write_bytes(file)
        worker = Worker(self, len(self.workers), lock_s)
        self.workers.append(worker)
        self.numbers[worker.slot] = 0
        worker.reloader.join_workers(worker.peers)
        return worker


class Worker:
    """One of them, and what it knows of the others, as a Membership has it. refuse: what applying anything raises."""

    def __init__(self, crew: GreenletPool, slot: int, lock_s: float) -> None:
        self.slot = slot
        self.crew = crew
        self.refuse: Exception | None = None
        self.retired = False
        self.applied: list[Config] = []
        self.peers = Generations(crew.state, self, lock_s)  # type: ignore[arg-type]
        origin = ConfigOrigin(crew.file, {})
        self.builder = setup_builder(origin)
        setup = self.builder.build_setup(config.load(crew.file), None)
        self.reloader = Reloader(origin, setup, self.build, lambda used: self.applied.append(used.config))

    def confirm(self, number: int, serial: int) -> None:
        self.crew.numbers[self.slot] = number

    def confirmed(self) -> dict[int, int]:
        return dict(self.crew.numbers)

    def live(self) -> dict[int, int]:
        return {slot: 1000 + slot for slot in self.crew.numbers}

    def build(self, new: Config, before: Setup | None, files: Files | None) -> Setup:
        if self.refuse is not None:
            raise self.refuse
        return self.builder.build_setup(new, before, files)

    def reload(self, body: bytes | None = None, **options: object) -> Applied:
        return self.reloader.reload(body, **options)  # type: ignore[arg-type]

    @property
    def etag(self) -> str:
        return self.reloader.etag


@pytest.fixture
def crew(tmp_path: Path) -> GreenletPool:
    return GreenletPool(tmp_path)


@pytest.fixture
def following(crew: GreenletPool) -> Iterator[GreenletPool]:
    """A crew of three, who follow all the time, as workers do."""
    for _ in range(3):
        crew.start()
    over = threading.Event()

    def follow(worker: Worker) -> None:
        while not over.wait(0.002):
            worker.reloader.follow_newest()

    threads = [threading.Thread(target=follow, args=(worker,)) for worker in crew.workers]
    for thread in threads:
        thread.start()
    yield crew
    over.set()
    for thread in threads:
        thread.join()


def test_the_first_worker_publishes_what_it_started_with(crew: GreenletPool) -> None:
    first = crew.start()
    newest = newest_in(crew.state)
    assert newest is not None
    assert (newest.number, config.parse_canonical(newest.config, "it").etag) == (1, first.etag)
    assert crew.numbers == {0: 1}
    assert first.applied == []


def test_a_reload_reaches_all_workers_before_it_answers(following: GreenletPool) -> None:
    applied = following.workers[1].reload(text(1, 2))
    assert (applied.generation, applied.live, applied.applied, applied.late) == (2, 3, 3, ())
    assert {worker.etag for worker in following.workers} == {applied.etag}
    assert [len(worker.applied) for worker in following.workers] == [1, 1, 1]
    assert following.numbers == {0: 2, 1: 2, 2: 2}


def test_a_worker_that_does_not_follow_is_named(crew: GreenletPool) -> None:
    first, _ = crew.start(), crew.start()
    applied = first.reloader.reload(text(2), wait=False)
    assert (applied.live, applied.applied, applied.late) == (2, 1, ((1, 1001),))
    assert applied.to_json()["workers"] == {"applied": 1, "live": 2, "late": [{"slot": 1, "pid": 1001}]}
    assert "applied by 1/2 workers" in applied.message
    assert "late: slot 1 (process 1001)" in applied.message


def test_a_worker_that_dies_meanwhile_is_not_waited_for(crew: GreenletPool) -> None:
    first, _ = crew.start(), crew.start()
    dying = threading.Timer(0.05, crew.numbers.pop, args=(1,))
    dying.start()
    applied = first.reload(text(2))
    assert (applied.live, applied.late) == (1, ())


def test_a_worker_that_starts_later_has_the_newest_generation_whatever_the_file_says(crew: GreenletPool) -> None:
    first = crew.start()
    first.reload(text(2))
    later = crew.start(file=text(3))
    assert (later.reloader.generation, later.etag) == (2, first.etag)
    assert crew.numbers[later.slot] == 2
    assert [c.etag for c in later.applied] == [first.etag]


def test_a_reload_by_one_who_has_not_followed_yet_counts_on_from_the_newest(crew: GreenletPool) -> None:
    first, second = crew.start(), crew.start()
    assert first.reloader.reload(text(2), wait=False).generation == 2
    applied = second.reloader.reload(text(3), wait=False)
    assert (applied.generation, applied.added, applied.removed) == (3, ("localhost-3",), ("localhost-2",))
    assert first.reloader.follow_newest()
    assert first.reloader.generation == 3
    assert not first.reloader.follow_newest()


def test_a_reload_to_what_is_the_newest_changes_nothing_but_brings_the_worker_up_to_date(crew: GreenletPool) -> None:
    first, second = crew.start(), crew.start()
    first.reloader.reload(text(2), wait=False)
    applied = second.reloader.reload(text(2), wait=False)
    assert (applied.generation, applied.changed) == (2, False)
    assert second.etag == first.etag
    assert crew.numbers == {0: 2, 1: 2}


def test_if_match_is_compared_with_the_newest_not_with_ones_own(crew: GreenletPool) -> None:
    first, second = crew.start(), crew.start()
    old = second.etag
    first.reloader.reload(text(2), wait=False)
    with pytest.raises(PreconditionFailed) as caught:
        second.reloader.reload(text(3), if_match=f'"{old}"')
    assert caught.value.etag == first.etag
    assert second.reloader.reload(text(3), if_match=f'"{first.etag}"', wait=False).generation == 3


def test_of_many_reloads_at_once_at_all_workers_none_is_lost(following: GreenletPool) -> None:
    results: list[Applied] = []
    start = threading.Barrier(12)

    def one(number: int) -> None:
        start.wait()
        results.append(following.workers[number % 3].reload(text(100 + number)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied.generation for applied in results) == list(range(2, 14))
    assert all(applied.late == () for applied in results)
    last = max(results, key=lambda applied: applied.generation)
    assert {worker.etag for worker in following.workers} == {last.etag}
    assert config.load(following.file).etag == last.etag, "the file is that of the last generation too"


def test_a_renewed_certificate_reaches_all_workers_although_the_configuration_is_the_same(crew: GreenletPool) -> None:
    pem = crew.state.with_name("cert.pem")
    pem.write_bytes(CERTIFICATE)
    first = crew.start(json.dumps({"backends": ["http://localhost:1"], "certfile": str(pem)}).encode())
    second = crew.start()
    shown = second.reloader.setup.files.shown
    pem.write_bytes(CERTIFICATE + b"# another one\n")
    applied = first.reloader.reload(wait=False)
    assert (applied.changed, applied.certificate_renewed, applied.generation) == (False, True, 2)
    assert second.reloader.follow_newest()
    assert second.reloader.setup.files.shown is not shown
    assert second.etag == first.etag


def test_what_a_follower_cannot_apply_it_does_not_confirm_and_it_tries_again(crew: GreenletPool) -> None:
    first, second = crew.start(), crew.start()
    second.refuse = ConfigError([Problem("certfile", "cannot be read")], status=422)
    first.reloader.reload(text(2), wait=False)
    with pytest.raises(ConfigError):
        second.reloader.follow_newest()
    assert crew.numbers == {0: 2, 1: 1}
    assert second.reloader.generation == 1
    second.refuse = None
    assert second.reloader.follow_newest()
    assert crew.numbers == {0: 2, 1: 2}


def test_a_refused_reload_leaves_the_generation_and_no_file_behind(crew: GreenletPool) -> None:
    first = crew.start()
    before = {path.name: path.read_bytes() for path in crew.state.iterdir()}
    with pytest.raises(ConfigError):
        first.reload(b'{"backends": []}')
    first.refuse = ConfigError([Problem("backends", "no room")], status=422)
    with pytest.raises(ConfigError):
        first.reload(text(2))
    assert {path.name: path.read_bytes() for path in crew.state.iterdir()} == before


def test_a_full_state_directory_refuses_the_reload_and_changes_nothing(crew: GreenletPool) -> None:
    first = crew.start()
    (crew.state / f"generation.json.{os.getpid()}.new").mkdir()  # it cannot be written, for root neither
    with pytest.raises(NotShared, match=r"cannot write .*; nothing changed"):
        first.reload(text(2))
    assert crew.file.read_bytes() == text(1)
    assert (first.reloader.generation, first.applied) == (1, [])
    (crew.state / f"generation.json.{os.getpid()}.new").rmdir()
    assert first.reload(text(2)).generation == 2


HOLD = """
import sys, time
from pathlib import Path
from smartedge.workers.state_dir import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_worker_killed_in_the_middle_of_a_reload_holds_nobody_up(crew: GreenletPool) -> None:
    first = crew.start()
    with subprocess.Popen([sys.executable, "-c", HOLD, crew.state / "reload.lock"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        killer = threading.Timer(0.1, os.kill, args=(holder.pid, signal.SIGKILL))
        killer.start()
        assert first.reload(text(2)).generation == 2


def test_a_worker_stopped_in_the_middle_of_a_reload_is_said(crew: GreenletPool) -> None:
    first = crew.start(lock_s=0.1)
    with subprocess.Popen([sys.executable, "-c", HOLD, crew.state / "reload.lock"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(NotShared, match="another process has held the lock"):
            first.reload(text(2))
        holder.kill()
    assert crew.file.read_bytes() == text(1)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"generation": 1}', '{"generation": "x", "config": {}}'])
def test_a_file_that_is_no_generation_is_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation.json").write_text(content)
    with pytest.raises(StateError, match=r"generation\.json holds no generation"):
        newest_in(tmp_path)


def test_without_a_file_there_is_no_generation(tmp_path: Path) -> None:
    assert newest_in(tmp_path) is None


DISCOVERING = b'{"backends": ["http://localhost:1"], "discover": {"file": {"path": "x"}, "etcd": {"prefix": "/x/"}}}'


def found(*ports: int, **more: object) -> tuple[BackendConfig, ...]:
    return tuple(BackendConfig.model_validate({"url": f"http://10.0.0.1:{port}", "id": f"f{port}"} | more) for port in ports)


def pool_of(worker: Worker) -> list[str]:
    return [backend.id for backend in worker.reloader.setup.services["default"].backends]


def test_what_is_found_is_a_generation_like_any_other_and_not_written(crew: GreenletPool) -> None:
    first, second = crew.start(DISCOVERING), crew.start()
    etag = first.etag

    told = first.reloader.use_found({("default", "file"): found(1, 2)})

    assert told is not None
    assert (told.generation, told.changes) == (2, [Change("default", ("f1", "f2"), (), ())])
    assert second.reloader.follow_newest()
    for worker in (first, second):
        assert pool_of(worker) == ["localhost-1", "f1", "f2"]
        assert (worker.etag, worker.reloader.generation, worker.reloader.serial) == (etag, 2, 2)
    assert crew.numbers == {0: 2, 1: 2}
    assert crew.file.read_bytes() == DISCOVERING


def test_the_same_found_again_is_no_generation(crew: GreenletPool) -> None:
    first = crew.start(DISCOVERING)
    first.reloader.use_found({("default", "file"): found(1)})
    before = (crew.state / "generation.json").stat().st_mtime_ns

    assert first.reloader.use_found({("default", "file"): found(1)}) is None
    assert first.reloader.use_found({("default", "dns"): found(2)}) is None, "nobody asks that source"
    assert (first.reloader.generation, (crew.state / "generation.json").stat().st_mtime_ns) == (2, before)


def test_each_source_replaces_what_it_has_found_itself(crew: GreenletPool) -> None:
    first = crew.start(DISCOVERING)
    first.reloader.use_found({("default", "file"): found(1), ("default", "etcd"): found(2)})

    told = first.reloader.use_found({("default", "etcd"): found(3)})

    assert told is not None
    assert told.changes == [Change("default", ("f3",), ("f2",), ())]
    assert pool_of(first) == ["localhost-1", "f1", "f3"]


def test_a_worker_that_starts_later_has_the_found_ones_too(crew: GreenletPool) -> None:
    first = crew.start(DISCOVERING)
    first.reloader.use_found({("default", "file"): found(1)})

    assert pool_of(crew.start()) == ["localhost-1", "f1"]


def test_a_reload_keeps_what_was_found_and_its_if_match_goes_by_what_is_written(crew: GreenletPool) -> None:
    first, second = crew.start(DISCOVERING), crew.start()
    etag = first.etag
    first.reloader.use_found({("default", "file"): found(1)})

    applied = second.reloader.reload(DISCOVERING.replace(b"localhost:1", b"localhost:9"), if_match=f'"{etag}"', wait=False)

    assert (applied.generation, applied.added, applied.removed) == (3, ("localhost-9",), ("localhost-1",))
    assert first.reloader.follow_newest()
    assert pool_of(first) == pool_of(second) == ["localhost-9", "f1"]
    assert second.reloader.reload(wait=False).changed is False


def test_a_reload_without_the_source_lets_go_of_what_it_has_found(crew: GreenletPool) -> None:
    first, second = crew.start(DISCOVERING), crew.start()
    first.reloader.use_found({("default", "file"): found(1), ("default", "etcd"): found(2)})

    applied = first.reloader.reload(b'{"discover": {"etcd": {"prefix": "/x/"}}}', wait=False)

    assert applied.removed == ("localhost-1", "f1")
    assert second.reloader.follow_newest()
    assert pool_of(first) == pool_of(second) == ["f2"]


def test_what_cannot_be_built_or_told_changes_nothing(crew: GreenletPool) -> None:
    first = crew.start(DISCOVERING)
    first.refuse = ConfigError([Problem("backends", "no room")], status=422)
    with pytest.raises(ConfigError):
        first.reloader.use_found({("default", "file"): found(1)})
    first.refuse = None
    (crew.state / f"generation.json.{os.getpid()}.new").mkdir()
    with pytest.raises(NotShared):
        first.reloader.use_found({("default", "file"): found(1)})

    assert (first.reloader.generation, pool_of(first), first.applied) == (1, ["localhost-1"], [])
    (crew.state / f"generation.json.{os.getpid()}.new").rmdir()
    assert first.reloader.use_found({("default", "file"): found(1)}) is not None


def test_what_stays_is_the_same_backend_in_every_worker(crew: GreenletPool) -> None:
    """So that its health, its breaker and its connections go on, and a thousand that stay cost nothing."""
    first, second = crew.start(DISCOVERING), crew.start()
    first.reloader.use_found({("default", "file"): found(1, 2)})
    second.reloader.follow_newest()
    before = [worker.reloader.setup.services["default"].backends for worker in (first, second)]

    first.reloader.use_found({("default", "file"): (*found(1), *found(2, weight=3), *found(4))})
    second.reloader.follow_newest()

    for worker, (written, one, two) in zip((first, second), before, strict=True):
        now = worker.reloader.setup.services["default"].backends
        assert (now[0] is written, now[1] is one, now[2] is two) == (True, True, False)
        assert (now[2].learned is two.learned, now[2].transport is two.transport, now[2].spec.weight) == (False, True, 3)
        assert [fresh.id for fresh in worker.reloader.setup.services["default"].built.fresh] == ["f2", "f4"]


def test_found_backends_that_cannot_be_read_are_said_and_change_nothing(crew: GreenletPool) -> None:
    first, second = crew.start(DISCOVERING), crew.start()
    first.reloader.use_found({("default", "file"): found(1)})
    file = crew.state / "generation.json"
    file.write_text(file.read_text().replace('"http://10.0.0.1:1"', "3"))

    with pytest.raises(StateError, match="what was discovered cannot be read"):
        second.reloader.follow_newest()
    assert pool_of(second) == ["localhost-1"]


def test_one_process_leaves_its_generation_to_the_program_that_takes_over_and_needs_no_directory_itself(tmp_path: Path) -> None:
    crew = GreenletPool(tmp_path)
    first, second = crew.start(), Worker(crew, 1, 1.0)
    first.peers = Heirloom(crew.state, first, follows=False)  # type: ignore[arg-type, assignment]
    first.reloader.join_workers(first.peers)
    assert first.reloader.reload(text(1, 2)).generation == 2
    second.peers = Heirloom(crew.state, second, follows=True)  # type: ignore[arg-type, assignment]
    second.reloader.join_workers(second.peers)
    assert (second.reloader.generation, len(second.reloader.setup.config.backends)) == (2, 2)
    shutil.rmtree(crew.state)
    assert second.reloader.reload(text(3)).generation == 3
    first.retired = True
    with pytest.raises(NotShared, match="another program has taken over, and has to be asked"):
        first.reloader.reload(text(4))
