"""Metrics: names, help and labels in one table; the values are read from a snapshot when somebody scrapes.

Nothing is counted here: the hot path adds to cells of the board, and a scrape adds those up over all workers.
Names follow https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from itertools import accumulate, chain
from operator import sub
from typing import Any, Final, NamedTuple, get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily

from smartedge.admin.readings import (
    NONE,
    BackendReading,
    Buckets,
    ClusterReading,
    Column,
    Samples,
    Snapshot,
    SourceReading,
    Summed,
    WorkerReading,
    codes_of,
    labels_text,
)
from smartedge.balancer.breaker import BreakerState
from smartedge.balancer.cells import (
    ABANDONED,
    BYTES_IN,
    BYTES_OUT,
    CODE_CELLS,
    CONNECT_SUM,
    CONNECTS,
    DURATION_BOUNDS_S,
    DURATION_CELLS,
    DURATION_SUM,
    EJECTED,
    FAILED,
    HANDSHAKES,
    HANDSHAKES_FAILED,
    HANDSHAKES_RESUMED,
    HEDGES,
    HEDGES_WON,
    HTTP2_REQUESTS,
    IN_FLIGHT,
    LATENCY_BOUNDS_S,
    LATENCY_CELLS,
    LATENCY_SUM,
    LEASES,
    LOG_LINES_LOST,
    MIRRORED,
    MIRRORS_DROPPED,
    OBSERVED,
    OUTRUN,
    QUEUE_REFUSED,
    QUEUE_WAIT_SUM,
    QUEUE_WAITS,
    QUEUED,
    RATE_LIMITED,
    RETRIES,
    SPANS_LOST,
    SPANS_SENT,
    STRATEGY_FALLBACKS,
    TIER_0,
    TIER_1,
    TIER_2,
    TIER_3,
    TUNNELS,
    code_cell,
)
from smartedge.balancer.lease import REASON_CELLS
from smartedge.balancer.spec import STATES
from smartedge.edge.client_counters import EXCESS_CELLS

LATENCY_STEP: Final = 2
"""Every second bound is exported: doubling from 100 µs, or every backend would have 41 series for its latency alone."""

COARSE_BOUNDS_S: Final = LATENCY_BOUNDS_S[::LATENCY_STEP]


class Line(NamedTuple):
    """A line of the table. kind: a *MetricFamily. read: gives the labels, in this order, and the value of every series."""

    name: str
    kind: type[Any]
    help: str
    labels: Sequence[str]
    read: Callable[[Snapshot], Samples]


def each(read: Callable[[BackendReading], float]) -> Callable[[Snapshot], Samples]:
    """Read one number of each backend."""
    return lambda snapshot: [Column([read(backend) for backend in snapshot.backends])]


def backend(cell: int) -> Callable[[Snapshot], Samples]:
    """Read one cell of each backend."""
    return lambda snapshot: [column(snapshot, cell)]


def column(snapshot: Snapshot, cell: int, label: str = "") -> Column:
    """Read one cell of each backend, as series with this label besides."""
    return Column([backend.cells[cell] for backend in snapshot.backends], label)


def every(cell: int) -> Callable[[Snapshot], Samples]:
    """Read one cell of each backend, of each service and of the edge itself."""
    return lambda snapshot: [column(snapshot, cell), *((labels, cells[cell]) for labels, cells in snapshot.own_rows())]


def service(cell: int) -> Callable[[Snapshot], Samples]:
    """Read one cell of each service."""
    return lambda snapshot: [(service_labels(one.name), one.cells[cell]) for one in snapshot.services]


def every_service(cell: int) -> Callable[[Snapshot], Samples]:
    """Read one cell of each service, and of the edge itself."""
    return lambda snapshot: [*service(cell)(snapshot), (service_labels(NONE), snapshot.edge[cell])]


def service_labels(name: str) -> str:
    """Write what tells a service's series from those of others."""
    return labels_text(S, (name,))


