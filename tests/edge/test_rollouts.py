"""Configurations on trial, the way back, and what is remembered of them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from smartedge.config.model import ConfigError
from smartedge.edge.edge import Edge
from smartedge.edge.reload_errors import PreconditionFailed
from smartedge.edge.rollouts import Asked, NoTrial, Rollouts, TrialRunning, UnknownConfiguration
from smartedge.edge.trial import TrialFile, TrialInCluster
from smartedge.edge.verdict import TrialLimits
from smartedge.observe.history_table import Series
from tests.house import Told, running

A, B = "http://10.0.0.1:80", "http://10.0.0.2:80"


class Ticks:
    """The history of the last minutes, as the test says that it was: ticks of requests, failures and 99th percentiles."""

    def __init__(self) -> None:
        self.ticks: list[tuple[int, int, float]] = []

    @property
    def last_tick(self) -> int:
        return len(self.ticks) - 1

    def read(self, key: str, points: int, last: int | None = None) -> Series:
        until = len(self.ticks) if last is None else last + 1
        requests, failed, p99 = zip(*self.ticks[max(0, until - points) : until], strict=True) if self.ticks else ((), (), ())
        return Series(requests, failed, (), p99, (), ())


class Site:
    """An edge with a file, whose time and history are the test's."""

    def __init__(self, edge: Edge, path: Path) -> None:
        self.edge, self.path, self.told, self.ticks = edge, path, Told(), Ticks()
        self.told.wall = 0.0
        self.rollouts = self.made()
        edge.rollouts = self.rollouts
        self.rollouts.note_start()

    def made(self, place: Any = None) -> Rollouts:
        made = Rollouts(self.edge, self.edge._reloader.preview, self.ticks, self.told.announcer, self.told.time)  # type: ignore[arg-type]
        made.join_workers(self.path.parent, place)
        return made

    def reload(self, *urls: str, **asked: Any) -> Any:
        return self.rollouts.reload(text(*urls), None, Asked(**asked)).document

    def pass_time(self, seconds: int, each: tuple[int, int, float] = (100, 0, 0.1)) -> None:
        self.told.wall += seconds
        self.ticks.ticks += [each] * (seconds // 5)

    def look(self) -> list[str]:
        self.rollouts.look(leading=True)
        return [backend.url for backend in self.edge.pool.backends]

    def written(self) -> list[str]:
        return list(json.loads(self.path.read_text())["backends"])


def text(*urls: str, **more: Any) -> bytes:
    return json.dumps({"backends": urls, **more}, indent=1).encode()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    path = tmp_path / "backends.json"
    with running(A, path=path) as served:
        made = Site(served.edge, path)
        made.pass_time(300)
        yield made


def test_without_a_confirmation_the_edge_goes_back(site: Site) -> None:
    answer = site.reload(A, B, confirm_s=60)
    assert answer["message"].endswith("goes back in 60 s unless it is confirmed")
    assert answer["trial"]["left_s"] == 60
    site.pass_time(55)
    assert site.look() == [A, B]
    site.pass_time(5)
    assert site.look() == [A]
    assert site.rollouts.trial() is None
    assert site.told.kinds() == ["trial_began", "rolled_back"]
    assert "nobody confirmed it within 60 s" in site.told.all()[-1]["text"]


def test_a_confirmed_one_stays_and_only_then_the_file_has_it(site: Site) -> None:
    """A restart during the trial goes back, too."""
    site.reload(A, B, confirm_s=60)
    assert site.written() == [A]
    assert site.rollouts.confirm("10.0.0.9")["message"] == "generation 2 is confirmed"
    assert site.written() == [A, B]
    site.pass_time(120)
    assert site.look() == [A, B]
    with pytest.raises(NoTrial):
        site.rollouts.confirm()


def test_a_confirmation_that_comes_late_is_refused(site: Site) -> None:
    site.reload(A, B, confirm_s=60)
    site.pass_time(60)
    site.look()
    with pytest.raises(NoTrial, match="its time was over"):
        site.rollouts.confirm()


def test_a_file_that_was_edited_gets_its_old_text_back(site: Site) -> None:
    before = site.path.read_bytes()
    site.path.write_bytes(text(B))
    site.rollouts.reload(None, None, Asked(confirm_s=5, origin="file"))
    assert site.look() == [B]
    site.pass_time(5)
    assert site.look() == [A]
    assert site.path.read_bytes() == before


@pytest.mark.parametrize("looked", [True, False], ids=["after a second", "before anybody looked"])
def test_a_trial_whose_leader_died_on_the_way_back_is_over(site: Site, looked: bool) -> None:
    """It had gone back, and had not said yet that the trial is over: the same configuration may come again, and stay."""
    site.reload(A, B, confirm_s=5)
    trial = site.rollouts.trial()
    site.pass_time(5)
    site.look()
    site.rollouts._place.write(trial)
    if looked:
        (site.path.parent / ".backends.json.history").unlink()
        assert site.look() == [A]
        assert site.rollouts._place.read() is None
        assert site.rollouts.kept.all()[-1].origin == "rollback"
    site.reload(A, B)
    site.pass_time(5)
    assert site.look() == [A, B]


def test_a_trial_that_this_worker_has_yet_to_follow_is_not_forgotten(site: Site) -> None:
    site.reload(A, B, confirm_s=60)
    trial = site.rollouts.trial()
    assert trial is not None
    ahead = dataclasses.replace(trial, meaning="another", generation=trial.generation + 1)
    site.rollouts._place.write(ahead)
    site.look()
    assert site.rollouts._place.read() == ahead


def test_while_one_is_on_trial_no_other_comes(site: Site) -> None:
    """Two operators at once: one truth."""
    site.reload(A, B, confirm_s=60)
    with pytest.raises(TrialRunning, match="generation 2 is on trial for another 60 s"):
        site.reload(B)
    with pytest.raises(TrialRunning):
        site.reload(B, confirm_s=10)
    assert site.look() == [A, B]


def test_what_is_in_use_already_is_no_trial(site: Site) -> None:
    assert "trial" not in site.reload(A, confirm_s=60)
    assert site.rollouts.trial() is None


@pytest.mark.parametrize(
    ("tick", "why"),
    [
        ((100, 40, 0.1), "40.0% of 600 requests have failed"),
        ((100, 0, 0.5), "the 99th percentile is 500 ms"),
        ((100, 1, 0.12), ""),
    ],
)
def test_it_goes_back_as_soon_as_it_is_measurably_worse(site: Site, tick: tuple[int, int, float], why: str) -> None:
    site.reload(A, B, confirm_s=600, limits=TrialLimits(0.05, 2))
    site.pass_time(35, tick)
    assert site.look() == ([A] if why else [A, B])
    if why:
        assert why in site.told.all()[-1]["text"]


def test_another_worker_goes_back_when_the_one_that_reloaded_has_died(site: Site) -> None:
    site.reload(A, B, confirm_s=60)
    other = site.made()
    site.pass_time(60)
    other.look(leading=False)
    assert [backend.url for backend in site.edge.pool.backends] == [A, B]
    other.look(leading=True)
    assert [backend.url for backend in site.edge.pool.backends] == [A]


def test_an_operator_may_end_a_trial_himself(site: Site) -> None:
    site.reload(A, B, confirm_s=60)
    assert site.rollouts.rollback(None, Asked(by="10.0.0.9")).document["changed"]
    assert site.look() == [A]
    assert site.rollouts.trial() is None


def test_the_history_has_who_why_and_what(site: Site) -> None:
    site.reload(A, B, by="10.0.0.1", author="ana")
    site.rollouts.rollback(None, Asked(by="10.0.0.2"))
    back, there, start = site.rollouts.documents()
    assert (start["id"], start["origin"], start["in_use"], start["changes"]) == (1, "start", False, [])
    assert (there["origin"], there["by"], there["author"]) == ("api", "10.0.0.1", "ana")
    assert [(one["path"], one["what"]) for one in there["changes"]] == [("backends.10.0.0.2-80", "added")]
    assert (back["origin"], back["note"], back["in_use"]) == ("rollback", "back to 1", True)


class Overtaken:
    """An edge of several workers: while one reload waits for them to have it, another one comes."""

    def __init__(self, edge: Edge, *urls: str) -> None:
        self.edge, self.urls = edge, urls

    def __getattr__(self, name: str) -> Any:
        return getattr(self.edge, name)

    def apply(self, *args: Any, **how: Any) -> Any:
        result = self.edge.apply(*args, **how)
        self.edge.apply(text(*self.urls))
        return result


def test_a_reload_that_another_one_overtook_is_remembered_as_it_was(site: Site) -> None:
    """The other one was written down twice, the first not at all: nobody could go back to it."""
    site.rollouts._edge = Overtaken(site.edge, B)
    site.reload(A, B)
    kept = site.rollouts.kept.all()[-1]
    assert (kept.generation, json.loads(kept.text)["backends"]) == (2, [A, B])


def test_a_reload_that_overtakes_a_trial_is_not_on_trial(site: Site) -> None:
    """It was, and to confirm it had the edge use the one before, in its place."""
    site.rollouts._edge = Overtaken(site.edge, B)
    site.reload(A, B, confirm_s=5)
    assert site.rollouts.trial() is None
    site.pass_time(10)
    assert site.look() == [B]


def test_any_of_them_can_be_gone_back_to_as_it_was_written(site: Site) -> None:
    for urls in ((A, B), (B,)):
        site.reload(*urls)
    site.rollouts.rollback(2)
    assert site.path.read_bytes() == text(A, B)
    with pytest.raises(UnknownConfiguration, match="No configuration 99 is kept; 1 to 4 are"):
        site.rollouts.rollback(99)
    with pytest.raises(PreconditionFailed):
        site.rollouts.rollback(1, Asked(), '"0000000000000000"')


def test_what_can_no_longer_be_built_is_refused_and_changes_nothing(site: Site, tmp_path: Path) -> None:
    page = tmp_path / "sorry.html"
    page.write_text("sorry")
    site.rollouts.reload(text(A, routes=[{"to": "default", "error_pages": {"503": str(page)}}]), None, Asked())
    site.reload(B)
    page.unlink()
    assert [one["usable"] for one in site.rollouts.documents()] == [True, False, True]
    with pytest.raises(ConfigError, match="which is no file here"):
        site.rollouts.rollback(2)
    assert site.look() == [B]


def test_a_way_back_that_is_barred_is_tried_again(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = tmp_path / "sorry.html"
    page.write_text("sorry")
    site.rollouts.reload(text(A, routes=[{"to": "default", "error_pages": {"503": str(page)}}]), None, Asked())
    site.reload(B, confirm_s=5)
    page.unlink()
    site.pass_time(5)
    assert site.look() == [B]
    assert "cannot go back" in caplog.text
    page.write_text("sorry")
    site.pass_time(5)
    assert site.look() == [A]


def test_a_start_with_another_file_is_remembered_and_the_same_is_not(site: Site) -> None:
    site.made().note_start()
    assert len(site.rollouts.documents()) == 1
    site.edge.apply(text(B))
    site.made().note_start()
    assert [one["origin"] for one in site.rollouts.documents()] == ["start", "start"]


def test_in_a_cluster_all_nodes_hear_of_it(tmp_path: Path) -> None:
    will: dict[str, Any] = {}
    own, other = TrialFile(tmp_path / "a"), TrialFile(tmp_path / "b")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    one = TrialInCluster(own, lambda: will, lambda said: will.update(said))
    second = TrialInCluster(other, lambda: will, lambda said: will.update(said))
    path = tmp_path / "backends.json"
    with running(A, path=path) as served:
        site = Site(served.edge, path)
        site.pass_time(300)
        site.reload(A, B, confirm_s=60)
        trial = site.rollouts.trial()
    one.write(trial)
    second.follow()
    assert second.read() == trial
    second.write(None)
    one.follow()
    assert one.read() is None
