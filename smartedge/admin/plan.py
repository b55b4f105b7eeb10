"""What a configuration would change, before it is used: `POST /smartedge/plan`. Nothing is changed by asking.

The expected shares are those of a simulation with the rates and latencies of the last minute, in a process of its own: it takes
a second of a processor, which the worker has for requests.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import gevent
from gevent import subprocess

from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import TUNNELS, quantile
from smartedge.balancer.spec import name_backend
from smartedge.config.backends import BackendConfig
from smartedge.config.difference import differences
from smartedge.config.model import Config
from smartedge.config.services import WrittenService
from smartedge.edge.cautions import cautions
from smartedge.edge.edge import Edge
from smartedge.workers.periodic import give_way

SIMULATED_S: Final = 30.0
MOST_SIMULATED: Final = 3_000
"""Requests of one simulation: at most a second's work."""

MOST_BACKENDS: Final = 100
"""Above, shares are not simulated, but those of the weights."""

WAIT_S: Final = 15.0


def plan_document(edge: Edge, text: bytes) -> dict[str, Any]:
    """Say what a reload with this text would do; raises what that would raise."""
    config, applied = edge.rollouts.preview(text)
    old = edge.config
    changes = [one._asdict() for one in differences(old, config)]
    give_way()
    return {
        "changed": applied.changed or bool(applied.files_renewed),
        "etag": edge.etag,
        "new_etag": applied.etag,
        "changes": changes,
        "files_renewed": list(applied.files_renewed),
        "meaning": list(_meaning(edge, old, config)),
        "shares": _shares(edge, config) if applied.changed else {},
        "restart_needed": list(applied.restart_needed),
        "warnings": [*_warnings(edge, config), *cautions(config, {}, has_token=edge.token is not None)],
    }


# ---- what it means for requests ----


def _meaning(edge: Edge, old: Config, new: Config) -> Iterator[str]:
    """Say what becomes of those that go and come, a sentence each."""
    before, after = ({one.name: one for one in config.all_services()} for config in (old, new))
    for name, service in before.items():
        members = list(edge.services[name].pool.backends) if name in edge.services else []
        there = after.get(name)
        ids = {one.id: one for one in there.config.backends} if there is not None else {}
        gone = [one for one in members if one.spec.entry[0] not in ids]
        yield from (_leaving(one, new.drain_s, service, edge) for one in gone)
        if there is None:
            yield f"the service {name} goes, and routes to it with it"
            continue
        yield from _capacity(name, members, there)
    for name, service in after.items():
        known = {one.id for one in before[name].config.backends} if name in before else set()
        fresh = [one.id for one in service.config.backends if one.id not in known]
        if fresh:
            probed = service.config.health.type != "none"
            waits = "gets requests after its first good probe" if probed else "gets requests at once, for nobody probes it"
            yield from (f"{name_backend(name, one)} comes: it {waits}" for one in fresh)
        if name in before:
            yield from _moved(name, before[name], service)


def _leaving(backend: Backend, drain_s: float, service: WrittenService, edge: Edge) -> str:
    open_now, tunnels = backend.in_flight(), sum(row[TUNNELS] for row in backend.learned.rows)
    parts = [f"{open_now} requests" if open_now != 1 else "1 request"] if open_now else []
    parts += [f"{tunnels} tunnels" if tunnels != 1 else "1 tunnel"] if tunnels else []
    drain = f"{' and '.join(parts)} in flight have up to {drain_s:g} s to end" if parts else "nothing is in flight there"
    return f"{backend.spec.name} leaves: {drain}{_sessions(backend, service, edge)}"


def _sessions(backend: Backend, service: WrittenService, edge: Edge) -> str:
    """Say how busy the sticky sessions are that move: all clients of a backend have the same cookie, so requests are counted."""
    if service.config.sticky.cookie is None:
        return ""
    _, lately = edge.recent.count(backend)
    since = edge.recent.since()
    lately_s = edge.now() - (edge.started_at if since is None else since)
    held = f"{lately.by_session:.0f} requests of the last {lately_s:.0f} s" if lately.by_session != 1 else "1 request lately"
    return f"; its sticky sessions move to others ({held} came with its cookie)"


def _capacity(name: str, members: Sequence[Backend], there: WrittenService) -> Iterator[str]:
    """Say how the weights together change: what the rest has to carry."""
    was = sum(one.full_weight for one in members if one.state == "enabled")
    backends = there.config.backends
    now = sum(one.weight for one in backends if one.state == "enabled")
    if was and backends and abs(now - was) / was > 0.005:
        word = "falls" if now < was else "grows"
        yield f"the capacity of {name} {word} by {abs(now - was) / was:.0%} (weights together: {was} before, {now} then)"


