"""Makes the dashboards for Grafana: python deploy/grafana/make.py

Each is a list of rows of panels below; the rest of the JSON, which Grafana wants and nobody reads, is added here. Written for
Grafana 10 and later (schema version 39).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
"""Columns of Grafana's grid."""

EDGES = 'job=~"$job",instance=~"$instance"'
SERVICE = f'{EDGES},service=~"$service"'
BACKEND = f'{SERVICE},backend=~"$backend"'
FIVE = '"5.."'


@dataclass(frozen=True)
class Panel:
    """One panel. about: what it shows, for whoever hovers over it. queries: expression by legend. more: for Grafana as it is.

    links: where a click on a series leads, by title. exemplars: whether single requests are drawn as dots.
    """

    title: str
    about: str
    queries: dict[str, str]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 8
    thresholds: tuple[tuple[float | None, str], ...] = ((None, "green"),)
    stacked: bool = False
    links: dict[str, str] = field(default_factory=dict)
    exemplars: bool = False
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dashboard:
    """One dashboard. variables: its own, beside the data source, the job and the instance; label and the query for its values.

    single: one value of each is chosen, not several. notes: what is marked over time, by title: query, colour and text.
    page: what of the edge's page it belongs to, as the part of its address behind the #.
    """

    uid: str
    title: str
    about: str
    variables: dict[str, str]
    rows: dict[str, list[Panel]]
    notes: dict[str, tuple[str, str, str]]
    single: bool = False
    page: str = "/"


TO_BACKEND = {
    "This backend": "/d/smartedge-backend?${__url_time_range}&${datasource:queryparam}&var-service=${__field.labels.service}"
    "&var-backend=${__field.labels.backend}"
}
TO_PAGE = {"The page of this edge": "http://${__field.labels.instance}/smartedge/"}


def rate(metric: str, labels: str) -> str:
    """The rate of a counter over what the panel's resolution allows."""
    return f"rate({metric}{{{labels}}}[$__rate_interval])"


def quantile(q: float, metric: str, labels: str, by: str = "") -> str:
    """A quantile of a histogram, added up over the edges."""
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({groups}) ({rate(metric + '_bucket', labels)}))"


def percentiles(metric: str, labels: str) -> dict[str, str]:
    """Median, p90 and p99."""
    return {name: quantile(q, metric, labels) for name, q in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))}


def heat_map(title: str, about: str, metric: str, labels: str, width: int = 12) -> Panel:
    """How many took how long, as colours over time."""
    query = f"sum by (le) ({rate(metric + '_bucket', labels)})"
    more = {
        "options": {
            "calculate": False,
            "color": {
                "mode": "scheme",
                "scheme": "Oranges",
                "steps": 64,
                "exponent": 0.5,
                "fill": "dark-orange",
                "scale": "exponential",
            },
            "yAxis": {"unit": "s"},
            "cellGap": 1,
            "tooltip": {"mode": "single", "yHistogram": False},
            "legend": {"show": True},
            "filterValues": {"le": 1e-9},
        },
        "format": "heatmap",
    }
    return Panel(title, about, {"{{le}}": query}, "heatmap", "s", width, exemplars=True, more=more)


def stat(title: str, about: str, query: str, unit: str, *thresholds: tuple[float | None, str]) -> Panel:
    """One number, coloured."""
    return Panel(title, about, {"": query}, "stat", unit, 4, thresholds or ((None, "text"),))


