"""A scenario: a `backends.json` with one more section, `simulate`, which says who asks what of which machines.

The rest of the file is the configuration of the balancer, checked as such (`config.parse`), so a real one can be
pasted. Durations are seconds of virtual time. All problems of both parts are reported at once, with their paths.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.config import values
from smartedge.config.model import Config, ConfigError, Problem, parse
from smartedge.config.problems import decode, explain, path_text
from smartedge.config.section import Count, Grace, Label, Listed, Seconds, Section, Text

MAX_REQUESTS = 10_000_000
"""What one scenario may ask for: the time of each request is kept in memory, and so is who waits."""

NOT_SIMULATED = frozenset(
    {"certfile", "keyfile", "certificates", "certificates_dir", "client_ca_file", "acme", "acme_webroot", "access_log"}
)
"""Keys of a real configuration that name files of the machine it runs on."""

Ratio = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0, le=1_000_000)]
MachineState = Literal["up", "leaving", "down", "hang", "stopped"]


class ServiceTimeConfig(Section):
    """How long a machine works on a request."""

    kind: Literal["fixed", "exponential", "lognormal"] = "exponential"
    """Distribution of the time."""
    mean_s: Seconds = 0.008
    """Its mean, before `slow_ratio`."""
    sigma: Annotated[float, Field(gt=0, le=5)] = 1.0
    """Spread of a lognormal one: the standard deviation of the time's logarithm."""
    slow_ratio: Ratio = 0.0
    """Share of the requests that take `slow_factor` times as long."""
    slow_factor: Factor = 50.0
    """How many times as long those take."""


class CacheConfig(Section):
    """A machine's cache: the answers to the keys that it served last."""

    entries: Count = 1_000
    """Keys that it holds; the one not asked for longest goes first."""
    hit_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Part of the time that a request takes whose key is there."""


class BehaviourConfig(Section):
    """What a machine is like."""

    service: ServiceTimeConfig = ServiceTimeConfig()
    """Time it works on a request."""
    slots: Annotated[int, Field(ge=1, le=100_000)] = 8
    """Requests it works on at once; more wait, first come first served."""
    slowness: Factor = 1.0
    """Factor on all its times."""
    state: MachineState = "up"
    """`leaving` refuses connections and ends what it has begun; `down` cuts that too; `hang` accepts and never answers;
    `stopped` does nothing for a while, as a process that collects garbage: what would have been answered is when that is over."""
    fail_ratio: Ratio = 0.0
    """Share of the requests that it fails."""
    fail_status: Annotated[int, Field(ge=400, le=599)] = 500
    """Status of those."""
    fail_s: Grace | None = None
    """Time until it answers those, without a slot; null for working on them as on others."""
    probes: Literal["same", "good", "bad"] = "same"
    """What probes find: `same` as requests do, or always `good` or `bad` while connections are accepted."""
    cache: CacheConfig | None = None
    """Null for a machine without one."""


class ChangeConfig(BehaviourConfig):
    """What changes at some time; keys that are not written stay as they are."""

    at_s: Grace
    """When, from the start."""


class MachineConfig(BehaviourConfig):
    """All backends, and what changes on all of them."""

    changes: Annotated[tuple[ChangeConfig, ...], Listed] = ()
    """What changes, and when."""

    @field_validator("changes")
    @classmethod
    def _in_order(cls, changes: tuple[ChangeConfig, ...]) -> tuple[ChangeConfig, ...]:
        times = [change.at_s for change in changes]
        if times != sorted(times):
            raise ValueError("must be in the order of at_s")
        return changes


class OneMachineConfig(MachineConfig):
    """One backend, where it differs from all."""

    id: str
    """The id that it has in `backends`."""


class KindConfig(Section):
    """Some of the requests, which ask for another path and take their own time."""

    path: Annotated[str, Field(pattern=r"^/[!-~]*$")]
    """What they ask for: the edge compares like with like."""
    ratio: Ratio
    """Share of all requests; what is left asks for `/`."""
    slowness: Factor = 1.0
    """Factor on the time that they take, on any backend."""


class ArrivalsConfig(Section):
    """Who asks."""

    per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 250.0
    """Requests a second, on average over a day if there is a `night_ratio`."""
    kind: Literal["poisson", "constant"] = "poisson"
    """`poisson`: each comes regardless of the others; `constant`: at even distances."""
    day_s: Seconds = 86_400.0
    """How long a day is, for all that changes with its hours; a shorter one shows in minutes what a real one does."""
    night_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Rate at four in the morning as a part of that at four in the afternoon; the start is midnight."""
    idempotent_ratio: Ratio = 1.0
    """Share of the requests that may be repeated (GET); the others are POST."""
    keys: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000
    """Clients or paths that requests come from or go to: what consistent hashing and caches go by."""
    skew: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Zipf's exponent: 0 asks for all keys alike, 1 for the n-th one n times as seldom as for the first."""
    kinds: Annotated[tuple[KindConfig, ...], Listed] = ()
    """Requests that are unlike the others."""

    @field_validator("kinds")
    @classmethod
    def _not_too_many(cls, kinds: tuple[KindConfig, ...]) -> tuple[KindConfig, ...]:
        if sum(kind.ratio for kind in kinds) > 1:
            raise ValueError("must have ratios that are 1 together, or less")
        return kinds


