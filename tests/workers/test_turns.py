"""What gives way goes on in turns: so much of all of it in a round of the loop, and requests in between."""

from __future__ import annotations

import gevent

from smartedge.workers.periodic import give_way
from smartedge.workers.turns import ROUND_S, Turns


class Loop:
    """The turns of this thread's loop by a clock of its own, on which work takes what it says."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.turns = Turns(gevent.get_hub(), lambda: self.now)

    def rounds_of(self, pieces: list[list[float]], requests_s: float = 0.0) -> list[list[int]]:
        """Have several do their pieces, with a turn before each; return who went on in each round of the loop.

        requests_s: what requests take in each round.
        """
        rounds: list[list[int]] = [[]]
        watcher = gevent.get_hub().loop.check()

        def polled() -> None:
            rounds.append([])
            self.now += requests_s

        watcher.start(polled)

        def run(number: int) -> None:
            for piece in pieces[number]:
                self.turns.wait()
                rounds[-1].append(number)
                self.now += piece

        try:
            gevent.joinall([gevent.spawn(run, number) for number in range(len(pieces))], raise_error=True)
        finally:
            watcher.stop()
        return [one for one in rounds if one]


def test_pieces_of_several_are_not_done_in_one_round() -> None:
    """A reload, a scrape and the work of each second had a piece each in the same round: a request waited for the sum."""
    long = ROUND_S * 1.5
    assert Loop().rounds_of([[long, long], [long, long], [long, long]]) == [[0], [1], [2], [0], [1], [2]]


def test_many_short_pieces_are_done_in_one_round_but_nobody_has_two_of_them() -> None:
    assert Loop().rounds_of([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]) == [[0, 1, 2], [0, 1, 2]]


def test_rounds_that_are_long_give_a_part_of_themselves() -> None:
    """Else the probes of thousands would come to nothing under a load of requests."""
    rounds = Loop().rounds_of([[ROUND_S] for _ in range(12)], requests_s=ROUND_S * 19)  # of which a quarter is 4.75 pieces
    assert rounds == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]


def test_who_is_ended_while_he_waits_keeps_nobody_from_going_on() -> None:
    ended, other = gevent.spawn(give_way), gevent.spawn(give_way)
    gevent.sleep(0)
    ended.kill()
    other.get(timeout=20)
    assert repr(Turns.of(gevent.get_hub())) == "<Turns: 0 wait>"
    give_way()


def test_an_error_after_a_turn_is_that_greenlets_alone() -> None:
    def fail() -> None:
        give_way()
        raise ValueError("after its turn")

    failing, other = gevent.spawn(fail), gevent.spawn(give_way)
    gevent.joinall([failing, other])
    assert isinstance(failing.exception, ValueError)
    assert other.successful()


def test_the_loop_sleeps_again_when_nobody_waits() -> None:
    give_way()
    rounds = []
    watcher = gevent.get_hub().loop.check()
    watcher.start(lambda: rounds.append(None))
    gevent.sleep(0.05)
    watcher.stop()
    assert len(rounds) < 20