RED_ABOVE_ZERO = ((None, "green"), (1e-9, "red"))
ERRORS = ((None, "green"), (0.001, "orange"), (0.01, "red"))
FAILED = f"sum by (service) ({rate('smartedge_requests_total', SERVICE + ',code=~' + FIVE)})"
ALL = f"sum by (service) ({rate('smartedge_requests_total', SERVICE)})"
ERROR_RATIO = f"({FAILED} or 0 * {ALL}) / {ALL}"
SHARE = f"sum({rate('smartedge_backend_leases_total', BACKEND)}) / sum({rate('smartedge_backend_leases_total', SERVICE)})"
GENERATIONS = f"by (instance) (smartedge_worker_generation{{{EDGES}}})"
DOWN = (
    f"(smartedge_backend_up{{{SERVICE}}} == 0) and on (instance, service, backend) "
    f'(smartedge_backend_state{{{SERVICE},state="enabled"}} == 1)'
)
EJECTIONS = f"sum by (service, backend) (increase(smartedge_backend_ejections_total{{{SERVICE}}}[1m]))"
OWN_ANSWERS = f"""sum by (code) ({rate("smartedge_requests_total", EDGES + ',backend="none"')}) or vector(0)"""

RELOADS = {"Reloads": (f"changes(smartedge_generation{{{EDGES}}}[1m]) > 0", "blue", "another configuration")}


def backend_notes(labels: str) -> dict[str, tuple[str, str, str]]:
    """What happens to backends, to be marked over time."""
    name = "{{service}}/{{backend}}"
    return {
        "Ejections": (f"increase(smartedge_backend_ejections_total{{{labels}}}[1m]) > 0", "red", f"{name} ejected"),
        "Health": (f"changes(smartedge_backend_up{{{labels}}}[1m]) > 0", "orange", f"{name} went down or came up"),
        "Operator": (
            f"changes(smartedge_backend_state{{{labels}}}[1m]) > 0",
            "purple",
            f"{name} was drained, disabled or enabled: {{{{state}}}}",
        ),
    }


