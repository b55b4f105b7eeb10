from __future__ import annotations

import gevent
import pytest

from smartedge.admin.scrapes import Scrapes
from smartedge.admin.snapshot import read_snapshot
from smartedge.balancer.cells import RETRIES
from tests.admin.small_edge import SmallEdge

RETRIED = b'smartedge_retries_total{backend="b1",service="default"} %d.0\n'


class SlowEdge(SmallEdge):
    """One whose reading lets others go on, and which counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.times_read = 0

    def meet_workers(self) -> None:
        self.times_read += 1
        gevent.sleep(0.001)


def test_who_asks_while_a_text_is_made_shares_the_next_one_which_has_what_happened_before_the_question() -> None:
    edge = SlowEdge()
    scrapes = Scrapes(edge)  # type: ignore[arg-type]
    first = gevent.spawn(scrapes.make, "")
    gevent.sleep(0)
    edge.backend("b1").learned.add(RETRIES)
    others = [gevent.spawn(scrapes.make, "") for _ in range(5)]
    gevent.joinall([first, *others], timeout=20)
    texts = [other.get() for other in others]
    assert edge.times_read == 2
    assert all(text is texts[0] for text in texts)
    assert RETRIED % 1 in b"".join(texts[0][0])
    assert scrapes.make("") is not texts[0]


def test_each_format_has_a_text_of_its_own() -> None:
    edge = SlowEdge()
    scrapes = Scrapes(edge)  # type: ignore[arg-type]
    asked = [gevent.spawn(scrapes.make, accept) for accept in ("", "application/openmetrics-text;version=1.0.0")]
    gevent.joinall(asked, timeout=20)
    assert [one.get()[1].partition(";")[0] for one in asked] == ["text/plain", "application/openmetrics-text"]


def test_a_text_that_cannot_be_made_is_nobodys_and_the_next_one_is_tried_again() -> None:
    edge = SlowEdge()
    scrapes = Scrapes(edge)  # type: ignore[arg-type]
    services, edge.services = edge.services, None  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(AttributeError):
            scrapes.make("")
    edge.services = services
    assert b"".join(scrapes.make("")[0]).count(b"# TYPE smartedge_") > 40
    assert read_snapshot(edge).generation == 17  # type: ignore[arg-type]
