from __future__ import annotations

import gc

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import FAILED
from smartedge.balancer.learned import Learned
from smartedge.observe.recent import Recent
from tests.house import backend


def served(one: Backend, count: int, failed: int = 0) -> None:
    for _ in range(count):
        one.learned.count(200, 0.01, 0, 0)
    one.learned.add(FAILED, failed)


def gained(recent: Recent, one: Backend) -> tuple[float, float]:
    found = recent.gained(one.key, one.learned.totals())
    return found.requests, found.failed


def test_before_the_first_note_all_counts_from_the_start() -> None:
    recent, one = Recent(), backend("a")
    served(one, 3)
    assert (recent.since(), gained(recent, one)) == (None, (3, 0))


def test_what_counts_is_of_about_the_last_minute() -> None:
    recent, one = Recent(tick_s=10.0, window_s=60.0), backend("a")
    for second in range(0, 200, 5):
        recent.tick(float(second), [one])
        served(one, 1, failed=2)
    assert recent.since() == 130.0
    assert gained(recent, one) == (14, 28)


def test_a_backend_that_was_not_there_then_or_began_anew_counts_whole() -> None:
    recent, one, new = Recent(), backend("a"), backend("b")
    served(one, 5)
    recent.tick(0.0, [one])
    served(new, 2)
    assert gained(recent, new) == (2, 0)
    again = Backend(one.spec, Learned())
    served(again, 1)
    assert gained(recent, again) == (1, 0), "less than was counted: the row is of another life"


def test_what_is_kept_is_nothing_that_the_garbage_collector_has_to_look_at_again() -> None:
    """Of ten thousand backends it was 140,000 objects, and each full collection held up all clients for 100 ms."""
    recent, some = Recent(tick_s=10.0), [backend("a"), backend("b")]
    for second in (0.0, 10.0, 20.0):
        served(some[0], 3)
        recent.tick(second, some)
    gc.collect()
    gc.collect()  # the first finds that the tuples inside hold numbers only
    kept = [counts for _, notes in recent._kept for counts in notes.values()]
    assert len(kept) == 6
    assert not any(map(gc.is_tracked, kept))
    assert len({id(notes[some[1].key]) for _, notes in recent._kept}) == 1  # what has not changed is kept once