def _drowning(snapshot: Snapshot) -> Samples:
    return [(service_labels(one.name), one.drowning) for one in snapshot.services]


def _in_flight(snapshot: Snapshot) -> Samples:
    counts = {one.name: 0.0 for one in snapshot.services}
    for one in snapshot.backends:
        counts[one.service] = counts.get(one.service, 0) + one.cells[IN_FLIGHT]
    return [(service_labels(name), count) for name, count in counts.items()]


def edge(read: Callable[[Snapshot], float]) -> Callable[[Snapshot], Samples]:
    """Read one number of the whole edge."""
    return lambda snapshot: [("", read(snapshot))]


def source(read: Callable[[SourceReading], float]) -> Callable[[Snapshot], Samples]:
    """Read one number of each source of discovery."""
    return lambda snapshot: [(labels_text(D, (one.service, one.source)), read(one)) for one in snapshot.sources]


def worker(read: Callable[[WorkerReading], float | None]) -> Callable[[Snapshot], Samples]:
    """Read one number of each worker that has it."""
    return lambda snapshot: [
        (labels_text(W, (str(one.slot),)), value) for one in snapshot.workers if (value := read(one)) is not None
    ]


def cluster(read: Callable[[ClusterReading], float]) -> Callable[[Snapshot], Samples]:
    """Read one number of the cluster, if there is one."""
    return lambda snapshot: [] if snapshot.cluster is None else [("", read(snapshot.cluster))]


def _requests(snapshot: Snapshot) -> Samples:
    backends = ((backend.labels, backend.codes) for backend in snapshot.backends)
    for labels, codes in chain(backends, ((labels, codes_of(cells)) for labels, cells in snapshot.own_rows())):
        yield from [(labels.with_label(code), count) for code, count in codes]


def _answered(backend: BackendReading) -> float:
    return sum(count for _, count in backend.codes)


def _tunnels(snapshot: Snapshot) -> Samples:
    return [column(snapshot, code_cell(101))]


def _durations(snapshot: Snapshot) -> Samples:
    backends = ((backend.labels, backend.cells) for backend in snapshot.backends)
    for labels, cells in chain(backends, snapshot.own_rows()):
        yield labels, Buckets(DURATION_BOUNDS_S, list(accumulate(cells[DURATION_CELLS])), cells[DURATION_SUM])


def _latencies(snapshot: Snapshot) -> Samples:
    for backend in snapshot.backends:
        cumulative = list(accumulate(backend.cells[LATENCY_CELLS]))
        coarse = [*cumulative[:-1:LATENCY_STEP], cumulative[-1]]
        yield backend.labels, Buckets(COARSE_BOUNDS_S, coarse, backend.cells[LATENCY_SUM])


def _failures(snapshot: Snapshot) -> Samples:
    columns = [column(snapshot, cell, f'reason="{reason}"') for reason, cell in REASON_CELLS.items()]
    named = map(sum, zip(*(one.values for one in columns), strict=True))
    others = map(sub, column(snapshot, FAILED).values, named)
    return [*columns, Column([max(0, count) for count in others], 'reason="other"')]


def _connects(snapshot: Snapshot) -> Samples:
    return [(backend.labels, Summed(backend.cells[CONNECTS], backend.cells[CONNECT_SUM])) for backend in snapshot.backends]


def _waits(snapshot: Snapshot) -> Samples:
    return [(service_labels(one.name), Summed(one.cells[QUEUE_WAITS], one.cells[QUEUE_WAIT_SUM])) for one in snapshot.services]


def _handshakes(snapshot: Snapshot) -> Samples:
    done, resumed = snapshot.edge[HANDSHAKES], snapshot.edge[HANDSHAKES_RESUMED]
    counts = {"full": done - resumed, "resumed": resumed, "failed": snapshot.edge[HANDSHAKES_FAILED]}
    return [(f'outcome="{outcome}"', count) for outcome, count in counts.items()]


