"""Secrets that are today's, yesterday's and tomorrow's."""

from __future__ import annotations

import pytest

from smartedge.cluster.errors import Foreign
from smartedge.cluster.secret_keys import DAY_S, STICKY_KEPT, TICKETS_KEPT, SecretKeys, first_secrets, secrets_of


def test_tomorrows_are_known_a_day_before_they_are_used() -> None:
    today = first_secrets(0.0)
    tomorrow = today.rotated(DAY_S)
    assert tomorrow.sticky[0] == today.sticky[-1]
    assert tomorrow.tickets[0] == today.tickets[-1]
    assert tomorrow.sticky[-1] not in today.sticky
    assert tomorrow.rotated_at == DAY_S


def test_a_cookie_is_good_for_a_week_and_a_ticket_for_a_day() -> None:
    secrets = first_secrets(0.0)
    sticky, ticket = secrets.sticky[0], secrets.tickets[0]
    good = []
    for _ in range(10):
        secrets = secrets.rotated(0.0)
        good.append((sticky in secrets.sticky, ticket in secrets.tickets))
    assert [is_good for is_good, _ in good] == [True] * 7 + [False] * 3
    assert [is_good for _, is_good in good] == [True] + [False] * 9
    assert (len(secrets.sticky), len(secrets.tickets)) == (STICKY_KEPT, TICKETS_KEPT)
    assert len(set(secrets.sticky)) == STICKY_KEPT


@pytest.mark.parametrize(
    ("now", "is_due"),
    [(0.0, False), (DAY_S - 1, False), (DAY_S, True), (3 * DAY_S, True), (-3599, False), (-3601, True), (-3 * DAY_S, True)],
)
def test_they_are_due_after_a_day_or_where_a_clock_was_wrong_by_an_hour(now: float, is_due: bool) -> None:
    assert first_secrets(0.0).is_due(now, DAY_S) is is_due


def test_what_is_written_is_read_again() -> None:
    secrets = first_secrets(5.0).rotated(6.0)
    assert secrets_of(secrets.to_value(), "/p/secrets") == secrets


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b'{"sticky": [], "tickets": [], "rotated_at": 0}',
        first_secrets(0.0).to_value().replace(b'"rotated_at": 0.0', b'"rotated_at": null'),
        SecretKeys((b"short", b"short"), first_secrets(0.0).tickets, 0.0).to_value(),
        SecretKeys(first_secrets(0.0).sticky[:1], first_secrets(0.0).tickets, 0.0).to_value(),
    ],
)
def test_what_is_none_of_ours_is_not_used(value: bytes) -> None:
    with pytest.raises(Foreign, match="the key /p/secrets in etcd holds no secrets of SmartEdge's"):
        secrets_of(value, "/p/secrets")
