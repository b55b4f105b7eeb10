"""When a certificate is said to be about to expire, and how often."""

from __future__ import annotations

import pytest

from smartedge.edge.certificates import DAY_S, ExpiryWatch
from smartedge.http.certificates import Certificate, PemFiles


def certificate(life_days: float = 90, name: str = "shop.example", *more: str) -> Certificate:
    """One that began at 0."""
    return Certificate(PemFiles(f"/{name}.pem"), (name, *more), "ECDSA", 0.0, life_days * DAY_S, name.encode())


@pytest.mark.parametrize(
    ("life_days", "left_days", "said"),
    [
        (90, 14.1, None),
        (90, 13.9, "the certificate for shop.example (/shop.example.pem) expires in 14 days (1970-03-18T00:00Z)"[:72]),
        (90, 1.5, "the certificate for shop.example (/shop.example.pem) expires in 36 hours"),
        (90, -1, "the certificate for shop.example (/shop.example.pem) has expired (1970-04-01T00:00Z)"),
        (6, 1.6, None),
        (6, 1.4, "the certificate for shop.example (/shop.example.pem) expires in 34 hours"),
    ],
)
def test_it_is_said_14_days_before_or_in_the_last_quarter_of_a_short_life(
    life_days: float, left_days: float, said: str | None
) -> None:
    found = ExpiryWatch().look([certificate(life_days)], (life_days - left_days) * DAY_S)
    assert [text[: len(said or "")] for text in found] == ([] if said is None else [said])


def test_each_is_said_once_a_day_and_a_new_one_by_itself() -> None:
    watch, old, other = ExpiryWatch(), certificate(), certificate(80, "other.example", "www.other.example")
    at = 89 * DAY_S
    assert len(watch.look([old], at)) == 1
    assert watch.look([old], at + 3600) == []
    assert watch.look([old, other], at + 3600) == [
        "the certificate for other.example and 1 more (/other.example.pem) has expired (1970-03-22T00:00Z)"
    ]
    assert len(watch.look([old], at + DAY_S)) == 1
    assert watch.look([certificate(365)], at + DAY_S) == []
