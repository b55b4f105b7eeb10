"""When a pool is said to drown: slow answers everywhere, for long, and far from what is usual there."""

from __future__ import annotations

from collections.abc import Callable

from smartedge.balancer.backend import Backend
from smartedge.balancer.drowning import LASTING, DrowningDetector, drowning, sentence
from smartedge.balancer.learned import Learned
from tests.house import backends


def told(members: tuple[Backend, ...], latencies_s: Callable[[int, int], list[float]], seconds: int) -> list[tuple[int, str]]:
    """What is announced, and when; latencies_s: by second and place of the backend."""
    detector = DrowningDetector(Learned())
    found = []
    for second in range(seconds):
        for place, one in enumerate(members):
            for latency_s in latencies_s(second, place):
                one.learned.pace.add(latency_s)
        if change := detector.look(members, 1000.0 + second):
            found.append((second, change))
    return found


def test_a_queue_that_grows_on_all_backends_is_said_once_and_its_end_too() -> None:
    members = backends(1, 1, 1, 1)

    def latencies(second: int, _: int) -> list[float]:
        return [0.008 if second < 60 or second >= 120 else 0.4 * (second - 59)] * 100

    (began, what), (ended, then) = told(members, latencies, 200)
    assert (what, then) == ("began", "ended")
    assert 60 + LASTING <= began <= 75
    assert 120 <= ended <= 125


def test_one_slow_backend_is_no_pool_that_drowns() -> None:
    members = backends(1, 1, 1, 1)
    assert told(members, lambda second, place: [8.0 if place == 3 and second > 30 else 0.008] * 50, 120) == []


def test_a_pool_that_was_always_slow_does_not_drown() -> None:
    """Reports of 5 s, or long polls, are what this pool does."""
    assert told(backends(1, 1), lambda *_: [5.0] * 20, 120) == []


def test_long_polls_among_quick_requests_say_nothing() -> None:
    assert told(backends(1, 1), lambda second, _: [0.008] * 95 + ([25.0] * 5 if second > 30 else []), 120) == []


def test_a_burst_is_no_drowning() -> None:
    assert told(backends(1, 1), lambda second, _: [2.0 if 30 <= second < 30 + LASTING - 1 else 0.008] * 100, 90) == []


def test_a_quiet_night_ends_it() -> None:
    members = backends(1)
    detector = DrowningDetector(row := Learned())
    for second in range(40):
        for _ in range(100):
            members[0].learned.pace.add(0.008 if second < 20 else 5.0)
        detector.look(members, 1000.0 + second)
    found = drowning(row)
    assert found is not None
    assert found.now_s > 100 * found.usual_s
    assert detector.look(members, 1100.0) == "ended"
    assert drowning(row) is None


def test_what_is_said_names_the_key_that_helps_unless_it_is_set() -> None:
    row = Learned()
    detector = DrowningDetector(row)
    members = backends(1)
    for second in range(40):
        for _ in range(100):
            members[0].learned.pace.add(0.01 if second < 20 else 4.0)
        detector.look(members, 1000.0 + second)
    told = sentence(drowning(row), capped=False)
    assert told.startswith("the backends can't keep up: answers take 4.0 s on all backends, ")
    assert 'limits.in_flight_per_backend "adaptive"' in told
    assert "limits" not in sentence(drowning(row), capped=True)
    assert sentence(None, capped=False) == "the backends keep up again"