OVERVIEW = Dashboard(
    "smartedge-overview",
    "SmartEdge: overview",
    "Requests, errors and duration of all services; where requests went, and what the edge did for them.",
    {"service": "label_values(smartedge_requests_total{" + EDGES + "}, service)"},
    {
        "Now": [
            stat("Requests", "Requests answered a second.", f"sum({rate('smartedge_requests_total', SERVICE)})", "reqps"),
            stat(
                "Errors",
                "What part of them were answered with a 5xx.",
                f'(sum(rate(smartedge_requests_total{{{SERVICE},code=~"5.."}}[$__rate_interval])) or vector(0))'
                f" / sum({rate('smartedge_requests_total', SERVICE)})",
                "percentunit",
                *ERRORS,
            ),
            stat(
                "p99",
                "99 of 100 requests took no longer.",
                quantile(0.99, "smartedge_request_duration_seconds", SERVICE),
                "s",
                (None, "green"),
                (0.5, "orange"),
                (1, "red"),
            ),
            stat(
                "Backends down",
                "Enabled backends whose probes fail.",
                f"count({DOWN}) or vector(0)",
                "short",
                *RED_ABOVE_ZERO,
            ),
            stat("In flight", "Uses of backends that are open now.", f"sum(smartedge_service_in_flight{{{SERVICE}}})", "short"),
            stat(
                "Waiting",
                "Requests that wait for a backend now.",
                f"sum(smartedge_queued_requests{{{SERVICE}}})",
                "short",
                (None, "green"),
                (1, "orange"),
            ),
        ],
        "Requests": [
            Panel(
                "Requests by service",
                "Answered requests a second.",
                {"{{service}}": f"sum by (service) ({rate('smartedge_requests_total', SERVICE)})"},
                unit="reqps",
                width=8,
            ),
            Panel(
                "Requests by status",
                "499 is a client that left.",
                {"{{code}}": f"sum by (code) ({rate('smartedge_requests_total', SERVICE)})"},
                unit="reqps",
                stacked=True,
                width=8,
            ),
            Panel(
                "Errors",
                "What part of a service's requests were answered with a 5xx.",
                {"{{service}}": ERROR_RATIO},
                unit="percentunit",
                thresholds=ERRORS,
                width=8,
            ),
            heat_map(
                "Duration",
                "From a client's request to the last byte of its answer.",
                "smartedge_request_duration_seconds",
                SERVICE,
            ),
            Panel(
                "Duration: p50, p90, p99",
                "The same as numbers.",
                percentiles("smartedge_request_duration_seconds", SERVICE),
                unit="s",
                width=12,
                exemplars=True,
            ),
        ],
        "Distribution": [
            Panel(
                "Share of each backend",
                "Uses of backends a second: how the load is shared.",
                {"{{service}}/{{backend}}": f"sum by (service, backend) ({rate('smartedge_backend_leases_total', SERVICE)})"},
                unit="reqps",
                stacked=True,
                width=12,
                links=TO_BACKEND,
            ),
            Panel(
                "Latency of each backend, p99",
                "From a request sent to the first byte of the answer.",
                {"{{service}}/{{backend}}": quantile(0.99, "smartedge_backend_latency_seconds", SERVICE, "service, backend")},
                unit="s",
                width=12,
                links=TO_BACKEND,
            ),
            Panel(
                "In flight",
                "Uses of each backend that are open now.",
                {"{{service}}/{{backend}}": f"sum by (service, backend) (smartedge_backend_in_flight{{{SERVICE}}})"},
                width=12,
                links=TO_BACKEND,
            ),
            Panel(
                "Failures by reason",
                "connect: no connection. timeout: silence. closed: before an answer. answer: no good HTTP. status: a failure.",
                {"{{reason}}": f"sum by (reason) ({rate('smartedge_backend_failures_total', SERVICE)})"},
                unit="cps",
                width=12,
            ),
            Panel(
                "Time in the queue",
                "Mean wait of the requests that waited for a backend; what is new is 0.",
                {
                    "{{service}}": f"sum by (service) ({rate('smartedge_queue_wait_seconds_sum', SERVICE)})"
                    f" / (sum by (service) ({rate('smartedge_queue_wait_seconds_count', SERVICE)}) > 0)"
                    f" or sum by (service) (0 * smartedge_queued_requests{{{SERVICE}}})"
                },
                unit="s",
                width=12,
            ),
            Panel(
                "Failures of each backend",
                "Uses that failed by the backend's fault, a second; most of them were tried again elsewhere.",
                {"{{service}}/{{backend}}": f"sum by (service, backend) ({rate('smartedge_backend_failures_total', SERVICE)})"},
                unit="cps",
                thresholds=RED_ABOVE_ZERO,
                width=12,
                links=TO_BACKEND,
            ),
        ],
        "What the edge did": [
            Panel(
                "Retries and hedges",
                "Tries after the first, tries begun beside one that was late, and those of them that were first.",
                {
                    "retries": f"sum({rate('smartedge_retries_total', SERVICE)})",
                    "hedges": f"sum({rate('smartedge_hedges_total', SERVICE)})",
                    "hedges won": f"sum({rate('smartedge_hedges_won_total', SERVICE)})",
                },
                unit="cps",
            ),
            Panel(
                "Ejections",
                "Times that a backend's breaker was opened, in a minute.",
                {"{{service}}/{{backend}}": EJECTIONS},
                thresholds=RED_ABOVE_ZERO,
                links=TO_BACKEND,
            ),
            Panel(
                "Waiting and turned away",
                "Requests that wait now, and those that were refused: queue full or wait over, and beyond their client's rate.",
                {
                    "waiting": f"sum(smartedge_queued_requests{{{SERVICE}}})",
                    "refused by the queue a second": f"sum({rate('smartedge_queue_refused_total', SERVICE)})",
                    "beyond a rate a second": f"sum({rate('smartedge_rate_limited_total', SERVICE)})",
                    "drowning": f"max(smartedge_drowning{{{SERVICE}}})",
                },
            ),
        ],
    },
    RELOADS | backend_notes(SERVICE),
)

