"""When a certificate is got and renewed, and what happens when it is not."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from smartedge.acme.renewals import DAY_S, Order, due, missing_library, order_of, renew_at, wait_s
from smartedge.acme.storage import Storage
from smartedge.config.model import parse
from smartedge.http.certificates import Certificate, PemFiles


def order(folder: Path, *names: str) -> Order:
    storage = Storage(folder / "acme")
    storage.make()
    return Order(names, storage, "https://a.example/dir", None, None, "http-01", 60.0)


def certificate(order: Order, name: str, life_s: float = 90 * DAY_S) -> Certificate:
    """One that began at 0, in its place in the storage."""
    return Certificate(PemFiles(str(order.storage.certificate(name))), (name,), "ECDSA", 0.0, life_s, name.encode())


def test_a_name_without_a_certificate_is_due_at_once(tmp_path: Path) -> None:
    wanted = order(tmp_path, "a.example", "b.example")
    assert list(due(wanted, [certificate(wanted, "b.example")], 0.0)) == ["a.example"]


@pytest.mark.parametrize("life_s", [90 * DAY_S, 6 * DAY_S, 60.0])
def test_one_is_renewed_with_a_third_of_its_life_left_or_somewhat_earlier(life_s: float, tmp_path: Path) -> None:
    wanted = order(tmp_path, "a.example")
    there = [certificate(wanted, "a.example", life_s)]
    at = renew_at("a.example", there[0])
    assert life_s * (2 / 3 - 0.05) <= at <= life_s * 2 / 3
    assert list(due(wanted, there, at - 0.001)) == []
    assert list(due(wanted, there, at)) == ["a.example"]


def test_those_that_came_together_are_not_renewed_together(tmp_path: Path) -> None:
    names = [f"{number}.example" for number in range(20)]
    wanted = order(tmp_path, *names)
    assert len({round(renew_at(name, certificate(wanted, name))) for name in names}) == 20


def test_a_failure_is_waited_for_twice_as_long_each_time_up_to_a_day_also_after_a_restart(tmp_path: Path) -> None:
    waits = [wait_s(failures, 60.0, random.Random(1)) for failures in (1, 2, 3, 20, 10_000)]
    factor = waits[0] / 60.0
    assert 0.75 <= factor <= 1.25
    assert waits == pytest.approx([60 * factor, 120 * factor, 240 * factor, DAY_S * factor, DAY_S * factor])
    wanted = order(tmp_path, "a.example")
    wanted.storage.failed("a.example", 3, 1000.0)
    again = order(tmp_path, "a.example")
    assert again.storage.failures("a.example") == (3, 1000.0)
    assert list(due(again, [], 999.0)) == []
    assert list(due(again, [], 1000.0)) == ["a.example"]
    again.storage.succeeded("a.example")
    assert again.storage.failures("a.example") == (0, 0.0)


def test_what_a_configuration_says_is_what_is_got(tmp_path: Path) -> None:
    text = '{"backends": ["http://a"], "certificates": ["a.example"], "acme": {"agree_tos": true}%s}'
    home = {"XDG_DATA_HOME": str(tmp_path)}
    wanted = order_of(parse(text % ""), home)
    assert wanted is not None
    assert (wanted.names, wanted.how, wanted.storage.path) == (("a.example",), "tls-alpn-01", tmp_path / "smartedge" / "acme")
    behind = order_of(parse(text % ', "http_bind": "127.0.0.1:80"'), {"STATE_DIRECTORY": "/var/lib/smartedge"})
    assert behind is not None
    assert (behind.how, behind.storage.path) == ("http-01", Path("/var/lib/smartedge/acme"))
    assert order_of(parse('{"backends": ["http://a"]}'), home) is None


def test_the_library_is_there_where_tests_run() -> None:
    assert missing_library() is None