class ClientsConfig(Section):
    """Some of those who ask, in one place."""

    zone: Label
    """Where they are."""
    ratio: Annotated[float, Field(gt=0, le=1_000_000)] = 1.0
    """How many there are on average, beside the other groups."""
    night_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """How many of them ask twelve hours from their peak, as a part of those at the peak."""
    peak_h: Annotated[float, Field(ge=0, le=24)] = 16.0
    """The hour at which most of them ask; the start is midnight."""
    edge: Label | None = None
    """Zone of the edge that they come to; null is the one in their own zone, else the first."""


def _two(zones: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(zones)) != 2 or len(zones) != 2:
        raise ValueError('must be two zones, such as ["sa", "eu"]')
    return zones


class WayConfig(Section):
    """A way between two zones."""

    between: Annotated[tuple[Label, ...], Listed, AfterValidator(_two)]
    """The two."""
    farther_s: Grace
    """How much longer it takes, there and back, than a way within a zone."""


class NetworkConfig(Section):
    """Time on the way, there and back."""

    client_s: Grace = 0.0002
    """Between client and edge, and for the edge's own work."""
    backend_s: Grace = 0.0002
    """Between edge and backend."""
    ways: Annotated[tuple[WayConfig, ...], Listed] = ()
    """What is longer: from zone to zone."""