ONE_BACKEND = Dashboard(
    "smartedge-backend",
    "SmartEdge: one backend",
    "One backend in depth, with what was done to it.",
    {
        "service": "label_values(smartedge_backend_up{" + EDGES + "}, service)",
        "backend": "label_values(smartedge_backend_up{" + SERVICE + "}, backend)",
    },
    {
        "Now": [
            stat(
                "Healthy",
                "1 if its probes call it healthy.",
                f"min(smartedge_backend_up{{{BACKEND}}})",
                "short",
                (None, "red"),
                (1, "green"),
            ),
            stat(
                "Breaker open",
                "1 while it is ejected.",
                f'max(smartedge_backend_breaker_state{{{BACKEND},state="open"}})',
                "short",
                *RED_ABOVE_ZERO,
            ),
            stat("Weight", "The operator's, else that of the file.", f"max(smartedge_backend_weight{{{BACKEND}}})", "short"),
            stat("In flight", "Uses that are open now.", f"sum(smartedge_backend_in_flight{{{BACKEND}}})", "short"),
            stat("Mean latency", "As it is learned, peaks first.", f"max(smartedge_backend_ewma_seconds{{{BACKEND}}})", "s"),
            stat(
                "Last probe",
                "How long ago.",
                f"time() - max(smartedge_last_probe_timestamp_seconds{{{BACKEND}}})",
                "s",
                (None, "green"),
                (30, "orange"),
                (60, "red"),
            ),
        ],
        "Work": [
            heat_map(
                "Latency", "From a request sent to the first byte of the answer.", "smartedge_backend_latency_seconds", BACKEND
            ),
            Panel(
                "Latency: p50, p90, p99",
                "The same as numbers.",
                percentiles("smartedge_backend_latency_seconds", BACKEND),
                unit="s",
                width=12,
                exemplars=True,
            ),
            Panel(
                "Answers by status",
                "Requests answered by it a second.",
                {"{{code}}": f"sum by (code) ({rate('smartedge_requests_total', BACKEND)})"},
                unit="reqps",
                stacked=True,
            ),
            Panel(
                "How uses of it ended",
                "A second. Abandoned: the client left. Outrun: a try begun later was first.",
                {
                    "all": f"sum({rate('smartedge_backend_leases_total', BACKEND)})",
                    "failed": f"sum({rate('smartedge_backend_failures_total', BACKEND)})",
                    "abandoned": f"sum({rate('smartedge_backend_abandoned_total', BACKEND)})",
                    "outrun": f"sum({rate('smartedge_backend_outrun_total', BACKEND)})",
                },
                unit="cps",
            ),
            Panel(
                "Its part of the service",
                "Of all uses of the service's backends.",
                {"share": SHARE},
                unit="percentunit",
            ),
        ],
        "What was done to it": [
            Panel(
                "Health, breaker, state",
                "1 while it is so.",
                {
                    "healthy": f"min(smartedge_backend_up{{{BACKEND}}})",
                    "breaker {{state}}": f"max by (state) (smartedge_backend_breaker_state{{{BACKEND}}})",
                    "{{state}}": f"max by (state) (smartedge_backend_state{{{BACKEND}}})",
                },
                more={"custom": {"drawStyle": "line", "lineInterpolation": "stepAfter", "fillOpacity": 10}},
            ),
            Panel(
                "Ejections",
                "In a minute.",
                {"ejected": f"sum(increase(smartedge_backend_ejections_total{{{BACKEND}}}[1m]))"},
                thresholds=RED_ABOVE_ZERO,
            ),
            Panel(
                "In flight and its cap",
                "A cap is there where one is configured; an adaptive one moves.",
                {
                    "in flight": f"sum(smartedge_backend_in_flight{{{BACKEND}}})",
                    "tunnels": f"sum(smartedge_backend_open_tunnels{{{BACKEND}}})",
                    "cap": f"max(smartedge_backend_max_in_flight{{{BACKEND}}})",
                },
            ),
        ],
        "Wire": [
            Panel(
                "Time to connect",
                "Mean of new connections, without TLS; 0 while none is opened.",
                {
                    "connect": f"sum({rate('smartedge_backend_connect_seconds_sum', BACKEND)})"
                    f" / (sum({rate('smartedge_backend_connect_seconds_count', BACKEND)}) > 0) or vector(0)"
                },
                unit="s",
                width=12,
            ),
            Panel(
                "Connections used again",
                "What part of the uses needed no new connection.",
                {
                    "kept": f"1 - sum({rate('smartedge_backend_connections_total', BACKEND)})"
                    f" / sum({rate('smartedge_backend_leases_total', BACKEND)})"
                },
                unit="percentunit",
                width=12,
            ),
            Panel(
                "Connections opened",
                "A second; against the uses above this says how well connections are kept.",
                {"connections": f"sum({rate('smartedge_backend_connections_total', BACKEND)})"},
                unit="cps",
                width=12,
            ),
            Panel(
                "Bytes",
                "Bodies from clients, and to them.",
                {
                    "in": f"sum({rate('smartedge_received_bytes_total', BACKEND)})",
                    "out": f"sum({rate('smartedge_sent_bytes_total', BACKEND)})",
                },
                unit="Bps",
                width=12,
            ),
        ],
    },
    RELOADS | backend_notes(BACKEND),
    single=True,
    page="/backend/${service}/${backend}",
)