def _moved(name: str, before: WrittenService, after: WrittenService) -> Iterator[str]:
    old = {one.id: one for one in before.config.backends}
    for one in after.config.backends:
        was = old.get(one.id)
        if was is not None and was.url != one.url:
            yield f"{name_backend(name, one.id)} is another server then ({one.url}): what is known of it begins anew"
    sticky = before.config.sticky.cookie, after.config.sticky.cookie
    if sticky[0] is not None and sticky[0] != sticky[1]:
        yield f"{name}: sticky sessions begin anew, for the cookie has another name"
    if before.config.strategy != after.config.strategy and "consistent_hash" in (before.config.strategy, after.config.strategy):
        yield f"{name}: most keys go to another backend than before, for the strategy is another"


# ---- what may be wrong with it ----


def _warnings(edge: Edge, config: Config) -> Iterator[str]:
    for service in config.all_services():
        if service.config.health.type == "none" and service.config.backends:
            yield f"{service.name}: health.type is none, so a backend that is down is found by requests that fail"
        known = edge.services[service.name].pool.backends if service.name in edge.services else ()
        members = {one.spec.entry[0]: one for one in known}
        for one in service.config.backends:
            cap, member = _cap(service, one), members.get(one.id)
            if cap is not None and member is not None and (open_now := member.in_flight()) > cap:
                yield f"{member.spec.name}: {open_now} are in flight, more than the cap of {cap}: new ones wait or get 503"


def _cap(service: WrittenService, one: BackendConfig) -> int | None:
    cap = one.max_in_flight if one.max_in_flight is not None else service.config.limits.in_flight_per_backend
    return cap if isinstance(cap, int) else None


# ---- the expected shares ----


def _shares(edge: Edge, config: Config) -> dict[str, Any]:
    """Say how each service would share out what it was asked in the last minute; by its weights where nothing was."""
    jobs = {service.name: gevent.spawn(_shares_of, edge, service) for service in config.all_services() if service.config.backends}
    gevent.joinall(list(jobs.values()), timeout=WAIT_S + 5.0)
    return {name: job.value for name, job in jobs.items() if job.value is not None}


def _shares_of(edge: Edge, service: WrittenService) -> dict[str, Any]:
    members = list(edge.services[service.name].pool.backends) if service.name in edge.services else []
    per_s, mean_s = _measured(edge, members)
    backends = [one for one in service.config.backends if one.state == "enabled" and one.weight]
    if per_s and 1 < len(backends) <= MOST_BACKENDS:
        found = _simulated(scenario(service, backends, per_s, mean_s))
        if found is not None:
            return {"by": "simulation", "requests_per_s": round(per_s, 3), "ratios": found}
    total = sum(one.weight for one in backends)
    return {"by": "weights", "requests_per_s": round(per_s, 3), "ratios": {one.id: one.weight / total for one in backends}}


def _measured(edge: Edge, members: Sequence[Backend]) -> tuple[float, Mapping[str, float]]:
    """Return how many requests a second came lately, and how long each backend's answers took, by its id."""
    since = edge.recent.since()
    window_s = max(edge.now() - (edge.started_at if since is None else since), 1.0)
    requests, mean_s = 0.0, {}
    for member in members:
        _, lately = edge.recent.count(member)
        requests += lately.requests
        median = quantile(0.5, lately.latencies)
        if median is not None:
            mean_s[member.spec.entry[0]] = max(median, 0.0005)
        give_way()
    return requests / window_s, mean_s


def scenario(
    service: WrittenService, backends: Sequence[BackendConfig], per_s: float, mean_s: Mapping[str, float]
) -> dict[str, Any]:
    """Make what the simulator is asked. Who is new is taken for as quick as the others are on average."""
    usual = sum(mean_s.values()) / len(mean_s) if mean_s else 0.01
    per_s = min(per_s, MOST_SIMULATED / SIMULATED_S)
    return {
        "strategy": service.config.strategy,
        "hash": service.config.hash.model_dump(mode="json"),
        "backends": [
            {"id": one.id, "url": f"http://b{number}.invalid", "weight": one.weight} for number, one in enumerate(backends)
        ],
        "simulate": {
            "title": service.name,
            "duration_s": SIMULATED_S,
            "warmup_s": 0,
            "arrivals": {"per_s": per_s},
            "backend": {"service": {"kind": "exponential"}, "slots": 1_000, "probes": "good"},
            "backends": [{"id": one.id, "service": {"mean_s": mean_s.get(one.id, usual)}} for one in backends],
        },
    }


def _simulated(document: Mapping[str, Any]) -> dict[str, float] | None:
    """Run the simulator; None where it does not know the strategy, or takes too long."""
    strategy = str(document["strategy"])
    command = [sys.executable, "-m", "smartedge", "simulate", "/dev/stdin", "--json", "--strategy", strategy]
    try:
        done = subprocess.run(
            command, input=json.dumps(document).encode(), capture_output=True, timeout=WAIT_S, check=True, close_fds=True
        )
        (run,) = json.loads(done.stdout)["strategies"]
        return {str(name): float(ratio) for name, ratio in run["shares"].items()}
    except (OSError, ValueError, KeyError, TypeError, subprocess.SubprocessError):
        return None
