from __future__ import annotations

import json
from typing import Any

import pytest

from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.config.model import ConfigError
from smartedge.simulator.engine import Run
from smartedge.simulator.scenario import load
from tests.simulator.makers import document, scenario


def problems(written: object, **given: Any) -> dict[str, str]:
    text = written if isinstance(written, str) else json.dumps(written)
    with pytest.raises(ConfigError) as refused:
        load(text, "scenario.json", **given)
    return {problem.path: problem.message for problem in refused.value.problems}


def test_a_real_configuration_with_an_empty_section_is_a_scenario() -> None:
    real = {"backends": ["http://localhost:8081"], "strategy": "ewma", "certfile": "/nowhere/edge.pem", "access_log": "x.log"}
    made = load(json.dumps(real | {"simulate": {}}), "backends.json")

    assert set(made.configs) == set(STRATEGIES)
    assert next(iter(made.configs)) == "ewma", "the configured one comes first"
    assert made.world.duration_s == 60


def test_backends_below_a_path_on_a_socket_and_of_weight_0_are_machines_like_others() -> None:
    backends = [{"url": "http://app/v1"}, {"url": "unix:/run/app.sock:/v1"}, {"url": "http://b", "weight": 0}]
    made = scenario({"duration_s": 1, "strategies": ["round_robin"]}, backends=backends)
    (config,) = made.configs.values()
    found = Run(made, config).run()
    assert found.backends == ["app-80-v1", "run-app.sock-v1", "b-80"]
    assert all(found.tries[:2])
    assert found.tries[2] == 0


def test_without_the_section_it_says_which_one_is_missing() -> None:
    written = document()
    del written["simulate"]

    assert problems(written) == {"simulate": 'is missing; the smallest is "simulate": {}'}


def test_problems_of_both_parts_are_told_at_once_with_their_paths() -> None:
    found = problems(document({"arrivals": {"per_s": 0}, "seed": "1"}, breaker={"ratio": 2}, bogus=1))

    assert found["breaker.ratio"] == "must be at most 1, not 2"
    assert found["simulate.arrivals.per_s"] == "must be more than 0, not 0"
    assert found["simulate.seed"].startswith('must be a whole number, not "1"')
    assert found["bogus"].startswith("is an unknown key; allowed: ")


@pytest.mark.parametrize(
    ("simulate", "path", "words"),
    [
        ({"bakend": {}}, "simulate.bakend", 'did you mean "backend"?'),
        ({"backend": {"state": "gone"}}, "simulate.backend.state", 'must be "up", "leaving", "down", "hang" or "stopped"'),
        ({"backend": {"service": {"kind": "pareto"}}}, "simulate.backend.service.kind", '"exponential" or "lognormal"'),
        ({"backend": {"service": {"mean": 1}}}, "simulate.backend.service.mean", 'did you mean "mean_s"?'),
        ({"backend": {"slots": 0}}, "simulate.backend.slots", "must be at least 1, not 0"),
        ({"backend": {"changes": [{"slowness": 2}]}}, "simulate.backend.changes[0].at_s", "is missing"),
        ({"backend": {"changes": [{"at_s": 2}, {"at_s": 1}]}}, "simulate.backend.changes", "must be in the order of at_s"),
        ({"backends": [{"id": "z"}]}, "simulate.backends[0].id", '"z" is not the id of a backend; those are a, b'),
        ({"backends": [{"id": "a"}, {"id": "a"}]}, "simulate.backends[1].id", '"a" is written twice'),
        ({"backends": {}}, "simulate.backends", "must be a list, not an object"),
        ({"warmup_s": 10}, "simulate.warmup_s", "must be less than duration_s (10), not 10"),
        ({"duration_s": 86_400, "arrivals": {"per_s": 1e6}}, "simulate.arrivals", "at most 10,000,000"),
        ({"strategies": ["ewma", "evma"]}, "simulate.strategies[1]", '"ewma"'),
    ],
)
def test_what_is_wrong_is_refused_with_its_path_and_the_choices(simulate: dict[str, Any], path: str, words: str) -> None:
    found = problems(document(simulate))

    assert list(found) == [path]
    assert words in found[path]


def test_a_flag_names_itself_and_beats_the_file() -> None:
    assert list(problems(document(), strategies=["evma"])) == ["--strategy"]
    assert list(load(json.dumps(document()), "s", strategies=["ewma"]).configs) == ["ewma"]
    assert load(json.dumps(document({"seed": 3})), "s", seed=5).world.seed == 5


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "\x00", '{"simulate": NaN}', "[" * 100_000])
def test_what_is_no_object_of_json_is_refused(text: str) -> None:
    assert list(problems(text)) == [""]


@pytest.mark.parametrize("section", [1, None, [], "x", True])
def test_a_section_that_is_no_object_is_refused(section: object) -> None:
    assert problems(document() | {"simulate": section}) == {
        "simulate": f"must be an object, not {json.dumps(section) if section != [] else 'a list'}"
    }


def test_a_key_that_comes_twice_is_refused() -> None:
    text = json.dumps(document()).replace('"duration_s": 10', '"duration_s": 10, "duration_s": 20')

    assert problems(text) == {"simulate.duration_s": "is written twice"}


def test_a_backend_is_what_all_are_but_for_its_own_keys() -> None:
    made = scenario(
        {
            "backend": {"service": {"kind": "fixed", "mean_s": 0.02}, "slots": 4},
            "backends": [{"id": "b", "service": {"mean_s": 0.5}, "changes": [{"at_s": 3, "slots": 1}]}],
        }
    )
    ((_, a),) = made.machines["a"]
    (_, b), (at_s, later) = made.machines["b"]

    assert (a.service.mean_s, a.slots) == (0.02, 4)
    assert (b.service.kind, b.service.mean_s, b.slots) == ("fixed", 0.5, 4)
    assert (at_s, later.service.mean_s, later.slots) == (3, 0.5, 1)


def test_a_change_goes_on_from_the_change_before() -> None:
    changes = [{"at_s": 1, "slowness": 5}, {"at_s": 2, "state": "hang"}, {"at_s": 3, "slowness": 1}]
    times = scenario({"backend": {"changes": changes}}).machines["a"]

    assert [(at, like.slowness, like.state) for at, like in times] == [(0, 1, "up"), (1, 5, "up"), (2, 5, "hang"), (3, 1, "hang")]
