"""What workers do that none of them tells, as the one that leads notices it."""

from __future__ import annotations

from typing import Any

from smartedge.edge.noticed import Noticed
from smartedge.edge.worker_changes import APART_LOOKS, WorkerChanges
from smartedge.workers.overview import Standing


class Edge:
    """Two workers, 0 (process 10) and 1 (process 11), which have said that they serve; what is noticed is an event."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.live = {0: 10, 1: 11}
        self.leader: int | None = 0
        self.serials = {0: 1, 1: 1}
        self.changes = WorkerChanges()
        for slot, pid in self.live.items():
            self.tell("started", worker=slot, pid=pid)

    def tell(self, kind: str, **members: Any) -> None:
        self.events.append({"kind": kind, "slot": members.get("worker", 0), **members})

    def look(self, *, leading: bool = True, times: int = 1) -> list[Noticed]:
        """What the looks of one worker find in all; the last of them only, where it is more than one."""
        found: list[Noticed] = []
        for _ in range(times):
            seen = Standing(dict(self.live), self.leader, dict(self.serials))
            found = list(self.changes.look(seen, self.events, leading=leading))
            for one in found:
                self.tell(one.kind, **one.members)
        return found


def texts(found: list[Noticed]) -> list[str]:
    return [one.text for one in found]


def test_who_leads_is_told_once_whoever_notices_it() -> None:
    edge = Edge()
    assert texts(edge.look()) == ["worker 0 (process 10) leads"]
    assert edge.look() == []
    edge.leader = 1
    other, edge.changes = edge.changes, WorkerChanges()
    assert texts(edge.look()) == ["worker 1 (process 11) leads, after worker 0 (process 10)"]
    edge.changes = other
    assert edge.look(leading=False) == []


def test_a_worker_that_was_killed_is_told_when_it_is_missed_twice() -> None:
    edge = Edge()
    edge.look()
    del edge.live[1], edge.serials[1]
    assert edge.look() == []
    (died,) = edge.look()
    assert died == Noticed(
        "worker_died",
        "error",
        "worker 1 (process 11) has died: it was killed, or ended without a word",
        members={"worker": 1, "pid": 11},
    )
    assert edge.look(times=3) == []


def test_a_worker_that_has_said_that_it_ends_has_not_died() -> None:
    edge = Edge()
    edge.look()
    del edge.live[1], edge.serials[1]
    edge.tell("stopped", worker=1, pid=11)
    assert edge.look() + edge.look() == []


def test_a_worker_that_began_to_serve_after_the_look_has_not_died() -> None:
    """As when gunicorn replaces all of its workers at once."""
    edge = Edge()
    edge.look()
    edge.live[1] = 21
    edge.tell("stopped", worker=1, pid=11)
    edge.tell("started", worker=1, pid=21)
    edge.tell("started", worker=2, pid=22)
    assert edge.look() == []
    edge.live[2] = 22
    assert edge.look() + edge.look() == []


def test_a_leader_that_was_killed_is_told_by_the_next_one_and_by_nobody_after_that() -> None:
    edge = Edge()
    edge.look()
    del edge.live[0], edge.serials[0]
    edge.leader = 1
    edge.changes = WorkerChanges()
    assert texts(edge.look()) == ["worker 1 (process 11) leads, after worker 0 (process 10)"]
    assert [one.kind for one in edge.look()] == ["worker_died"]
    edge.changes = WorkerChanges()
    assert edge.look() + edge.look() == []


def test_workers_that_stay_apart_are_told_and_that_they_are_together_again() -> None:
    edge = Edge()
    edge.look()
    edge.serials[0] = 2
    assert edge.look(times=APART_LOOKS - 1) == []
    (apart,) = edge.look()
    assert apart == Noticed(
        "apart",
        "warning",
        "workers differ: the newest configuration is not in use in worker 1 (process 11); the log says why",
        members={"late": [{"slot": 1, "pid": 11}]},
    )
    assert edge.look() == []
    edge.changes = WorkerChanges()  # another worker leads, and goes on from what was told
    assert edge.look(times=4) == []
    edge.serials[1] = 2
    assert [one.kind for one in edge.look()] == ["together"]
    assert edge.look() == []


def test_a_reload_that_all_follow_soon_is_no_difference() -> None:
    edge = Edge()
    edge.look()
    for serial in range(2, 9):
        edge.serials[0] = serial
        assert edge.look() == []
        edge.serials[1] = serial
        assert edge.look() == []
