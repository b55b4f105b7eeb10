"""Who does what one does for all, also when the leader is stopped."""

from __future__ import annotations

import pytest

from smartedge.workers.leader import SILENT_S, Leadership


class Edge:
    """Workers by slot: the leader's slot, and when each last showed a sign of life."""

    def __init__(self, leader: int | None, *slots: int) -> None:
        self.leader = leader
        self.beats = dict.fromkeys(slots, 0.0)


class Worker:
    """One worker's place."""

    def __init__(self, edge: Edge, slot: int) -> None:
        self.edge = edge
        self.slot = slot

    def lead(self) -> bool:
        if self.edge.leader is None:
            self.edge.leader = self.slot
        return self.edge.leader == self.slot

    def beat(self, now: float) -> None:
        self.edge.beats[self.slot] = now

    def last_beats(self) -> dict[int, float]:
        return dict(self.edge.beats)

    def leader_slot(self) -> int | None:
        return self.edge.leader


def crew(leader: int | None, *slots: int) -> tuple[Edge, dict[int, Leadership]]:
    edge = Edge(leader, *slots)
    return edge, {slot: Leadership(Worker(edge, slot)) for slot in slots}


def leading(workers: dict[int, Leadership], now: float, *without: int) -> list[int]:
    return [slot for slot, leads in workers.items() if slot not in without and leads(now)]


def test_one_leads() -> None:
    _, workers = crew(1, 0, 1, 2)
    assert leading(workers, 100.0) == [1]


def test_without_a_leader_the_first_that_asks_becomes_it() -> None:
    edge, workers = crew(None, 2, 0, 1)
    assert leading(workers, 100.0) == [2]
    assert edge.leader == 2


def test_a_leader_that_shows_no_life_is_stood_in_for_by_one_until_it_is_back() -> None:
    _, workers = crew(0, 0, 1, 2)
    assert leading(workers, 100.0) == [0]
    assert leading(workers, 100.0 + SILENT_S - 0.1, 0) == []
    leading(workers, 100.0 + SILENT_S, 0)
    assert leading(workers, 100.0 + SILENT_S + 0.1, 0) == [1]
    assert leading(workers, 100.0 + SILENT_S + 0.2) == [0], "it is back"


def test_whoever_is_stopped_itself_stands_in_for_nobody() -> None:
    _, workers = crew(0, 0, 1, 2, 3)
    leading(workers, 100.0)
    late = 100.0 + SILENT_S + 1.0
    leading(workers, late, 0, 1)
    assert leading(workers, late + 0.1, 0, 1) == [2]


@pytest.mark.parametrize("leader", [0, 7])
def test_a_leader_that_has_just_come_or_just_gone_is_given_time(leader: int) -> None:
    """Its sign of life is not there yet, or no more: the lock tells soon who leads."""
    edge, workers = crew(leader, 1, 2)
    assert leader not in edge.beats
    assert leading(workers, 100.0) == []