EDGE = Dashboard(
    "smartedge-edge",
    "SmartEdge: the edge itself",
    "Workers, what they use of the machine, configurations, logs.",
    {},
    {
        "Workers": [
            stat("Workers", "Processes that are alive.", f"sum(smartedge_workers{{{EDGES}}})", "short"),
            stat(
                "Leading",
                "Workers that do what one does for all; one for each edge.",
                f"min(sum by (instance) (smartedge_worker_leads{{{EDGES}}}))",
                "short",
                (None, "red"),
                (1, "green"),
            ),
            stat(
                "Workers behind",
                "Generations between the newest configuration in use and the oldest.",
                f"max(max {GENERATIONS} - min {GENERATIONS})",
                "short",
                *RED_ABOVE_ZERO,
            ),
            stat(
                "Up since",
                "How long the oldest worker has been there.",
                f"time() - min(smartedge_start_time_seconds{{{EDGES}}})",
                "s",
            ),
            stat(
                "Log lines lost",
                "In the last hour.",
                f"sum(increase(smartedge_log_lines_lost_total{{{EDGES}}}[1h]))",
                "short",
                *RED_ABOVE_ZERO,
            ),
            stat(
                "Spans lost",
                "Of recorded traces, in the last hour: the collector was gone, or too slow.",
                f'sum(increase(smartedge_spans_total{{{EDGES},outcome="lost"}}[1h]))',
                "short",
                *RED_ABOVE_ZERO,
            ),
            stat(
                "Version",
                "Of SmartEdge, and how many edges run it.",
                f"count by (version) (smartedge_build_info{{{EDGES}}})",
                "short",
            ),
        ],
        "Machine": [
            Panel(
                "Loop lag",
                "How late each worker's event loop comes to its work: every request waits as long.",
                {"{{instance}} slot {{slot}}": f"smartedge_worker_loop_lag_seconds{{{EDGES}}}"},
                unit="s",
                thresholds=((None, "green"), (0.1, "red")),
                links=TO_PAGE,
            ),
            Panel(
                "Processor",
                "Of each worker; 100% is one core.",
                {"{{instance}} slot {{slot}}": rate("smartedge_worker_cpu_seconds_total", EDGES)},
                unit="percentunit",
                thresholds=((None, "green"), (0.8, "orange"), (0.95, "red")),
                links=TO_PAGE,
            ),
            Panel(
                "Memory",
                "Resident, of each worker; what they share counts for each.",
                {"{{instance}} slot {{slot}}": f"smartedge_worker_resident_memory_bytes{{{EDGES}}}"},
                unit="bytes",
                links=TO_PAGE,
            ),
            Panel(
                "Open files",
                "Of the worker that was asked, and how many it may have.",
                {"{{instance}}": f"process_open_fds{{{EDGES}}}", "{{instance}} may have": f"process_max_fds{{{EDGES}}}"},
            ),
            Panel(
                "TLS handshakes",
                "A second: full, resumed from an earlier session, failed.",
                {"{{outcome}}": f"sum by (outcome) ({rate('smartedge_tls_handshakes_total', EDGES)})"},
                unit="cps",
            ),
            Panel(
                "Requests by protocol",
                "A second. Below them connections of HTTP/2 that were ended for too much of what is no work.",
                {
                    "{{protocol}}": f"sum by (protocol) ({rate('smartedge_client_requests_total', EDGES)})",
                    "ended: {{kind}}": f"sum by (kind) ({rate('smartedge_excess_connections_total', EDGES)})",
                },
                unit="cps",
            ),
            Panel(
                "Open tunnels",
                "WebSockets and the like.",
                {"{{instance}}": f"sum by (instance) (smartedge_backend_open_tunnels{{{EDGES}}})"},
            ),
            Panel(
                "Bytes",
                "Bodies from clients, and to them.",
                {
                    "in": f"sum({rate('smartedge_received_bytes_total', EDGES)})",
                    "out": f"sum({rate('smartedge_sent_bytes_total', EDGES)})",
                },
                unit="Bps",
            ),
        ],
        "Discovery": [
            Panel(
                "Backends found",
                "By each source; none without discovery.",
                {"{{service}}: {{source}}": f"max by (service, source) (smartedge_discovery_backends{{{EDGES}}})"},
            ),
            Panel(
                "Age of what was found",
                "Since the source last gave a good answer.",
                {"{{service}}: {{source}}": f"max by (service, source) (smartedge_discovery_age_seconds{{{EDGES}}})"},
                unit="s",
                thresholds=((None, "green"), (600, "red")),
            ),
            Panel(
                "Answers that were no good",
                "A second: failures of the source, and entries in it that are rubbish.",
                {"{{service}}: {{source}}": f"sum by (service, source) ({rate('smartedge_discovery_errors_total', EDGES)})"},
                unit="cps",
            ),
        ],
        "Cluster": [
            Panel(
                "Nodes",
                "Nodes of the cluster that are alive, as each of them sees it; none without a cluster.",
                {"{{instance}}": f"smartedge_cluster_nodes{{{EDGES}}}"},
            ),
            Panel(
                "Age of what is known",
                "For how long etcd has not been heard of.",
                {
                    "{{instance}}": f"smartedge_cluster_age_seconds{{{EDGES}}}",
                    "{{instance}} live": f"smartedge_cluster_live{{{EDGES}}}",
                },
                unit="s",
                thresholds=((None, "green"), (30, "red")),
            ),
            Panel(
                "Generation of the cluster",
                "Of each node; 1 while it refuses the newest.",
                {
                    "{{instance}}": f"smartedge_cluster_generation{{{EDGES}}}",
                    "{{instance}} refuses": f"smartedge_cluster_refused{{{EDGES}}}",
                },
            ),
        ],
        "Configuration": [
            Panel(
                "Generation of each worker",
                "Lines that part are workers with different configurations.",
                {"{{instance}} slot {{slot}}": f"smartedge_worker_generation{{{EDGES}}}"},
                more={"custom": {"drawStyle": "line", "lineInterpolation": "stepAfter"}},
            ),
            Panel(
                "What the edge answered itself",
                "Requests a second that no backend answered, by status.",
                {"{{code}}": OWN_ANSWERS},
                unit="reqps",
            ),
            Panel(
                "Copies of requests",
                "A second: sent to another service by a route's mirror, and not sent.",
                {
                    "sent": f"sum({rate('smartedge_mirrored_total', EDGES)})",
                    "dropped": f"sum({rate('smartedge_mirrors_dropped_total', EDGES)})",
                },
                unit="cps",
            ),
        ],
    },
    RELOADS,
)