def _protocols(snapshot: Snapshot) -> Samples:
    counted = sum(sum(cells[CODE_CELLS]) for _, cells in snapshot.own_rows())
    counted += sum(_answered(backend) for backend in snapshot.backends)
    by_http2 = snapshot.edge[HTTP2_REQUESTS]
    return [('protocol="HTTP/1"', max(0, counted - by_http2)), ('protocol="HTTP/2"', by_http2)]


def _excesses(snapshot: Snapshot) -> Samples:
    return [(f'kind="{kind}"', snapshot.edge[cell]) for kind, cell in EXCESS_CELLS.items()]


def _certificates(snapshot: Snapshot) -> Samples:
    for one in snapshot.certificates:
        yield from [(labels_text(("file", "name"), (one.files.cert_file, name)), one.expires_at) for name in one.names]


def _breakers(snapshot: Snapshot) -> Samples:
    found = [backend.breaker for backend in snapshot.backends]
    return [Column([1 if one == state else 0 for one in found], f'state="{state}"') for state in get_args(BreakerState)]


def _states(snapshot: Snapshot) -> Samples:
    found = [backend.state for backend in snapshot.backends]
    return [Column([1 if one == state else 0 for one in found], f'state="{state}"') for state in STATES]


def _probes(snapshot: Snapshot) -> Samples:
    return [(backend.labels, backend.last_probe_at) for backend in snapshot.backends if backend.last_probe_at is not None]


def _caps(snapshot: Snapshot) -> Samples:
    return [(backend.labels, backend.max_in_flight) for backend in snapshot.backends if backend.max_in_flight is not None]


def _tiers(snapshot: Snapshot) -> Samples:
    counts: dict[tuple[str, str, str], float] = {}
    for backend in snapshot.backends:
        for number, cell in enumerate((TIER_0, TIER_1, TIER_2, TIER_3)):
            if count := backend.cells[cell]:
                labels = backend.service, backend.zone or NONE, str(number)
                counts[labels] = counts.get(labels, 0) + count
    return [(labels_text(TIER, labels), count) for labels, count in counts.items()]


def _cross_zone(snapshot: Snapshot) -> Samples:
    counts = {service.name: 0.0 for service in snapshot.services}
    for backend in snapshot.backends:
        if backend.crosses_zones:
            counts[backend.service] = counts.get(backend.service, 0.0) + _answered(backend)
    return [(service_labels(name), count) for name, count in counts.items()]


def _build(snapshot: Snapshot) -> Samples:
    return [(labels_text(("version", "python"), (snapshot.version, platform.python_version())), 1)]


C, G, H, T = CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, SummaryMetricFamily
S = ("service",)
W = ("slot",)
D = (*S, "source")
B = (*S, "backend")
TIER = (*S, "zone", "tier")

