"""The waiting line in a world without time: who is served, who is passed by, who is sent away, and with what words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import CONNECTS, DOWN_SINCE
from smartedge.balancer.errors import AllFull, BackendTimeout, ConnectFailed, EdgeError, NoBackend
from smartedge.balancer.lease import Lease
from smartedge.balancer.waiting_line import LOOK_S, PROBE_S, Settled, Waiter, WaitingLine, WaitPolicy
from tests.house import backend, pool

T0 = 1000.0
REFUSED = ConnectFailed("refused")


class House:
    """A line before backends that take one request at a time."""

    def __init__(self, *names: str, size: int = 10, room_s: float = 1.0, back_s: float = 2.0, **spec: Any) -> None:
        self.backends = [backend(name, **({"max_in_flight": 1} | spec)) for name in names]
        for one in self.backends:
            one.learned.shared_reals[DOWN_SINCE] = T0
        self.pool = pool(self.backends)
        self.policy = WaitPolicy(size, room_s, back_s)
        self.line = WaitingLine(self.pool, self.policy)

    def take(self, now: float, tried: Sequence[Backend] = (), session: str | None = None) -> Lease:
        return self.pool.lease(now, tried, prefer=session)

    def join(
        self, now: float = T0, tried: Sequence[Backend] = (), session: str | None = None, failed: EdgeError | None = None
    ) -> Waiter:
        """Have one wait who has found nobody."""
        waiter = self.waiter(now, tried, session, failed)
        with pytest.raises(NoBackend) as caught:
            self.take(now, tried, session)
        assert self.line.admit(waiter, caught.value, len(self.line.waiters), now) is None
        return waiter

    def waiter(
        self, now: float = T0, tried: Sequence[Backend] = (), session: str | None = None, failed: EdgeError | None = None
    ) -> Waiter:
        settle = lambda *_: None  # noqa: E731
        return Waiter(self.take, settle, tried, session, failed, now + self.policy.room_s, now + self.policy.back_s)


def served(settled: Settled) -> list[Waiter]:
    """Those who got a lease."""
    return [waiter for waiter, got in settled if isinstance(got, Lease)]


def refused(settled: Settled) -> list[str]:
    """What the others are told."""
    return [got.detail for _, got in settled if isinstance(got, NoBackend)]


def test_who_waits_for_room_is_served_in_the_order_of_arrival_one_for_each_lease_that_ends() -> None:
    house = House("a")
    lease = house.take(T0)
    first, second = house.join(), house.join()
    assert repr(house.line) == "<WaitingLine 2 of 10, 0 for a restart>"
    assert house.line.serve(T0) == []
    for waiter in (first, second):
        lease.close(T0, "ok")
        [(given, lease)] = house.line.serve(T0)  # type: ignore[list-item]
        assert given is waiter
    assert repr(house.line) == "<WaitingLine 0 of 10, 0 for a restart>"


def test_who_has_left_is_passed_by() -> None:
    house = House("a")
    lease = house.take(T0)
    gone, second = house.join(), house.join()
    gone.over = True
    lease.close(T0, "ok")
    assert served(house.line.serve(T0)) == [second]


def test_without_a_place_nobody_waits_and_hears_how_many_do() -> None:
    house = House("a", size=1)
    house.take(T0)
    house.join()
    with pytest.raises(AllFull, match=r"All backends are full, and 1 requests wait for them\."):
        house.line.admit(house.waiter(), None, 1, T0)


def test_who_waits_too_long_for_room_has_a_last_chance_and_then_hears_of_it() -> None:
    house = House("a")
    lease = house.take(T0)
    waiter = house.join()
    assert house.line.look(T0 + 0.9) == []
    assert refused(house.line.look(T0 + 1.0)) == ["No backend had room within 1 s."]
    waiter = house.join()
    lease.close(T0 + 1.0, "ok")
    assert served(house.line.look(T0 + 1.0)) == [waiter]


def test_a_session_waits_for_its_own_backend_and_is_passed_by_until_its_time_is_over() -> None:
    house = House("a", "b")
    a, b = house.take(T0), house.take(T0)
    assert (a.backend.id, b.backend.id) == ("a", "b")
    session, other = house.join(session="a"), house.join()
    b.close(T0, "ok")
    [(given, lease)] = house.line.serve(T0)
    assert given is other
    assert isinstance(lease, Lease)
    lease.close(T0, "ok")
    assert house.line.serve(T0 + 0.5) == []
    assert served(house.line.look(T0 + 1.0)) == [session]
    assert session.session is None, "it is with another backend now"


def test_a_session_that_finds_no_place_moves_on() -> None:
    house = House("a", "b", size=0)
    house.take(T0)
    lease = house.line.admit(house.waiter(session="a"), None, 0, T0)
    assert lease is not None
    assert lease.backend.id == "b"


def test_a_session_that_finds_no_place_and_no_other_backend_hears_that_all_are_full() -> None:
    house = House("a", "b", size=0)
    house.take(T0), house.take(T0)
    waiter = house.waiter(session="a")
    with pytest.raises(AllFull, match=r"All backends are full\."):
        house.line.admit(waiter, None, 0, T0)
    assert waiter.session is None


def test_a_retry_waits_for_those_that_it_has_not_tried_and_lets_others_have_the_rest() -> None:
    house = House("a", "b")
    a = house.take(T0)
    house.take(T0)
    retry, other = house.join(tried=[house.backends[0]]), house.join()
    a.close(T0, "ok")
    assert served(house.line.serve(T0)) == [other]
    assert list(house.line.waiters) == [retry]


# --- for a backend that is being restarted ---


def test_of_all_who_wait_for_a_restart_one_asks_at_a_time_until_something_is_heard() -> None:
    house = House("a", max_in_flight=None)
    waiters = [house.join(tried=house.backends, failed=REFUSED) for _ in range(3)]
    assert repr(house.line) == "<WaitingLine 3 of 10, 3 for a restart>"
    assert house.line.look(T0) == [], "it was refused just now"
    later = T0 + 1.5 * LOOK_S
    assert served(house.line.look(later)) == [waiters[2]], "the one that was refused first is the first to ask"
    assert house.line.look(later) == []
    house.backends[0].learned.add(CONNECTS)
    assert len(served(house.line.look(later))) == 2


def test_all_who_were_refused_at_once_are_served_when_one_of_them_has_got_through() -> None:
    house = House("a", max_in_flight=None)
    first = house.join(tried=house.backends, failed=REFUSED)
    others = [house.waiter(tried=house.backends, failed=REFUSED) for _ in range(5)]
    for number, waiter in enumerate(others):
        assert house.line.admit(waiter, None, 1 + number, T0) is None, "nobody has looked, because others wait"
    later = T0 + 1.5 * LOOK_S
    assert len(served(house.line.look(later))) == 1
    assert house.line.look(later) == []
    house.backends[0].learned.add(CONNECTS)
    assert len(served(house.line.look(later))) == len([first, *others]) - 1


def test_who_was_there_and_broke_it_off_is_not_waited_for() -> None:
    house = House("a", max_in_flight=None)
    waiter = house.waiter(tried=house.backends, failed=BackendTimeout("slow"))
    with pytest.raises(NoBackend) as caught:
        house.take(T0, house.backends)
    with pytest.raises(NoBackend):
        house.line.admit(waiter, caught.value, 0, T0)
    assert not house.line.waiters


def test_who_waits_in_vain_for_a_restart_hears_for_how_long() -> None:
    house = House("a", max_in_flight=None, probed=False)
    house.join()
    assert house.line.look(T0 + 1.9) == []
    [told] = refused(house.line.look(T0 + 2.0))
    assert told.endswith("; waited for 2 s")


def test_those_that_are_waited_for_are_probed_soon_and_not_all_the_time() -> None:
    house = House("a", "b", max_in_flight=None, probed=False)
    assert house.line.to_probe(T0) == []
    house.join()
    assert house.line.to_probe(T0) == house.backends
    house.line.look(T0 + LOOK_S)
    assert house.line.to_probe(T0 + LOOK_S) == []
    house.line.look(T0 + PROBE_S)
    assert house.line.to_probe(T0 + PROBE_S) == house.backends
    house.line.waiters.clear()
    assert house.line.to_probe(T0 + 9.0) == []