DASHBOARDS = (OVERVIEW, ONE_BACKEND, EDGE)


def panel_json(number: int, panel: Panel, x: int, y: int, height: int) -> dict[str, Any]:
    """Make one panel as Grafana has it."""
    custom = {
        "lineWidth": 1,
        "fillOpacity": 20 if panel.stacked else 0,
        "stacking": {"mode": "normal" if panel.stacked else "none"},
    }
    if panel.kind != "timeseries":
        custom = {}
    steps = [{"value": value, "color": color} for value, color in panel.thresholds]
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": DATASOURCE,
                "expr": query,
                "legendFormat": legend,
                "format": panel.more.get("format", "time_series"),
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
                "exemplar": panel.exemplars,
            }
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": custom | panel.more.get("custom", {}),
                "thresholds": {"mode": "absolute", "steps": steps},
                "links": [{"title": title, "url": url, "targetBlank": "://" in url} for title, url in panel.links.items()],
            },
            "overrides": [],
        },
        "options": panel.more.get("options", {}),
    }
    if panel.kind == "stat":
        made["options"] = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "area",
            "textMode": "auto",
        }
    elif panel.kind == "timeseries":
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return made


def row_json(number: int, title: str, y: int) -> dict[str, Any]:
    """Make the heading of a row."""
    return {
        "id": number,
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
        "panels": [],
    }


