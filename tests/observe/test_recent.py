from __future__ import annotations

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