# fmt: off
TABLE: Final = (
    Line("smartedge_requests_total", C, "Client requests answered; the edge's own answers have backend=\"none\".",
         (*B, "code"), _requests),
    Line("smartedge_request_duration_seconds", H, "Time from a client's request to the last byte of its answer.",
         B, _durations),
    Line("smartedge_received_bytes_total", C, "Bytes of request bodies from clients.", B, every(BYTES_IN)),
    Line("smartedge_sent_bytes_total", C, "Bytes of answer bodies to clients.", B, every(BYTES_OUT)),
    Line("smartedge_retries_total", C, "Tries of a request after its first.", B, backend(RETRIES)),
    Line("smartedge_hedges_total", C, "Tries begun beside one that was late.", B, backend(HEDGES)),
    Line("smartedge_hedges_won_total", C, "Those of them whose answer came first.", B, backend(HEDGES_WON)),
    Line("smartedge_service_in_flight", G, "Leases of all backends of the service open now, in all workers.", S, _in_flight),
    Line("smartedge_queued_requests", G, "Requests that wait now because all backends are full or away.", S,
         service(QUEUED)),
    Line("smartedge_queue_wait_seconds", T, "Time that requests have waited in the queue, to whatever end.", S, _waits),
    Line("smartedge_queue_refused_total", C, "Requests that waited for a backend in vain, or found the queue full.", S,
         every_service(QUEUE_REFUSED)),
    Line("smartedge_rate_limited_total", C, "Requests refused because their client asks too often.", S,
         every_service(RATE_LIMITED)),
    Line("smartedge_mirrored_total", C, "Copies of requests that went to another service (a route's mirror).", (),
         edge(lambda s: s.edge[MIRRORED])),
    Line("smartedge_mirrors_dropped_total", C, "Copies not sent: too many were under way, or the body had not been kept.", (),
         edge(lambda s: s.edge[MIRRORS_DROPPED])),
    Line("smartedge_strategy_fallbacks_total", C, "Picks by round robin because a strategy of the user's own failed.", S,
         every_service(STRATEGY_FALLBACKS)),
    Line("smartedge_log_lines_lost_total", C, "Lines of log and console that nobody read, or no disk had room for.",
         (), edge(lambda s: s.edge[LOG_LINES_LOST])),
    Line("smartedge_spans_total", C, "Spans of recorded traces: taken by the collector, or lost: no room, no answer, refused.",
         ("outcome",), lambda s: [('outcome="sent"', s.edge[SPANS_SENT]), ('outcome="lost"', s.edge[SPANS_LOST])]),
    Line("smartedge_backend_latency_seconds", H, "Time from a request sent to the first byte of the answer.",
         B, _latencies),
    Line("smartedge_backend_up", G, "1 if the backend's probes call it healthy.", B, each(lambda b: int(b.healthy))),
    Line("smartedge_backend_in_flight", G, "Leases open now, in all workers.", B, backend(IN_FLIGHT)),
    Line("smartedge_backend_max_in_flight", G, "Most leases at once, where there is a cap; an adaptive one moves.", B, _caps),
    Line("smartedge_tunnels_total", C, "Connections switched to another protocol, such as WebSocket.", B, _tunnels),
    Line("smartedge_backend_open_tunnels", G, "Such connections open now, in all workers; in_flight counts them too.",
         B, backend(TUNNELS)),
    Line("smartedge_backend_leases_total", C, "Uses of the backend, retries too.", B, backend(LEASES)),
    Line("smartedge_backend_failures_total", C, "Leases that failed, by the backend's fault: no connection, silence for too long,"
         " closed before an answer, no good HTTP, a status that is a failure.", (*B, "reason"), _failures),
    Line("smartedge_backend_abandoned_total", C, "Leases that ended because the client left, or the answer was of no more use.",
         B, backend(ABANDONED)),
    Line("smartedge_backend_outrun_total", C, "Leases that ended because a try begun later had its answer first.",
         B, backend(OUTRUN)),
    Line("smartedge_tier_requests_total", C, "Tries by the zone that they went to, and by its tier, 0 the nearest, 3 any farther"
         " than 2; where locality is set.", TIER, _tiers),
    Line("smartedge_cross_zone_requests_total", C, "Client requests answered from another zone than the edge's, if it has one.",
         S, _cross_zone),
    Line("smartedge_backend_connections_total", C, "Connections opened to the backend.", B, backend(CONNECTS)),
    Line("smartedge_backend_connect_seconds", T, "Time that new connections to the backend took, without TLS.", B, _connects),
    Line("smartedge_backend_ewma_seconds", G, "Mean latency, peak-sensitive, as last learned.", B, each(lambda b: b.ewma_s)),
    Line("smartedge_backend_weight", G, "Weight: the operator's, else that of the configuration.", B, each(lambda b: b.weight)),
    Line("smartedge_backend_breaker_state", G, "1 for the state that the backend's breaker is in.",
         (*B, "state"), _breakers),
    Line("smartedge_backend_state", G, "1 for what the operator wants of the backend.", (*B, "state"), _states),
    Line("smartedge_backend_ejections_total", C, "Times that the backend's breaker was opened.", B, backend(EJECTED)),
    Line("smartedge_backend_observed_ejections_total", C, "Times that it would have been, but for observe.",
         B, backend(OBSERVED)),
    Line("smartedge_last_probe_timestamp_seconds", G, "When the backend's last probe ended, in Unix time.", B, _probes),
    Line("smartedge_drowning", G, "1 while all backends take far longer than usual: there is more to do than they can.", S,
         _drowning),
    Line("smartedge_tls_handshakes_total", C, "TLS handshakes of the edge's own server with clients: full, resumed, or failed.",
         ("outcome",), _handshakes),
    Line("smartedge_client_requests_total", C, "Client requests answered, by the protocol that they came by.", ("protocol",),
         _protocols),
    Line("smartedge_excess_connections_total", C, "Connections of HTTP/2 ended for too much of what is no work.",
         ("kind",), _excesses),
    Line("smartedge_certificate_expires_timestamp_seconds", G, "When a certificate that clients are shown expires, in Unix time.",
         ("file", "name"), _certificates),
    Line("smartedge_discovery_age_seconds", G, "Time since a source of discovery last gave a good answer.", D,
         source(lambda s: s.age_s)),
    Line("smartedge_discovery_errors_total", C, "Answers of a source, and entries in them, that could not be used.", D,
         source(lambda s: s.errors)),
    Line("smartedge_discovery_backends", G, "Backends in use that a source has found.", D, source(lambda s: s.backends)),
    Line("smartedge_generation", G, "Number of the configuration in use.", (), edge(lambda s: s.generation)),
    Line("smartedge_cluster_live", G, "1 while the cluster's etcd is heard of, 0 while the node goes by what it knew.", (),
         cluster(lambda c: c.is_live)),
    Line("smartedge_cluster_age_seconds", G, "For how long the cluster has not been heard of; 0 while it is.", (),
         cluster(lambda c: c.age_s)),
    Line("smartedge_cluster_generation", G, "Number of the configuration that the cluster has, in use here or not.", (),
         cluster(lambda c: c.generation)),
    Line("smartedge_cluster_refused", G, "1 while this node cannot use the cluster's configuration, and serves on with another.",
         (), cluster(lambda c: c.refuses)),
    Line("smartedge_cluster_nodes", G, "Nodes of the cluster that are alive.", (), cluster(lambda c: c.nodes)),
    Line("smartedge_workers", G, "Worker processes that are alive.", (), edge(lambda s: len(s.workers))),
    Line("smartedge_start_time_seconds", G, "When the oldest worker started, in Unix time.", (),
         edge(lambda s: min(worker.started_at for worker in s.workers))),
    Line("smartedge_worker_leads", G, "1 for the worker that does what one does for all, such as to probe.", W,
         worker(lambda w: w.leads)),
    Line("smartedge_worker_generation", G, "Number of the configuration that the worker uses.", W,
         worker(lambda w: w.generation)),
    Line("smartedge_worker_loop_lag_seconds", G, "Longest delay of the worker's loop in the last 15 to 30 s.", W,
         worker(lambda w: w.loop_lag_s)),
    Line("smartedge_worker_cpu_seconds_total", C, "Processor time, user and system, that the worker has taken.", W,
         worker(lambda w: w.cpu_s)),
    Line("smartedge_worker_resident_memory_bytes", G, "Memory of the worker that is resident.", W,
         worker(lambda w: w.memory_bytes)),
    Line("smartedge_worker_start_time_seconds", G, "When the worker started, in Unix time.", W,
         worker(lambda w: w.started_at)),
    Line("smartedge_build_info", G, "1, with the versions as labels.", ("version", "python"), _build),
)
# fmt: on