class SimulateConfig(Section):
    """The world around the edge."""

    title: Text = "A scenario"
    """What tables and charts call it."""
    seed: Annotated[int, Field(ge=0, le=1 << 62)] = 1
    """Chance: the same seed gives the same output, byte for byte."""
    duration_s: Seconds = 60.0
    """Time in which requests arrive; the last ones are waited for."""
    warmup_s: Annotated[Grace, Field(validate_default=True)] = 0.0
    """Time at the start that figures do not count."""
    nodes: Annotated[int, Field(ge=1, le=1_000)] = 1
    """Edges in front of the same backends, which share nothing; chance says which of them a request comes to."""
    edges: Annotated[tuple[Label, ...], Listed] = ()
    """Zones of edges in front of the same backends, one in each; without any there is one where `zone` says."""
    clients: Annotated[tuple[ClientsConfig, ...], Listed] = ()
    """Where those are who ask; without any they are at their edge."""
    strategies: Annotated[tuple[str, ...], Listed] = ()
    """Those to compare; without any all there are."""
    arrivals: ArrivalsConfig = ArrivalsConfig()
    """Who asks."""
    network: NetworkConfig = NetworkConfig()
    """Time on the way."""
    backend: MachineConfig = MachineConfig()
    """What every backend is like."""
    backends: Annotated[tuple[OneMachineConfig, ...], Listed] = ()
    """Backends that differ."""

    @field_validator("warmup_s")
    @classmethod
    def _shorter(cls, warmup_s: float, info: ValidationInfo) -> float:
        if warmup_s >= info.data.get("duration_s", 86_400 * 2):
            raise ValueError(f"must be less than duration_s ({info.data['duration_s']:g}), not {warmup_s:g}")
        return warmup_s

    @field_validator("edges")
    @classmethod
    def _without_nodes(cls, edges: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if edges and info.data.get("nodes", 1) != 1:
            raise ValueError("must not stand beside nodes: there is one edge in each of these zones")
        if len(set(edges)) != len(edges):
            raise ValueError("must name each zone once")
        return edges

    @field_validator("clients")
    @classmethod
    def _come_to_an_edge(cls, clients: tuple[ClientsConfig, ...], info: ValidationInfo) -> tuple[ClientsConfig, ...]:
        edges = info.data.get("edges", ())
        for group in clients:
            if group.edge is not None and edges and group.edge not in edges:
                raise ValueError(f"must come to an edge that there is ({', '.join(edges)}), not {values.shown(group.edge)}")
        return clients

    @field_validator("arrivals")
    @classmethod
    def _countable(cls, arrivals: ArrivalsConfig, info: ValidationInfo) -> ArrivalsConfig:
        requests = arrivals.per_s * info.data.get("duration_s", 0)
        if requests > MAX_REQUESTS:
            raise ValueError(f"would be {requests:,.0f} requests; at most {MAX_REQUESTS:,} are simulated")
        return arrivals


class ScenarioFile(Section):
    """The part of the file that is not the balancer's configuration."""

    simulate: SimulateConfig


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario that is right in itself.

    configs: the balancer's configuration with each strategy to compare, by its name. machines: by a backend's
    id, what it is like from which time on, the first from 0.
    """

    world: SimulateConfig
    configs: dict[str, Config]
    machines: dict[str, tuple[tuple[float, BehaviourConfig], ...]]


def load(text: bytes | str, origin: str, strategies: Sequence[str] = (), seed: int | None = None) -> Scenario:
    """Check a scenario's JSON text, or raise ConfigError with every problem.

    origin: what errors call the text. strategies, seed: flags, which beat the file's.
    """
    document, repeated = decode(text, origin)
    problems = [Problem(path_text(path), message) for path, message in repeated]
    if not isinstance(document, dict):
        raise ConfigError([Problem("", f"must be an object, not {values.shown(document)}")], status=422, origin=origin)
    written = {key: value for key, value in document.items() if key not in NOT_SIMULATED}
    world = _world({"simulate": written.pop("simulate")} if "simulate" in written else {}, problems)
    text = json.dumps(written)
    config = _config(text, origin, problems)
    if config and not config.backends:
        problems.append(Problem("services", 'cannot be simulated: a scenario has one service, whose "backends" stand at the top'))
    scenario = None
    if world and config:
        ids = [backend.id for backend in config.backends]
        problems += [*_unknown_machines(world, ids), *_unknown_zones(world, config)]
        configs = _configs(text, origin, world, config, strategies, problems)
        machines = {name: _times(world, name) for name in ids}
        scenario = Scenario(world if seed is None else world.model_copy(update={"seed": seed}), configs, machines)
    if scenario is None or problems:
        raise ConfigError(problems, status=422, origin=origin)
    return scenario


def _world(section: dict[str, Any], problems: list[Problem]) -> SimulateConfig | None:
    if not section:
        problems.append(Problem("simulate", 'is missing; the smallest is "simulate": {}'))
        return None
    try:
        return ScenarioFile.model_validate(section).simulate
    except ValidationError as error:
        found = explain(error.errors(include_url=False), ScenarioFile, section)
        problems += [Problem(path_text(path), message) for path, message in found]
        return None


def _config(text: str, origin: str, problems: list[Problem]) -> Config | None:
    try:
        return parse(text, origin=origin)
    except ConfigError as error:
        problems += error.problems
        return None


def _configs(
    text: str, origin: str, world: SimulateConfig, config: Config, flags: Sequence[str], problems: list[Problem]
) -> dict[str, Config]:
    """Give the configuration with each strategy; one of the user's own is compared with all there are."""
    named = flags or world.strategies or dict.fromkeys((config.strategy, *STRATEGIES))
    configs = {}
    for index, name in enumerate(named):
        try:
            configs[name] = parse(text, origin=origin, overrides={"strategy": name})
        except ConfigError as error:
            path = f"simulate.strategies[{index}]" if name in world.strategies and not flags else "--strategy"
            problems += [Problem(path, problem.message) for problem in error.problems]
    return configs


def _unknown_machines(world: SimulateConfig, ids: Sequence[str]) -> Iterable[Problem]:
    known: set[str] = set()
    for index, machine in enumerate(world.backends):
        path = f"simulate.backends[{index}].id"
        if machine.id not in ids:
            yield Problem(path, f"{values.shown(machine.id)} is not the id of a backend; those are {', '.join(ids)}")
        elif machine.id in known:
            yield Problem(path, f"{values.shown(machine.id)} is written twice")
        known.add(machine.id)


def _unknown_zones(world: SimulateConfig, config: Config) -> Iterable[Problem]:
    """Ways that lead nowhere: nobody is in that zone."""
    known = {*config.zones, config.zone, *world.edges, *(group.zone for group in world.clients)}
    known |= {backend.zone for backend in config.backends}
    for index, way in enumerate(world.network.ways):
        for zone in way.between:
            if zone not in known:
                yield Problem(f"simulate.network.ways[{index}].between", f"{values.shown(zone)} is where nobody is")


def _times(world: SimulateConfig, name: str) -> tuple[tuple[float, BehaviourConfig], ...]:
    """Work out what a machine is like from which time on: what all are, what it is, what changes."""
    own = next((machine for machine in world.backends if machine.id == name), None)
    written = _written(world.backend)
    changes = world.backend.changes
    if own is not None:
        written = _laid_over(written, _written(own))
        changes = own.changes or changes
    times = [(0.0, BehaviourConfig.model_validate(written))]
    for change in changes:
        written = _laid_over(written, _written(change))
        times.append((change.at_s, BehaviourConfig.model_validate(written)))
    return tuple(times)


def _written(section: Section) -> dict[str, Any]:
    return section.model_dump(exclude_unset=True, exclude={"id", "at_s", "changes"})


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merge key by key, the inner objects too."""
    merged = {**below, **above}
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            merged[key] = {**below[key], **value}
    return merged


__all__ = ["BehaviourConfig", "Scenario", "ServiceTimeConfig", "SimulateConfig", "load"]
