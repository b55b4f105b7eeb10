"""Several workers are one edge: under load, reloaded all the time, while a worker is killed every second and a backend flips."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.workers.state_dir import StateDir
from tests.live.acts import answers, says
from tests.live.edges import GEVENT, OWN, LiveEdge, start_edge
from tests.live.peers import Script, message
from tests.live.processes import ask, free_port, wait_until
from tests.live.steady import SteadyLoad

WORKERS = 3
RELOADS = 50
KILL_EVERY_S = 1.0
FLIP_EVERY_S = 3.0
EXPECTED_FILES = ("board", "generation.json", "rows.json")

HEALTH = {"interval_s": 0.5, "timeout_s": 5, "fall": 2, "rise": 1}

pytestmark = pytest.mark.timeout(240)


class Killer:
    """Kills a random worker every second, and remembers when."""

    def __init__(self, state: StateDir, rng: random.Random) -> None:
        self.state, self.rng = state, rng
        self.kills: list[float] = []

    def __call__(self) -> None:
        pids = sorted(self.state.live_slots().values())
        if len(pids) < 2:
            return  # the others are being started, which takes a while on a busy machine: one has to serve
        self.kills.append(time.monotonic())
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.rng.choice(pids), signal.SIGKILL)


class Flipper:
    """Has a backend fail its probes, and pass them again; its answers stay good."""

    def __init__(self, backend: Script) -> None:
        self.backend = backend
        self.well = backend.health
        self.flips = 0

    def __call__(self) -> None:
        self.flips += 1
        self.backend.health = says(message(503)) if self.flips % 2 else self.well


def state_in(directory: Path) -> StateDir:
    """The state directory of the one edge that keeps it there."""
    (home,) = (directory / "state").iterdir()
    (state,) = home.iterdir()
    return StateDir(state)


@contextlib.contextmanager
def every(interval_s: float, act: Callable[[], None]) -> Iterator[None]:
    """Do this again and again meanwhile."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(interval_s):
            act()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    over.set()
    thread.join()


def reload_until_answered(edge: LiveEdge, document: dict[str, Any]) -> dict[str, Any]:
    """POST a configuration until a worker lives long enough to answer."""

    def answered() -> dict[str, Any] | None:
        answer = ask(f"{edge.url}/api/reload", "POST", body=json.dumps(document), timeout_s=20)
        assert answer.status in (200, 202), answer.text
        told: dict[str, Any] = answer.json()
        return told

    return wait_until(answered, 30, "a reload to be answered")


@contextlib.contextmanager
def many(directory: Path, server: str, *backends: Script | dict[str, Any]) -> Iterator[LiveEdge]:
    """An edge of several workers."""
    arguments = ("--workers", str(WORKERS)) if server == OWN else ("-w", str(WORKERS), "--worker-tmp-dir", "/dev/shm")
    with start_edge(directory, *backends, server=server, arguments=arguments, health=HEALTH) as edge:
        wait_until(lambda: len(edge.status()["workers"]) == WORKERS, 60, "all workers")
        yield edge


@pytest.mark.parametrize("server", [GEVENT, OWN])
def test_reloads_kills_and_flips_under_load_lose_nothing_but_what_was_killed(tmp_path: Path, server: str) -> None:
    rng = random.Random(1)
    with Script(answers()) as first, Script(answers()) as second:
        nobody = f"http://127.0.0.1:{free_port()}"
        with many(tmp_path, server, first, second) as edge:
            killer, flipper = Killer(state_in(tmp_path), rng), Flipper(second)
            base = json.loads((tmp_path / "backends.json").read_text())
            told = []
            with SteadyLoad(edge.port) as load, every(KILL_EVERY_S, killer), every(FLIP_EVERY_S, flipper):
                for number in range(RELOADS):
                    document = json.loads(json.dumps(base))
                    document["backends"][0]["weight"] = 1 + number % 5
                    if number % 3 == 0:
                        document["backends"].append({"id": "nobody", "url": nobody})
                    told.append(reload_until_answered(edge, document))
                    time.sleep(rng.uniform(0, 0.2))
            if flipper.flips % 2:
                flipper()
            last = told[-1]["generation"]
            try:
                judge(edge, load, killer, last)
                judge_generations(told)
                judge_files(tmp_path)
                judge_flips(edge, second, flipper)
                assert edge.process.stop(timeout_s=30) == 0
            except AssertionError as error:
                raise AssertionError(f"{error}\n{edge.process.output[-8000:]}") from None
            assert "Traceback" not in edge.process.output, edge.process
        (home,) = (tmp_path / "state").iterdir()
        assert list(home.iterdir()) == []


def judge(edge: LiveEdge, load: SteadyLoad, killer: Killer, last: int) -> None:
    """No request failed but those that were under way when a worker was killed; all workers are up to date and one leads."""
    assert load.answered > 4 * RELOADS
    unexplained = [
        failure for failure in load.failures if not any(failure.began <= killed <= failure.ended + 0.1 for killed in killer.kills)
    ]
    assert unexplained == []
    assert len(load.failures) <= 3 * len(killer.kills)

    def all_well() -> bool:
        workers = edge.status()["workers"]
        return (
            len(workers) == WORKERS
            and {worker["generation"] for worker in workers} == {last}
            and sum(worker["leader"] for worker in workers) == 1
        )

    try:
        wait_until(all_well, 60, f"{WORKERS} workers with generation {last} and one leader")
    except AssertionError as error:
        raise AssertionError(f"{error}: {edge.status()['workers']}") from None
    edge.settled()
    status = edge.status()
    assert sum(worker["in_flight"] for worker in status["workers"]) == 0
    counted = sum(backend["requests"] for backend in status["backends"])
    # A worker is killed before it has counted what was answered, or after it has counted what was not.
    doubtful = len(load.failures) + load.reconnected + len(killer.kills)
    assert abs(counted - load.answered) <= doubtful, (counted, load.answered, doubtful)


def judge_generations(told: list[dict[str, Any]]) -> None:
    """Each reload had a number of its own, and none was lost."""
    numbers = [answer["generation"] for answer in told]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == RELOADS
    late = [answer for answer in told if answer["workers"]["applied"] < answer["workers"]["live"]]
    assert late == []


def judge_files(directory: Path) -> None:
    """Nothing is left in the state directory but what belongs there."""
    state = state_in(directory).path
    names = {path.name for path in state.iterdir()}
    assert {name for name in names if not name.endswith(".lock")} >= set(EXPECTED_FILES)
    assert not [name for name in names if name.endswith((".new", ".tmp"))]
    assert len([name for name in names if name.startswith("slot-")]) <= 2 * WORKERS
    used = json.loads((state / "rows.json").read_text())
    assert len(used) <= 4, used  # a service and three backends


def judge_flips(edge: LiveEdge, backend: Script, flipper: Flipper) -> None:
    """Each flip was said once, by whoever led."""
    wait_until(lambda: all(b["health"] == "healthy" for b in edge.backends() if b["id"] != "nobody"), 20, "the last flip")
    lines = [line for line in edge.process.lines if backend.url in line and line[0] in "✅❌"]
    assert lines[0] == f"✅ {backend.url} OK"
    changes = [line[0] for line in lines]
    assert all(one != other for one, other in itertools.pairwise(changes)), lines
    assert flipper.flips - 2 <= len(changes) - 1 <= flipper.flips, (flipper.flips, lines)
