"""What the page in the browser shows: a compact document of the whole edge, made at most twice a second and shared by all pages.

`/api/status` says more, and says it anew to everybody; this one is for pages that ask all the time. A backend is a row whose
members COLUMNS names; the row is made of the few cells that it needs, not of sums over all.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flask import Response, request
from gevent.lock import RLock

from smartedge.admin.page import READ, Page, read_flag
from smartedge.admin.status import Document, certificate_document, source_documents, uptime_s, window_s
from smartedge.balancer.backend import Backend
from smartedge.balancer.cells import CODE_CELLS, QUEUED, quantile
from smartedge.balancer.drowning import drowning
from smartedge.balancer.learned import Learned
from smartedge.edge.edge import Edge
from smartedge.observe.recent import Counted
from smartedge.proxy.service import Service
from smartedge.workers.periodic import give_way

FRESH_S: Final = 0.5
"""A document is given to whoever asks for so long at least; what an operator does is asked for anew (`?fresh=true`)."""

LEAST_REST: Final = 20
"""It is given for so many times as long as making it took: thousands of backends, or a busy worker, are looked at more rarely."""

PIECE: Final = 25
"""Backends that are looked at before other requests may go on; about a millisecond."""

COLUMNS: Final = (
    "service",
    "id",
    "url",
    "state",
    "health",
    "breaker",
    "why_not",
    "ejected_s",
    "weight",
    "effective_weight",
    "share_ratio",
    "in_flight",
    "max_in_flight",
    "requests",
    "failed",
    "requests_per_s",
    "failed_per_s",
    "p50_s",
    "p99_s",
    "ewma_s",
    "check_ok",
    "check_status",
    "check_detail",
    "check_at",
    "check_took_s",
    "zone",
    "discovered",
)
"""What a row holds, as `/api/status` has it: share, rates and latencies are those of about the last minute."""


class Made(NamedTuple):
    """A document as it is sent. at: when its making began, on the edge's clock."""

    at: float
    plain: bytes
    gzipped: bytes