def variable(name: str, query: str, *, single: bool = False, label: str = "") -> dict[str, Any]:
    """Make a variable whose values are those of a label. single: one of them is chosen, else any, and at first all."""
    several = {"allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]}}
    return {
        "name": name,
        "label": label or name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "includeAll": not single,
        "multi": not single,
        **({} if single else several),
        "sort": 1,
    }


def link(kind: str, title: str, **more: object) -> dict[str, Any]:
    """Make a link at the top of a dashboard."""
    usual = {"tags": [], "asDropdown": False, "includeVars": False, "keepTime": False, "targetBlank": False}
    return {"type": kind, "title": title, "url": "", "tooltip": "", **usual, **more}


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """Make a whole dashboard."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in dashboard.rows.items():
        panels.append(row_json(len(panels) + 1, title, y))
        y, x, height = y + 1, 0, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            height = 4 if panel.kind == "stat" else 8
            panels.append(panel_json(len(panels) + 1, panel, x, y, height))
            x += panel.width
        y += height
    queries = {
        "job": "label_values(smartedge_build_info, job)",
        "instance": 'label_values(smartedge_build_info{job=~"$job"}, instance)',
    }
    links = [
        link("dashboards", "SmartEdge", tags=["smartedge"], includeVars=True, keepTime=True, icon="external link"),
        link("link", "Page of the edge", url=f"http://${{edge}}/smartedge/#{dashboard.page}", targetBlank=True, icon="dashboard"),
        link(
            "link",
            "Decisions of the edge",
            url="http://${edge}/smartedge/#/requests",
            targetBlank=True,
            icon="question",
            tooltip="Why a request went where it went",
        ),
    ]
    source = {
        "name": "datasource",
        "label": "data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
    }
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.about,
        "tags": ["smartedge"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                source,
                *(variable(name, query) for name, query in queries.items()),
                *(variable(name, query, single=dashboard.single) for name, query in dashboard.variables.items()),
                variable("edge", queries["instance"], single=True, label="links lead to"),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": name,
                    "datasource": DATASOURCE,
                    "enable": True,
                    "hide": False,
                    "iconColor": color,
                    "expr": expr,
                    "titleFormat": name,
                    "textFormat": text,
                    "step": "10s",
                }
                for name, (expr, color, text) in dashboard.notes.items()
            ]
        },
        "links": links,
        "panels": panels,
    }


def files() -> dict[Path, str]:
    """Every file that is made, with its content."""
    folder = HERE / "dashboards"
    return {
        folder / f"{one.uid.removeprefix('smartedge-')}.json": json.dumps(dashboard_json(one), indent=1) + "\n"
        for one in DASHBOARDS
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
