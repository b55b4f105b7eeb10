"""The page of the history: the last 15 minutes of backends and services, in steps of five seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from flask import Response, request

from smartedge.admin.named import check_service, find_backend
from smartedge.admin.page import READ, Page
from smartedge.balancer.errors import ClientError
from smartedge.edge.edge import Edge
from smartedge.observe.history_table import EVERY_S, POINTS, Series
from smartedge.workers.periodic import give_way

BRIEF: Final = ("requests", "failed", "p50_s", "p99_s")
"""What is told of every backend where none was asked for."""

PIECE: Final = 5
"""Backends that are written at a stretch, about a millisecond."""


def history_pages(edge: Edge) -> tuple[Page, ...]:
    """Return the page of the history."""

    def history() -> Response:
        service, backend, points = request.args.get("service"), request.args.get("backend"), _points(request.args.get("points"))
        last = edge.chronicle.history.last_tick
        if backend is not None:
            meant = find_backend(edge, backend, service)
            asked = [(one.spec.service, one.id, one.key) for one in meant.backends]
            services = [meant.service]
        else:
            if service is not None:
                check_service(edge, service)
            services = [service] if service is not None else list(edge.services)
            asked = [(one.spec.service, one.id, one.key) for one in edge.backends() if one.spec.service in services]
        fields = Series._fields if backend is not None else BRIEF
        head = {"every_s": EVERY_S, "from": (last - points + 1) * EVERY_S, "points": points}

        def of(key: str, fields: tuple[str, ...]) -> dict[str, Any]:
            series = edge.chronicle.history.read(key, points, last)
            return {} if series is None else {field: getattr(series, field) for field in fields}

        def series() -> Iterator[tuple[str, Any]]:
            for number, (name, id_, key) in enumerate(asked):
                yield f"{name}/{id_}", of(key, fields)
                if number % PIECE == PIECE - 1:
                    give_way()

        wholes = {name: of(name, Series._fields) for name in services}
        text = f'{_json(head)[:-1]},"services":{_json(wholes)},"series":{{'
        text += ",".join(f"{_json(name)}:{_json(one)}" for name, one in series()) + "}}\n"
        body = text.encode("utf-8", "backslashreplace")
        return Response(body, 200, {"Cache-Control": "no-store"}, content_type="application/json")

    return (Page("/smartedge/history", READ, False, history),)


_json: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def _points(text: str | None) -> int:
    """Read how many of the newest ticks are wanted."""
    if text is None:
        return POINTS
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= POINTS:
        raise ClientError(f"points must be a whole number from 1 to {POINTS}.")
    return int(text)
