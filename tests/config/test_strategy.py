"""The key `strategy`: what may stand there, and what is said of what may not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path
from random import Random

import pytest

from smartedge.balancer.strategies.guard import Guarded
from smartedge.balancer.strategies.menu import STRATEGIES, ConsistentHash
from smartedge.config.strategy import checked, make
from tests.house import backends

OWN = """
class Cheapest:
    def pick(self, candidates, now, rng, key):
        return min(candidates, key=lambda backend: backend.id)

class Inner:
    class Last(Cheapest):
        def pick(self, *whatever):
            return whatever[0][-1]

class Narrow:
    def pick(self, candidates):
        return candidates[0]

class Waits:
    async def pick(self, candidates, now, rng, key):
        return candidates[0]

class Needs(Cheapest):
    def __init__(self, prices):
        self.prices = prices

class Fails(Cheapest):
    def __init__(self):
        raise RuntimeError("no price\\nlist")

class Nothing:
    pick = 3

def function(candidates, now, rng, key):
    return candidates[0]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with modules of the user's."""
    (tmp_path / "own_routing.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("x = 1\ndef f(:\n")
    (tmp_path / "own_needy.py").write_text("import os\n\nimport not_installed_at_all\n")
    (tmp_path / "own_leaving.py").write_text("raise SystemExit(3)\n")
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "routing.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_built_in_is_made_by_its_name(name: str) -> None:
    assert checked(name) == name
    assert type(make(name, 1.25, float)) is STRATEGIES[name]


def test_consistent_hashing_is_made_with_its_bound() -> None:
    for said, bound in ((1.5, 1.5), (None, inf)):
        made = make("consistent_hash", said, float)
        assert isinstance(made, ConsistentHash)
        assert made.bounded_load_ratio == bound


@pytest.mark.parametrize(
    ("text", "picked"),
    [("own_routing:Cheapest", "a"), ("own_routing:Inner.Last", "b"), ("own_package.routing:Cheapest", "a")],
)
def test_a_class_beside_the_file_is_made_and_guarded(text: str, picked: str) -> None:
    assert checked(text) == text
    made = make(text, 1.25, lambda: 0.0)
    assert isinstance(made, Guarded)
    assert made.name == text
    assert made.pick(backends(1, 1), 1.0, Random(1), b"").id == picked
    assert made.troubles() == []


def test_the_working_directory_comes_last_so_that_nothing_of_pythons_own_is_shadowed(here: Path) -> None:
    checked("own_routing:Cheapest")
    checked("own_routing:Cheapest")
    assert sys.path.count(str(here)) == 1
    assert sys.path[-1] == str(here)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("own_routing:Narrow", "must have a method pick(self, candidates, now, rng, key)"),
        ("own_routing:Waits", "has an async pick; a pick waits for nothing"),
        ("own_routing:Needs", "cannot be made: TypeError: "),
        ("own_routing:Fails", "cannot be made: RuntimeError: no price list ({here}/own_routing.py line 25)"),
        ("own_routing:Nothing", 'must be a class with a method "pick"'),
        ("own_routing:function", 'must be a class with a method "pick"'),
        ("own_routing:Absent", 'cannot be found: own_routing has no "Absent"'),
        ("own_broken:Any", "cannot be imported: SyntaxError: invalid syntax ({here}/own_broken.py line 2)"),
        (
            "own_needy:Any",
            "cannot be imported: ModuleNotFoundError: No module named 'not_installed_at_all' ({here}/own_needy.py line 3)",
        ),
        ("own_leaving:Any", "cannot be imported: SystemExit: 3 ({here}/own_leaving.py line 1)"),
        ("own_absent:Any", "cannot be imported: ModuleNotFoundError: No module named 'own_absent'"),
        ("own_package.absent:Any", "cannot be imported: ModuleNotFoundError: No module named 'own_package.absent'"),
    ],
)
def test_a_class_that_is_none_is_refused_with_what_is_wrong_and_where(text: str, said: str, here: Path) -> None:
    with pytest.raises(ValueError) as caught:
        checked(text)
    message = str(caught.value)
    assert message.startswith(f'"{text}" ')
    assert said.format(here=here) in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "a b", "own_routing", ":Class", "module:", "../x:y", "a:b:c", "a-b:C", "x" * 500])
def test_what_names_nothing_is_refused_with_the_choices(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        checked(text)
    message = str(caught.value)
    assert 'must be "adaptive", "round_robin", "ewma", "least_requests", "random", "consistent_hash"' in message
    assert len(message) < 300


def test_a_name_that_is_nearly_one_is_recognised() -> None:
    with pytest.raises(ValueError, match='did you mean "least_requests"'):
        checked("leastrequests")


def test_an_entry_point_is_a_strategy_by_its_name(here: Path) -> None:
    """A package that is installed says what it offers in a file of its metadata."""
    info = here / "own_offer-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-offer\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[smartedge.strategies]\ncheapest = own_routing:Cheapest\nbroken = own_broken:Any\n")
    sys.path.append(str(here))
    assert checked("cheapest") == "cheapest"
    assert make("cheapest", 1.25, lambda: 0.0).name == "cheapest"
    with pytest.raises(ValueError, match='"broken" cannot be imported: SyntaxError'):
        checked("broken")
    with pytest.raises(ValueError, match=r'"broken", "cheapest" or a class .*, not "cheapes"; did you mean "cheapest"\?'):
        checked("cheapes")
