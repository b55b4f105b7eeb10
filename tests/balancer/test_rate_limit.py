from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from smartedge.balancer.rate_limit import ROUNDING_S, SETS, TABLE_CELLS, WAYS, RateLimiter, RatePolicy


def limiter(per_s: float = 10.0, burst: int = 5, memory: memoryview[int] | None = None, salt: bytes = b"salt") -> RateLimiter:
    cells = memory if memory is not None else table()
    return RateLimiter(RatePolicy(per_s, burst), cells, cells.cast("B").cast("d"), salt)


def table() -> memoryview[int]:
    return memoryview(bytearray(TABLE_CELLS * 8)).cast("q")


def taken(target: RateLimiter, client: bytes, now: float, most: int = 1000) -> int:
    """How many requests a client may send at once."""
    count = 0
    while count < most and not target.take_token(client, now):
        count += 1
    return count


def test_a_burst_then_the_rate_then_a_burst_again() -> None:
    target = limiter(per_s=10.0, burst=5)
    assert taken(target, b"a", 1000.0) == 5
    assert taken(target, b"a", 1000.1 + 1e-9) == 1
    assert taken(target, b"a", 1000.3 + 1e-9) == 2
    assert taken(target, b"a", 2000.0) == 5


def test_the_wait_is_until_the_next_token() -> None:
    target = limiter(per_s=0.5, burst=1)
    assert target.take_token(b"a", 1000.0) == 0.0
    assert target.take_token(b"a", 1000.5) == 1.5
    assert target.take_token(b"a", 1000.5) == 1.5
    assert target.take_token(b"a", 1002.0) == 0.0


def test_a_refused_request_costs_nothing() -> None:
    target = limiter(per_s=1.0, burst=1)
    taken(target, b"a", 1000.0)
    for _ in range(100):
        assert target.take_token(b"a", 1000.5) > 0
    assert target.take_token(b"a", 1001.0) == 0.0


def test_clients_have_buckets_of_their_own() -> None:
    target = limiter()
    assert [taken(target, client, 1000.0) for client in (b"a", b"b", b"")] == [5, 5, 5]


def test_all_workers_of_an_edge_share_the_buckets() -> None:
    memory = table()
    one, two = limiter(memory=memory), limiter(memory=memory)
    assert (taken(one, b"a", 1000.0, 3), taken(two, b"a", 1000.0)) == (3, 2)


def test_another_policy_goes_on_with_the_same_buckets_within_its_own_bounds() -> None:
    memory = table()
    taken(limiter(per_s=0.01, burst=50, memory=memory), b"a", 1000.0)
    quick = limiter(per_s=10.0, burst=5, memory=memory)
    assert quick.take_token(b"a", 1000.0) < 0.11
    assert taken(quick, b"a", 1000.6) == 5


def test_a_time_from_another_clock_locks_nobody_out() -> None:
    memory = table()
    taken(limiter(memory=memory), b"a", 9e9)
    target = limiter(per_s=10.0, burst=5, memory=memory)
    assert 0.0 < target.take_token(b"a", 10.0) < 0.11


def test_any_number_of_clients_fit_and_those_that_asked_last_are_remembered() -> None:
    target = limiter(per_s=0.001, burst=1)
    for number in range(2 * SETS * WAYS):
        assert target.take_token(b"%d" % number, 1000.0 + number * 1e-6) == 0.0
    last = [target.take_token(b"%d" % number, 1001.0) for number in range(2 * SETS * WAYS - 1000, 2 * SETS * WAYS)]
    assert sum(wait_s > 0 for wait_s in last) > 990


def test_who_shares_a_place_with_whom_is_a_secret() -> None:
    def places(salt: bytes) -> list[int]:
        memory = table()
        target = limiter(memory=memory, salt=salt)
        found = []
        for number in range(5):
            before = memory.tolist()
            target.take_token(b"%d" % number, 1000.0)
            found.append(next(at for at, cell in enumerate(memory.tolist()) if cell != before[at]) // (WAYS * 2))
        return found

    assert places(b"one") == places(b"one")
    assert places(b"one") != places(b"other")


def test_the_one_whose_bucket_has_been_full_for_longest_gives_way() -> None:
    target = limiter(per_s=1.0, burst=1)
    first = b"first"
    memory = target._ints
    target.take_token(first, 1000.0)
    home = next(at for at, cell in enumerate(memory.tolist()) if cell) // (WAYS * 2)
    others = (b"%d" % number for number in range(100 * SETS))
    neighbours = list(islice((one for one in others if target._find(one, 0.0, 1.0)[0] // (WAYS * 2) == home), WAYS))
    fresh = limiter(per_s=1.0, burst=1)
    assert fresh.take_token(first, 1000.0) == 0.0
    for index, client in enumerate(neighbours[: WAYS - 1]):
        assert fresh.take_token(client, 1000.1 + index / 100) == 0.0
    assert fresh.take_token(neighbours[WAYS - 1], 1000.3) == 0.0  # the ninth of a set of eight
    assert fresh.take_token(neighbours[0], 1000.3) > 0  # still known
    assert fresh.take_token(first, 1000.4) == 0.0  # forgotten, so it has a full bucket


@given(
    st.floats(0.1, 1000.0),
    st.integers(1, 50),
    st.lists(st.floats(0.0, 2.0), max_size=300),
)
def test_it_lets_through_what_a_token_bucket_lets_through(per_s: float, burst: int, pauses: list[float]) -> None:
    target = limiter(per_s, burst)
    now = 1000.0
    tokens, at = float(burst), now
    for pause in pauses:
        now += pause / per_s
        tokens, at = min(burst, tokens + (now - at) * per_s), now
        if abs(tokens - 1.0) < 1e-6 + ROUNDING_S * per_s:
            continue  # which side it falls on is a matter of rounding
        admitted = not target.take_token(b"a", now)
        assert admitted == (tokens >= 1.0)
        if admitted:
            tokens -= 1.0
