"""An edge as the admin pages ask it, and a client of them; a problem as they answer it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import flask
from flask.testing import FlaskClient
from werkzeug.routing import BaseConverter
from werkzeug.test import TestResponse

from smartedge.admin.blueprint import make_admin
from smartedge.admin.one_way_rule import OneWayRule
from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import OK, latency_cell
from smartedge.balancer.health import ProbeResult
from smartedge.balancer.learned import Learned
from smartedge.balancer.near_first import Locality, NearFirst
from smartedge.balancer.pool import Pool
from smartedge.balancer.strategies.menu import STRATEGIES
from smartedge.config.model import Config, parse
from smartedge.config.services import WrittenService
from smartedge.discovery.source_health import SourceHealth
from smartedge.edge.origin import ConfigOrigin
from smartedge.edge.reload_errors import PreconditionFailed
from smartedge.edge.reload_report import Applied
from smartedge.edge.rollouts import Rollouts
from smartedge.http.server_tls import ServerTls
from smartedge.observe.decisions import Decisions
from smartedge.observe.event_feed import EventFeed
from smartedge.observe.history import History
from smartedge.observe.recent import Recent
from tests.fakes import local_client
from tests.house import Told

TWO = {"backends": [{"url": "http://localhost:8081", "id": "b1", "zone": "eu"}, {"url": "http://localhost:8082", "id": "b2"}]}


SITE = {
    "services": {
        "web": {"backends": [{"url": "http://localhost:8081", "id": "b1"}, {"url": "http://localhost:8082", "id": "b2"}]},
        "api": {
            "strategy": "ewma",
            "backends": [
                {"url": "http://localhost:8081", "id": "b1", "zone": "eu"},
                {"url": "http://localhost:8083", "id": "10.0.0.5"},
            ],
        },
    },
    "routes": [{"path": "/api", "to": "api"}, {"to": "web"}],
}
"""Two services that have a server, and its id, in common."""

NOTHING = Applied(parse(json.dumps(TWO)), 17, False, "", (), (), (), (), (), 0.0, True)
"""A reload that would change nothing."""


WORKER = {
    "slot": 0,
    "pid": 4711,
    "leader": True,
    "generation": 17,
    "uptime_s": 60.0,
    "started_at": 1.75e9 - 60.0,
    "loop_lag_s": 0.002,
}
"""The one worker that there is."""


class SmallService:
    """What the pages ask a service for."""

    def __init__(self, written: WrittenService, locality: Locality | None) -> None:
        backends = [Backend(spec, Learned(spec)) for spec in written.config.specs(written.name)]
        near = None if locality is None else NearFirst(locality, STRATEGIES["round_robin"])
        self.pool = Pool(backends, STRATEGIES["round_robin"](), random.Random(1), near=near)


class SmallEdge:
    """The parts that the admin pages ask, real but for the reload, which only changes the configuration."""

    version = "0.1.0"

    def __init__(self, near_first: Locality | None = None, **config: Any) -> None:
        self.config = parse(json.dumps(config if "services" in config else TWO | config))
        self.services = {one.name: SmallService(one, near_first) for one in self.config.all_services()}
        self.pool = next(iter(self.services.values())).pool
        self.pool.backends[0].learned.keep_probe(1000.0, ProbeResult(True, 200, "status 200", 0.002))
        self.generation = 17
        self.sources: list[SourceHealth] = []
        self.draining = False
        self.cluster: Any = None
        self.tls = ServerTls()
        self.token: str | None = None
        self.edge_row = Learned()
        self.told = Told()
        self.announcer = self.told.announcer
        self.recent = Recent()
        self.started_at = 1000.0
        self.clock = 1060.0
        history = History(lambda: self.services, self.told.time, self.now)
        keys = [*self.services, *(backend.key for backend in self.backends())]
        history.join_workers(None, lambda key: keys.index(key) if key in keys else None)
        self.chronicle = SimpleNamespace(events=self.told.events, feed=EventFeed(self.told.events), history=history)
        self.origin = ConfigOrigin(None, {})
        preview = lambda text: (parse(text), NOTHING)  # noqa: E731
        self.rollouts = Rollouts(self, preview, history, self.announcer, self.told.time)  # type: ignore[arg-type]
        self.bodies: list[bytes | None] = []
        self.failure: Exception | None = None
        self.decisions = Decisions(0.0, random.Random(1), lambda _: False)
        self.all_workers: list[Mapping[str, Any]] = [WORKER]

    @property
    def discovery(self) -> SmallEdge:
        """Which sources are asked."""
        return self

    def healths(self) -> list[SourceHealth]:
        """How they are."""
        return self.sources

    def now(self) -> float:
        return self.clock

    def meet_workers(self) -> None:
        pass

    def backends(self) -> Iterator[Backend]:
        for service in self.services.values():
            yield from service.pool.backends

    def workers(self, *, counted: bool = True) -> Sequence[Mapping[str, Any]]:
        return self.all_workers

    def unix_time(self, at: float) -> float:
        return 1.75e9 - 1000.0 + at

    def request_id(self, environ: Mapping[str, Any]) -> str:
        return str(environ.get("HTTP_X_REQUEST_ID", "r-1"))

    @property
    def etag(self) -> str:
        return self.config.etag

    def apply(
        self, body: bytes | None, if_match: str | None = None, *, require_all: bool = False, by: str | None = None, **_: Any
    ) -> Result:
        self.asked_by = by
        self.bodies.append(body)
        self.require_all = require_all
        if self.failure:
            raise self.failure
        if if_match not in (None, f'"{self.config.etag}"'):
            raise PreconditionFailed(self.config.etag)
        config: Config = self.config if body is None else parse(body)
        changed, self.config = config != self.config, config
        self.generation += changed
        return Result(document={"generation": self.generation, "changed": changed, "etag": self.config.etag}, config=self.config)

    def drain(self, draining: bool, *, everywhere: bool = False) -> None:
        self.draining = draining
        self.everywhere = everywhere

    def backend(self, id_: str) -> Backend:
        return next(backend for backend in self.pool.backends if backend.id == id_)


@dataclass
class Result:
    status: int = 200
    document: Mapping[str, Any] = field(default_factory=dict)
    config: Config = parse(json.dumps(TWO))  # noqa: RUF009


class AnyPath(BaseConverter):
    regex = "(?s:.*?)"
    part_isolating = False


def forwarded(path: str = "") -> flask.Response:
    return flask.Response("forwarded", 299)


def client_of(edge: SmallEdge) -> FlaskClient:
    """A client on this machine; the app has a catch-all behind the admin pages, as the real one does."""
    app = flask.Flask("test", static_folder=None)
    app.url_map.converters["any"] = AnyPath
    app.url_map.merge_slashes = False
    app.register_blueprint(make_admin(edge))
    app.url_map.add(OneWayRule("/<any:path>", endpoint="forward", methods=None))
    app.view_functions["forward"] = forwarded
    return local_client(app)


def done(answer: TestResponse, status: int = 200) -> dict[str, Any]:
    """What it says; the test fails if it is not of this status."""
    assert answer.status_code == status, answer.text
    document: dict[str, Any] = answer.get_json()
    return document


def refused(answer: TestResponse, status: int) -> str:
    """Why not: the detail of a problem of this status."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    return str(answer.get_json(force=True)["detail"])


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    assert answer.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = answer.get_json(force=True)
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == "r-1"
    return document


def serve(backend: Backend, requests: int, code: int = 200, latency_s: float = 0.01) -> None:
    for _ in range(requests):
        backend.learned.add(latency_cell(latency_s))
        backend.learned.add(OK)
        backend.learned.count(code, latency_s, bytes_in=10, bytes_out=100)
