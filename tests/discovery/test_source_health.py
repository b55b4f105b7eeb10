"""How sources are, from one worker to the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartedge.discovery.source_health import HealthFile, SourceHealth

FRESH = SourceHealth("web", "dns", "fresh", 12.5, 0, None, 3)
NEVER = SourceHealth("api", "etcd", "never", None, 7, "127.0.0.1:2379 refused the connection", 0)


def test_others_read_what_was_written(tmp_path: Path) -> None:
    HealthFile(tmp_path / "discovery.json").write([FRESH, NEVER])

    assert HealthFile(tmp_path / "discovery.json").read() == [FRESH, NEVER]
    assert [path.name for path in tmp_path.iterdir()] == ["discovery.json"]


def test_the_age_goes_on_until_it_is_asked() -> None:
    assert (FRESH.age_s(20.0), FRESH.age_s(12.0), NEVER.age_s(20.0)) == (7.5, 0.0, None)


@pytest.mark.parametrize("text", ["", "{", "[3]", '[{"service": "web"}]'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "discovery.json").write_text(text)

    assert HealthFile(tmp_path / "discovery.json").read() == []
    assert HealthFile(tmp_path / "nowhere").read() == []
    assert HealthFile(None).read() == []


def test_what_cannot_be_written_leaves_the_others_with_what_they_know(tmp_path: Path) -> None:
    HealthFile(None).write([FRESH])
    HealthFile(tmp_path / "nowhere" / "discovery.json").write([FRESH])

    assert list(tmp_path.iterdir()) == []