class LiveDocument:
    """The newest document of this worker; owned by its admin pages, asked by `/smartedge/live` and the page without JavaScript.

    Whoever comes while it is being made waits for that one. made: how often it was, took_s: seconds that the last time took.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._lock = RLock()
        self._newest: Made | None = None
        self.made = 0
        self.took_s = 0.0

    def newest(self, *, fresh: bool = False) -> Made:
        """Return a document that is not old; fresh: one whose making begins after this call."""
        asked = self._edge.now()
        with self._lock:
            newest = self._newest
            if newest is None or newest.at <= (asked if fresh else asked - max(FRESH_S, LEAST_REST * self.took_s)):
                newest = self._newest = self._make()
            return newest

    def _make(self) -> Made:
        at = self._edge.now()
        head, rows = live_document(self._edge)
        zipped = zlib.compressobj(1, wbits=31)
        plain, gzipped = [], []
        # Backends last, written in pieces: with hundreds of them the text takes as long as the reading.
        pieces = [_encode(head)[:-1] + ',"backends":[']
        pieces += [",\n".join(map(_encode, rows[start : start + PIECE])) for start in range(0, len(rows), PIECE)]
        for number, piece in enumerate(pieces):
            data = (",\n" if number > 1 else "").encode() + piece.encode("utf-8", "backslashreplace")
            plain.append(data)
            gzipped.append(zipped.compress(data))
            give_way()
        gzipped += [zipped.compress(b"]}\n"), zipped.flush()]
        self.made += 1
        self.took_s = self._edge.now() - at
        return Made(at, b"".join((*plain, b"]}\n")), b"".join(gzipped))


_encode: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode


def live_pages(live: LiveDocument) -> tuple[Page, ...]:
    """Return the page of the live document."""

    def live_page() -> Response:
        made = live.newest(fresh=read_flag("fresh"))
        headers = {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
        if request.accept_encodings["gzip"] > 0:
            return Response(made.gzipped, 200, headers | {"Content-Encoding": "gzip"}, content_type="application/json")
        return Response(made.plain, 200, headers, content_type="application/json")

    return (Page("/smartedge/live", READ, False, live_page),)


def live_document(edge: Edge) -> tuple[Document, list[list[Any]]]:
    """Return the edge, its services, and apart from them a row for each backend."""
    edge.meet_workers()
    now, window, config, workers = edge.now(), window_s(edge), edge.config, edge.workers()
    all_services = config.all_services()
    sources = source_documents(edge) if any(one.config.discover for one in all_services) else {}
    services: dict[str, Document] = {}
    rows: list[list[Any]] = []
    everywhere: list[Counted] = []
    for written in all_services:
        if (service := edge.services.get(written.name)) is None:
            continue
        ids = {backend.id for backend in written.config.written.backends}
        own, lately = _rows(edge, service, ids, now, window)
        services[written.name] = _service(service, own, lately, now, window) | {
            "strategy": written.config.strategy,
            "discovery": sources.get(written.name, ()),
        }
        rows += own
        everywhere += lately
    head = {
        "at": round(time.time(), 3),
        "version": edge.version,
        "generation": edge.generation,
        "draining": edge.draining,
        "uptime_s": uptime_s(workers),
        "workers": [dict(worker) for worker in workers],
        "cluster": _cluster(edge),
        "certificates": [certificate_document(one) for one in edge.tls.certificates],
        "may_not_operate": _why_not_operate(edge),
        "sample_ratio": config.explain.sample_ratio,
        "totals": {
            "requests": sum(row[_REQUESTS] for row in rows),
            "answered_by_edge": _answered(edge.edge_row) + sum(one["answered_by_edge"] for one in services.values()),
            "failed": sum(row[_FAILED] for row in rows),
            "in_flight": sum(row[_IN_FLIGHT] for row in rows),
            "available": sum(row[_WHY_NOT] in _AVAILABLE for row in rows),
            "backends": len(rows),
        },
        "recent": _rates(everywhere, window),
        "services": services,
        "columns": COLUMNS,
    }
    return head, rows


_REQUESTS, _FAILED, _IN_FLIGHT, _WHY_NOT = map(COLUMNS.index, ("requests", "failed", "in_flight", "why_not"))
_HEALTH: Final = COLUMNS.index("health")
_AVAILABLE: Final = frozenset({None, "full"})
"""One that is full now is in service."""


def _rows(edge: Edge, service: Service, written: set[str], now: float, window: float) -> tuple[list[list[Any]], list[Counted]]:
    backends = service.pool.backends
    service.pool.candidates(now)  # this brings the effective weights up to date
    lately, counts = [], []
    for number, backend in enumerate(backends):
        total, gained = edge.recent.count(backend)
        counts.append(total)
        lately.append(gained)
        if number % PIECE == PIECE - 1:
            give_way()
    answered = sum(one.requests for one in lately)
    rows = []
    for number, (backend, total, gained) in enumerate(zip(backends, counts, lately, strict=True)):
        rows.append(_row(edge, backend, total, gained, answered, now, window, backend.spec.entry[0] not in written))
        if number % PIECE == PIECE - 1:
            give_way()
    return rows, lately


def _row(
    edge: Edge, backend: Backend, total: Counted, gained: Counted, answered: float, now: float, window: float, found: bool
) -> list[Any]:
    learned, spec, why_not = backend.learned, backend.spec, backend.why_not(now)
    check = learned.last_probe
    return [
        spec.service,
        backend.id,
        backend.url,
        backend.state,
        learned.health.state,
        learned.breaker.state,
        why_not,
        round(learned.breaker.next_change_at(now) - now, 1) if why_not == "breaker_open" else None,
        backend.full_weight,
        round(backend.weight_at(now), 3),
        round(gained.requests / answered, 4) if answered else 0.0,
        backend.in_flight(),
        backend.cap(),
        int(total.requests),
        int(total.failed),
        _rate(gained.requests, window),
        _rate(gained.failed, window),
        _rounded(quantile(0.5, gained.latencies)),
        _rounded(quantile(0.99, gained.latencies)),
        round(learned.ewma.mean_s, 6),
        *(
            (None, None, None, None, None)
            if check is None
            else (check.ok, check.status, check.detail, round(edge.unix_time(learned.last_probe_at), 1), round(check.took_s, 4))
        ),
        spec.zone,
        found,
    ]


def _service(service: Service, rows: Sequence[list[Any]], lately: Sequence[Counted], now: float, window: float) -> Document:
    pool = service.pool
    candidates = pool.candidates(now)
    found = drowning(pool.row)
    return {
        "status": "ok" if candidates else "no_backend",
        "up": sum(row[_HEALTH] == "healthy" for row in rows),
        "available": sum(row[_WHY_NOT] in _AVAILABLE for row in rows),
        "total": len(rows),
        "panic": any(backend.why_not(now) == "breaker_open" for backend in candidates),
        "drowning": None if found is None else {"usual_s": round(found.usual_s, 6), "now_s": round(found.now_s, 6)},
        "waiting": int(sum(row[QUEUED] for row in pool.row.rows)),
        "in_flight": sum(row[_IN_FLIGHT] for row in rows),
        "requests": sum(row[_REQUESTS] for row in rows),
        "answered_by_edge": _answered(pool.row),
        "recent": _rates(lately, window),
    }


def _answered(row: Learned) -> int:
    """Return how many requests were answered for this row, in all workers."""
    return sum(sum(one[CODE_CELLS].tolist()) for one in row.rows)


def _rates(lately: Sequence[Counted], window: float) -> Document:
    latencies = [sum(counts) for counts in zip(*(one.latencies for one in lately), strict=True)]
    return {
        "requests_per_s": _rate(sum(one.requests for one in lately), window),
        "failed_per_s": _rate(sum(one.failed for one in lately), window),
        "p50_s": _rounded(quantile(0.5, latencies)),
        "p99_s": _rounded(quantile(0.99, latencies)),
    }


def _cluster(edge: Edge) -> Document | None:
    """Say how the cluster is, and each of its nodes."""
    if edge.cluster is None:
        return None
    cards = edge.cluster.news.newest.cards
    members = ("node", "generation", "version", "draining", "workers", "backends", "refused")
    return edge.cluster.document() | {
        "cards": [{key: cards[name][key] for key in members if key in cards[name]} for name in sorted(cards)]
    }


def _why_not_operate(edge: Edge) -> str | None:
    """Say why nothing can be operated now; None while it can."""
    if edge.cluster is not None and edge.cluster.news.newest.state != "live":
        return "etcd"
    return None


def _rate(count: float, window: float) -> float:
    return round(count / window, 3) if window > 0 else 0.0


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)
