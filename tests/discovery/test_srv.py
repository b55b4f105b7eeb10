"""SRV records as backends: weights keep their proportion on a scale of 1 to 1000, and 0 is the least."""

from __future__ import annotations

import pytest

from smartedge.discovery.srv import SrvRecord, entries_of, url_of, weights_of


@pytest.mark.parametrize(
    ("records", "weights"),
    [
        ([], []),
        ([(0, 1), (0, 1)], [1, 1]),
        ([(1, 1), (2, 1)], [1, 2]),
        ([(10, 1), (60, 1), (30, 1)], [10, 60, 30]),
        ([(100, 1), (0, 1)], [100, 1]),
        ([(1, 1), (0, 1), (2, 1)], [10, 1, 20]),  # a very small chance, and not the half of all
        ([(65_535, 1), (32_768, 1), (1, 1)], [1000, 500, 1]),
        ([(65_535, 1), (0, 1)], [1000, 1]),
        ([(1, 2), (1, 1)], [1, 2]),  # two addresses share what their target has
        ([(3, 2), (2, 3)], [9, 4]),
    ],
)
def test_weights(records: list[tuple[int, int]], weights: list[int]) -> None:
    assert weights_of(records) == weights


def test_each_address_of_each_target_is_an_entry_the_most_preferred_first() -> None:
    targets = [SrvRecord("b.test", 8001, 20, 1), SrvRecord("a.test", 8000, 10, 3)]
    found = entries_of(targets, {"a.test": ["10.0.0.1", "2001:db8::1"], "b.test": ["10.0.0.2"]}, "http")
    assert found == [
        {"url": "http://10.0.0.1:8000", "weight": 3, "priority": 10, "labels": {"target": "a.test"}},
        {"url": "http://[2001:db8::1]:8000", "weight": 3, "priority": 10, "labels": {"target": "a.test"}},
        {"url": "http://10.0.0.2:8001", "weight": 2, "priority": 20, "labels": {"target": "b.test"}},
    ]


def test_a_target_without_address_is_left_out_and_a_record_twice_counts_once() -> None:
    targets = [SrvRecord("a.test", 8000, 0, 5), SrvRecord("a.test", 8000, 0, 5), SrvRecord("gone.test", 8000, 0, 5)]
    assert [one["url"] for one in entries_of(targets, {"a.test": ["10.0.0.1"]}, "http")] == ["http://10.0.0.1:8000"]


def test_https_is_checked_as_the_targets_name() -> None:
    (found,) = entries_of([SrvRecord("a.test", 8443, 0, 0)], {"a.test": ["10.0.0.1"]}, "https")
    assert (found["url"], found["tls"]) == ("https://10.0.0.1:8443", {"server_name": "a.test"})


def test_urls() -> None:
    assert url_of("http", "10.0.0.1", 80) == "http://10.0.0.1:80"
    assert url_of("https", "2001:db8::1", 443) == "https://[2001:db8::1]:443"
